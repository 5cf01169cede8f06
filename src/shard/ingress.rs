//! The budget of work that one connection gets per turn, and the connections that wait to go on with theirs. Pure.
//!
//! Owned by a shard, used on its thread. A connection with little to say is served as soon as there is news of it, within
//! [`Budget::first`]. What does not fit waits in the [`Backlog`], whose connections take turns after everybody else.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::transport::assembler::{Intake, MessageInfo};
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

    /// Whether the message may be dealt with in this turn.
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

/// Bytes that were read and not dealt with yet.
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

/// Connections that have more to do than their turn's budget allowed, and what was read of them.
///
/// A rest may also belong to a connection that is not in line: one that waits for a hook, or for its peer to read.
#[derive(Debug, Default)]
pub struct Backlog {
    line: VecDeque<ConnectionKey>,
    rests: FxHashMap<ConnectionKey, Rest>,
}

impl Backlog {
    /// Puts a connection at the end of the line. The caller sees that it is not in line already.
    pub fn enqueue(&mut self, key: ConnectionKey) {
        self.line.push_back(key);
    }

    /// The connection whose turn it is.
    pub fn next(&mut self) -> Option<ConnectionKey> {
        let next = self.line.pop_front();
        if self.line.is_empty() {
            self.line = VecDeque::new();
        }
        next
    }

    /// How many wait in line.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub fn keep(&mut self, key: ConnectionKey, rest: Rest) {
        self.rests.insert(key, rest);
    }

    pub fn take(&mut self, key: ConnectionKey) -> Option<Rest> {
        let rest = self.rests.remove(&key);
        if self.rests.is_empty() {
            self.rests = FxHashMap::default();
        }
        rest
    }

    /// The connection has gone.
    pub fn forget(&mut self, key: ConnectionKey) {
        self.take(key);
    }

    #[cfg(test)]
    fn heap_bytes(&self) -> usize {
        let rests: usize = self.rests.values().map(|rest| rest.bytes.capacity()).sum();
        rests
            + self.rests.capacity() * size_of::<(ConnectionKey, Rest)>()
            + self.line.capacity() * size_of::<ConnectionKey>()
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

    #[test]
    fn the_backlog_is_first_come_first_served_and_empty_without_heap() {
        let mut backlog = Backlog::default();
        for key in [3, 1, 2] {
            backlog.enqueue(ConnectionKey(key));
            backlog.keep(ConnectionKey(key), Rest::new(vec![0; key as usize]));
        }
        assert!(backlog.heap_bytes() > 0);
        let mut rest = backlog.take(ConnectionKey(2)).expect("it was kept");
        rest.advance(1);
        assert_eq!((rest.unread().len(), rest.is_empty()), (1, false));
        rest.advance(1);
        assert!(rest.is_empty());
        backlog.forget(ConnectionKey(1));
        backlog.forget(ConnectionKey(3));
        let order: Vec<u32> = std::iter::from_fn(|| backlog.next()).map(|key| key.0).collect();
        assert_eq!(order, [3, 1, 2]);
        assert_eq!(backlog.heap_bytes(), 0);
    }
}
