//! Writes the counters as Prometheus text, format 0.0.4. Pure: readings come in, text comes out.
//!
//! Called at each scrape. Every label has a bounded set of values: no user, topic or address is among them.

use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::monitoring::counters::{CloseCause, DropReason, HookOutcome, Label, RejectionReason, Traffic};
use crate::monitoring::histogram::Distribution;
use crate::monitoring::statistics_collector::{Statistics, StatisticsCollector};
use crate::types::HookKind;

/// Seconds; from a tenth of a millisecond, since a turn of a shard is shorter than that when all is well.
const BOUNDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Everything that is reported beside the collector's own counts.
pub struct Readings<'a> {
    pub collector: &'a StatisticsCollector,
    pub users: usize,
    /// Connections that have no user yet.
    pub anonymous: usize,
    pub topics: usize,
    pub subscriptions: usize,
    pub shards: Vec<ShardReading>,
    /// 0 closed, 1 half-open, 2 open.
    pub circuits: Vec<(HookKind, u8)>,
    pub panics: u64,
    /// The longest that anything had to wait for Node's thread within the last minute.
    pub event_loop_delay: Option<Duration>,
    pub memory: MemoryReading,
}

#[derive(Clone, Debug)]
pub struct MemoryReading {
    /// 0 normal to 4 critical.
    pub level: u8,
    /// Used shares, 0 to 1, of what can be measured here.
    pub usages: Vec<(&'static str, f64)>,
    /// Of the process, where the system tells.
    pub resident: Option<u64>,
    /// Bytes the service holds, by what for.
    pub held: [(&'static str, usize); 5],
}

#[derive(Clone, Copy, Debug)]
pub struct ShardReading {
    pub id: u8,
    pub connections: usize,
    pub queued_operations: usize,
    pub queued_bytes: usize,
    pub pending_bytes: usize,
    /// Since its last turn.
    pub stalled_for: Duration,
}

/// The text of one scrape.
pub fn render(readings: &Readings<'_>) -> String {
    let statistics = readings.collector.read();
    let mut page = Page::default();
    connections(&mut page, readings, &statistics);
    messages(&mut page, readings, &statistics);
    shards(&mut page, readings);
    memory(&mut page, &readings.memory);
    application(&mut page, readings);
    page.gauge(
        "carillon_start_time_seconds",
        "When the service object was made, in seconds since 1970.",
        statistics.start_time.as_f64() / 1000.0,
    );
    page.family(
        "carillon_build_info",
        "Always 1; the version is in the label.",
        MetricType::GAUGE,
        vec![gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    );
    page.text()
}

fn connections(page: &mut Page, readings: &Readings<'_>, statistics: &Statistics) {
    let collector = readings.collector;
    page.gauge(
        "carillon_connections",
        "Open connections. Plan capacity by it; a sudden fall means a network or proxy problem.",
        statistics.active_connections as f64,
    );
    page.gauge(
        "carillon_connections_peak",
        "Most connections open at the same time since the start.",
        statistics.peak_connections as f64,
    );
    page.counter(
        "carillon_connections_opened_total",
        "Connections let in. Much faster than carillon_connections grows: clients reconnect in a loop.",
        statistics.total_connections,
    );
    page.counter("carillon_reconnections_total", "Users back within 60 s of losing their last connection. A rise without a deployment: look at proxies and time-outs.", statistics.reconnections);
    page.by_label("carillon_connections_closed_total", "Ends of connections by reason. unresponsive and lost: network; slow_consumer: see carillon_messages_dropped_total; protocol_error: a broken client.", "reason", CloseCause::ALL, |close| {
        (close.label(), collector.sum(|shard| shard.closes.get(close)))
    });
    page.by_label("carillon_handshakes_rejected_total", "Refused upgrade requests by reason. unauthorized: clients with bad tokens; circuit_open: lookupUser keeps failing; memory_pressure: see carillon_degradation_level; too_many_anonymous: see carillon_connections_anonymous; stopping: while it shuts down.", "reason", RejectionReason::ALL, |refusal| {
        (refusal.label(), collector.sum(|shard| shard.rejections.get(refusal)))
    });
    page.gauge(
        "carillon_connections_anonymous",
        "Connections that have not sent their token yet; none without authTimeout. At maxAnonymous new connections without a token get 503.",
        readings.anonymous as f64,
    );
    page.gauge("carillon_users", "Users with an open connection.", readings.users as f64);
    page.gauge("carillon_topics", "Bills with subscribers.", readings.topics as f64);
    page.gauge("carillon_subscriptions", "Pairs of a bill and a user that follows it.", readings.subscriptions as f64);
}

fn messages(page: &mut Page, readings: &Readings<'_>, statistics: &Statistics) {
    let collector = readings.collector;
    let traffic = |what: Traffic| collector.sum(|shard| shard.traffic.get(what));
    page.counter(
        "carillon_messages_received_total",
        "Messages of clients, invalid ones included.",
        statistics.total_messages,
    );
    page.counter("carillon_messages_rate_limited_total", "Messages and control frames of clients that were not processed because of messageRate. Find the client, or raise the rate.", traffic(Traffic::RateLimited));
    page.counter(
        "carillon_broadcasts_total",
        "Broadcasts to all, and updates of bills with subscribers.",
        statistics.total_broadcasts,
    );
    page.counter(
        "carillon_duplicate_publishes_total",
        "Bill updates suppressed as repeats within DEDUPE_WINDOW.",
        statistics.duplicate_messages,
    );
    page.counter(
        "carillon_deliveries_total",
        "Payloads accepted for one connection each.",
        traffic(Traffic::Deliveries),
    );
    page.by_label("carillon_messages_dropped_total", "Payloads not delivered, by reason. queue_full: publish less or raise maxQueueBytes; slow_consumer_*: clients cannot keep up; disconnected is normal in small numbers.", "reason", DropReason::ALL, |reason| {
        (reason.label(), collector.sum(|shard| shard.drops.get(reason)))
    });
    page.counter(
        "carillon_frames_sent_total",
        "Frames queued for sending, control frames included.",
        traffic(Traffic::FramesOut),
    );
    page.counter("carillon_received_bytes_total", "Bytes read from connections, after TLS.", traffic(Traffic::BytesIn));
    page.counter("carillon_sent_bytes_total", "Bytes written to connections, before TLS.", traffic(Traffic::BytesOut));
    page.histogram("carillon_publish_latency_seconds", "From a publish to the end of the turn in which a shard wrote or batched it, once per shard. A rise means that a shard has too much to do: add threads.", &collector.publish_latencies());
    page.histogram(
        "carillon_client_latency_seconds",
        "From the timestamp in a client's message to its arrival. Includes the difference of the clocks.",
        &collector.client_latencies(),
    );
}

fn shards(page: &mut Page, readings: &Readings<'_>) {
    type Read = fn(&ShardReading) -> f64;
    let families: [(&str, &str, Read); 5] = [
        (
            "carillon_shard_connections",
            "Connections of each shard, closing ones included. They are dealt in turn: very uneven ones mean that some live much longer.",
            |shard| shard.connections as f64,
        ),
        ("carillon_shard_queued_operations", "Publishes that wait for a shard. Should return to 0 at once.", |shard| {
            shard.queued_operations as f64
        }),
        (
            "carillon_shard_queued_bytes",
            "Bytes of publishes that wait for a shard. At maxQueueBytes publishes are refused.",
            |shard| shard.queued_bytes as f64,
        ),
        (
            "carillon_shard_pending_bytes",
            "Bytes written to no socket yet. Steadily high: clients do not keep up, see inspect().",
            |shard| shard.pending_bytes as f64,
        ),
        (
            "carillon_shard_silence_seconds",
            "Since a shard's last turn; about 1 s at the most. Above 5 s it hangs: restart the process and report it.",
            |shard| shard.stalled_for.as_secs_f64(),
        ),
    ];
    for (name, help, read) in families {
        let metrics =
            readings.shards.iter().map(|shard| gauge(&[("shard", &shard.id.to_string())], read(shard))).collect();
        page.family(name, help, MetricType::GAUGE, metrics);
    }
}

fn memory(page: &mut Page, memory: &MemoryReading) {
    page.gauge(
        "carillon_degradation_level",
        "What memory pressure does to the service: 0 normal, 1 light, 2 moderate, 3 severe, 4 critical (new connections are refused). Above 0: give the process more memory, or it less to do.",
        f64::from(memory.level),
    );
    let usages = memory.usages.iter().map(|(source, ratio)| gauge(&[("source", source)], *ratio));
    page.family(
        "carillon_memory_pressure_ratio",
        "Used share of the container's limit, of the heap V8 may have and of the machine's memory. The largest decides on the degradation.",
        MetricType::GAUGE,
        usages.collect(),
    );
    let held = memory.held.iter().map(|(what, bytes)| gauge(&[("part", what)], *bytes as f64));
    page.family(
        "carillon_memory_bytes",
        "What the service holds itself, by part. The part that grows tells where to look; if none does while the process grows, it is not the service.",
        MetricType::GAUGE,
        held.collect(),
    );
    if let Some(resident) = memory.resident {
        page.gauge("carillon_process_resident_memory_bytes", "Physical memory of the process.", resident as f64);
    }
}

fn application(page: &mut Page, readings: &Readings<'_>) {
    let calls = <(HookKind, HookOutcome)>::ALL.iter().map(|(hook, outcome)| {
        let count = readings.collector.sum(|shard| shard.hooks.get((*hook, *outcome)));
        counter(&[("hook", hook.label()), ("outcome", outcome.label())], count)
    });
    page.family("carillon_hook_calls_total", "Calls of the application's hooks by outcome. failed, timed_out: look at what the hook needs; circuit_open: it was not called.", MetricType::COUNTER, calls.collect());
    let circuits = readings.circuits.iter().map(|(hook, state)| gauge(&[("hook", hook.label())], f64::from(*state)));
    page.family(
        "carillon_circuit_breaker_state",
        "0 closed, 1 half-open, 2 open: the hook has failed repeatedly and is left alone for 5 to 60 s.",
        MetricType::GAUGE,
        circuits.collect(),
    );
    page.counter(
        "carillon_panics_total",
        "Panics caught in this process. Anything above 0 is a defect: report it.",
        readings.panics,
    );
    if let Some(delay) = readings.event_loop_delay {
        page.gauge("carillon_event_loop_delay_seconds", "The longest that an event or a hook waited for the JavaScript thread within a minute. Above 1 s something blocks it.", delay.as_secs_f64());
    }
}

#[derive(Default)]
struct Page {
    families: Vec<MetricFamily>,
}

impl Page {
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // The encoder refuses a family without metrics.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::GAUGE, vec![gauge(&[], value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, MetricType::COUNTER, vec![counter(&[], value)]);
    }

    fn by_label<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        all: &[L],
        read: impl Fn(L) -> (&'static str, u64),
    ) {
        let metrics = all.iter().map(|one| read(*one)).map(|(text, count)| counter(&[(label, text)], count)).collect();
        self.family(name, help, MetricType::COUNTER, metrics);
    }

    fn histogram(&mut self, name: &str, help: &str, samples: &Distribution) {
        let buckets = BOUNDS.iter().map(|bound| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(samples.at_most(Duration::from_secs_f64(*bound)));
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(samples.count());
        histogram.set_sample_sum(samples.sum().as_secs_f64());
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        self.family(name, help, MetricType::HISTOGRAM, vec![metric]);
    }

    fn text(&self) -> String {
        // It fails for a family without name or metrics, and there is none.
        prometheus::TextEncoder::new().encode_to_string(&self.families).unwrap_or_default()
    }
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let mut metric = Metric::default();
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    metric.set_label(pairs.collect());
    metric
}

#[cfg(test)]
mod tests;
