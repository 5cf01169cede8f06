//! Judges counters: healthy, degraded or unhealthy, with a reason for each. Pure.

use std::time::Duration;

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct HealthInputs {
    pub active_connections: f64,
    pub expected_connections: f64,
    pub queue_depth: f64,
    /// What a queue depth is relative to; not a bound.
    pub max_queue_size: f64,
    /// Lost within the last minutes, without what ended connections left behind.
    pub dropped_messages: f64,
    /// Publishes refused within the last minutes.
    pub queue_overflows: f64,
    /// Of the last minutes' publishes, by the service's own clock: what clients say of theirs is no symptom.
    pub average_latency_ms: f64,
    /// Of the last minutes' outgoing messages, 0 to 1.
    pub success_rate: f64,
    pub heap: HeapUse,
}

/// What is judged beside the counters.
#[derive(Clone, Debug, Default)]
pub struct RuntimeInputs {
    /// Each running shard's number, and the time since its last turn.
    pub shard_stalls: Vec<(u8, Duration)>,
    /// Hooks that are not called for now.
    pub open_circuits: Vec<&'static str>,
    /// How long what was for Node's thread had to wait lately; `None` if nothing was.
    pub event_loop_delay: Option<Duration>,
    /// While memory pressure degrades the service.
    pub degradation: Option<ActiveDegradation>,
}

/// What memory pressure does to the service.
#[derive(Clone, Copy, Debug)]
pub struct ActiveDegradation {
    pub level: &'static str,
    /// Whether new connections are refused.
    pub rejects_new_connections: bool,
    /// Percent of what is there, and what was measured.
    pub pressure: Option<(f64, &'static str)>,
}

/// Bytes of V8's heap.
#[derive(Clone, Copy, Debug)]
pub struct HeapUse {
    pub used: f64,
    pub total: f64,
    /// What it may grow to. `total` follows `used` closely by design and says nothing about pressure.
    pub limit: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthLevel {
    Healthy,
    /// Works, but something deserves a look.
    Degraded,
    /// Needs attention at once.
    Unhealthy,
}

impl HealthLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthReport {
    pub condition: HealthLevel,
    pub warnings: Vec<String>,
}

/// Share of the queue's nominal size from which the service is unhealthy.
const FULL_QUEUE: f64 = 0.8;
/// Share of the connections expected.
const FULL_POOL: f64 = 0.8;
/// Shards give a sign of life each second.
const SILENT_SHARD: Duration = Duration::from_secs(5);
const SLOW_EVENT_LOOP: Duration = Duration::from_secs(1);
/// Percent of V8's limit.
const FULL_HEAP: f64 = 90.0;

impl HeapUse {
    /// Percent of what the heap may become; 0 where the limit is not known.
    pub fn pressure(&self) -> f64 {
        self.limit.filter(|limit| *limit > 0.0).map_or(0.0, |limit| self.used / limit * 100.0)
    }
}

/// The check behind `getHealthStatus()`. Idle is not ill: nothing here depends on recent traffic.
pub fn check(inputs: &HealthInputs) -> HealthReport {
    let mut warnings = Vec::new();
    if inputs.queue_depth > inputs.max_queue_size * 0.5 {
        warnings.push(format!("High queue depth: {}", inputs.queue_depth));
    }
    if inputs.dropped_messages > 100.0 {
        warnings.push(format!("High dropped message count: {}", inputs.dropped_messages));
    }
    if inputs.queue_overflows > 10.0 {
        warnings.push(format!("Queue overflow detected: {} times", inputs.queue_overflows));
    }
    let heap = inputs.heap.pressure();
    if heap > 80.0 {
        warnings.push(format!("High memory usage: {heap:.2}%"));
    }
    if inputs.average_latency_ms > 1000.0 {
        warnings.push(format!("High average latency: {:.0}ms", inputs.average_latency_ms));
    }
    if inputs.success_rate < 0.95 {
        warnings.push(format!("Low message success rate: {:.2}%", inputs.success_rate * 100.0));
    }
    let is_full = inputs.queue_depth >= inputs.max_queue_size * FULL_QUEUE || heap >= FULL_HEAP;
    let condition = match (is_full, warnings.is_empty()) {
        (true, _) => HealthLevel::Unhealthy,
        (false, false) => HealthLevel::Degraded,
        (false, true) => HealthLevel::Healthy,
    };
    HealthReport { condition, warnings }
}

/// The same with what is around the counters.
pub fn evaluate(inputs: &HealthInputs, runtime: &RuntimeInputs) -> HealthReport {
    let mut report = check(inputs);
    let mut degraded = Vec::new();
    if inputs.active_connections > inputs.expected_connections * FULL_POOL {
        degraded.push(format!("High connection count: {}/{}", inputs.active_connections, inputs.expected_connections));
    }
    for hook in &runtime.open_circuits {
        degraded.push(format!("Circuit breaker open: {hook}"));
    }
    if let Some(delay) = runtime.event_loop_delay.filter(|delay| *delay > SLOW_EVENT_LOOP) {
        degraded.push(format!("Event loop delay: {}ms", delay.as_millis()));
    }
    if let Some(degradation) = &runtime.degradation {
        degraded.push(degradation.describe());
    }
    let silent: Vec<String> = runtime
        .shard_stalls
        .iter()
        .filter(|(_, stalled_for)| *stalled_for >= SILENT_SHARD)
        .map(|(shard, stalled_for)| format!("Shard {shard} has not responded for {} s", stalled_for.as_secs()))
        .collect();
    let is_shedding = runtime.degradation.is_some_and(|degradation| degradation.rejects_new_connections);
    if is_shedding || !silent.is_empty() {
        report.condition = HealthLevel::Unhealthy;
    } else if !degraded.is_empty() && report.condition == HealthLevel::Healthy {
        report.condition = HealthLevel::Degraded;
    }
    report.warnings.extend(degraded);
    report.warnings.extend(silent);
    report
}

impl ActiveDegradation {
    fn describe(&self) -> String {
        match self.pressure {
            Some((percent, source)) => format!("Memory degradation: {} ({percent:.2}% by {source})", self.level),
            None => format!("Memory degradation: {}", self.level),
        }
    }
}

/// The warnings of `forceMemoryAnalysis()`; `own_bytes` is what the service itself keeps.
pub fn analyse(inputs: &HealthInputs, own_bytes: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let heap = inputs.heap.pressure();
    if heap > 85.0 {
        warnings.push(format!("High heap usage: {heap:.2}%"));
    }
    if inputs.active_connections > inputs.expected_connections * 0.8 {
        warnings.push(format!("High connection count: {}/{}", inputs.active_connections, inputs.expected_connections));
    }
    if inputs.queue_depth > inputs.max_queue_size * 0.7 {
        warnings.push(format!("High queue depth: {}/{}", inputs.queue_depth, inputs.max_queue_size));
    }
    let megabytes = own_bytes as f64 / 1024.0 / 1024.0;
    if megabytes > 50.0 {
        warnings.push(format!("High estimated WebSocket memory usage: {megabytes:.2} MB"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: HealthInputs = HealthInputs {
        active_connections: 10.0,
        expected_connections: 10_000.0,
        queue_depth: 0.0,
        max_queue_size: 1000.0,
        dropped_messages: 0.0,
        queue_overflows: 0.0,
        average_latency_ms: 12.0,
        success_rate: 1.0,
        heap: HeapUse { used: 95.0, total: 100.0, limit: Some(4000.0) },
    };

    #[test]
    fn a_full_heap_of_a_heap_that_may_grow_is_no_illness() {
        assert_eq!(check(&WELL), HealthReport { condition: HealthLevel::Healthy, warnings: Vec::new() });
    }

    #[test]
    fn every_warning_has_its_text_and_its_threshold() {
        let at = |change: fn(&mut HealthInputs)| {
            let mut inputs = WELL;
            change(&mut inputs);
            let report = check(&inputs);
            (report.condition, report.warnings.join("; "))
        };
        let degraded = |text: &str| (HealthLevel::Degraded, text.to_owned());
        assert_eq!(at(|v| v.queue_depth = 500.0), (HealthLevel::Healthy, String::new()));
        assert_eq!(at(|v| v.queue_depth = 501.0), degraded("High queue depth: 501"));
        assert_eq!(at(|v| v.queue_depth = 800.0).0, HealthLevel::Unhealthy);
        assert_eq!(at(|v| v.dropped_messages = 101.0), degraded("High dropped message count: 101"));
        assert_eq!(at(|v| v.queue_overflows = 11.0), degraded("Queue overflow detected: 11 times"));
        assert_eq!(at(|v| v.heap.used = 3300.0), degraded("High memory usage: 82.50%"));
        assert_eq!(at(|v| v.heap.used = 3600.0).0, HealthLevel::Unhealthy);
        assert_eq!(at(|v| v.average_latency_ms = 1000.6), degraded("High average latency: 1001ms"));
        assert_eq!(at(|v| v.success_rate = 0.9), degraded("Low message success rate: 90.00%"));
    }

    #[test]
    fn a_silent_shard_is_an_illness_and_the_rest_a_reason_to_look() {
        let seconds = Duration::from_secs;
        let with = |stalled_for, delay, circuits: &[&'static str]| {
            let runtime = RuntimeInputs {
                shard_stalls: vec![(0, seconds(1)), (3, stalled_for)],
                open_circuits: circuits.to_vec(),
                event_loop_delay: delay,
                degradation: None,
            };
            let report = evaluate(&WELL, &runtime);
            (report.condition, report.warnings.join("; "))
        };
        let well = (HealthLevel::Healthy, String::new());
        assert_eq!(with(seconds(4), None, &[]), well);
        assert_eq!(with(seconds(0), Some(seconds(1)), &[]), well);
        assert_eq!(with(seconds(7), None, &[]), (HealthLevel::Unhealthy, "Shard 3 has not responded for 7 s".into()));
        assert_eq!(
            with(seconds(0), Some(Duration::from_millis(1500)), &["lookupUser"]),
            (HealthLevel::Degraded, "Circuit breaker open: lookupUser; Event loop delay: 1500ms".into())
        );
        let strained = |level, rejects_new_connections| {
            let degradation =
                Some(ActiveDegradation { level, rejects_new_connections, pressure: Some((91.234, "container")) });
            let report = evaluate(&WELL, &RuntimeInputs { degradation, ..RuntimeInputs::default() });
            (report.condition, report.warnings.join("; "))
        };
        assert_eq!(
            strained("moderate", false),
            (HealthLevel::Degraded, "Memory degradation: moderate (91.23% by container)".into())
        );
        assert_eq!(
            strained("critical", true),
            (HealthLevel::Unhealthy, "Memory degradation: critical (91.23% by container)".into())
        );
        let crowded = HealthInputs { active_connections: 8001.0, ..WELL };
        let report = evaluate(&crowded, &RuntimeInputs::default());
        assert_eq!(
            (report.condition, report.warnings),
            (HealthLevel::Degraded, vec!["High connection count: 8001/10000".into()])
        );
    }

    #[test]
    fn the_analysis_warns_in_its_own_words() {
        let inputs = HealthInputs {
            active_connections: 8001.0,
            queue_depth: 701.0,
            heap: HeapUse { used: 90.0, total: 90.0, limit: Some(100.0) },
            ..WELL
        };
        assert_eq!(
            analyse(&inputs, 60 * 1024 * 1024),
            [
                "High heap usage: 90.00%",
                "High connection count: 8001/10000",
                "High queue depth: 701/1000",
                "High estimated WebSocket memory usage: 60.00 MB"
            ]
        );
        assert!(analyse(&WELL, 0).is_empty());
    }
}
