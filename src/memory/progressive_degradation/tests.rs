//! Tests of `progressive_degradation`.

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
fn walk(policy: &mut ProgressiveDegradation, ratios: impl IntoIterator<Item = f64>) -> Vec<(usize, DegradationLevel)> {
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
