//! What waits to be written to one connection: batching, the byte limit and the slow-consumer policy.
//!
//! Owned by a connection, used on its shard's thread. Pure: the write itself is passed in.

use std::io::{self, IoSlice};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::application::interface::SlowConsumerPolicy;
use crate::shard::frame_queue::{Frame, FrameQueue};
use crate::transport::deflate::Deflaters;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;

/// How many frames one system call takes at most; the limit of every system is 1024 or more.
const FRAMES_PER_WRITE: usize = 64;

/// Batches up to this size get their room at once, so that they need not grow into it.
const USUAL_BATCH: usize = 16;

/// Messages pass from `waiting` to `frames` when their batch is due, and leave `frames` as the socket takes them.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Vec<Arc<EncodedMessage>>,
    frames: FrameQueue,
    /// How much of the first frame the socket has taken.
    written: usize,
    /// Unwritten bytes of `waiting` and `frames`.
    bytes: usize,
    dropped: u32,
    /// Tells a batch's deadline from the deadline of an earlier batch that left before its time.
    batch: u8,
}

/// The bound of one connection and what happens at it.
#[derive(Clone, Copy, Debug)]
pub struct Backpressure {
    pub max_bytes: usize,
    pub policy: SlowConsumerPolicy,
}

/// What [`Outbox::make_room`] decided for a new message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// It fits, after `dropped` older messages were discarded.
    Fits { dropped: u32 },
    /// It is the one to be dropped, after `dropped` older ones that made too little room.
    Refused { dropped: u32 },
    /// The connection has to go.
    Exhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing is left to write; batches may still wait.
    Everything,
    /// The socket is full.
    Blocked,
}

impl Outbox {
    /// Makes the bound hold with `incoming` more bytes. An empty outbox takes any one message, so that the
    /// largest message is limited by nothing but the sender.
    pub fn make_room(&mut self, incoming: usize, limit: Backpressure) -> Capacity {
        if self.bytes + incoming <= limit.max_bytes || self.bytes == 0 {
            return Capacity::Fits { dropped: 0 };
        }
        match limit.policy {
            SlowConsumerPolicy::Close => Capacity::Exhausted,
            SlowConsumerPolicy::DropNewest => {
                self.dropped += 1;
                Capacity::Refused { dropped: 0 }
            }
            SlowConsumerPolicy::DropOldest => {
                let kept = self.begun_bytes();
                if kept > 0 && kept + incoming > limit.max_bytes {
                    // Nothing is thrown away for a message that would not fit all the same.
                    self.dropped += 1;
                    return Capacity::Refused { dropped: 0 };
                }
                let dropped = self.drop_oldest(incoming, limit.max_bytes);
                self.dropped += dropped;
                if self.bytes + incoming <= limit.max_bytes || self.bytes == 0 {
                    Capacity::Fits { dropped }
                } else {
                    // Control frames are in the way.
                    self.dropped += 1;
                    Capacity::Refused { dropped }
                }
            }
        }
    }

    /// Adds a message to the batch and returns how many it holds now. `expected`: how many it may hold.
    pub fn push_batched(&mut self, message: Arc<EncodedMessage>, expected: usize) -> usize {
        self.bytes += message.payload().len();
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(expected.min(USUAL_BATCH));
        }
        self.waiting.push(message);
        self.waiting.len()
    }

    /// The batch that begins with the next message [`push_batched`](Self::push_batched) takes.
    pub fn batch(&self) -> u8 {
        self.batch
    }

    /// Ends the batch and hands it out, to be [`queue`](Self::queue)d in one frame or several.
    pub fn take_batch(&mut self) -> Vec<Arc<EncodedMessage>> {
        self.batch = self.batch.wrapping_add(1);
        let batch = std::mem::take(&mut self.waiting);
        self.bytes -= batch.iter().map(|message| message.payload().len()).sum::<usize>();
        batch
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Puts a message behind those that are due already.
    pub fn queue(&mut self, message: Arc<EncodedMessage>, encoding: Encoding, deflaters: &mut Deflaters) {
        self.bytes += message.frame(encoding, 0, deflaters).len();
        self.frames.push_back(Frame { message, encoding });
    }

    /// The same for a message whose first bytes the socket has taken already; nothing may be due before it.
    pub fn queue_rest(
        &mut self,
        message: Arc<EncodedMessage>,
        encoding: Encoding,
        taken: usize,
        deflaters: &mut Deflaters,
    ) {
        self.queue(message, encoding, deflaters);
        self.advance(taken, deflaters);
    }

    /// Whether something is due that the socket has not taken.
    pub fn is_due(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Hands everything due to `write` until all is taken or it would block.
    pub fn flush(
        &mut self,
        deflaters: &mut Deflaters,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        while !self.frames.is_empty() {
            let mut parts: SmallVec<[IoSlice<'_>; FRAMES_PER_WRITE]> = SmallVec::new();
            let mut skip = self.written;
            for frame in self.frames.iter().take(FRAMES_PER_WRITE) {
                let bytes = frame.message.frame(frame.encoding, 0, deflaters);
                parts.push(IoSlice::new(bytes.get(skip..).unwrap_or_default()));
                skip = 0;
            }
            let offered: usize = parts.iter().map(|part| part.len()).sum();
            match write(&parts) {
                Ok(taken) => {
                    drop(parts);
                    self.advance(taken, deflaters);
                    if taken < offered {
                        return Ok(Flushed::Blocked);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Flushed::Everything)
    }

    /// Discards everything but a frame that is half written.
    pub fn discard(&mut self) -> u32 {
        let batch = self.take_batch().len();
        let keep = usize::from(self.written > 0);
        let mut discarded = 0;
        while self.frames.len() > keep {
            if let Some(frame) = self.frames.pop_back() {
                self.bytes -= frame.len();
                discarded += u32::from(frame.message.is_data());
            }
        }
        u32::try_from(batch).unwrap_or(u32::MAX).saturating_add(discarded)
    }

    /// Unwritten bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages the policy has dropped since the connection began.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    pub fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
        self.frames.shrink();
    }

    pub fn heap_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Arc<EncodedMessage>>() + self.frames.heap_bytes()
    }

    fn advance(&mut self, taken: usize, deflaters: &mut Deflaters) {
        self.bytes -= taken;
        let mut left = self.written + taken;
        while let Some(frame) = self.frames.front() {
            let length = frame.message.frame(frame.encoding, 0, deflaters).len();
            if left < length {
                break;
            }
            left -= length;
            self.frames.pop_front();
        }
        self.written = left;
    }

    /// Unwritten bytes of a frame that has begun.
    fn begun_bytes(&self) -> usize {
        match self.frames.front() {
            Some(frame) if self.written > 0 => frame.len() - self.written,
            _ => 0,
        }
    }

    fn drop_oldest(&mut self, incoming: usize, max_bytes: usize) -> u32 {
        let mut dropped = 0;
        let mut at = usize::from(self.written > 0);
        while self.bytes + incoming > max_bytes {
            match self.frames.get(at) {
                Some(frame) if frame.message.is_data() => {
                    self.bytes -= frame.len();
                    self.frames.remove(at);
                    dropped += 1;
                }
                Some(_control) => at += 1,
                None => break,
            }
        }
        let mut from_batch = 0;
        for message in &self.waiting {
            if self.bytes + incoming <= max_bytes {
                break;
            }
            self.bytes -= message.payload().len();
            from_batch += 1;
        }
        self.waiting.drain(..from_batch);
        dropped + u32::try_from(from_batch).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Backpressure = Backpressure { max_bytes: 100, policy: SlowConsumerPolicy::Close };

    fn message(length: usize) -> Arc<EncodedMessage> {
        EncodedMessage::text(vec![b'x'; length])
    }

    fn queue(outbox: &mut Outbox, message: Arc<EncodedMessage>) {
        outbox.queue(message, Encoding::Plain, &mut Deflaters::default());
    }

    /// Writes at most `room` bytes altogether.
    fn flush_into(outbox: &mut Outbox, wire: &mut Vec<u8>, mut room: usize) -> Flushed {
        outbox
            .flush(&mut Deflaters::default(), |parts| {
                if room == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let mut taken = 0;
                for part in parts {
                    let count = part.len().min(room);
                    wire.extend_from_slice(part.get(..count).unwrap_or_default());
                    room -= count;
                    taken += count;
                }
                Ok(taken)
            })
            .expect("the writer never fails")
    }

    #[test]
    fn frames_arrive_whole_and_in_order_however_little_the_socket_takes_at_a_time() {
        for room in 1..40 {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for length in [3, 0, 17, 126, 1] {
                let message = message(length);
                expected.extend_from_slice(message.frame(Encoding::Plain, 0, &mut Deflaters::default()));
                queue(&mut outbox, message);
            }
            let mut wire = Vec::new();
            while flush_into(&mut outbox, &mut wire, room) == Flushed::Blocked {}
            assert_eq!(wire, expected);
            assert_eq!(outbox.bytes(), 0);
            assert_eq!(outbox.heap_bytes(), 0);
        }
    }

    #[test]
    fn the_bound_counts_the_new_message_and_an_empty_outbox_takes_any() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.make_room(5000, LIMIT), Capacity::Fits { dropped: 0 });
        queue(&mut outbox, message(48));
        assert_eq!(outbox.bytes(), 50);
        assert_eq!(outbox.make_room(50, LIMIT), Capacity::Fits { dropped: 0 });
        assert_eq!(outbox.make_room(51, LIMIT), Capacity::Exhausted);
    }

    #[test]
    fn drop_newest_refuses_and_counts() {
        let limit = Backpressure { policy: SlowConsumerPolicy::DropNewest, ..LIMIT };
        let mut outbox = Outbox::default();
        queue(&mut outbox, message(90));
        assert_eq!(outbox.make_room(20, limit), Capacity::Refused { dropped: 0 });
        assert_eq!(outbox.dropped(), 1);
        assert_eq!(outbox.bytes(), 92);
    }

    #[test]
    fn drop_oldest_never_cuts_a_frame_that_has_begun_nor_a_control_frame() {
        let limit = Backpressure { policy: SlowConsumerPolicy::DropOldest, ..LIMIT };
        let mut outbox = Outbox::default();
        let mut wire = Vec::new();
        queue(&mut outbox, message(28));
        assert_eq!(flush_into(&mut outbox, &mut wire, 10), Flushed::Blocked);
        queue(&mut outbox, EncodedMessage::ping());
        queue(&mut outbox, message(30));
        queue(&mut outbox, message(30));
        let before = outbox.bytes();
        assert_eq!(before, 20 + 2 + 32 + 32);
        assert_eq!(outbox.make_room(40, limit), Capacity::Fits { dropped: 1 });
        assert_eq!(outbox.bytes(), before - 32);
        while flush_into(&mut outbox, &mut wire, 7) == Flushed::Blocked {}
        assert_eq!(wire.len(), 30 + 2 + 32);
        assert_eq!(wire.get(30), Some(&0x89), "the ping is still there");
    }

    #[test]
    fn drop_oldest_takes_from_the_batch_last_and_gives_up_when_nothing_more_can_go() {
        let limit = Backpressure { policy: SlowConsumerPolicy::DropOldest, ..LIMIT };
        let mut outbox = Outbox::default();
        queue(&mut outbox, message(28));
        outbox.push_batched(message(30), 10);
        outbox.push_batched(message(30), 10);
        assert_eq!(outbox.make_room(60, limit), Capacity::Fits { dropped: 2 });
        assert_eq!(outbox.take_batch().len(), 1);
        assert_eq!(outbox.bytes(), 0);

        let mut wire = Vec::new();
        queue(&mut outbox, message(80));
        flush_into(&mut outbox, &mut wire, 1);
        assert_eq!(outbox.make_room(60, limit), Capacity::Refused { dropped: 0 });
        assert_eq!(outbox.dropped(), 3);
    }

    #[test]
    fn drop_oldest_throws_nothing_away_for_a_message_that_would_not_fit_all_the_same() {
        let limit = Backpressure { policy: SlowConsumerPolicy::DropOldest, ..LIMIT };
        let mut outbox = Outbox::default();
        queue(&mut outbox, message(28));
        flush_into(&mut outbox, &mut Vec::new(), 10);
        queue(&mut outbox, message(30));
        let before = outbox.bytes();
        assert_eq!(outbox.make_room(90, limit), Capacity::Refused { dropped: 0 });
        assert_eq!((outbox.bytes(), outbox.dropped()), (before, 1));

        // Messages that were dropped without making enough room are reported, too.
        let mut outbox = Outbox::default();
        queue(&mut outbox, EncodedMessage::ping());
        queue(&mut outbox, message(30));
        assert_eq!(outbox.make_room(99, limit), Capacity::Refused { dropped: 1 });
        assert_eq!(outbox.dropped(), 2);
    }

    #[test]
    fn discarding_keeps_only_the_frame_that_has_begun() {
        let mut outbox = Outbox::default();
        let mut wire = Vec::new();
        queue(&mut outbox, message(10));
        queue(&mut outbox, message(10));
        outbox.push_batched(message(10), 10);
        flush_into(&mut outbox, &mut wire, 5);
        assert_eq!(outbox.discard(), 2);
        assert_eq!(outbox.bytes(), 7);
        while flush_into(&mut outbox, &mut wire, 3) == Flushed::Blocked {}
        assert_eq!(wire.len(), 12);
    }
}
