//! How long things took: a histogram with fixed memory, whose buckets are never more than 3 % wide.
//!
//! Written by one thread with relaxed atomics, read by any thread. Takes no memory before its first sample.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets per power of two; below it each microsecond has its own.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.ilog2();

/// Longer times, of more than four hours, count as this one.
const LONGEST: u64 = (1 << 34) - 1;

const BUCKETS: usize = index(LONGEST) + 1;

#[derive(Debug, Default)]
pub struct Histogram {
    buckets: OnceLock<Box<[AtomicU64]>>,
    /// Microseconds.
    sum: AtomicU64,
}

/// The samples of one or several histograms at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    buckets: Vec<u64>,
    sum: u64,
}

impl Histogram {
    pub fn record(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST).min(LONGEST);
        let buckets = self.buckets.get_or_init(|| (0..BUCKETS).map(|_| AtomicU64::new(0)).collect());
        if let Some(bucket) = buckets.get(index(micros)) {
            bucket.fetch_add(1, Relaxed);
            self.sum.fetch_add(micros, Relaxed);
        }
    }
}

impl Histogram {
    /// How many samples there are, and their sum.
    pub fn totals(&self) -> (u64, Duration) {
        let count = self.buckets.get().map_or(0, |buckets| buckets.iter().map(|bucket| bucket.load(Relaxed)).sum());
        (count, Duration::from_micros(self.sum.load(Relaxed)))
    }
}

impl Distribution {
    pub fn add(&mut self, histogram: &Histogram) {
        let Some(buckets) = histogram.buckets.get() else { return };
        self.buckets.resize(BUCKETS, 0);
        for (total, bucket) in self.buckets.iter_mut().zip(buckets) {
            *total += bucket.load(Relaxed);
        }
        self.sum += histogram.sum.load(Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// How many samples were no longer than this, as exactly as the buckets tell.
    pub fn at_most(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(LONGEST);
        let within = |index: usize| lowest(index + 1) <= micros + 1;
        self.buckets.iter().enumerate().take_while(|(index, _)| within(*index)).map(|(_, count)| count).sum()
    }

    /// Nearest rank, the middle of its bucket; zero without samples. `rank` from 0 to 1.
    pub fn percentile(&self, rank: f64) -> Duration {
        let wanted = (self.count() as f64 * rank).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(lowest(index).midpoint(lowest(index + 1) - 1));
            }
        }
        Duration::ZERO
    }
}

const fn index(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let power = micros.ilog2() - STEP_BITS;
    // The leading bit counts as one row of steps.
    (power as u64 * STEPS + (micros >> power)) as usize
}

/// The smallest value of a bucket.
const fn lowest(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let power = index / STEPS - 1;
    (index % STEPS + STEPS) << power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(micros: impl IntoIterator<Item = u64>) -> Distribution {
        let histogram = Histogram::default();
        micros.into_iter().for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let mut distribution = Distribution::default();
        distribution.add(&histogram);
        distribution
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        for bucket in 0..BUCKETS {
            assert_eq!(index(lowest(bucket)), bucket);
            assert_eq!(index(lowest(bucket + 1) - 1), bucket);
            assert!((lowest(bucket + 1) - lowest(bucket)) as f64 <= (lowest(bucket) as f64 / 32.0).max(1.0));
        }
    }

    #[test]
    fn percentiles_are_within_three_percent() {
        let latencies = distribution((1..=100_000).rev());
        for (rank, expected) in [(0.5, 50_000.0), (0.95, 95_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = latencies.percentile(rank).as_micros() as f64;
            assert!((found / expected - 1.0).abs() < 0.03, "{rank}: {found}");
        }
        assert_eq!(latencies.count(), 100_000);
        assert_eq!(latencies.sum(), Duration::from_micros(5_000_050_000));
    }

    #[test]
    fn without_samples_everything_is_zero_and_nothing_is_allocated() {
        let histogram = Histogram::default();
        let mut empty = Distribution::default();
        empty.add(&histogram);
        assert!(histogram.buckets.get().is_none());
        assert_eq!((empty.count(), empty.percentile(0.99)), (0, Duration::ZERO));
        assert_eq!(empty.at_most(Duration::MAX), 0);
    }

    #[test]
    fn what_is_at_most_a_bound_is_counted() {
        let latencies = distribution([0, 1, 10, 100, 1000, u64::MAX]);
        for (bound, expected) in [(0, 1), (1, 2), (9, 2), (10, 3), (1100, 5), (20_000_000_000, 6)] {
            assert_eq!(latencies.at_most(Duration::from_micros(bound)), expected, "{bound}");
        }
    }
}
