//! Tells a leak from load: memory that keeps growing although no more is asked of the service. Pure.
//!
//! What is looked at is the process' memory without the bytes that wait in the service's own queues. Growth is the
//! median slope between moments at which about as many connections were open (Theil and Sen's estimator, over such
//! pairs only), so that waves of load are compared with themselves; what the connections differ by is taken off.
//! It must show in both halves of the window and in three quarters of the pairs: what warms up, or keeps the room
//! of its first wave, stops growing, and what is collected now and then falls as often as it rises, while a leak
//! goes on. Under a load that only ever rises there are no such pairs and no verdict.
//!
//! Driven by `memory_manager`; what a verdict leads to is done by the core.

use std::time::Duration;

use crate::memory::sources::ServiceUsage;
use crate::utils::CircularBuffer;

/// Between two samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// A program that starts fills its caches.
const WARM_UP: Duration = Duration::from_secs(60);

/// Ten minutes.
const WINDOW: usize = 60;

/// The shortest history a verdict is given on.
const MIN_SPAN: Duration = Duration::from_secs(360);

/// As many pairs of like moments a slope needs.
const MIN_PAIRS: usize = 16;

/// Percent per minute, in each half of the window.
const MIN_GROWTH: f64 = 0.4;

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Bytes over the window. Less than this comes and goes with the allocator.
const MIN_RETAINED: f64 = 4.0 * MEBIBYTE;

/// A verdict that stands is repeated after this time.
const REPEAT_AFTER: Duration = Duration::from_secs(600);

/// How serious a leak is:
///
/// | severity | growth per minute | or retained in the window |
/// | --- | --- | --- |
/// | low | from 0.4 % | and 4 MiB |
/// | medium | from 2 % | from 50 MiB |
/// | high | from 5 % | from 100 MiB |
/// | critical | as high, at a memory pressure of 85 % or more | |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// Found here, or reported by the application.
#[derive(Clone, Debug, PartialEq)]
pub struct Leak {
    pub severity: Severity,
    pub recommendations: Vec<String>,
    /// Percent per minute, where found here.
    pub growth_rate: f64,
    /// Bytes, where found here.
    pub retained_increase: f64,
}

/// What is known at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub at: Duration,
    /// Bytes of the process in physical memory.
    pub resident: u64,
    /// Bytes of V8's heap, where it can be asked.
    pub heap: Option<u64>,
    pub service_usage: ServiceUsage,
    /// Of memory as a whole, 0 to 1.
    pub pressure: f64,
}

/// What is done about a leak beside telling of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    pub halves_dedupe_cache: bool,
    /// Buffers and queues hold accepted messages: they go only when the process may go otherwise.
    pub clears_buffers: bool,
}

#[derive(Debug)]
pub struct LeakDetectorHandler {
    samples: CircularBuffer<Sample>,
    last_reported: Option<(Severity, Duration)>,
}

impl Severity {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }

    pub fn response(self) -> Response {
        Response { halves_dedupe_cache: true, clears_buffers: self == Self::Critical }
    }

    fn of(growth_rate: f64, retained: f64, pressure: f64) -> Self {
        let is_high = growth_rate >= 5.0 || retained >= 100.0 * MEBIBYTE;
        match () {
            () if is_high && pressure >= 0.85 => Self::Critical,
            () if is_high => Self::High,
            () if growth_rate >= 2.0 || retained >= 50.0 * MEBIBYTE => Self::Medium,
            () => Self::Low,
        }
    }

    fn recommendation(self) -> &'static str {
        match self {
            Self::Low => "Watch the growth; nothing has to be done at once.",
            Self::Medium => "Look for the cause: take two heap snapshots some minutes apart and compare them.",
            Self::High => "Take a heap snapshot now and plan an orderly restart.",
            Self::Critical => "Restart the process in an orderly way before the system ends it.",
        }
    }
}

impl Default for LeakDetectorHandler {
    fn default() -> Self {
        Self { samples: CircularBuffer::new(WINDOW), last_reported: None }
    }
}

impl LeakDetectorHandler {
    /// A sample, every [`SAMPLE_INTERVAL`]. A leak is last_reported once, again when it gets worse, and from time to time.
    pub fn observe(&mut self, sample: Sample) -> Option<Leak> {
        if sample.at < WARM_UP {
            return None;
        }
        self.samples.push(sample);
        let leak = self.verdict()?;
        let is_news = self
            .last_reported
            .is_none_or(|(severity, at)| leak.severity > severity || sample.at.saturating_sub(at) >= REPEAT_AFTER);
        if !is_news {
            return None;
        }
        self.last_reported = Some((leak.severity, sample.at));
        Some(leak)
    }

    fn verdict(&self) -> Option<Leak> {
        let samples: Vec<Sample> = self.samples.iter().copied().collect();
        let (first, last) = (samples.first()?, samples.last()?);
        let span = last.at.saturating_sub(first.at);
        if span < MIN_SPAN {
            return None;
        }
        let (earlier, later) = samples.split_at(samples.len() / 2);
        let base = median(earlier.iter().map(Sample::retained).collect())?.max(1.0);
        let percent_per_minute = |slope: f64| slope * 60.0 / base * 100.0;
        let per_connection = cost_of_connection(&samples);
        let whole = Slope::between(&samples, per_connection)?;
        let halves = (Slope::between(earlier, per_connection)?, Slope::between(later, per_connection)?);
        let retained = whole.typical * span.as_secs_f64();
        let sure = whole.sure.min(halves.0.sure).min(halves.1.sure);
        let is_over = halves.1.typical < halves.0.typical / 2.0;
        if is_over || percent_per_minute(sure) < MIN_GROWTH || retained < MIN_RETAINED {
            return None;
        }
        let growth_rate = percent_per_minute(whole.typical);
        let severity = Severity::of(growth_rate, retained, last.pressure);
        let mut recommendations = likely_causes(earlier, later);
        recommendations.push(severity.recommendation().to_owned());
        Some(Leak { severity, recommendations, growth_rate, retained_increase: retained })
    }
}

impl Sample {
    fn retained(&self) -> f64 {
        self.resident.saturating_sub(self.service_usage.queued_bytes + self.service_usage.unwritten_bytes) as f64
    }

    /// Whether the load was about the same.
    fn is_like(&self, other: &Self) -> bool {
        let (one, other) = (self.service_usage.connections, other.service_usage.connections);
        one.abs_diff(other) <= 2.max(one.max(other) / 8)
    }

    fn connections_to(&self, other: &Self) -> f64 {
        other.service_usage.connections as f64 - self.service_usage.connections as f64
    }
}

/// Bytes per second, between like moments that are not too near to each other.
#[derive(Clone, Copy, Debug)]
struct Slope {
    typical: f64,
    /// Three quarters of the pairs show as much.
    sure: f64,
}

impl Slope {
    fn between(samples: &[Sample], per_connection: f64) -> Option<Self> {
        let span = samples.last()?.at.saturating_sub(samples.first()?.at);
        let is_apart = |one: &Sample, other: &Sample| {
            let distance = other.at.saturating_sub(one.at);
            distance >= span / 4 && !distance.is_zero()
        };
        let mut slopes: Vec<f64> = pairs(samples)
            .filter(|(one, other)| is_apart(one, other) && one.is_like(other))
            .map(|(one, other)| {
                let grown = other.retained() - one.retained() - per_connection * one.connections_to(other);
                grown / other.at.saturating_sub(one.at).as_secs_f64()
            })
            .collect();
        if slopes.len() < MIN_PAIRS {
            return None;
        }
        Some(Self { typical: quantile(&mut slopes, 0.5)?, sure: quantile(&mut slopes, 0.25)? })
    }
}

/// Bytes, by the moments with the largest differences in load; 0 where the load stays the same.
fn cost_of_connection(samples: &[Sample]) -> f64 {
    let counts = || samples.iter().map(|sample| sample.service_usage.connections);
    let range = counts().max().unwrap_or(0) - counts().min().unwrap_or(0);
    let mut costs: Vec<f64> = pairs(samples)
        .filter(|(one, other)| one.connections_to(other).abs() >= range as f64 / 2.0 && range > 0)
        .map(|(one, other)| (other.retained() - one.retained()) / one.connections_to(other))
        .collect();
    // More is no connection's fault.
    quantile(&mut costs, 0.5).unwrap_or(0.0).clamp(0.0, MEBIBYTE)
}

/// Each two, the earlier one first.
fn pairs(samples: &[Sample]) -> impl Iterator<Item = (&Sample, &Sample)> {
    samples.iter().enumerate().flat_map(|(index, one)| samples.iter().skip(index + 1).map(move |other| (one, other)))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    quantile(&mut values, 0.5)
}

fn quantile(values: &mut [f64], rank: f64) -> Option<f64> {
    let place = ((values.len() as f64 * rank) as usize).min(values.len().checked_sub(1)?);
    Some(*values.select_nth_unstable_by(place, f64::total_cmp).1)
}

/// The counters that grow, the fastest first, in words. Without any, where else to look.
fn likely_causes(earlier: &[Sample], later: &[Sample]) -> Vec<String> {
    type Counter = (fn(&Sample) -> f64, &'static str, &'static str);
    const COUNTERS: [Counter; 5] = [
        (|sample| sample.heap.unwrap_or(0) as f64, "V8's heap", "what the application keeps alive in JavaScript"),
        (|sample| sample.service_usage.unwritten_bytes as f64, "unwritten bytes", "lower maxBackpressure"),
        (|sample| sample.service_usage.queued_bytes as f64, "queued bytes", "publish less, or lower maxQueueBytes"),
        (|sample| sample.service_usage.dedupe_entries as f64, "dedupe entries", "lower DEDUPE_CACHE_SIZE"),
        (|sample| sample.service_usage.subscriptions as f64, "subscriptions", "clients that subscribe again and again"),
    ];
    let mut grown: Vec<(f64, String)> = Vec::new();
    for (counter, name, recommendation) in COUNTERS {
        let typical = |samples: &[Sample]| median(samples.iter().map(counter).collect()).unwrap_or(0.0);
        let (before, after) = (typical(earlier), typical(later));
        let growth = (after - before) / before.max(1.0);
        if growth >= 0.02 {
            grown.push((growth, format!("{name} grew from {before:.0} to {after:.0}: {recommendation}.")));
        }
    }
    grown.sort_by(|one, other| other.0.total_cmp(&one.0));
    if grown.is_empty() {
        let elsewhere =
            "No counter of the service grows: look at memory outside of V8's heap, such as Buffers and native modules.";
        return vec![elsewhere.to_owned()];
    }
    grown.into_iter().map(|(_, text)| text).collect()
}

#[cfg(test)]
mod tests;
