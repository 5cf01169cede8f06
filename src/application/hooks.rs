//! The one way to call a function of the application: with a deadline, retries and a circuit breaker.
//!
//! The kinds of hooks and their properties are in [`HookKind`]; a caller makes a [`HookCall`] and reads the [`HookAnswer`].
//! [`Hooks`] is shared by the shards of a run; each breaker's lock is taken twice per call and held for nothing else. Calls are made
//! on shards' threads.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::application::circuit_breaker::{CallPermit, Circuit, CircuitBreaker, Outcome, Subject};
use crate::application::interface::{Application, HookAnswer, HookCall, HookFault};
use crate::application::stop_signal::StopSignal;
use crate::monitoring::counters::HookOutcome;
use crate::monitoring::statistics_collector::ShardCounters;
use crate::types::HookKind;

/// Milliseconds before each further try of a call that failed, chosen at random within the range.
const RETRY_AFTER: [RangeInclusive<u64>; 2] = [50..=150, 100..=300];

/// Calls the application's functions. Shared by the shards of a run.
pub struct Hooks {
    application: Arc<dyn Application>,
    /// From the first try to the last answer that counts.
    deadline: Duration,
    breakers: [Mutex<CircuitBreaker>; HookKind::COUNT],
    /// Whether failures open circuits at all.
    has_breakers: bool,
    hasher: RandomState,
    began: Instant,
}

impl Hooks {
    /// `deadline`: how long one call may take, retries included.
    pub fn new(application: Arc<dyn Application>, deadline: Duration, has_breakers: bool, now: Instant) -> Self {
        let hasher = RandomState::new();
        Self { application, deadline, breakers: Default::default(), has_breakers, hasher, began: now }
    }

    pub fn circuit(&self, hook: HookKind) -> Circuit {
        self.breaker(hook).circuit()
    }

    /// The hook's answer within its deadline, retries included. Ends early with [`HookFault::TimedOut`] when the caller's shard
    /// drains. A call that failed is only repeated while `is_wanted`.
    pub async fn call(
        &self,
        call: &HookCall,
        is_wanted: impl Fn() -> bool,
        stop: &StopSignal,
        counters: &ShardCounters,
    ) -> Result<HookAnswer, HookFault> {
        let hook = call.kind;
        let subject = self.subject(call);
        let permit = match self.admit(hook, subject) {
            Ok(permit) => permit,
            Err(retry_after) => {
                counters.hooks.add((hook, HookOutcome::Refused), 1);
                return Err(HookFault::CircuitOpen { retry_after });
            }
        };
        let is_probe = permit.is_some_and(|permit| permit.is_probe);
        let deadline = Instant::now() + self.deadline;
        let mut delays = RETRY_AFTER.into_iter();
        let answer = loop {
            let (answer, settled) = oneshot::channel();
            self.application.call_hook(call.clone(), answer);
            let result = answer_within(settled, deadline, stop).await;
            let delay = match &result {
                // A probe asks whether the hook works again; it is not repeated.
                Err(HookFault::Failed(_)) if hook.may_be_repeated() && !is_probe => delays.next(),
                _ => None,
            };
            let Some(pause) = delay.map(jitter).filter(|pause| Instant::now() + *pause < deadline) else {
                break result;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.wait() => break result,
            }
            if !is_wanted() {
                break result;
            }
            counters.hooks.add((hook, HookOutcome::Retried), 1);
        };
        if answer.is_err() && stop.is_set() {
            // The call was given up: that says nothing about the hook.
            return answer;
        }
        let (outcome, counted) = match &answer {
            Ok(_) => (Outcome::Answered, HookOutcome::Answered),
            Err(HookFault::Failed(_)) => (Outcome::Rejected(subject), HookOutcome::Failed),
            Err(HookFault::TimedOut | HookFault::CircuitOpen { .. }) => (Outcome::TimedOut, HookOutcome::TimedOut),
        };
        counters.hooks.add((hook, counted), 1);
        if let Some(permit) = permit {
            self.record(hook, permit, outcome);
        }
        answer
    }

    /// A permit to call, or how long to wait. Without a breaker there is nothing to give back.
    fn admit(&self, hook: HookKind, subject: Subject) -> Result<Option<CallPermit>, Duration> {
        if !self.has_breakers {
            return Ok(None);
        }
        self.breaker(hook).admit(subject, self.began.elapsed()).map(Some)
    }

    fn record(&self, hook: HookKind, permit: CallPermit, outcome: Outcome) {
        let changed = self.breaker(hook).settle(permit, outcome, self.began.elapsed());
        match changed {
            Some(Circuit::Open) => {
                warn!(hook = hook.label(), "circuit breaker open: the hook is not called for a while")
            }
            Some(_) => info!(hook = hook.label(), "circuit breaker closed: the hook answers again"),
            None => {}
        }
    }

    fn subject(&self, call: &HookCall) -> Subject {
        Subject(self.hasher.hash_one(&call.subject))
    }

    fn breaker(&self, hook: HookKind) -> MutexGuard<'_, CircuitBreaker> {
        // The breaker's methods do not panic; what a thread that died left is whole.
        self.breakers[hook as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer_within(
    answer: oneshot::Receiver<Result<HookAnswer, HookFault>>,
    deadline: Instant,
    stop: &StopSignal,
) -> Result<HookAnswer, HookFault> {
    if stop.is_set() {
        return Err(HookFault::TimedOut);
    }
    tokio::select! {
        answer = answer => answer.unwrap_or(Err(HookFault::TimedOut)),
        () = tokio::time::sleep_until(deadline.into()) => Err(HookFault::TimedOut),
        () = stop.wait() => Err(HookFault::TimedOut),
    }
}

/// Somewhere within the range of milliseconds, so that what failed together is not retried together.
fn jitter(range: RangeInclusive<u64>) -> Duration {
    let width = range.end() - range.start() + 1;
    // Every `RandomState` has keys of its own: enough of a die for this.
    Duration::from_millis(range.start() + RandomState::new().hash_one(()) % width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_range_and_varies() {
        let pauses: std::collections::HashSet<Duration> = (0..200).map(|_| jitter(50..=150)).collect();
        assert!(pauses.iter().all(|pause| (50..=150).contains(&pause.as_millis())));
        assert!(pauses.len() > 20, "{}", pauses.len());
    }
}
