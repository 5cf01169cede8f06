//! How a publish gets to the shards: dedupe, the shards it concerns, room on all of them or none.
//!
//! Called on any thread of the application; waits for no shard.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tracing::warn;

use super::{Life, Run, WebSocketService, millis};
use crate::application::interface::Event;
use crate::error::{Error, ErrorKind};
use crate::hub::operation_queue_manager::{Operation, Permit, Target};
use crate::hub::subscription_manager::ShardSet;
use crate::protocol::outgoing;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{BillId, Priority, ShardId, UnixMillis};

/// RejectionMode come in thousands: the application and the log are told of the first, and of one a second from then on.
const OVERLOAD_TOLD_EVERY: Duration = Duration::from_secs(1);

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    /// It concerns no shard.
    Nowhere,
    /// At every shard it concerns.
    Everywhere,
    /// At none of them, since one has no room.
    Refused,
}

impl WebSocketService {
    /// To everybody who follows the bill. `update` is the update as JSON; the same text for the same bill within the
    /// dedupe window is counted and dropped.
    pub fn broadcast_bill_update(&self, bill: BillId, update: &str, timestamp: &str) {
        let now = self.elapsed_ms();
        let key = (bill, self.hashers[0].hash_one(update), self.hashers[1].hash_one(update));
        let window = millis(self.runtime.values().dedupe_window);
        let queued = self.publishing(|run| {
            {
                let mut dedupe = self.dedupe();
                if dedupe.get(&key, now, window).is_some() {
                    self.statistics.duplicate();
                    return Queued::Nowhere;
                }
                dedupe.put(key, (), now);
            }
            let shards = run.shared.routing.shards(bill);
            if shards.is_empty() {
                return Queued::Nowhere;
            }
            let message = EncodedMessage::text(outgoing::bill_update(bill, update, timestamp));
            run.queue(|shard| shards.contains(shard), &Target::Bill(bill), &message, Priority::Normal)
        });
        match queued {
            Queued::Nowhere => {}
            Queued::Everywhere => self.statistics.broadcast(UnixMillis::now()),
            Queued::Refused => {
                // A repeat is not a duplicate of something delivered.
                self.dedupe().remove(&key);
                self.refuse();
            }
        }
    }

    /// To every open connection of the user. `notification` is JSON.
    pub fn send_user_notification(&self, user: &str, notification: &str) {
        let queued = self.publishing(|run| {
            let connections = run.shared.users.connections(user);
            if connections.is_empty() {
                return Queued::Nowhere;
            }
            let message = EncodedMessage::text(outgoing::notification(notification, UnixMillis::now().as_f64()));
            let mut shards = ShardSet::default();
            connections.iter().for_each(|connection| shards.insert(connection.shard));
            let target = Target::Connections(connections.as_slice().into());
            run.queue(|shard| shards.contains(shard), &target, &message, Priority::Immediate)
        });
        if queued == Queued::Refused {
            self.refuse();
        }
    }

    /// To every open connection. `message` is the whole message as JSON.
    pub fn broadcast_to_all(&self, message: String) {
        let message = EncodedMessage::text(message.into_bytes());
        match self.publishing(|run| run.queue(|_| true, &Target::Everybody, &message, Priority::Immediate)) {
            Queued::Nowhere => {}
            Queued::Everywhere => self.statistics.broadcast(UnixMillis::now()),
            Queued::Refused => self.refuse(),
        }
    }

    /// Publishes while the service runs. Any thread may; a shutdown that begins meanwhile waits, so that what is accepted is
    /// written.
    fn publishing(&self, publish: impl FnOnce(&Run) -> Queued) -> Queued {
        match &*self.life.read() {
            Life::Running(run) => publish(run),
            Life::Stopped | Life::Stopping(..) => Queued::Nowhere,
        }
    }

    /// Counts a publish that a queue had no room for, and tells of it from time to time.
    fn refuse(&self) {
        self.statistics.refused();
        let now = self.elapsed_ms();
        let told_until = self.overload_told_until.load(Ordering::Relaxed);
        let next = now + millis(OVERLOAD_TOLD_EVERY);
        // Of several publishers at once, one tells.
        let tells = now >= told_until
            && self
                .overload_told_until
                .compare_exchange(told_until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if tells {
            warn!("publishes are refused: a shard's queue is full");
            let message = "a publish was refused because a shard's queue is full (maxQueueBytes)";
            self.host.emit(Event::Error(Error::new(ErrorKind::Overloaded, message)));
        }
    }
}

impl Run {
    /// Queues a message at the shards it concerns: at all of them or, if one has no room, at none.
    fn queue(
        &self,
        concerns: impl Fn(ShardId) -> bool,
        target: &Target,
        message: &Arc<EncodedMessage>,
        priority: Priority,
    ) -> Queued {
        let concerned = self.shards.iter().filter(|shard| concerns(shard.id));
        let permits: Option<SmallVec<[Permit<'_>; 8]>> =
            concerned.map(|shard| shard.operations.reserve(message)).collect();
        let Some(permits) = permits else { return Queued::Refused };
        let published = Instant::now();
        for permit in permits {
            let (target, message) = (target.clone(), message.clone());
            permit.push(Operation { target, message, priority, published });
        }
        Queued::Everywhere
    }
}
