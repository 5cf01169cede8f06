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

    /// Whether whoever asks to come in is asked to come back later.
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

    /// Somebody else's word. At or above its threshold it means at least the first level; below it, that the
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
mod tests {
    use super::DegradationLevel::*;
    use super::*;
    use crate::config::RuntimeConfig;

    const THRESHOLDS: Thresholds = Thresholds { high: 0.85, critical: 0.95 };
    const DWELL: Duration = Duration::from_secs(10);

    fn policy() -> ProgressiveDegradation {
        ProgressiveDegradation::new(THRESHOLDS, DWELL)
    }

    fn measured(ratio: f64) -> Option<Pressure> {
        Some(Pressure { ratio, source: PressureSource::Container })
    }

    /// One measurement per second; every level entered, with the second it was entered in.
    fn walk(
        policy: &mut ProgressiveDegradation,
        ratios: impl IntoIterator<Item = f64>,
    ) -> Vec<(usize, DegradationLevel)> {
        let steps = ratios.into_iter().enumerate();
        steps
            .filter_map(|(second, ratio)| {
                let change = policy.measure(measured(ratio), Duration::from_secs(second as u64))?;
                Some((second, change.level))
            })
            .collect()
    }

    #[test]
    fn every_level_up_and_down() {
        let mut policy = policy();
        let rising = [0.5, 0.849, 0.85, 0.86, 0.884, 0.9, 0.917, 0.94, 0.95, 0.99];
        assert_eq!(walk(&mut policy, rising), [(2, Light), (4, Moderate), (6, Severe), (8, Critical)]);
        let falling = std::iter::repeat_n(0.5, 60);
        assert_eq!(walk(&mut policy, falling), [(10, Severe), (20, Moderate), (30, Light), (40, Normal)]);
    }

    #[test]
    fn the_level_rises_at_once_however_far() {
        let change = policy().measure(measured(1.2), Duration::ZERO).expect("a change");
        assert_eq!((change.previous, change.level), (Normal, Critical));
        assert_eq!(change.pressure, Pressure { ratio: 1.2, source: PressureSource::Container });
    }

    #[test]
    fn a_pressure_just_below_a_level_keeps_it() {
        let mut policy = policy();
        assert_eq!(walk(&mut policy, [0.86]), [(0, Light)]);
        assert_eq!(walk(&mut policy, std::iter::repeat_n(0.81, 1000)), []);
        assert_eq!(walk(&mut policy, std::iter::repeat_n(0.79, 11)), [(10, Normal)]);
    }

    #[test]
    fn a_flapping_pressure_changes_the_level_once() {
        let mut policy = policy();
        let flapping = (0..1000).map(|second| if second % 9 == 0 { 0.96 } else { 0.3 });
        assert_eq!(walk(&mut policy, flapping), [(0, Critical)]);
        let mut policy = self::policy();
        let wavering = (0..1000).map(|second| 0.85 + 0.04 * f64::from(second % 2) - 0.02);
        assert_eq!(walk(&mut policy, wavering), [(1, Light)]);
    }

    #[test]
    fn recovery_stops_where_the_pressure_still_is() {
        let mut policy = policy();
        assert_eq!(walk(&mut policy, [0.99]), [(0, Critical)]);
        // Below severe's release point (0.867), above moderate's (0.833).
        assert_eq!(walk(&mut policy, std::iter::repeat_n(0.85, 100)), [(10, Severe), (20, Moderate)]);
    }

    #[test]
    fn thresholds_that_coincide_or_are_tiny_still_let_go() {
        for thresholds in [Thresholds { high: 0.9, critical: 0.9 }, Thresholds { high: 0.01, critical: 0.01 }] {
            let mut policy = ProgressiveDegradation::new(thresholds, DWELL);
            assert_eq!(walk(&mut policy, [0.95]), [(0, Critical)]);
            let down = walk(&mut policy, std::iter::repeat_n(0.0, 60));
            assert_eq!(down.last(), Some(&(40, Normal)));
        }
    }

    #[test]
    fn without_any_measurement_all_is_normal() {
        let mut policy = policy();
        assert_eq!(policy.measure(None, Duration::ZERO), None);
        assert_eq!(policy.pressure(Duration::ZERO), None);
        // A source that goes away while degraded does not keep it so for ever.
        walk(&mut policy, [0.9]);
        assert_eq!(policy.measure(None, Duration::ZERO), None);
        assert_eq!(policy.measure(None, DWELL).map(|change| change.level), Some(Light));
        assert_eq!(policy.measure(None, DWELL * 2).map(|change| change.level), Some(Normal));
    }

    #[test]
    fn a_report_counts_at_once_until_it_is_old_or_withdrawn() {
        let second = Duration::from_secs(1);
        let mut policy = policy();
        policy.measure(measured(0.2), Duration::ZERO);
        let change = policy.report(0.96, 0.85, Duration::ZERO).expect("a change");
        assert_eq!((change.level, change.pressure.source), (Critical, PressureSource::Report));
        assert_eq!(policy.report(0.96, 0.85, Duration::ZERO), None, "twice is no different");
        assert_eq!(policy.measure(measured(0.2), 59 * second), None);
        // Old from 60 s on; ten seconds later the level falls.
        assert_eq!(policy.measure(measured(0.2), 60 * second), None);
        assert_eq!(policy.measure(measured(0.2), 70 * second).map(|change| change.level), Some(Severe));
        assert_eq!(policy.report(0.96, 0.85, 71 * second).map(|change| change.level), Some(Critical));
        assert_eq!(policy.report(0.5, 0.85, 72 * second), None);
        assert_eq!(policy.measure(measured(0.2), 82 * second).map(|change| change.level), Some(Severe));
    }

    #[test]
    fn a_reporters_own_threshold_means_at_least_the_first_level() {
        let mut policy = policy();
        assert_eq!(policy.report(0.6, 0.7, Duration::ZERO), None);
        assert_eq!(policy.report(0.7, 0.7, Duration::ZERO).map(|change| change.level), Some(Light));
    }

    #[test]
    fn each_level_is_a_setting_made_from_the_owners_values() {
        let config = RuntimeConfig::new(RuntimeValues::default());
        let shown = |level: DegradationLevel| {
            // Twice is no different.
            config.degrade(level.settings());
            config.degrade(level.settings());
            RuntimeKey::ALL.map(|key| config.get(key))
        };
        assert_eq!(shown(Light), [5.0, 50.0, 1024.0, 5000.0, 5000.0, 5.0, 90_000.0]);
        assert_eq!(shown(Moderate), [5.0, 50.0, 4096.0, 1500.0, 5000.0, 5.0, 60_000.0]);
        assert_eq!(shown(Severe), [1.0, 0.0, 16_777_216.0, 500.0, 5000.0, 3.0, 30_000.0]);
        assert_eq!(shown(Critical), [1.0, 0.0, 16_777_216.0, 500.0, 5000.0, 3.0, 10_000.0]);
        assert_eq!(shown(Normal), [10.0, 50.0, 1024.0, 5000.0, 5000.0, 5.0, 180_000.0]);
    }

    #[test]
    fn the_owners_changes_show_through_and_survive() {
        let config = RuntimeConfig::new(RuntimeValues::default());
        config.degrade(Severe.settings());
        config.set(RuntimeKey::MaxConnectionsPerUser, 100.0).expect("in bounds");
        assert_eq!(config.get(RuntimeKey::MaxConnectionsPerUser), 60.0);
        config.set(RuntimeKey::MessageBatchSize, 40.0).expect("in bounds");
        assert_eq!(config.get(RuntimeKey::MessageBatchSize), 1.0);
        config.degrade(Light.settings());
        assert_eq!(config.get(RuntimeKey::MessageBatchSize), 20.0);
        config.reset();
        assert_eq!(config.get(RuntimeKey::MessageBatchSize), 5.0, "reset returns to the constructed values, degraded");
        config.degrade(None);
        assert_eq!(config.values(), RuntimeValues::default());
    }

    #[test]
    fn no_level_leaves_the_bounds_or_asks_for_more_than_the_owner_did() {
        for extreme in [f64::MIN, f64::MAX] {
            let owned = RuntimeKey::ALL.map(|key| (key.name().to_owned(), key.clamp(extreme)));
            let owned = RuntimeValues::from_pairs(owned).expect("in bounds");
            for level in DegradationLevel::ALL {
                let values = level.settings().map_or(owned, |settings| settings(owned));
                for key in RuntimeKey::ALL {
                    assert_eq!(key.clamp(values.get(key)), values.get(key), "{level:?} {key:?}");
                    assert!(
                        key == RuntimeKey::CompressionThreshold || values.get(key) <= owned.get(key),
                        "{level:?} {key:?}"
                    );
                }
            }
        }
    }
}
