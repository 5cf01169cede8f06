//! Whether a hook that keeps failing is worth calling: closed, open or half-open. Pure: time and outcomes come in.
//!
//! One per hook and service, driven by `hooks`. A time-out is a failure of the hook. A rejection is an answer about its subject: it
//! counts once per subject, so that a user whose look-up always fails cannot open the circuit for the others. The circuit
//! opens after [`CONSECUTIVE`] failures without an answer between them, or when more than half of the last [`WINDOW`] calls
//! failed. After 5 s one call at a time is let through as a probe: an answer closes the circuit, a time-out or the rejections of
//! [`PROBES`] subjects open it again with twice the wait, up to 60 s.

use std::collections::VecDeque;
use std::time::Duration;

/// Failures in a row that open the circuit.
pub const CONSECUTIVE: usize = 5;

/// How many of the latest calls are judged together.
pub const WINDOW: usize = 20;

/// Subjects whose rejected probes open the circuit again.
pub const PROBES: usize = 3;

const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whom a call is about, as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject(pub u64);

#[derive(Debug)]
pub struct CircuitBreaker {
    state: State,
    /// Counts changes of state and probes, so that the outcome of a call begun before one means nothing after it.
    epoch: u32,
    /// The latest outcomes since the state was entered, newest last. A subject has at most one rejection among them.
    latest: VecDeque<Outcome>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        until: Duration,
        wait: Duration,
    },
    /// Should the outcome of a probe never be told, another may try `wait` after `since`.
    HalfOpen {
        since: Duration,
        wait: Duration,
        is_probing: bool,
    },
}

/// What others may know of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Circuit {
    #[default]
    Closed,
    HalfOpen,
    Open,
}

/// Leave to call. Given back with the outcome, unless the call was abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPermit {
    epoch: u32,
    /// The circuit is half-open: the outcome of this call decides.
    pub is_probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// It threw or rejected.
    Rejected(Subject),
    TimedOut,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { state: State::Closed, epoch: 0, latest: VecDeque::new() }
    }
}

impl CircuitBreaker {
    /// Leave to call, or how long to wait before asking again. `now` is a time of the caller's own clock.
    pub fn admit(&mut self, subject: Subject, now: Duration) -> Result<CallPermit, Duration> {
        let (wait, retry_after) = match self.state {
            State::Closed => return Ok(CallPermit { epoch: self.epoch, is_probe: false }),
            State::Open { until, wait } => (wait, until.saturating_sub(now)),
            State::HalfOpen { since, wait, is_probing } => {
                let may_probe = !is_probing && !self.latest.contains(&Outcome::Rejected(subject));
                (wait, if may_probe { Duration::ZERO } else { (since + wait).saturating_sub(now) })
            }
        };
        if !retry_after.is_zero() {
            return Err(retry_after);
        }
        if matches!(self.state, State::Open { .. }) {
            self.latest.clear();
        }
        self.enter(State::HalfOpen { since: now, wait, is_probing: true });
        Ok(CallPermit { epoch: self.epoch, is_probe: true })
    }

    /// The circuit's new state, if the outcome changed it.
    pub fn settle(&mut self, permit: CallPermit, outcome: Outcome, now: Duration) -> Option<Circuit> {
        if permit.epoch != self.epoch {
            return None;
        }
        match self.state {
            State::Closed => {
                self.note(outcome);
                if self.failures_in_a_row() < CONSECUTIVE && !self.fails_mostly() {
                    return None;
                }
                self.enter(State::Open { until: now + FIRST_WAIT, wait: FIRST_WAIT });
            }
            State::HalfOpen { since, wait, .. } => match outcome {
                Outcome::Answered => {
                    self.latest.clear();
                    self.enter(State::Closed);
                }
                Outcome::Rejected(_) => {
                    self.note(outcome);
                    if self.latest.len() < PROBES {
                        // It answers, though not about this subject: another may be asked about at once.
                        self.state = State::HalfOpen { since, wait, is_probing: false };
                        return None;
                    }
                    self.reopen(wait, now);
                }
                Outcome::TimedOut => self.reopen(wait, now),
            },
            // An open circuit gives no permits.
            State::Open { .. } => return None,
        }
        Some(self.circuit())
    }

    pub fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed => Circuit::Closed,
            State::HalfOpen { .. } => Circuit::HalfOpen,
            State::Open { .. } => Circuit::Open,
        }
    }

    fn reopen(&mut self, wait: Duration, now: Duration) {
        let wait = (wait * 2).min(LONGEST_WAIT);
        self.enter(State::Open { until: now + wait, wait });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn note(&mut self, outcome: Outcome) {
        if matches!(outcome, Outcome::Rejected(_)) && self.latest.contains(&outcome) {
            return;
        }
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(outcome);
    }

    fn failures_in_a_row(&self) -> usize {
        self.latest.iter().rev().take_while(|outcome| **outcome != Outcome::Answered).count()
    }

    fn fails_mostly(&self) -> bool {
        let failures = self.latest.iter().filter(|outcome| **outcome != Outcome::Answered).count();
        self.latest.len() == WINDOW && failures > WINDOW / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Subject = Subject(1);
    const BOB: Subject = Subject(2);

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn call(breaker: &mut CircuitBreaker, now: Duration, outcome: Outcome) -> Option<Circuit> {
        let permit = breaker.admit(ANN, now).expect("leave to call");
        breaker.settle(permit, outcome, now)
    }

    fn opened() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        let changes: Vec<_> = (0..CONSECUTIVE).map(|_| call(&mut breaker, at(0), Outcome::TimedOut)).collect();
        assert_eq!(changes, [None, None, None, None, Some(Circuit::Open)]);
        breaker
    }

    #[test]
    fn time_outs_in_a_row_open_it_and_no_call_is_let_through_for_a_while() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(ANN, at(0)), Err(at(5)));
        assert_eq!(breaker.admit(BOB, at(4)), Err(at(1)));
        assert_eq!(breaker.circuit(), Circuit::Open);
    }

    #[test]
    fn rejections_of_one_subject_never_open_it() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..1000 {
            assert_eq!(call(&mut breaker, at(0), Outcome::Rejected(ANN)), None);
        }
        assert_eq!(breaker.circuit(), Circuit::Closed);
    }

    #[test]
    fn rejections_of_several_subjects_in_a_row_open_it() {
        let mut breaker = CircuitBreaker::default();
        let changes: Vec<_> =
            (0..5).map(|subject| call(&mut breaker, at(0), Outcome::Rejected(Subject(subject)))).collect();
        assert_eq!(changes, [None, None, None, None, Some(Circuit::Open)]);
    }

    #[test]
    fn subjects_that_are_rejected_among_others_that_are_answered_do_not_open_it() {
        let mut breaker = CircuitBreaker::default();
        for turn in 0..1000 {
            // Four users whose look-up always fails, and fewer answers than failures.
            let outcome = if turn % 5 == 0 { Outcome::Answered } else { Outcome::Rejected(Subject(turn % 5)) };
            assert_eq!(call(&mut breaker, at(0), outcome), None);
        }
    }

    #[test]
    fn a_mixture_opens_it_when_most_of_the_latest_calls_failed() {
        let mut breaker = CircuitBreaker::default();
        // Two failures for each answer, never five in a row.
        let mut calls = 0;
        let opened = loop {
            let outcome = match calls % 3 {
                0 => Outcome::Answered,
                1 => Outcome::TimedOut,
                _ => Outcome::Rejected(Subject(calls)),
            };
            calls += 1;
            if let Some(circuit) = call(&mut breaker, at(0), outcome) {
                break circuit;
            }
        };
        assert_eq!((opened, calls), (Circuit::Open, WINDOW as u64));
    }

    #[test]
    fn half_of_the_calls_may_fail_for_ever() {
        let mut breaker = CircuitBreaker::default();
        for turn in 0..200 {
            let outcome = if turn % 2 == 0 { Outcome::Answered } else { Outcome::TimedOut };
            assert_eq!(call(&mut breaker, at(0), outcome), None);
        }
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let mut breaker = opened();
        let probe = breaker.admit(ANN, at(5)).expect("a probe");
        assert!(probe.is_probe);
        assert!(breaker.admit(BOB, at(5)).is_err(), "a second one has to wait");
        assert_eq!(breaker.settle(probe, Outcome::Answered, at(6)), Some(Circuit::Closed));
        // Earlier failures are forgotten: it takes five new ones.
        assert_eq!(call(&mut breaker, at(6), Outcome::TimedOut), None);
    }

    #[test]
    fn a_probe_that_is_rejected_lets_another_subject_try_at_once() {
        let mut breaker = opened();
        let probe = breaker.admit(ANN, at(5)).expect("a probe");
        assert_eq!(breaker.settle(probe, Outcome::Rejected(ANN), at(5)), None);
        assert_eq!(breaker.admit(ANN, at(5)), Err(at(5)), "the same subject has to wait");
        let probe = breaker.admit(BOB, at(5)).expect("a probe");
        assert!(probe.is_probe);
        assert_eq!(breaker.settle(probe, Outcome::Answered, at(5)), Some(Circuit::Closed));
    }

    #[test]
    fn probes_rejected_about_three_subjects_open_it_again() {
        let mut breaker = opened();
        let changes: Vec<_> = (1..=3)
            .map(|number| {
                let probe = breaker.admit(Subject(number), at(5)).expect("a probe");
                breaker.settle(probe, Outcome::Rejected(Subject(number)), at(5))
            })
            .collect();
        assert_eq!(changes, [None, None, Some(Circuit::Open)]);
        assert_eq!(breaker.admit(ANN, at(5)), Err(at(10)));
    }

    #[test]
    fn a_subject_that_is_always_rejected_is_probed_once_per_wait() {
        let mut breaker = opened();
        let mut now = at(5);
        for _ in 0..10 {
            let probe = breaker.admit(ANN, now).expect("a probe");
            assert_eq!(breaker.settle(probe, Outcome::Rejected(ANN), now), None);
            assert_eq!(breaker.admit(ANN, now), Err(at(5)));
            now += at(5);
        }
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute() {
        let mut breaker = opened();
        let mut now = at(5);
        for wait in [10, 20, 40, 60, 60] {
            let probe = breaker.admit(ANN, now).expect("a probe");
            assert_eq!(breaker.settle(probe, Outcome::TimedOut, now), Some(Circuit::Open));
            assert_eq!(breaker.admit(ANN, now), Err(at(wait)));
            now += at(wait);
        }
    }

    #[test]
    fn a_probe_that_was_abandoned_does_not_keep_it_half_open_for_ever() {
        let mut breaker = opened();
        breaker.admit(ANN, at(5)).expect("a probe");
        assert_eq!(breaker.admit(ANN, at(6)), Err(at(4)));
        assert!(breaker.admit(ANN, at(10)).is_ok_and(|permit| permit.is_probe));
    }

    #[test]
    fn the_outcome_of_a_call_begun_before_the_circuit_opened_means_nothing() {
        let mut breaker = CircuitBreaker::default();
        let early = breaker.admit(ANN, at(0)).expect("leave");
        for _ in 0..CONSECUTIVE {
            call(&mut breaker, at(0), Outcome::TimedOut);
        }
        assert_eq!(breaker.settle(early, Outcome::Answered, at(1)), None);
        assert_eq!(breaker.circuit(), Circuit::Open);
    }
}
