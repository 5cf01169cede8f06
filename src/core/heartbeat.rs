//! Who is still there: a ping at every interval, the end of whoever did not answer the last one.
//!
//! Driven by the shard's deadlines. Runs on the shard's thread.

use std::time::Instant;

use crate::core::host::Ending;
use crate::core::shard::Shard;
use crate::transport::prepared::Prepared;

impl Shard {
    /// Pings whoever answered the last ping, cuts whoever did not.
    pub(super) fn beat(&self, now: Instant) {
        let interval = self.shared.options.base.heartbeat_interval;
        let stale = u32::try_from(self.shared.options.base.stale_connection_threshold.as_millis()).unwrap_or(u32::MAX);
        while let Some((due, (key, number))) = self.timers.due_heartbeat(now) {
            let Some(connection) = self.connection_numbered(key, number) else { continue };
            if !connection.is_listening() {
                continue;
            }
            let mut pulse = connection.pulse.get();
            let silent = self.timers.millis(now).wrapping_sub(pulse.last_pong);
            // If we are late ourselves (the process was stopped, the machine slept, Node let a bridge wait), the pong may
            // lie unread on our side: nobody is judged by a beat we missed.
            let is_late =
                now.saturating_duration_since(due) > interval / 2 || connection.longest_stall() > interval / 4;
            if !is_late
                && (pulse.is_awaited || silent > stale.max(u32::try_from(interval.as_millis()).unwrap_or(stale)))
            {
                tracing::debug!(connection = number.0, "no pong in time");
                self.cut_for(&connection, &Ending::Unresponsive);
                continue;
            }
            pulse.is_awaited = true;
            connection.pulse.set(pulse);
            self.queue(&connection, Prepared::ping());
            self.timers.beat_in(interval, key, number);
        }
    }
}
