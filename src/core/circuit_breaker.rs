//! Whether a hook that keeps failing is worth calling: closed, open or half-open. Pure: time and outcomes come in.
//!
//! One per hook and service, driven by `hooks`. It opens after [`CONSECUTIVE`] failures in a row, or when more than half
//! of the last [`WINDOW`] calls failed. After 5 s one call is let through as a probe: if it succeeds the circuit closes,
//! if it fails the wait doubles, up to 60 s.

use std::time::Duration;

/// Failures in a row that open the circuit.
pub const CONSECUTIVE: u32 = 5;

/// How many of the latest calls are judged together. At most 32.
pub const WINDOW: u32 = 20;

const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct CircuitBreaker {
    state: State,
    /// Counts changes of state, so that the outcome of a call begun before one means nothing after it.
    epoch: u32,
    /// Whether each of the latest calls failed, the newest in the lowest bit.
    failures: u32,
    calls: u32,
    in_a_row: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        until: Duration,
        wait: Duration,
    },
    /// One call is under way. Should its outcome never be told, another may try after `wait`.
    HalfOpen {
        since: Duration,
        wait: Duration,
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
pub struct Permit {
    epoch: u32,
    /// The circuit is half-open: what comes of this one call decides.
    pub is_probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// It failed or did not answer in time.
    Failed,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { state: State::Closed, epoch: 0, failures: 0, calls: 0, in_a_row: 0 }
    }
}

impl CircuitBreaker {
    /// Leave to call, or how long to wait before asking again. `now` is a time of the caller's own clock.
    pub fn admit(&mut self, now: Duration) -> Result<Permit, Duration> {
        let (from, wait) = match self.state {
            State::Closed => return Ok(Permit { epoch: self.epoch, is_probe: false }),
            State::Open { until, wait } => (until, wait),
            State::HalfOpen { since, wait } => (since + wait, wait),
        };
        if now < from {
            return Err(from - now);
        }
        self.enter(State::HalfOpen { since: now, wait });
        Ok(Permit { epoch: self.epoch, is_probe: true })
    }

    /// The circuit's new state, if the outcome changed it.
    pub fn settle(&mut self, permit: Permit, outcome: Outcome, now: Duration) -> Option<Circuit> {
        if permit.epoch != self.epoch {
            return None;
        }
        match (self.state, outcome) {
            (State::Closed, outcome) => {
                self.note(outcome);
                if self.in_a_row < CONSECUTIVE && !self.fails_mostly() {
                    return None;
                }
                self.enter(State::Open { until: now + FIRST_WAIT, wait: FIRST_WAIT });
            }
            (State::HalfOpen { .. }, Outcome::Answered) => {
                (self.failures, self.calls, self.in_a_row) = (0, 0, 0);
                self.enter(State::Closed);
            }
            (State::HalfOpen { wait, .. }, Outcome::Failed) => {
                let wait = (wait * 2).min(LONGEST_WAIT);
                self.enter(State::Open { until: now + wait, wait });
            }
            // Nobody is let through an open circuit, so no permit has its epoch.
            (State::Open { .. }, _) => return None,
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

    fn enter(&mut self, state: State) {
        self.state = state;
        self.epoch = self.epoch.wrapping_add(1);
    }

    fn note(&mut self, outcome: Outcome) {
        let failed = outcome == Outcome::Failed;
        self.failures = (self.failures << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
        self.calls = (self.calls + 1).min(WINDOW);
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
    }

    fn fails_mostly(&self) -> bool {
        self.calls == WINDOW && self.failures.count_ones() > WINDOW / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn call(breaker: &mut CircuitBreaker, now: Duration, outcome: Outcome) -> Option<Circuit> {
        let permit = breaker.admit(now).expect("leave to call");
        breaker.settle(permit, outcome, now)
    }

    fn opened() -> CircuitBreaker {
        let mut breaker = CircuitBreaker::default();
        let changes: Vec<_> = (0..CONSECUTIVE).map(|_| call(&mut breaker, at(0), Outcome::Failed)).collect();
        assert_eq!(changes, [None, None, None, None, Some(Circuit::Open)]);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_nobody_is_let_through_for_a_while() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(0)), Err(at(5)));
        assert_eq!(breaker.admit(at(4)), Err(at(1)));
        assert_eq!(breaker.circuit(), Circuit::Open);
    }

    #[test]
    fn a_mixture_opens_it_when_most_of_the_latest_calls_failed() {
        let mut breaker = CircuitBreaker::default();
        // Two failures for each answer, never five in a row.
        let mut calls = 0;
        let opened = loop {
            let outcome = if calls % 3 == 0 { Outcome::Answered } else { Outcome::Failed };
            calls += 1;
            if let Some(circuit) = call(&mut breaker, at(0), outcome) {
                break circuit;
            }
        };
        assert_eq!((opened, calls), (Circuit::Open, WINDOW));
    }

    #[test]
    fn half_of_the_calls_may_fail_for_ever() {
        let mut breaker = CircuitBreaker::default();
        for turn in 0..200 {
            let outcome = if turn % 2 == 0 { Outcome::Answered } else { Outcome::Failed };
            assert_eq!(call(&mut breaker, at(0), outcome), None);
        }
    }

    #[test]
    fn one_probe_at_a_time_decides() {
        let mut breaker = opened();
        let probe = breaker.admit(at(5)).expect("a probe");
        assert!(probe.is_probe);
        assert!(breaker.admit(at(5)).is_err(), "a second one has to wait");
        assert_eq!(breaker.settle(probe, Outcome::Answered, at(6)), Some(Circuit::Closed));
        // What was before is forgotten: it takes five new failures.
        assert_eq!(call(&mut breaker, at(6), Outcome::Failed), None);
    }

    #[test]
    fn each_failed_probe_doubles_the_wait_up_to_a_minute() {
        let mut breaker = opened();
        let mut now = at(5);
        for wait in [10, 20, 40, 60, 60] {
            let probe = breaker.admit(now).expect("a probe");
            assert_eq!(breaker.settle(probe, Outcome::Failed, now), Some(Circuit::Open));
            assert_eq!(breaker.admit(now), Err(at(wait)));
            now += at(wait);
        }
    }

    #[test]
    fn a_probe_that_was_abandoned_does_not_keep_it_half_open_for_ever() {
        let mut breaker = opened();
        breaker.admit(at(5)).expect("a probe");
        assert_eq!(breaker.admit(at(6)), Err(at(4)));
        assert!(breaker.admit(at(10)).is_ok_and(|permit| permit.is_probe));
    }

    #[test]
    fn the_outcome_of_a_call_begun_before_the_circuit_opened_means_nothing() {
        let mut breaker = CircuitBreaker::default();
        let early = breaker.admit(at(0)).expect("leave");
        for _ in 0..CONSECUTIVE {
            call(&mut breaker, at(0), Outcome::Failed);
        }
        assert_eq!(breaker.settle(early, Outcome::Answered, at(1)), None);
        assert_eq!(breaker.circuit(), Circuit::Open);
    }
}
