//! Pings every connection at an interval, and ends those whose peer does not answer.
//!
//! [`Liveness`] is pure. The rest is driven by the shard's deadlines and runs on the shard's thread. A peer is judged only
//! while a ping is outstanding, and only when everything it has sent has been read: while the process was stopped, or the
//! connection was paused, the answer may have come and lie unread.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::application::interface::Ending;
use crate::shard::connection::Connection;
use crate::shard::event_loop::Shard;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::socket::Readiness;

/// Heartbeats dealt with before others get their turn: after the process was stopped all are due at once.
const BEATS_PER_TURN: usize = 128;

/// A peer always has this long for its answer, however short the interval.
const MIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// How soon a connection is looked at again that could not be judged.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Whether a ping is outstanding, and since when (milliseconds of the shard's clock, which wraps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    asked_at: u32,
    is_awaited: bool,
}

/// What is known of a connection when its heartbeat is due.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// Milliseconds of the shard's clock.
    pub now: u32,
    /// Everything the peer has sent has been read and understood.
    pub is_caught_up: bool,
    /// The heartbeat comes late, or Node has let the connection wait: the peer may not have had the time it should have.
    pub is_late: bool,
    /// Bytes wait for the socket, perhaps the ping among them.
    pub is_blocked: bool,
    /// The socket has taken bytes since the last heartbeat.
    pub has_taken: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between two pings.
    pub interval: Duration,
    /// How long a peer that has not read what it was sent may take no byte of it.
    pub stale: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    Ping,
    /// Look again after this time.
    Wait(Duration),
    Cut,
}

impl Liveness {
    pub fn is_awaited(self) -> bool {
        self.is_awaited
    }

    /// The heartbeat is due.
    pub fn on_timer(&mut self, evidence: Evidence, patience: Patience) -> Beat {
        let Patience { interval, stale } = patience;
        if !self.is_awaited {
            *self = Self { asked_at: evidence.now, is_awaited: true };
            return Beat::Ping;
        }
        let waited = Duration::from_millis(u64::from(evidence.now.wrapping_sub(self.asked_at)));
        if evidence.is_blocked {
            if evidence.has_taken {
                self.asked_at = evidence.now;
            } else if waited >= stale.max(interval).max(MIN_ANSWER_TIME) {
                return Beat::Cut;
            }
            return Beat::Wait(interval);
        }
        if evidence.is_late {
            return Beat::Wait(interval);
        }
        if !evidence.is_caught_up {
            return Beat::Wait(interval.min(LOOK_AGAIN));
        }
        match MIN_ANSWER_TIME.checked_sub(waited).filter(|left| !left.is_zero()) {
            Some(left) => Beat::Wait(left),
            None => Beat::Cut,
        }
    }
}

impl Shard {
    /// Deals with the heartbeats that are due.
    pub(crate) fn beat(self: &Rc<Self>, now: Instant) {
        for _ in 0..BEATS_PER_TURN {
            let Some((due, (key, number))) = self.timers.due_heartbeat(now) else { return };
            let Some(connection) = self.connection_numbered(key, number) else { continue };
            self.guard(&connection, || {
                if let Some(next) = self.beat_of(&connection, due, now) {
                    self.timers.beat_in(next, key, number);
                }
            });
        }
    }

    /// When the connection's next heartbeat is due; `None` if there is to be none.
    fn beat_of(self: &Rc<Self>, connection: &Rc<Connection>, due: Instant, now: Instant) -> Option<Duration> {
        let base = &self.shared.options.base;
        let patience = Patience { interval: base.heartbeat_interval, stale: base.stale_connection_threshold };
        // Asked for each time, so that every answer is about one interval.
        let stall = connection.max_wait();
        if connection.liveness.get().is_awaited() {
            self.read_what_has_come(connection);
        }
        if !connection.is_listening() {
            return None;
        }
        let mut liveness = connection.liveness.get();
        let evidence = Evidence {
            now: self.timers.millis(now),
            is_caught_up: connection.is_caught_up.get() && connection.transport.is_attended(),
            is_late: now.saturating_duration_since(due) > patience.interval / 2 || stall > patience.interval / 4,
            is_blocked: connection.is_blocked(),
            has_taken: connection.has_taken.replace(false),
        };
        let beat = liveness.on_timer(evidence, patience);
        connection.liveness.set(liveness);
        match beat {
            Beat::Ping => {
                self.queue(connection, EncodedMessage::ping());
                Some(patience.interval)
            }
            Beat::Wait(time) => Some(time),
            Beat::Cut => {
                tracing::debug!(connection = connection.number.0, "no pong in time");
                self.cut_for(connection, &Ending::Unresponsive);
                None
            }
        }
    }

    /// Reads also what the reactor has not told of yet.
    pub(crate) fn read_what_has_come(self: &Rc<Self>, connection: &Rc<Connection>) {
        connection.transport.on_readiness(Readiness { readable: true, ..Readiness::default() });
        self.give_turn(connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Evidence = Evidence { now: 0, is_caught_up: true, is_late: false, is_blocked: false, has_taken: true };

    fn patience(interval: u64, stale: u64) -> Patience {
        Patience { interval: Duration::from_millis(interval), stale: Duration::from_millis(stale) }
    }

    #[test]
    fn keeps_a_peer_that_answers_for_any_pair_of_interval_and_threshold() {
        const DAY: u64 = 86_400_000;
        for interval in [10, 500, 30_000, 60_000, DAY] {
            for stale in [10, 500, 30_000, 60_000, DAY] {
                let mut now = u32::MAX - 5;
                for _ in 0..100 {
                    // Answered before the next heartbeat.
                    let mut liveness = Liveness::default();
                    let beat = liveness.on_timer(Evidence { now, ..FINE }, patience(interval, stale));
                    assert_eq!((beat, liveness.is_awaited()), (Beat::Ping, true), "{interval} and {stale}");
                    now = now.wrapping_add(interval as u32);
                }
            }
        }
    }

    #[test]
    fn cuts_a_peer_that_has_not_answered_by_the_next_heartbeat() {
        let patience = patience(30_000, 60_000);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.on_timer(FINE, patience), Beat::Ping);
        assert_eq!(liveness.on_timer(Evidence { now: 30_000, ..FINE }, patience), Beat::Cut);
    }

    #[test]
    fn leaves_a_peer_a_second_to_answer_however_short_the_interval() {
        let patience = patience(10, 10);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.on_timer(FINE, patience), Beat::Ping);
        let beat = liveness.on_timer(Evidence { now: 10, ..FINE }, patience);
        assert_eq!(beat, Beat::Wait(Duration::from_millis(990)));
        assert_eq!(liveness.on_timer(Evidence { now: 1000, ..FINE }, patience), Beat::Cut);
    }

    #[test]
    fn does_not_judge_by_a_late_heartbeat_or_with_bytes_unread() {
        let patience = patience(30_000, 60_000);
        let mut liveness = Liveness::default();
        liveness.on_timer(FINE, patience);
        let late = Evidence { now: 50_000, is_late: true, ..FINE };
        assert_eq!(liveness.on_timer(late, patience), Beat::Wait(patience.interval));
        let behind = Evidence { now: 60_000, is_caught_up: false, ..FINE };
        assert_eq!(liveness.on_timer(behind, patience), Beat::Wait(LOOK_AGAIN));
        assert_eq!(liveness.on_timer(Evidence { now: 60_250, ..FINE }, patience), Beat::Cut);
    }

    #[test]
    fn judges_a_peer_whose_socket_is_full_by_whether_it_takes_anything() {
        let patience = patience(30_000, 60_000);
        let blocked = |now, has_taken| Evidence { now, is_blocked: true, is_caught_up: false, has_taken, ..FINE };
        let mut liveness = Liveness::default();
        liveness.on_timer(FINE, patience);
        for beat in 1..10 {
            assert_eq!(liveness.on_timer(blocked(beat * 30_000, true), patience), Beat::Wait(patience.interval));
        }
        assert_eq!(liveness.on_timer(blocked(300_000, false), patience), Beat::Wait(patience.interval));
        assert_eq!(liveness.on_timer(blocked(330_000, false), patience), Beat::Cut);
    }
}
