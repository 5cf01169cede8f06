//! `getHealthStatus()` and `forceMemoryAnalysis()`: the core's counts and the memory of Node.

use std::time::Duration;

use napi::bindgen_prelude::{JsObjectValue, Object};
use napi::{Env, Result};

use crate::binding::objects::{HealthStatus, MemoryPressure, MemoryUsage, ServiceStats, seconds_between};
use crate::binding::{heap, values};
use crate::config::BaseConfig;
use crate::core::websocket_service::WebSocketService as Core;
use crate::memory::sources::Usage;
use crate::monitoring::health_checker::{self, HealthInputs, HealthLevel, HeapUse};
use crate::monitoring::recent::Outgoing;
use crate::protocol::json::iso_timestamp;
use crate::types::UnixMillis;

/// Bytes, as `process.memoryUsage()` returns them.
struct NodeMemory {
    heap_used: f64,
    heap_total: f64,
    external: f64,
    rss: f64,
    /// V8's old generation and what it may grow to; absent where Node does not say.
    old_generation: Option<Usage>,
}

pub fn status(env: &Env, core: &Core, event_loop_delay: Option<Duration>, base: &BaseConfig) -> Result<HealthStatus> {
    let memory = NodeMemory::read(env)?;
    let now = UnixMillis::now();
    let statistics = core.statistics();
    let stats = ServiceStats::new(&statistics, &core.counts(), now);
    let vitals = vitals(&stats, &core.recent(), &memory, base);
    let report = health_checker::evaluate(&vitals, &core.surroundings(event_loop_delay));
    Ok(HealthStatus {
        timestamp: iso_timestamp(now.as_f64()),
        uptime: stats.uptime,
        time_since_last_activity: seconds_between(statistics.last_activity, now),
        is_healthy: report.condition != HealthLevel::Unhealthy,
        status: report.condition.as_str().to_owned(),
        stats,
        memory_usage: MemoryUsage {
            heap_used: megabytes(memory.heap_used),
            heap_total: megabytes(memory.heap_total),
            external: megabytes(memory.external),
            rss: megabytes(memory.rss),
        },
        heap_used_percent: memory.heap_percent(),
        degradation_level: core.degradation_level().as_str().to_owned(),
        memory_pressure: core
            .memory_pressure()
            .map(|pressure| MemoryPressure { ratio: pressure.ratio, source: pressure.source.as_str().to_owned() }),
        warnings: report.warnings,
    })
}

pub fn analysis<'env>(env: &'env Env, core: &Core, base: &BaseConfig) -> Result<Object<'env>> {
    let memory = NodeMemory::read(env)?;
    let stats = ServiceStats::new(&core.statistics(), &core.counts(), UnixMillis::now());
    let counts = core.counts();
    let sizes = core.sizes();
    let mut connections = Object::new(env)?;
    connections.set("active", stats.active_connections)?;
    connections.set("total", stats.total_connections)?;
    connections.set("peak", stats.peak_connections)?;
    connections.set("poolSize", stats.connection_pool_size)?;
    connections.set("memoryUsage", kilobytes(sizes.connections as f64))?;
    let mut subscriptions = Object::new(env)?;
    subscriptions.set("billSubscriptions", counts.bills as f64)?;
    subscriptions.set("userSubscriptions", counts.subscribed_users as f64)?;
    subscriptions.set("totalSubscriptions", counts.subscriptions as f64)?;
    subscriptions.set("memoryUsage", kilobytes(sizes.subscriptions as f64))?;
    let mut messages = Object::new(env)?;
    messages.set("totalProcessed", stats.total_messages)?;
    messages.set("broadcasts", stats.total_broadcasts)?;
    messages.set("dropped", stats.dropped_messages)?;
    messages.set("duplicates", stats.duplicate_messages)?;
    messages.set("dedupeCacheSize", stats.dedupe_cache_size)?;
    messages.set("dedupeCacheMemory", kilobytes(sizes.dedupe as f64))?;
    let mut performance = Object::new(env)?;
    performance.set("averageLatency", stats.average_latency)?;
    performance.set("queueDepth", stats.queue_depth)?;
    performance.set("queueOverflows", stats.queue_overflows)?;
    performance.set("queueMemory", kilobytes(counts.queue_bytes as f64))?;
    performance.set("bufferMemory", kilobytes(sizes.buffers as f64))?;
    let mut process = Object::new(env)?;
    process.set("heapUsed", megabytes(memory.heap_used))?;
    process.set("heapTotal", megabytes(memory.heap_total))?;
    process.set("external", megabytes(memory.external))?;
    process.set("rss", megabytes(memory.rss))?;
    process.set("heapUsedPercent", format!("{:.2}%", memory.heap_percent()))?;
    let mut analysis = Object::new(env)?;
    analysis.set("timestamp", iso_timestamp(UnixMillis::now().as_f64()))?;
    analysis.set("connections", connections)?;
    analysis.set("subscriptions", subscriptions)?;
    analysis.set("messages", messages)?;
    analysis.set("performance", performance)?;
    analysis.set("memory", process)?;
    let warnings = health_checker::analyse(&vitals(&stats, &core.recent(), &memory, base), sizes.total());
    analysis.set("warnings", warnings)?;
    Ok(analysis)
}

fn vitals(stats: &ServiceStats, recent: &Outgoing, memory: &NodeMemory, base: &BaseConfig) -> HealthInputs {
    HealthInputs {
        active_connections: stats.active_connections,
        expected_connections: base.connection_pool_size as f64,
        queue_depth: stats.queue_depth,
        max_queue_size: base.max_queue_size as f64,
        dropped_messages: recent.lost as f64,
        queue_overflows: recent.refused as f64,
        average_latency_ms: recent.average_publish_time().as_secs_f64() * 1000.0,
        success_rate: recent.success_rate(),
        heap: match memory.old_generation {
            Some(heap) => HeapUse { used: heap.used as f64, total: memory.heap_total, limit: Some(heap.limit as f64) },
            None => HeapUse { used: memory.heap_used, total: memory.heap_total, limit: None },
        },
    }
}

impl NodeMemory {
    fn read(env: &Env) -> Result<Self> {
        let process: Object<'_> = env.get_global()?.get_named_property("process")?;
        let usage: Object<'_> = values::read(&values::call_method(&process, "memoryUsage", ())?)?;
        let number =
            |name: &str| -> Result<f64> { Ok(values::as_number(&values::property(&usage, name)?).unwrap_or(0.0)) };
        Ok(Self {
            heap_used: number("heapUsed")?,
            heap_total: number("heapTotal")?,
            external: number("external")?,
            rss: number("rss")?,
            old_generation: heap::usage(env),
        })
    }

    fn heap_percent(&self) -> f64 {
        if self.heap_total > 0.0 { self.heap_used / self.heap_total * 100.0 } else { 0.0 }
    }
}

fn megabytes(bytes: f64) -> String {
    format!("{:.2} MB", bytes / 1024.0 / 1024.0)
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.2} KB", bytes / 1024.0)
}
