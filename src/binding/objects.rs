//! The plain objects that getters return; their comments become `index.d.ts`.

use napi_derive::napi;

use crate::core::websocket_service::Counts;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::history::Second;
use crate::monitoring::statistics_collector::Statistics;
use crate::types::UnixMillis;

/// What `getStats()` returns. Times are milliseconds since 1970 unless said otherwise.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct ServiceStats {
    /// Connections accepted since the service object was made.
    pub total_connections: f64,
    /// Connections open now.
    pub active_connections: f64,
    /// Inbound messages, invalid ones included.
    pub total_messages: f64,
    /// Messages to all, and bill updates that had a subscriber.
    pub total_broadcasts: f64,
    /// Payloads that were not delivered, whatever the reason.
    pub dropped_messages: f64,
    /// Bill updates suppressed as repeats.
    pub duplicate_messages: f64,
    /// Publishes refused because a queue was full.
    pub queue_overflows: f64,
    /// Users who connected again within 60 s of losing their last connection.
    pub reconnections: f64,
    /// When the service object was made.
    pub start_time: f64,
    /// When a client last connected or sent something, or a broadcast had a receiver.
    pub last_activity: f64,
    pub peak_connections: f64,
    /// Whole seconds.
    pub uptime: f64,
    /// Milliseconds from a client's `timestamp` to its arrival, averaged over the newest samples; 0 without any.
    pub average_latency: f64,
    /// Pairs of a bill and a user that follows it.
    pub total_subscriptions: f64,
    pub bills_with_subscribers: f64,
    /// Users with an open connection.
    pub unique_users: f64,
    /// Publishes waiting for their shard.
    pub queue_depth: f64,
    /// 0 without users.
    pub average_connections_per_user: f64,
    /// Users with an open connection.
    pub connection_pool_size: f64,
    pub dedupe_cache_size: f64,
    /// 1 − dropped / total messages; 1 without messages.
    pub message_success_rate: f64,
}

/// Memory of the Node process as it reports it, such as `"12.34 MB"`.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct MemoryUsage {
    pub heap_used: String,
    pub heap_total: String,
    pub external: String,
    pub rss: String,
}

/// Memory pressure: how much of the available memory is in use.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct MemoryPressure {
    /// 0 to 1, the highest of what is measured.
    pub ratio: f64,
    /// What it was measured on: the control group, V8's heap, the machine's memory, or the application's own report.
    #[napi(ts_type = "'container' | 'heap' | 'machine' | 'report'")]
    pub source: String,
}

/// What `getHealthStatus()` returns.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct HealthStatus {
    /// ISO 8601, UTC.
    pub timestamp: String,
    /// Seconds.
    pub uptime: f64,
    /// Seconds.
    pub time_since_last_activity: f64,
    /// `false` if `status` is `unhealthy`. An idle service is healthy.
    pub is_healthy: bool,
    #[napi(ts_type = "'healthy' | 'degraded' | 'unhealthy'")]
    pub status: String,
    pub stats: ServiceStats,
    pub memory_usage: MemoryUsage,
    /// Percent of V8's heap that is in use.
    pub heap_used_percent: f64,
    #[napi(ts_type = "DegradationLevel")]
    pub degradation_level: String,
    /// Absent while the service is stopped, and where nothing can be measured.
    pub memory_pressure: Option<MemoryPressure>,
    pub warnings: Vec<String>,
}

#[napi(object, object_from_js = false)]
pub struct ConnectionMetrics {
    pub active: f64,
    pub peak: f64,
    pub total: f64,
    pub reconnections: f64,
}

#[napi(object, object_from_js = false)]
pub struct MessageMetrics {
    pub total: f64,
    pub dropped: f64,
    pub duplicates: f64,
    pub broadcasts: f64,
}

/// Latencies in milliseconds, from clients' timestamps.
#[napi(object, object_from_js = false)]
pub struct PerformanceMetrics {
    pub average_latency: f64,
    pub p50_latency: f64,
    pub p95_latency: f64,
    pub p99_latency: f64,
    pub queue_depth: f64,
    pub queue_overflows: f64,
    pub message_success_rate: f64,
}

#[napi(object, object_from_js = false)]
pub struct SubscriptionMetrics {
    pub total_bills: f64,
    pub total_subscriptions: f64,
    pub users_with_subscriptions: f64,
}

/// Where `listen()` listens.
#[napi(object, object_from_js = false)]
pub struct ListenAddress {
    pub port: u32,
    /// The address, even if a name was given.
    pub host: String,
}

/// One second of the history.
#[napi(object, object_from_js = false)]
pub struct PerformanceSample {
    /// Milliseconds since 1970.
    pub timestamp: f64,
    pub connections: f64,
    /// Inbound.
    pub messages_per_second: f64,
    /// Payloads accepted for one connection each.
    pub deliveries_per_second: f64,
    /// Milliseconds, as in `getStats()`.
    pub average_latency: f64,
    /// Unwritten bytes of all connections.
    pub pending_bytes: f64,
    /// Bytes of the process in physical memory; 0 where the system does not report it.
    pub resident_bytes: f64,
    /// 0 to 1, as in `getHealthStatus()`.
    pub memory_pressure: f64,
}

#[napi(object, object_from_js = false)]
pub struct ShardInspection {
    pub id: f64,
    /// Closing ones included.
    pub connections: f64,
    pub topics: f64,
    /// Publishes that wait for the shard.
    pub queued_operations: f64,
    /// Unwritten bytes of its connections.
    pub pending_bytes: f64,
}

/// A connection that has unwritten bytes, or has lost payloads.
#[napi(object, object_from_js = false)]
pub struct ConsumerInspection {
    pub connection_id: String,
    pub user_id: String,
    pub pending_bytes: f64,
    /// Payloads dropped by the slow-consumer policy since the connection began.
    pub dropped: f64,
}

#[napi(object, object_from_js = false)]
pub struct TopicInspection {
    pub bill_id: f64,
    /// Connections that follow it.
    pub subscribers: f64,
}

/// What `inspect()` returns.
#[napi(object, object_from_js = false)]
pub struct Inspection {
    pub shards: Vec<ShardInspection>,
    /// Slowest first.
    pub slowest_consumers: Vec<ConsumerInspection>,
    /// Largest first.
    pub largest_topics: Vec<TopicInspection>,
    #[napi(ts_type = "DegradationLevel")]
    pub degradation_level: String,
}

/// What `getMetrics()` returns.
#[napi(object, object_from_js = false)]
pub struct ServiceMetrics {
    pub connections: ConnectionMetrics,
    pub messages: MessageMetrics,
    pub performance: PerformanceMetrics,
    pub subscriptions: SubscriptionMetrics,
    /// The last PERFORMANCE_HISTORY_MAX_SIZE seconds of the run, oldest first.
    pub history: Vec<PerformanceSample>,
}

impl ServiceStats {
    pub fn new(statistics: &Statistics, counts: &Counts, now: UnixMillis) -> Self {
        let users = counts.users as f64;
        Self {
            total_connections: statistics.total_connections as f64,
            active_connections: statistics.active_connections as f64,
            total_messages: statistics.total_messages as f64,
            total_broadcasts: statistics.total_broadcasts as f64,
            dropped_messages: statistics.dropped_messages as f64,
            duplicate_messages: statistics.duplicate_messages as f64,
            queue_overflows: statistics.queue_overflows as f64,
            reconnections: statistics.reconnections as f64,
            start_time: statistics.start_time.as_f64(),
            last_activity: statistics.last_activity.as_f64(),
            peak_connections: statistics.peak_connections as f64,
            uptime: seconds_between(statistics.start_time, now),
            average_latency: statistics.average_latency,
            total_subscriptions: counts.subscriptions as f64,
            bills_with_subscribers: counts.bills as f64,
            unique_users: users,
            queue_depth: counts.queue_depth as f64,
            average_connections_per_user: if counts.users == 0 {
                0.0
            } else {
                statistics.active_connections as f64 / users
            },
            connection_pool_size: users,
            dedupe_cache_size: counts.dedupe_entries as f64,
            message_success_rate: statistics.message_success_rate,
        }
    }
}

/// Whole seconds from `earlier` to `later`.
pub fn seconds_between(earlier: UnixMillis, later: UnixMillis) -> f64 {
    (later.0.saturating_sub(earlier.0) / 1000) as f64
}

impl ServiceMetrics {
    pub fn new(statistics: &Statistics, counts: &Counts, latencies: &mut [f64], history: &[Second]) -> Self {
        latencies.sort_unstable_by(f64::total_cmp);
        Self {
            connections: ConnectionMetrics {
                active: statistics.active_connections as f64,
                peak: statistics.peak_connections as f64,
                total: statistics.total_connections as f64,
                reconnections: statistics.reconnections as f64,
            },
            messages: MessageMetrics {
                total: statistics.total_messages as f64,
                dropped: statistics.dropped_messages as f64,
                duplicates: statistics.duplicate_messages as f64,
                broadcasts: statistics.total_broadcasts as f64,
            },
            performance: PerformanceMetrics {
                average_latency: statistics.average_latency,
                p50_latency: percentile(latencies, 0.50),
                p95_latency: percentile(latencies, 0.95),
                p99_latency: percentile(latencies, 0.99),
                queue_depth: counts.queue_depth as f64,
                queue_overflows: statistics.queue_overflows as f64,
                message_success_rate: statistics.message_success_rate,
            },
            subscriptions: SubscriptionMetrics {
                total_bills: counts.bills as f64,
                total_subscriptions: counts.subscriptions as f64,
                users_with_subscriptions: counts.subscribed_users as f64,
            },
            history: history.iter().map(PerformanceSample::from).collect(),
        }
    }
}

impl From<&Second> for PerformanceSample {
    fn from(second: &Second) -> Self {
        Self {
            timestamp: second.at.as_f64(),
            connections: second.gauges.connections as f64,
            messages_per_second: second.messages_per_second,
            deliveries_per_second: second.deliveries_per_second,
            average_latency: second.gauges.average_latency,
            pending_bytes: second.gauges.pending_bytes as f64,
            resident_bytes: second.gauges.resident_bytes as f64,
            memory_pressure: second.gauges.memory_pressure,
        }
    }
}

impl Inspection {
    pub fn new(found: crate::shard::probe::Inspection, level: DegradationLevel) -> Self {
        let shards = found.shards.iter().map(|shard| ShardInspection {
            id: f64::from(shard.id.0),
            connections: shard.connections as f64,
            topics: shard.topics as f64,
            queued_operations: shard.queued_operations as f64,
            pending_bytes: shard.pending_bytes as f64,
        });
        let slowest = found.slowest.iter().map(|consumer| ConsumerInspection {
            connection_id: consumer.id.to_string(),
            user_id: consumer.id.user.to_string(),
            pending_bytes: consumer.pending_bytes as f64,
            dropped: f64::from(consumer.dropped),
        });
        let largest = found.largest.iter().filter_map(|(topic, subscribers)| {
            Some(TopicInspection { bill_id: topic.bill()?.get() as f64, subscribers: *subscribers as f64 })
        });
        Self {
            shards: shards.collect(),
            slowest_consumers: slowest.collect(),
            largest_topics: largest.collect(),
            degradation_level: level.as_str().to_owned(),
        }
    }
}

/// Nearest rank of sorted samples; 0 without any.
fn percentile(sorted: &[f64], rank: f64) -> f64 {
    let position = (sorted.len() as f64 * rank).ceil() as usize;
    sorted.get(position.saturating_sub(1)).copied().unwrap_or(0.0)
}
