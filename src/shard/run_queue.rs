//! Connections to drive although their transport has no news: those that are ready, and those whose last turn was too short. Pure.
//!
//! Owned by the event loop. A flag of each connection tells whether it is in a list already.

use std::collections::VecDeque;

use crate::shard::connection::Connection;
use crate::shard::pending::PendingHandshake;
use crate::types::ConnectionKey;

/// Ready connections driven in one turn of the loop; the others wait for the next.
const READY_PER_TURN: usize = 64;

#[derive(Debug, Default)]
pub struct RunQueue {
    ready: Vec<ConnectionKey>,
    /// Served in turn, after everything else.
    backlog: VecDeque<ConnectionKey>,
}

impl RunQueue {
    /// Has the connection driven in the next turn, whatever its transport says.
    pub fn mark_ready(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.is_ready, true) {
            self.ready.push(connection.key);
        }
    }

    /// The same for a pending handshake.
    pub fn mark_pending_ready(&mut self, key: ConnectionKey, pending: &mut PendingHandshake) {
        if !std::mem::replace(&mut pending.is_ready, true) {
            self.ready.push(key);
        }
    }

    /// Has the connection continue its work after all others.
    pub fn defer(&mut self, connection: &mut Connection) {
        if !std::mem::replace(&mut connection.is_behind, true) {
            self.backlog.push_back(connection.key);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.backlog.is_empty()
    }

    /// The connections to drive in this turn. The caller clears their flags.
    pub fn take_ready(&mut self) -> Vec<ConnectionKey> {
        let mut ready = std::mem::take(&mut self.ready);
        if ready.len() > READY_PER_TURN {
            self.ready = ready.split_off(READY_PER_TURN);
        }
        ready
    }

    /// How many connections wait in the backlog.
    pub fn backlog_len(&self) -> usize {
        self.backlog.len()
    }

    /// The next connection of the backlog. The caller clears its flag.
    pub fn next_deferred(&mut self) -> Option<ConnectionKey> {
        let next = self.backlog.pop_front();
        if self.backlog.is_empty() {
            self.backlog = VecDeque::new();
        }
        next
    }
}
