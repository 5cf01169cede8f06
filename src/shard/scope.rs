//! One connection together with the parts of its shard that code about a connection may change.
//!
//! Borrowed from the event loop for as long as one connection is worked on. The functions of `close`, `session`, `receiver` and `drive`
//! take it.

use std::rc::Rc;
use std::sync::Arc;

use crate::hub::subscription_manager::LocalSubscriptions;
use crate::shard::closings::Closings;
use crate::shard::connection::Connection;
use crate::shard::context::ShardContext;
use crate::shard::egress::{Delivery, Egress};
use crate::shard::run_queue::RunQueue;
use crate::shard::timers::Timers;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{PeerRef, Priority};

pub struct Scope<'a> {
    pub connection: &'a mut Connection,
    pub tables: &'a mut Tables,
    pub egress: &'a mut Egress,
    pub timers: &'a mut Timers,
    pub run_queue: &'a mut RunQueue,
    pub shard: &'a Rc<ShardContext>,
}

/// Where a shard's connections are registered beside their peers.
#[derive(Default)]
pub struct Tables {
    pub subscriptions: LocalSubscriptions,
    pub closings: Closings,
}

impl Scope<'_> {
    pub fn peer(&self) -> PeerRef {
        PeerRef { key: self.connection.key, number: self.connection.number }
    }

    /// Has the connection driven in the next turn.
    pub fn mark_ready(&mut self) {
        self.run_queue.mark_ready(self.connection);
    }

    /// Makes a message due, past the connection's bound.
    pub fn queue(&mut self, message: Arc<EncodedMessage>) {
        self.egress.queue(self.connection, message, self.shard);
    }

    /// Ends the connection's batch: what waited is due now.
    pub fn flush_batch(&mut self) {
        self.egress.flush_batch(self.connection, self.shard);
    }

    pub fn deliver(&mut self, message: &Arc<EncodedMessage>, priority: Priority) -> Delivery {
        self.egress.deliver(self.connection, message, priority, self.timers, self.run_queue, self.shard)
    }
}
