//! Gathers the evidence about one connection when its heartbeat is due, and does what `heartbeat` decides.

use std::time::Duration;

use tracing::debug;

use crate::application::interface::Disconnect;
use crate::shard::close;
use crate::shard::deadlines::Moment;
use crate::shard::heartbeat::{Evidence, HeartbeatAction, HeartbeatPolicy};
use crate::shard::scope::Scope;
use crate::transport::encoded_message::EncodedMessage;

/// How long bytes of the connection were held up on our side, and how often its peer is to be pinged.
pub struct Due {
    /// When the heartbeat was due.
    pub at: Moment,
    pub now: Moment,
    /// Since the last heartbeat, at most.
    pub stall: Duration,
}

/// Judges a connection whose bytes have been read. Returns when its next heartbeat is due; `None` if there is to be none.
pub fn on_due(scope: &mut Scope<'_>, due: &Due) -> Option<Duration> {
    if !scope.connection.is_listening() {
        return None;
    }
    let base = &scope.shard.run.options.base;
    let policy = HeartbeatPolicy { interval: base.heartbeat_interval, stale: base.stale_connection_threshold };
    let lateness = due.now.since(due.at);
    let connection = &mut *scope.connection;
    let evidence = Evidence {
        now: due.now.millis(),
        is_caught_up: connection.is_caught_up && connection.transport.is_attended(),
        is_late: lateness > policy.interval / 2 || due.stall > policy.interval / 4,
        is_blocked: connection.is_blocked,
        has_written: std::mem::take(&mut connection.has_written),
    };
    match connection.liveness.on_timer(evidence, policy) {
        HeartbeatAction::Ping => {
            scope.queue(EncodedMessage::ping());
            Some(policy.interval)
        }
        HeartbeatAction::Wait(time) => Some(time),
        HeartbeatAction::Abort => {
            debug!(connection = scope.connection.number.0, "no pong in time");
            close::abort(scope, &Disconnect::Unresponsive);
            None
        }
    }
}
