//! Which degradation level a memory pressure means, and what each level sets. Pure: pressure and time come in,
//! changes come out.
//!
//! A level rises at once, by as many steps as the pressure asks for. It falls one step at a time, each after the
//! pressure has been clearly below the level for a while, so that a pressure that wavers does not make it flap.
//! Driven by `memory_manager`.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::{DegradedValues, RuntimeKey, RuntimeValues};
use crate::memory::sources::{Pressure, PressureSource};

/// How far below its threshold the pressure must be for a level to be left: 5 points, but at most half of it.
const HYSTERESIS: f64 = 0.05;

/// How long a report from outside counts unless it is renewed or withdrawn.
pub const REPORT_LIFETIME: Duration = Duration::from_secs(60);

/// With the default thresholds of 85 % and 95 %: light from 85 %, moderate from 88.3 %, severe from 91.7 %,
/// critical from 95 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DegradationLevel {
    #[default]
    Normal,
    Light,
    Moderate,
    Severe,
    /// New connections are turned away and the slowest consumers closed.
    Critical,
}

/// A level that has just changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelChange {
    pub level: DegradationLevel,
    pub previous: DegradationLevel,
    pub pressure: Pressure,
}

/// Ratios at which the first and the last level begin; the others lie evenly between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    pub high: f64,
    pub critical: f64,
}

#[derive(Clone, Debug)]
pub struct ProgressiveDegradation {
    thresholds: Thresholds,
    dwell: Duration,
    level: DegradationLevel,
    measured: Option<Pressure>,
    reported: Option<ExternalReport>,
    /// Since when the pressure has been low enough to leave the level.
    calm_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct ExternalReport {
    ratio: f64,
    at: Duration,
}

/// The level in effect, for threads that only look.
#[derive(Debug, Default)]
pub struct SharedLevel(AtomicU8);

impl DegradationLevel {
    pub const ALL: [Self; 5] = [Self::Normal, Self::Light, Self::Moderate, Self::Severe, Self::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Light => "light",
            Self::Moderate => "moderate",
            Self::Severe => "severe",
            Self::Critical => "critical",
        }
    }

    /// As clients are told: 0 is normal.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What the level makes of the owner's settings.
    ///
    /// | level | batch | compression from | dedupe cache | connections per user | clean-up interval |
    /// | --- | --- | --- | --- | --- | --- |
    /// | light | half as large | | | | ½ |
    /// | moderate | half as large | 4 × | three tenths | | ⅓ |
    /// | severe | one message, no delay | never | a tenth | three fifths | ⅙ |
    /// | critical | one message, no delay | never | a tenth | three fifths | 1/18 |
    pub fn settings(self) -> Option<DegradedValues> {
        match self {
            Self::Normal => None,
            Self::Light => Some(light),
            Self::Moderate => Some(moderate),
            Self::Severe => Some(severe),
            Self::Critical => Some(critical),
        }
    }

    /// Whether new connections are refused with `Retry-After`.
    pub fn rejects_new_connections(self) -> bool {
        self == Self::Critical
    }

    /// How long a connection rests after each read: what peers send must not fill the memory either.
    pub fn read_pause(self) -> Option<Duration> {
        match self {
            Self::Normal | Self::Light | Self::Moderate => None,
            Self::Severe => Some(Duration::from_millis(20)),
            Self::Critical => Some(Duration::from_millis(100)),
        }
    }

    /// By how many powers of two less than usual a peer may leave unread before it is not listened to.
    pub fn backpressure_shift(self) -> u32 {
        match self {
            Self::Normal | Self::Light => 0,
            Self::Moderate => 2,
            Self::Severe | Self::Critical => 4,
        }
    }

    fn below(self) -> Self {
        match self {
            Self::Normal | Self::Light => Self::Normal,
            Self::Moderate => Self::Light,
            Self::Severe => Self::Moderate,
            Self::Critical => Self::Severe,
        }
    }
}

impl Thresholds {
    /// Where a level begins.
    fn of(self, level: DegradationLevel) -> f64 {
        let third = (self.critical - self.high) / 3.0;
        match level {
            DegradationLevel::Normal => 0.0,
            DegradationLevel::Light => self.high,
            DegradationLevel::Moderate => self.high + third,
            DegradationLevel::Severe => self.high + 2.0 * third,
            DegradationLevel::Critical => self.critical,
        }
    }

    fn level(self, ratio: f64) -> DegradationLevel {
        let reached = DegradationLevel::ALL.into_iter().rev().find(|level| ratio >= self.of(*level));
        reached.unwrap_or_default()
    }

    /// Below this the level may be left.
    fn release(self, level: DegradationLevel) -> f64 {
        let threshold = self.of(level);
        threshold - HYSTERESIS.min(threshold / 2.0)
    }
}

impl ProgressiveDegradation {
    /// `dwell`: how long the pressure must be low before each step down.
    pub fn new(thresholds: Thresholds, dwell: Duration) -> Self {
        Self { thresholds, dwell, level: DegradationLevel::Normal, measured: None, reported: None, calm_since: None }
    }

    pub fn level(&self) -> DegradationLevel {
        self.level
    }

    /// A measurement, or that nothing can be measured.
    pub fn measure(&mut self, pressure: Option<Pressure>, now: Duration) -> Option<LevelChange> {
        self.measured = pressure;
        self.decide(now)
    }

    /// A report of the application. At or above its threshold it means at least the first level; below it, that the
    /// reporter sees no pressure any more.
    pub fn report(&mut self, ratio: f64, threshold: f64, now: Duration) -> Option<LevelChange> {
        let is_pressure = ratio >= threshold;
        self.reported = is_pressure.then(|| ExternalReport { ratio: ratio.max(self.thresholds.high), at: now });
        self.decide(now)
    }

    /// The worst of what was measured last and of what was reported lately.
    pub fn pressure(&self, now: Duration) -> Option<Pressure> {
        let fresh = self.reported.filter(|report| now.saturating_sub(report.at) < REPORT_LIFETIME);
        let reported = fresh.map(|report| Pressure { ratio: report.ratio, source: PressureSource::Report });
        [self.measured, reported].into_iter().flatten().max_by(|one, other| one.ratio.total_cmp(&other.ratio))
    }

    fn decide(&mut self, now: Duration) -> Option<LevelChange> {
        let pressure = self.pressure(now).unwrap_or(Pressure { ratio: 0.0, source: PressureSource::Machine });
        let asked = self.thresholds.level(pressure.ratio);
        if asked > self.level {
            self.calm_since = None;
            return Some(self.change(asked, pressure));
        }
        if self.level == DegradationLevel::Normal || pressure.ratio >= self.thresholds.release(self.level) {
            self.calm_since = None;
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_sub(since) < self.dwell {
            return None;
        }
        let change = self.change(self.level.below(), pressure);
        // The next step has to be earned as this one was.
        let is_calm = pressure.ratio < self.thresholds.release(self.level);
        self.calm_since = is_calm.then_some(now);
        Some(change)
    }

    fn change(&mut self, level: DegradationLevel, pressure: Pressure) -> LevelChange {
        LevelChange { level, previous: std::mem::replace(&mut self.level, level), pressure }
    }
}

impl SharedLevel {
    pub fn get(&self) -> DegradationLevel {
        let number = usize::from(self.0.load(Ordering::Relaxed));
        DegradationLevel::ALL.get(number).copied().unwrap_or_default()
    }

    pub fn set(&self, level: DegradationLevel) {
        self.0.store(level.number(), Ordering::Relaxed);
    }
}

fn light(owned: RuntimeValues) -> RuntimeValues {
    RuntimeValues {
        batch_size: owned.batch_size.div_ceil(2),
        memory_cleanup_interval: shorter(owned.memory_cleanup_interval, 2),
        ..owned
    }
}

fn moderate(owned: RuntimeValues) -> RuntimeValues {
    RuntimeValues {
        // What is compressed is kept twice, as it was and as it is sent.
        compression_threshold: owned.compression_threshold.max(256).saturating_mul(4).min(NEVER_COMPRESS),
        dedupe_cache_size: (owned.dedupe_cache_size * 3).div_ceil(10),
        memory_cleanup_interval: shorter(owned.memory_cleanup_interval, 3),
        ..light(owned)
    }
}

fn severe(owned: RuntimeValues) -> RuntimeValues {
    RuntimeValues {
        batch_size: 1,
        batch_delay: Duration::ZERO,
        compression_threshold: NEVER_COMPRESS,
        dedupe_cache_size: owned.dedupe_cache_size.div_ceil(10),
        max_connections_per_user: (owned.max_connections_per_user * 3).div_ceil(5),
        memory_cleanup_interval: shorter(owned.memory_cleanup_interval, 6),
        ..owned
    }
}

fn critical(owned: RuntimeValues) -> RuntimeValues {
    RuntimeValues { memory_cleanup_interval: shorter(owned.memory_cleanup_interval, 18), ..severe(owned) }
}

/// The largest threshold there is; hardly a message reaches it.
const NEVER_COMPRESS: usize = RuntimeKey::MAX_COMPRESSION_THRESHOLD;

fn shorter(interval: Duration, times: u32) -> Duration {
    (interval / times).max(RuntimeKey::MIN_CLEANUP_INTERVAL).min(interval)
}

#[cfg(test)]
mod tests;
