//! What a shard gives back when memory is scarce: room nobody uses, and the slowest of its consumers.
//!
//! Ordered by the memory manager. Runs on the shard's thread.

use std::rc::Rc;

use crate::memory::memory_manager::ReclaimLevel;
use crate::shard::connection::{Connection, State};
use crate::shard::event_loop::Shard;

/// A consumer with less than this unwritten is not slow, and its end would free next to nothing.
const SLOW_FROM_BYTES: usize = 64 * 1024;

/// What one shard has given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relief {
    /// Slow consumers that were closed.
    pub connections: usize,
    /// Of tables and buffers.
    pub bytes: usize,
}

impl Shard {
    pub(crate) fn tidy(&self, depth: ReclaimLevel) -> Relief {
        let connections = match depth {
            ReclaimLevel::Routine => 0,
            ReclaimLevel::Emergency => self.close_slowest(),
        };
        let before = self.spare_bytes();
        self.envelopes.borrow_mut().forget();
        self.topics.borrow_mut().give_back_room();
        self.connections.borrow_mut().shrink_to_fit();
        for connection in self.all_connections() {
            if let State::Open(member) = &mut *connection.state.borrow_mut() {
                member.bills.shrink_to_fit();
            }
            connection.outbox.borrow_mut().give_back_room();
        }
        if depth == ReclaimLevel::Emergency {
            // Made anew when the next message needs them.
            self.inflater.take();
            self.deflaters.take();
            let mut staged = self.staged.borrow_mut();
            if staged.is_empty() {
                *staged = Vec::new();
            }
        }
        Relief { connections, bytes: before.saturating_sub(self.spare_bytes()) }
    }

    /// Closes slow consumers, the slowest first, until no more than half of what was unwritten is left.
    fn close_slowest(&self) -> usize {
        let unwritten = |connection: &Rc<Connection>| connection.outbox.borrow().bytes();
        let mut slow: Vec<_> = self
            .all_connections()
            .into_iter()
            .filter(|connection| connection.is_listening() && unwritten(connection) >= SLOW_FROM_BYTES)
            .map(|connection| (unwritten(&connection), connection))
            .collect();
        slow.sort_unstable_by_key(|(bytes, connection)| (std::cmp::Reverse(*bytes), connection.number.0));
        let total: usize = slow.iter().map(|(bytes, _)| bytes).sum();
        let mut freed = 0;
        let mut closed = 0;
        for (bytes, connection) in &slow {
            if freed * 2 >= total {
                break;
            }
            self.drop_slow_consumer(connection);
            connection.account(&self.counters);
            freed += bytes;
            closed += 1;
        }
        closed
    }

    fn spare_bytes(&self) -> usize {
        let connections: usize = self
            .all_connections()
            .iter()
            .map(|connection| {
                let followed = match &*connection.state.borrow() {
                    State::Open(member) => member.bills.heap_bytes(),
                    _ => 0,
                };
                followed + connection.outbox.borrow().heap_bytes()
            })
            .sum();
        connections
            + self.topics.borrow().heap_bytes()
            + self.inflater.borrow().heap_bytes()
            + self.connections.borrow().capacity() * size_of::<Option<Rc<Connection>>>()
            + self.staged.borrow().capacity() * size_of::<u32>()
    }
}
