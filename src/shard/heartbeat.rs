//! Decides at each heartbeat of a connection whether to ping its peer, to wait, or to give it up. Pure.
//!
//! A peer is judged only while a ping is outstanding, and only when everything it has sent has been read: while the process was
//! stopped, or the connection was paused, the answer may have arrived and lie unread.

use std::time::Duration;

/// A peer always has this long for its answer, however short the interval.
const MIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// When a connection that could not be judged is checked again.
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
    pub has_written: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct HeartbeatPolicy {
    /// Between two pings.
    pub interval: Duration,
    /// How long a peer that has not read what it was sent may take no byte of it.
    pub stale: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatAction {
    Ping,
    /// Look again after this time.
    Wait(Duration),
    Abort,
}

impl Liveness {
    pub fn is_awaited(self) -> bool {
        self.is_awaited
    }

    /// The heartbeat is due.
    pub fn on_timer(&mut self, evidence: Evidence, policy: HeartbeatPolicy) -> HeartbeatAction {
        let HeartbeatPolicy { interval, stale } = policy;
        if !self.is_awaited {
            *self = Self { asked_at: evidence.now, is_awaited: true };
            return HeartbeatAction::Ping;
        }
        let waited = Duration::from_millis(u64::from(evidence.now.wrapping_sub(self.asked_at)));
        if evidence.is_blocked {
            if evidence.has_written {
                self.asked_at = evidence.now;
            } else if waited >= stale.max(interval).max(MIN_ANSWER_TIME) {
                return HeartbeatAction::Abort;
            }
            return HeartbeatAction::Wait(interval);
        }
        if evidence.is_late {
            return HeartbeatAction::Wait(interval);
        }
        if !evidence.is_caught_up {
            return HeartbeatAction::Wait(interval.min(LOOK_AGAIN));
        }
        match MIN_ANSWER_TIME.checked_sub(waited).filter(|left| !left.is_zero()) {
            Some(left) => HeartbeatAction::Wait(left),
            None => HeartbeatAction::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINE: Evidence =
        Evidence { now: 0, is_caught_up: true, is_late: false, is_blocked: false, has_written: true };

    fn policy(interval: u64, stale: u64) -> HeartbeatPolicy {
        HeartbeatPolicy { interval: Duration::from_millis(interval), stale: Duration::from_millis(stale) }
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
                    let action = liveness.on_timer(Evidence { now, ..FINE }, policy(interval, stale));
                    assert_eq!(
                        (action, liveness.is_awaited()),
                        (HeartbeatAction::Ping, true),
                        "{interval} and {stale}"
                    );
                    now = now.wrapping_add(interval as u32);
                }
            }
        }
    }

    #[test]
    fn cuts_a_peer_that_has_not_answered_by_the_next_heartbeat() {
        let policy = policy(30_000, 60_000);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.on_timer(FINE, policy), HeartbeatAction::Ping);
        assert_eq!(liveness.on_timer(Evidence { now: 30_000, ..FINE }, policy), HeartbeatAction::Abort);
    }

    #[test]
    fn leaves_a_peer_a_second_to_answer_however_short_the_interval() {
        let policy = policy(10, 10);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.on_timer(FINE, policy), HeartbeatAction::Ping);
        let action = liveness.on_timer(Evidence { now: 10, ..FINE }, policy);
        assert_eq!(action, HeartbeatAction::Wait(Duration::from_millis(990)));
        assert_eq!(liveness.on_timer(Evidence { now: 1000, ..FINE }, policy), HeartbeatAction::Abort);
    }

    #[test]
    fn does_not_judge_by_a_late_heartbeat_or_with_bytes_unread() {
        let policy = policy(30_000, 60_000);
        let mut liveness = Liveness::default();
        liveness.on_timer(FINE, policy);
        let late = Evidence { now: 50_000, is_late: true, ..FINE };
        assert_eq!(liveness.on_timer(late, policy), HeartbeatAction::Wait(policy.interval));
        let behind = Evidence { now: 60_000, is_caught_up: false, ..FINE };
        assert_eq!(liveness.on_timer(behind, policy), HeartbeatAction::Wait(LOOK_AGAIN));
        assert_eq!(liveness.on_timer(Evidence { now: 60_250, ..FINE }, policy), HeartbeatAction::Abort);
    }

    #[test]
    fn judges_a_peer_whose_socket_is_full_by_whether_it_takes_anything() {
        let policy = policy(30_000, 60_000);
        let blocked = |now, has_written| Evidence { now, is_blocked: true, is_caught_up: false, has_written, ..FINE };
        let mut liveness = Liveness::default();
        liveness.on_timer(FINE, policy);
        for action in 1..10 {
            assert_eq!(
                liveness.on_timer(blocked(action * 30_000, true), policy),
                HeartbeatAction::Wait(policy.interval)
            );
        }
        assert_eq!(liveness.on_timer(blocked(300_000, false), policy), HeartbeatAction::Wait(policy.interval));
        assert_eq!(liveness.on_timer(blocked(330_000, false), policy), HeartbeatAction::Abort);
    }
}
