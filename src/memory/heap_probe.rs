//! Asks how full V8's heap is: often enough to notice before it is full, seldom while it is far from that. Pure but for the
//! question, which is a task for the application's thread; its answer comes when that thread has time.
//!
//! Owned and driven by `memory_manager`, on its thread.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::memory::sources::Usage;

/// Between two questions to V8, each a task for the application's thread.
const HEAP_INTERVAL: Duration = Duration::from_secs(1);

/// The same while the heap would reach the first threshold within [`FORESIGHT`]: an application can fill it in a few seconds.
const CLOSE_HEAP_INTERVAL: Duration = Duration::from_millis(100);

const FORESIGHT: Duration = Duration::from_secs(5);

/// How soon an answer is looked for. Node usually takes less.
const HEAP_ANSWER_DELAY: Duration = Duration::from_millis(10);

/// An answer of V8's counts this long: Node may be busy, but not for ever.
const HEAP_LIFETIME: Duration = Duration::from_secs(30);

/// V8's answers, which come when Node has time.
#[derive(Default)]
pub struct HeapProbe {
    asked: Option<Duration>,
    answer: Option<oneshot::Receiver<Usage>>,
    known: Option<(Usage, Duration)>,
    /// Of its limit per second, between the last two answers.
    growth: f64,
}

impl HeapProbe {
    /// What V8 said lately. Asks again from time to time, but not while an answer is outstanding.
    pub fn poll(&mut self, now: Duration, threshold: f64, ask: impl FnOnce(oneshot::Sender<Usage>)) -> Option<Usage> {
        match self.answer.as_mut().map(oneshot::Receiver::try_recv) {
            Some(Ok(usage)) => {
                self.growth = self.known.map_or(0.0, |(before, at)| {
                    (usage.ratio() - before.ratio()) / now.saturating_sub(at).as_secs_f64().max(f64::EPSILON)
                });
                self.known = Some((usage, now));
                self.answer = None;
            }
            Some(Err(oneshot::error::TryRecvError::Closed)) => self.answer = None,
            Some(Err(oneshot::error::TryRecvError::Empty)) | None => {}
        }
        let interval = self.interval(threshold);
        if self.answer.is_none() && self.asked.is_none_or(|at| now.saturating_sub(at) >= interval) {
            let (answer, coming) = oneshot::channel();
            self.asked = Some(now);
            self.answer = Some(coming);
            ask(answer);
        }
        self.known.filter(|(_, at)| now.saturating_sub(*at) < HEAP_LIFETIME).map(|(usage, _)| usage)
    }

    /// Between two questions, given how soon the heap may reach the threshold.
    fn interval(&self, threshold: f64) -> Duration {
        let is_close = self
            .known
            .is_some_and(|(usage, _)| usage.ratio() + self.growth.max(0.0) * FORESIGHT.as_secs_f64() >= threshold);
        if is_close { CLOSE_HEAP_INTERVAL } else { HEAP_INTERVAL }
    }

    /// Until an answer or the next question can be expected.
    pub fn pause(&self, now: Duration, threshold: f64) -> Duration {
        let since_asked = self.asked.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        match self.answer {
            Some(_) if since_asked < CLOSE_HEAP_INTERVAL => HEAP_ANSWER_DELAY,
            Some(_) => self.interval(threshold),
            None => self.interval(threshold).saturating_sub(since_asked).max(HEAP_ANSWER_DELAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v8_is_asked_more_often_the_sooner_its_heap_may_be_full() {
        let usage = |used| Usage { used, limit: 1000 };
        let heap =
            |used, growth| HeapProbe { known: Some((usage(used), Duration::ZERO)), growth, ..HeapProbe::default() };
        assert_eq!(HeapProbe::default().interval(0.85), HEAP_INTERVAL);
        assert_eq!(heap(300, 0.0).interval(0.85), HEAP_INTERVAL);
        assert_eq!(heap(300, 0.1).interval(0.85), HEAP_INTERVAL);
        assert_eq!(heap(300, 0.12).interval(0.85), CLOSE_HEAP_INTERVAL);
        assert_eq!(heap(860, -0.5).interval(0.85), CLOSE_HEAP_INTERVAL);
    }

    #[test]
    fn growth_is_measured_between_two_answers() {
        let mut asked = None;
        let mut heap = HeapProbe::default();
        let mut now = Duration::ZERO;
        for used in [100, 250] {
            heap.poll(now, 0.85, |answer| asked = Some(answer));
            let answer: oneshot::Sender<Usage> = asked.take().expect("asked");
            answer.send(Usage { used, limit: 1000 }).expect("the probe waits");
            assert_eq!(heap.pause(now, 0.85), HEAP_ANSWER_DELAY);
            now += Duration::from_secs(1);
            // Takes the answer, and asks again.
            assert_eq!(heap.poll(now, 0.85, drop), Some(Usage { used, limit: 1000 }));
            heap.answer = None;
            heap.asked = None;
        }
        assert!((heap.growth - 0.15).abs() < 1e-9, "{}", heap.growth);
        assert_eq!(heap.interval(0.85), CLOSE_HEAP_INTERVAL);
    }
}
