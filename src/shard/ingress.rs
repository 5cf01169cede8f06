//! What a shard reads with: buffers that connections share, and the budget of work that one connection gets per turn. Pure.
//!
//! Owned by the event loop. A connection with few bytes is served as soon as it has news, within [`Budget::first`]. What does not fit
//! waits in the backlog of the run queue, whose connections are served in turn after all others.

use rustc_hash::FxHashMap;

use crate::shard::connection::Connection;
use crate::transport::assembler::{Intake, Limits, MessageInfo};
use crate::transport::deflate::Inflater;
use crate::transport::frame::Kind;
use crate::types::ConnectionKey;

/// The most bytes that are read at once.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// What may still be done for one connection in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    messages: u32,
    /// Of messages, inflated.
    bytes: usize,
    reads: u32,
    bytes_per_read: usize,
    /// Whether one message may take more than is left.
    may_overdraw: bool,
}

impl Budget {
    /// For the turn that news of the connection brings. Costs a shard a tenth of a millisecond at most, so that very many
    /// connections can have news at once.
    pub fn first() -> Self {
        Self { messages: 32, bytes: 8 * 1024, reads: 2, bytes_per_read: 16 * 1024, may_overdraw: false }
    }

    /// For a turn out of the backlog: about a millisecond, or a single message of any size.
    pub fn further() -> Self {
        Self { messages: 256, bytes: 64 * 1024, reads: 4, bytes_per_read: READ_BUFFER_BYTES, may_overdraw: true }
    }

    /// For a connection that waits in the backlog and is written to meanwhile.
    pub fn nothing() -> Self {
        Self { messages: 0, bytes: 0, reads: 0, bytes_per_read: 0, may_overdraw: false }
    }

    /// How many bytes to read at once; `None` if there is to be no further read.
    pub fn take_read(&mut self) -> Option<usize> {
        self.reads = self.reads.checked_sub(1)?;
        Some(self.bytes_per_read)
    }

    /// Whether the message may be processed in this turn.
    pub fn admits(&self, announced: MessageInfo) -> Intake {
        let fits = match announced.kind {
            // Compressed, it could become anything; what lies whole in the input can be tried.
            Kind::Text | Kind::Binary | Kind::Continuation if announced.is_compressed && announced.is_reassembled => {
                self.may_overdraw
            }
            _ => announced.wire_bytes <= self.bytes,
        };
        if self.messages == 0 || self.bytes == 0 || !(fits || self.may_overdraw) {
            return Intake::Wait;
        }
        Intake::Take { max_inflated: if self.may_overdraw { usize::MAX } else { self.bytes } }
    }

    /// Charges a message for its payload, as it was inflated.
    pub fn charge(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Bytes that were read and not processed yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    bytes: Vec<u8>,
    at: usize,
}

impl Rest {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn unread(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.at..).unwrap_or_default()
    }

    pub fn advance(&mut self, count: usize) {
        self.at += count;
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }
}

/// What the connections of a shard share for reading: one buffer, one inflater, and the bytes that had to wait.
///
/// An idle connection holds none of it.
pub struct Ingress {
    pub buffer: Box<[u8]>,
    pub inflater: Inflater,
    pub limits: Limits,
    /// Of connections that wait for their next turn, for a hook, or for their peer to read.
    rests: FxHashMap<ConnectionKey, Rest>,
}

impl Ingress {
    pub fn new(limits: Limits) -> Self {
        let buffer = vec![0; READ_BUFFER_BYTES].into_boxed_slice();
        Self { buffer, inflater: Inflater::default(), limits, rests: FxHashMap::default() }
    }

    /// Keeps what is left of a connection's bytes, if anything is.
    pub fn keep(&mut self, connection: &mut Connection, rest: Rest) {
        if !rest.is_empty() {
            connection.has_rest = true;
            self.rests.insert(connection.key, rest);
        }
    }

    /// Takes what was kept of the connection.
    pub fn take(&mut self, connection: &mut Connection) -> Option<Rest> {
        std::mem::take(&mut connection.has_rest).then(|| self.remove(connection.key)).flatten()
    }

    /// Drops what was kept of a connection that is gone.
    pub fn remove(&mut self, key: ConnectionKey) -> Option<Rest> {
        let rest = self.rests.remove(&key);
        if self.rests.is_empty() && self.rests.capacity() > 0 {
            self.rests = FxHashMap::default();
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(wire_bytes: usize) -> MessageInfo {
        MessageInfo { kind: Kind::Text, wire_bytes, is_compressed: false, is_reassembled: false }
    }

    fn is_taken(admission: Intake) -> bool {
        matches!(admission, Intake::Take { .. })
    }

    #[test]
    fn a_first_turn_takes_no_message_that_is_larger_than_what_is_left() {
        let mut budget = Budget::first();
        assert!(is_taken(budget.admits(announced(8 * 1024))));
        assert_eq!(budget.admits(announced(8 * 1024 + 1)), Intake::Wait);
        budget.charge(8 * 1024 - 10);
        assert_eq!(budget.admits(announced(11)), Intake::Wait);
        assert_eq!(budget.admits(announced(10)), Intake::Take { max_inflated: 10 });
    }

    #[test]
    fn a_further_turn_takes_one_message_of_any_size() {
        let mut budget = Budget::further();
        assert_eq!(budget.admits(announced(1 << 30)), Intake::Take { max_inflated: usize::MAX });
        budget.charge(1 << 30);
        assert_eq!(budget.admits(announced(0)), Intake::Wait);
    }

    #[test]
    fn messages_are_counted_also_when_they_are_empty() {
        for (mut budget, count) in [(Budget::first(), 32), (Budget::further(), 256)] {
            for _ in 0..count {
                assert!(is_taken(budget.admits(announced(0))));
                budget.charge(0);
            }
            assert_eq!(budget.admits(announced(0)), Intake::Wait);
        }
    }

    #[test]
    fn fragments_that_could_inflate_to_anything_wait_for_the_backlog() {
        let compressed = MessageInfo { is_compressed: true, is_reassembled: true, ..announced(10) };
        assert_eq!(Budget::first().admits(compressed), Intake::Wait);
        assert!(is_taken(Budget::further().admits(compressed)));
    }

    #[test]
    fn without_a_budget_nothing_is_read_or_taken() {
        let mut budget = Budget::nothing();
        assert_eq!(budget.take_read(), None);
        assert_eq!(budget.admits(announced(0)), Intake::Wait);
    }

    #[test]
    fn reads_are_counted() {
        let mut budget = Budget::further();
        for _ in 0..4 {
            assert_eq!(budget.take_read(), Some(READ_BUFFER_BYTES));
        }
        assert_eq!(budget.take_read(), None);
    }
}
