//! Tests of `leak_detector_handler`.

use super::*;

const HOUR: u64 = 3600;

/// Noise of ±1, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 30) - 1.0
    }
}

/// `resident` MiB and `connections` at a second; what was found, with the second it was found at.
fn simulate(seconds: u64, sample: impl Fn(f64, f64) -> Sample) -> Vec<(u64, Leak)> {
    let mut detector = LeakDetectorHandler::default();
    let mut noise = Noise(1);
    (0..seconds)
        .step_by(10)
        .filter_map(|second| {
            let sample = Sample { at: Duration::from_secs(second), ..sample(second as f64, noise.next()) };
            Some((second, detector.observe(sample)?))
        })
        .collect()
}

fn sample(mebibytes: f64, connections: f64) -> Sample {
    Sample {
        resident: (mebibytes * MEBIBYTE) as u64,
        service_usage: ServiceUsage { connections: connections as u64, ..ServiceUsage::default() },
        ..Sample::default()
    }
}

/// ±50 % in waves of this many seconds.
fn wave(second: f64, period: f64) -> f64 {
    1.0 + 0.5 * (second * std::f64::consts::TAU / period).sin()
}

#[test]
fn waves_of_load_are_no_leak() {
    for period in [60.0, 300.0, 600.0, 1200.0, 3600.0] {
        let found = simulate(2 * HOUR, |second, noise| {
            let load = wave(second, period);
            let mut sample = sample(100.0 + 50.0 * load + noise, 5000.0 * load);
            // Unwritten bytes follow the load and are no growth either.
            sample.service_usage.unwritten_bytes = (20.0 * load * MEBIBYTE) as u64;
            sample.resident += sample.service_usage.unwritten_bytes;
            sample
        });
        assert_eq!(found, [], "period {period}");
    }
}

#[test]
fn room_that_is_kept_after_a_wave_is_no_leak() {
    for period in [120.0, 600.0, 1800.0] {
        let found = simulate(HOUR, |second, noise| {
            // The memory of the highest load so far is never given back.
            let highest = if second > period / 4.0 { 1.5 } else { wave(second, period) };
            sample(100.0 + 50.0 * highest + noise, 5000.0 * wave(second, period))
        });
        assert_eq!(found, [], "period {period}");
    }
}

#[test]
fn a_load_that_rises_and_a_program_that_warms_up_are_no_leaks() {
    let found = simulate(HOUR, |second, noise| sample(100.0 + second / 10.0 + noise, second * 10.0));
    assert_eq!(found, []);
    let found = simulate(HOUR, |second, noise| sample(150.0 - 60.0 * (-second / 90.0).exp() + noise, 50.0));
    assert_eq!(found, []);
}

#[test]
fn a_heap_that_is_collected_now_and_then_is_no_leak() {
    let found = simulate(HOUR, |second, noise| sample(150.0 + second % 77.0 + noise, 50.0));
    assert_eq!(found, []);
}

#[test]
fn one_percent_per_minute_is_found_within_ten_minutes_and_told_once() {
    for load in [0.0, 200.0, 300.0] {
        let found = simulate(900, |second, noise| {
            let load = if load == 0.0 { 1.0 } else { wave(second, load) };
            sample(200.0 + 2.0 * second / 60.0 + 20.0 * load + noise, 1000.0 * load)
        });
        let [(second, leak)] = found.as_slice() else { panic!("{found:?}") };
        assert!(*second <= 600, "{second}");
        assert_eq!(leak.severity, Severity::Low);
        assert!((0.7..1.3).contains(&leak.growth_rate), "{leak:?}");
        assert!((10.0..20.0).contains(&(leak.retained_increase / MEBIBYTE)), "{leak:?}");
    }
}

#[test]
fn severity_follows_growth_retained_memory_and_pressure() {
    for (percent_per_minute, base, pressure, expected) in [
        (1.0, 100.0, 0.99, Severity::Low),
        (3.0, 100.0, 0.0, Severity::Medium),
        (1.0, 1000.0, 0.0, Severity::Medium),
        (6.0, 100.0, 0.84, Severity::High),
        (1.0, 2500.0, 0.0, Severity::High),
        (6.0, 100.0, 0.85, Severity::Critical),
    ] {
        let found = simulate(440, |second, _| {
            let grown = base * (1.0 + percent_per_minute / 100.0 * second / 60.0);
            Sample { pressure, ..sample(grown, 10.0) }
        });
        let severities: Vec<_> = found.iter().map(|(_, leak)| leak.severity).collect();
        assert_eq!(severities, [expected], "{percent_per_minute} % of {base} MiB at {pressure}");
    }
}

#[test]
fn a_leak_that_goes_on_is_told_again_after_a_while_or_when_it_gets_worse() {
    let found = simulate(1800, |second, _| sample(200.0 + 2.0 * second / 60.0, 10.0));
    let seconds: Vec<_> = found.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [420, 1020, 1620]);
    let found = simulate(1200, |second, _| {
        let pressure = if second >= 600.0 { 0.9 } else { 0.5 };
        Sample { pressure, ..sample(200.0 + 20.0 * second / 60.0, 10.0) }
    });
    let severities: Vec<_> = found.iter().map(|(_, leak)| leak.severity).collect();
    assert_eq!(severities, [Severity::High, Severity::Critical]);
}

#[test]
fn the_counter_that_grows_is_named() {
    let recommendation = |change: fn(&mut Sample, f64)| {
        let found = simulate(500, |second, _| {
            let mut sample = sample(200.0 + 4.0 * second / 60.0, 10.0);
            sample.heap = Some(50 << 20);
            sample.service_usage.subscriptions = 100;
            change(&mut sample, second);
            sample
        });
        found.first().expect("a leak").1.recommendations.clone()
    };
    let heap = recommendation(|sample, second| sample.heap = Some((50 << 20) + (second * 65_536.0) as u64));
    assert!(heap[0].starts_with("V8's heap grew from "), "{heap:?}");
    assert_eq!(heap.len(), 2);
    let subscriptions = recommendation(|sample, second| sample.service_usage.subscriptions = second as u64 * 100);
    assert!(subscriptions[0].starts_with("subscriptions grew from "), "{subscriptions:?}");
    let nothing = recommendation(|_, _| {});
    assert!(nothing[0].starts_with("No counter of the service grows"), "{nothing:?}");
    assert!(Severity::ALL.windows(2).all(|pair| pair[0] < pair[1]));
}

#[test]
fn accepted_messages_are_thrown_away_for_a_critical_leak_only() {
    let clearing = Severity::ALL.into_iter().filter(|severity| severity.response().clears_buffers);
    assert_eq!(clearing.collect::<Vec<_>>(), [Severity::Critical]);
    assert_eq!(Severity::from_name("high"), Some(Severity::High));
    assert_eq!(Severity::from_name("High"), None);
}
