//! The application's hooks, called with patience but not for ever: time limit, retries, circuit breaker.
//!
//! [`Hooks`] is shared by the shards of a run; each breaker's lock is taken twice per call and held for nothing else.
//! Calls are made on shards' threads.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::core::circuit_breaker::{Circuit, CircuitBreaker, Outcome, Permit};
use crate::core::host::{Answer, HookFault};
use crate::core::shard::Shard;
use crate::monitoring::tally::{Hook, HookOutcome};

/// Milliseconds before each further try of a call that failed, chosen at random within the range.
const RETRY_AFTER: [RangeInclusive<u64>; 2] = [50..=150, 100..=300];

#[derive(Debug)]
pub struct Hooks {
    breakers: [Mutex<CircuitBreaker>; Hook::COUNT],
    began: Instant,
}

impl Hooks {
    pub fn new(now: Instant) -> Self {
        Self { breakers: Default::default(), began: now }
    }

    pub fn circuit(&self, hook: Hook) -> Circuit {
        self.breaker(hook).circuit()
    }

    fn admit(&self, hook: Hook) -> Result<Permit, Duration> {
        self.breaker(hook).admit(self.began.elapsed())
    }

    fn settle(&self, hook: Hook, permit: Permit, outcome: Outcome) {
        let changed = self.breaker(hook).settle(permit, outcome, self.began.elapsed());
        match changed {
            Some(Circuit::Open) => {
                warn!(hook = hook.label(), "circuit breaker open: the hook is not called for a while")
            }
            Some(_) => info!(hook = hook.label(), "circuit breaker closed: the hook answers again"),
            None => {}
        }
    }

    fn breaker(&self, hook: Hook) -> MutexGuard<'_, CircuitBreaker> {
        // The breaker's methods do not panic; what a thread that died left is whole.
        let [lookup, load, save] = &self.breakers;
        let breaker = match hook {
            Hook::LookupUser => lookup,
            Hook::LoadPreferences => load,
            Hook::SavePreferences => save,
        };
        breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hook {
    /// Whether calling it again after a failure can do no harm.
    fn may_be_repeated(self) -> bool {
        match self {
            Self::LookupUser | Self::LoadPreferences => true,
            Self::SavePreferences => false,
        }
    }
}

impl Shard {
    /// A hook's answer, within the time it has, retries included. Ends early when the shard drains.
    pub(super) async fn ask<T>(&self, hook: Hook, call: impl Fn(Answer<T>)) -> Result<T, HookFault> {
        let permit = match self.shared.hooks.admit(hook) {
            Ok(permit) => permit,
            Err(retry_after) => {
                self.counters.tally.hooks.add((hook, HookOutcome::Refused), 1);
                return Err(HookFault::CircuitOpen { retry_after });
            }
        };
        let deadline = Instant::now() + self.shared.options.lookup_timeout;
        let mut delays = RETRY_AFTER.into_iter();
        let answer = loop {
            let (answer, settled) = oneshot::channel();
            call(answer);
            let result = self.hook_answer(settled, deadline).await;
            let delay = match &result {
                // A probe is for asking whether it works again, not for insisting.
                Err(HookFault::Failed(_)) if hook.may_be_repeated() && !permit.is_probe => delays.next(),
                _ => None,
            };
            let Some(pause) = delay.map(jitter).filter(|pause| Instant::now() + *pause < deadline) else {
                break result;
            };
            self.counters.tally.hooks.add((hook, HookOutcome::Retried), 1);
            if !self.pause(pause).await {
                break result;
            }
        };
        if answer.is_err() && self.is_draining() {
            // Nobody waited for it: that says nothing about the hook.
            return answer;
        }
        let (outcome, counted) = match &answer {
            Ok(_) => (Outcome::Answered, HookOutcome::Answered),
            Err(HookFault::TimedOut) => (Outcome::Failed, HookOutcome::TimedOut),
            Err(_) => (Outcome::Failed, HookOutcome::Failed),
        };
        self.counters.tally.hooks.add((hook, counted), 1);
        self.shared.hooks.settle(hook, permit, outcome);
        answer
    }

    async fn hook_answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, HookFault>>,
        deadline: Instant,
    ) -> Result<T, HookFault> {
        if self.is_draining() {
            return Err(HookFault::TimedOut);
        }
        tokio::select! {
            answer = answer => answer.unwrap_or(Err(HookFault::TimedOut)),
            () = tokio::time::sleep_until(deadline.into()) => Err(HookFault::TimedOut),
            () = self.draining.notified() => Err(HookFault::TimedOut),
        }
    }

    /// `false` if the shard began to drain meanwhile.
    async fn pause(&self, pause: Duration) -> bool {
        if self.is_draining() {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.draining.notified() => false,
        }
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
