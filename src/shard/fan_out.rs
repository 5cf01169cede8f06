//! Delivers one publication to the connections of a shard that it concerns, and writes what a turn has queued.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::hub::operation_queue_manager::{Operation, Receivers};
use crate::hub::subscription_manager::LocalSubscriptions;
use crate::shard::connection::Connection;
use crate::shard::context::ShardContext;
use crate::shard::egress::{Delivery, Egress};
use crate::shard::peers::Peers;
use crate::shard::run_queue::RunQueue;
use crate::shard::timers::Timers;
use crate::types::{ConnectionKey, PeerRef};

/// Connections that a walk could not serve.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Failed {
    /// To be closed as slow consumers.
    pub slow: Vec<ConnectionKey>,
    /// To be ended, since something panicked.
    pub broken: Vec<ConnectionKey>,
}

/// Finds the receivers of publications. Keeps the room of the last list.
#[derive(Default)]
pub struct FanOut {
    receivers: Vec<ConnectionKey>,
}

impl FanOut {
    /// Queues a publication at every connection it is for. The end of the turn writes it.
    #[expect(clippy::too_many_arguments, reason = "each is a part that a delivery changes")]
    pub fn publish(
        &mut self,
        operation: &Operation,
        peers: &mut Peers,
        subscriptions: &LocalSubscriptions,
        egress: &mut Egress,
        timers: &mut Timers,
        run_queue: &mut RunQueue,
        shard: &ShardContext,
    ) -> Failed {
        let receivers = &mut self.receivers;
        receivers.clear();
        match &operation.receivers {
            Receivers::All => receivers.extend(peers.connections().filter(|one| one.is_open()).map(|one| one.key)),
            Receivers::Topic(topic) => receivers.extend(subscriptions.subscribers(topic)),
            Receivers::Connections(references) => {
                let here = references.iter().filter(|reference| reference.shard == shard.id);
                // Another connection may have the key by now.
                receivers.extend(here.filter_map(|reference| {
                    let peer = PeerRef { key: reference.key, number: reference.number };
                    Some(peers.connection_of(peer)?.key)
                }));
            }
        }
        let mut slow = Vec::new();
        let (message, priority) = (&operation.message, operation.priority);
        let broken = for_each_guarded(peers, receivers, |connection| {
            if egress.deliver(connection, message, priority, timers, run_queue, shard) == Delivery::Exhausted {
                slow.push(connection.key);
            }
        });
        if receivers.capacity() > KEPT_RECEIVERS {
            *receivers = Vec::new();
        }
        Failed { slow, broken }
    }
}

/// Up to so many entries, the list of receivers keeps its room.
const KEPT_RECEIVERS: usize = 16_384;

/// One write for each connection that something was queued for in this turn. Returns the connections that failed.
pub fn flush_dirty(
    peers: &mut Peers,
    egress: &mut Egress,
    run_queue: &mut RunQueue,
    shard: &ShardContext,
) -> Vec<ConnectionKey> {
    let dirty = egress.take_dirty();
    let broken = for_each_guarded(peers, &dirty, |connection| egress.write(connection, run_queue, &shard.counters));
    egress.keep_dirty_list(dirty);
    broken
}

/// Does something for each connection and returns those for which it panicked; the others are served all the same. One panic boundary
/// for all, set up again after each panic: one for each would cost every delivery.
fn for_each_guarded(
    peers: &mut Peers,
    keys: &[ConnectionKey],
    mut action: impl FnMut(&mut Connection),
) -> Vec<ConnectionKey> {
    let mut broken = Vec::new();
    let mut at = 0;
    loop {
        let walk = AssertUnwindSafe(|| {
            while let Some(key) = keys.get(at) {
                at += 1;
                if let Some(connection) = peers.connection(*key) {
                    action(connection);
                }
            }
        });
        match (catch_unwind(walk), at.checked_sub(1).and_then(|last| keys.get(last))) {
            (Err(_panic), Some(key)) => broken.push(*key),
            _ => return broken,
        }
    }
}
