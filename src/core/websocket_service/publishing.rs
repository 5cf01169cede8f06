//! Publishing: de-duplication, the message, and the router.
//!
//! Called on any thread of the application; waits for no shard.

use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use super::{Lifecycle, Runtime, WebSocketService, millis};
use crate::application::interface::Event;
use crate::error::{Error, ErrorKind};
use crate::hub::publication::{Publication, Target};
use crate::hub::router::Routed;
use crate::protocol::outgoing;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::UnixMillis;
use crate::types::{BillId, Priority, UserId};

/// Refused publications can be thousands: the first one is reported to the application and the log, then one per second.
const OVERLOAD_REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl WebSocketService {
    /// To the subscribers of the bill. `update` is the update as JSON; the same text for the same bill within the
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
                    return Routed::NoReceivers;
                }
                dedupe.put(key, (), now);
            }
            let target = Target::Topic(bill.into());
            // The message is not built for nothing.
            if !run.router.has_receivers(&target) {
                return Routed::NoReceivers;
            }
            let message = EncodedMessage::text(outgoing::bill_update(bill, update, timestamp));
            run.router.on_publication(&Publication::new(target, message, Priority::Normal))
        });
        match queued {
            Routed::NoReceivers => {}
            Routed::Queued => self.statistics.broadcast(UnixMillis::now()),
            Routed::Refused => {
                // A repeat is not a duplicate of something delivered.
                self.dedupe().remove(&key);
                self.refuse();
            }
        }
    }

    /// To every open connection of the user. `notification` is JSON.
    pub fn send_user_notification(&self, user: &str, notification: &str) {
        let queued = self.publishing(|run| {
            let target = Target::User(UserId::new(user));
            if !run.router.has_receivers(&target) {
                return Routed::NoReceivers;
            }
            let message = EncodedMessage::text(outgoing::notification(notification, UnixMillis::now().as_f64()));
            run.router.on_publication(&Publication::new(target, message, Priority::Immediate))
        });
        if queued == Routed::Refused {
            self.refuse();
        }
    }

    /// To every open connection. `message` is the whole message as JSON.
    pub fn broadcast_to_all(&self, message: String) {
        let message = EncodedMessage::text(message.into_bytes());
        let publication = Publication::new(Target::All, message, Priority::Immediate);
        match self.publishing(|run| run.router.on_publication(&publication)) {
            Routed::NoReceivers => {}
            Routed::Queued => self.statistics.broadcast(UnixMillis::now()),
            Routed::Refused => self.refuse(),
        }
    }

    /// Publishes while the service runs, on any thread. A shutdown that begins meanwhile waits, so that an accepted publication is
    /// written.
    fn publishing(&self, publish: impl FnOnce(&Runtime) -> Routed) -> Routed {
        match &*self.life.read() {
            Lifecycle::Running(run) => publish(run),
            Lifecycle::Stopped | Lifecycle::Stopping(..) => Routed::NoReceivers,
        }
    }

    /// Counts a publication that a queue had no room for, and reports it at most once per interval.
    fn refuse(&self) {
        self.statistics.refused();
        let now = self.elapsed_ms();
        let told_until = self.overload_reported_until.load(Ordering::Relaxed);
        let next = now + millis(OVERLOAD_REPORT_INTERVAL);
        // Of several publishers at once, one tells.
        let tells = now >= told_until
            && self
                .overload_reported_until
                .compare_exchange(told_until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if tells {
            warn!("publishes are refused: a shard's queue is full");
            let message = "a publish was refused because a shard's queue is full (maxQueueBytes)";
            self.host.emit(Event::Error(Error::new(ErrorKind::Overloaded, message)));
        }
    }
}
