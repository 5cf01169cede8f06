//! Gives back memory that a shard does not need: unused capacity, and in an emergency the slowest of its consumers.
//!
//! Ordered by the memory manager.

use std::cmp::Reverse;

use crate::shard::connection::State;
use crate::shard::peers::Peers;
use crate::types::ConnectionKey;

/// A consumer with less than this unwritten is not slow, and its end would free next to nothing.
const SLOW_FROM_BYTES: usize = 64 * 1024;

/// What one shard has given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Slow consumers that were closed.
    pub connections: usize,
    /// Of tables and buffers.
    pub bytes: usize,
}

/// The slow consumers to close, the slowest first, so that no more than half of what is unwritten is left.
pub fn slowest(peers: &Peers) -> Vec<ConnectionKey> {
    let mut slow: Vec<_> = peers
        .connections()
        .filter(|connection| connection.is_listening() && connection.outbox.bytes() >= SLOW_FROM_BYTES)
        .map(|connection| (connection.outbox.bytes(), connection.number, connection.key))
        .collect();
    slow.sort_unstable_by_key(|(bytes, number, _)| (Reverse(*bytes), number.0));
    let total: usize = slow.iter().map(|(bytes, ..)| bytes).sum();
    let mut freed = 0;
    slow.into_iter()
        .take_while(|(bytes, ..)| {
            let is_enough = freed * 2 >= total;
            freed += bytes;
            !is_enough
        })
        .map(|(.., key)| key)
        .collect()
}

/// Shrinks what connections hold to what they use.
pub fn shrink_connections(peers: &mut Peers) {
    peers.shrink_to_fit();
    for connection in peers.connections_mut() {
        if let State::Open(session) = &mut connection.state {
            session.topics.shrink_to_fit();
        }
        connection.outbox.shrink();
    }
}

/// Bytes that connections hold beside themselves.
pub fn connection_capacity(peers: &Peers) -> usize {
    let held = peers.connections().map(|connection| {
        let subscriptions = match &connection.state {
            State::Open(session) => session.topics.heap_bytes(),
            _ => 0,
        };
        subscriptions + connection.outbox.heap_bytes()
    });
    held.sum::<usize>() + peers.heap_bytes()
}
