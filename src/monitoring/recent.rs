//! What was counted within the last minutes, so that health is judged by the present and not by everything since the start.
//! Pure: totals and time come in, differences come out.
//!
//! Filled by the first shard's tick, read by getters and the health check; owned by the statistics collector.

use std::collections::VecDeque;
use std::time::Duration;

/// How far back it reaches: this, and up to a [`STEP`] more.
pub const WINDOW: Duration = Duration::from_secs(300);

/// Between two totals that are remembered.
const STEP: Duration = Duration::from_secs(10);

/// Counters that only grow; or the difference of two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Messages and publishes that were to be delivered, those that were lost included.
    pub offered: u64,
    /// Of these, what was refused, dropped or discarded. What a connection leaves behind that ends is not: no peer was left to
    /// deliver it to.
    pub lost: u64,
    /// Publishes refused because a queue was full.
    pub refused: u64,
    /// Publishes that were carried out, and what that took from the publish on, by the service's own clock.
    pub published: u64,
    pub publish_time: Duration,
}

#[derive(Debug, Default)]
pub struct Recent {
    /// Oldest first; the first is at most a step older than the window.
    totals: VecDeque<(Duration, Outgoing)>,
}

impl Outgoing {
    /// 0 to 1; 1 if there was nothing to deliver.
    pub fn success_rate(&self) -> f64 {
        if self.offered == 0 {
            return 1.0;
        }
        (1.0 - self.lost as f64 / self.offered as f64).max(0.0)
    }

    /// From a publish to the end of the turn in which a shard wrote or batched it; zero if nothing was published.
    pub fn average_publish_time(&self) -> Duration {
        Duration::try_from_secs_f64(self.publish_time.as_secs_f64() / self.published as f64).unwrap_or_default()
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            offered: self.offered.saturating_sub(earlier.offered),
            lost: self.lost.saturating_sub(earlier.lost),
            refused: self.refused.saturating_sub(earlier.refused),
            published: self.published.saturating_sub(earlier.published),
            publish_time: self.publish_time.saturating_sub(earlier.publish_time),
        }
    }
}

impl Recent {
    /// Whether it is time for the next [`record`](Self::record).
    pub fn is_due(&self, now: Duration) -> bool {
        self.totals.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= STEP)
    }

    /// Remembers the totals of this moment and forgets those that are too old.
    pub fn record(&mut self, now: Duration, totals: Outgoing) {
        self.totals.push_back((now, totals));
        while self.totals.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.totals.pop_front();
        }
    }

    /// What was counted since the window began.
    pub fn until(&self, now: Duration, totals: Outgoing) -> Outgoing {
        // While nothing is noted, because nothing runs, the window moves on all the same.
        let is_old = |at: Duration| now.saturating_sub(at) > WINDOW + STEP;
        let begin = self.totals.iter().find(|(at, _)| !is_old(*at)).or_else(|| self.totals.back());
        begin.map(|(_, then)| totals.since(then)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn outgoing(offered: u64, lost: u64) -> Outgoing {
        Outgoing { offered, lost, ..Outgoing::default() }
    }

    #[test]
    fn what_is_long_past_does_not_count() {
        let mut recent = Recent::default();
        let mut totals = Outgoing::default();
        for second in 0..1000_u32 {
            // A bad minute at the beginning.
            totals.offered += 10;
            totals.lost += if second < 60 { 5 } else { 0 };
            let now = SECOND * second;
            if recent.is_due(now) {
                recent.record(now, totals);
            }
            let lately = recent.until(now, totals);
            if second == 59 {
                assert!(lately.success_rate() < 0.6, "{lately:?}");
            }
            if second >= 60 + 310 {
                assert_eq!((lately.lost, lately.success_rate()), (0, 1.0));
                assert!((3000..=3100).contains(&lately.offered), "{lately:?}");
            }
            assert!(recent.totals.len() <= 32, "{}", recent.totals.len());
        }
    }

    #[test]
    fn the_window_moves_on_while_nothing_is_noted() {
        let mut recent = Recent::default();
        recent.record(Duration::ZERO, outgoing(0, 0));
        recent.record(10 * SECOND, outgoing(100, 50));
        assert_eq!(recent.until(20 * SECOND, outgoing(100, 50)), outgoing(100, 50));
        assert_eq!(recent.until(4000 * SECOND, outgoing(100, 50)), Outgoing::default());
    }

    #[test]
    fn rates_of_nothing_are_good_and_more_lost_than_offered_is_nothing_delivered() {
        assert_eq!(
            (Outgoing::default().success_rate(), Outgoing::default().average_publish_time()),
            (1.0, Duration::ZERO)
        );
        assert_eq!(outgoing(4, 1).success_rate(), 0.75);
        assert_eq!(outgoing(1, 3).success_rate(), 0.0);
        let slow = Outgoing { published: 4, publish_time: 10 * SECOND, ..Outgoing::default() };
        assert_eq!(slow.average_publish_time(), Duration::from_millis(2500));
    }
}
