//! Counts what happens: per shard without contention, summed when read.
//!
//! Lives as long as its service object, across `shutdown()` and a new `initialize()`. Shards write their own
//! [`ShardCounters`]; getters read all of them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::monitoring::counters::{
    CloseCause, CounterFamily, DropReason, HookOutcome, Label as _, RejectionReason, Traffic,
};
use crate::monitoring::histogram::{Distribution, Histogram};
use crate::monitoring::history::{Gauges, History, Second, Totals};
use crate::monitoring::recent::{Outgoing, Recent};
use crate::types::{HookKind, UnixMillis};
use crate::utils::CircularBuffer;

/// What one shard counts. On cache lines of its own, so that shards do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
pub struct ShardCounters {
    /// Inbound messages, invalid ones included.
    messages: AtomicU64,
    pub closes: CounterFamily<CloseCause>,
    pub drops: CounterFamily<DropReason>,
    pub hooks: CounterFamily<(HookKind, HookOutcome)>,
    pub rejections: CounterFamily<RejectionReason>,
    pub traffic: CounterFamily<Traffic>,
    last_activity: AtomicU64,
    /// Unwritten bytes of the shard's connections.
    pending_bytes: AtomicUsize,
    latencies: Mutex<CircularBuffer<Latency>>,
    client_latency: Histogram,
    publish_latency: Histogram,
}

#[derive(Clone, Copy, Debug)]
struct Latency {
    at: UnixMillis,
    millis: f64,
}

#[derive(Debug)]
pub struct StatisticsCollector {
    shards: Vec<Arc<ShardCounters>>,
    max_latency_samples: usize,
    started: UnixMillis,
    active: AtomicUsize,
    peak: AtomicUsize,
    total: AtomicU64,
    reconnections: AtomicU64,
    broadcasts: AtomicU64,
    duplicates: AtomicU64,
    last_broadcast: AtomicU64,
    /// Bytes of the process in physical memory, as measured last; 0 where that is not known.
    resident_bytes: AtomicU64,
    /// Bits of an f64, 0 to 1.
    memory_pressure: AtomicU64,
    /// Locked once a second by the first shard, and by readers.
    history: Mutex<History>,
    /// The same.
    recent: Mutex<Recent>,
    created: Instant,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistics {
    pub total_connections: u64,
    pub active_connections: usize,
    pub peak_connections: usize,
    pub total_messages: u64,
    pub total_broadcasts: u64,
    pub dropped_messages: u64,
    pub duplicate_messages: u64,
    pub queue_overflows: u64,
    pub reconnections: u64,
    pub start_time: UnixMillis,
    pub last_activity: UnixMillis,
    /// From clients' timestamps, by their clocks, in milliseconds; 0 without samples.
    pub average_latency: f64,
    /// Share of the outgoing messages of the last minutes that were not lost, 0 to 1.
    pub message_success_rate: f64,
}

impl StatisticsCollector {
    pub fn new(shards: usize, max_latency_samples: usize, now: UnixMillis) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::new(ShardCounters::new(max_latency_samples))).collect(),
            max_latency_samples,
            started: now,
            active: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            reconnections: AtomicU64::new(0),
            broadcasts: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            last_broadcast: AtomicU64::new(now.0),
            resident_bytes: AtomicU64::new(0),
            memory_pressure: AtomicU64::new(0),
            history: Mutex::new(History::new(0)),
            recent: Mutex::default(),
            created: Instant::now(),
        }
    }

    /// The counters of the shard at this place.
    pub fn shard(&self, index: usize) -> Arc<ShardCounters> {
        match self.shards.get(index) {
            Some(counters) => counters.clone(),
            // Not counted; unreachable, since there are as many as shards can be.
            None => Arc::new(ShardCounters::new(0)),
        }
    }

    pub fn connection_opened(&self, reconnected: bool) {
        let active = self.active.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(active, Relaxed);
        self.total.fetch_add(1, Relaxed);
        self.reconnections.fetch_add(u64::from(reconnected), Relaxed);
    }

    pub fn connection_closed(&self) {
        self.active.fetch_sub(1, Relaxed);
    }

    pub fn active_connections(&self) -> usize {
        self.active.load(Relaxed)
    }

    /// Unwritten bytes of all connections.
    pub fn pending_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.pending_bytes.load(Relaxed)).sum()
    }

    pub fn broadcast(&self, now: UnixMillis) {
        self.broadcasts.fetch_add(1, Relaxed);
        self.last_broadcast.fetch_max(now.0, Relaxed);
    }

    pub fn duplicate(&self) {
        self.duplicates.fetch_add(1, Relaxed);
    }

    /// A publish was refused because a queue was full.
    pub fn refused(&self) {
        self.shard(0).dropped(DropReason::QueueFull, 1);
    }

    pub fn read(&self) -> Statistics {
        let sum = |counter: fn(&ShardCounters) -> &AtomicU64| {
            self.shards.iter().map(|shard| counter(shard).load(Relaxed)).sum::<u64>()
        };
        let refused = self.sum(|shard| shard.drops.get(DropReason::QueueFull));
        let last_activity = self.shards.iter().map(|shard| shard.last_activity.load(Relaxed)).max().unwrap_or(0);
        Statistics {
            total_connections: self.total.load(Relaxed),
            active_connections: self.active.load(Relaxed),
            peak_connections: self.peak.load(Relaxed),
            total_messages: sum(|shard| &shard.messages),
            total_broadcasts: self.broadcasts.load(Relaxed),
            dropped_messages: self.sum(|shard| shard.drops.sum()),
            duplicate_messages: self.duplicates.load(Relaxed),
            queue_overflows: refused,
            reconnections: self.reconnections.load(Relaxed),
            start_time: self.started,
            last_activity: UnixMillis(last_activity.max(self.last_broadcast.load(Relaxed))),
            average_latency: average(&self.latencies()),
            message_success_rate: self.recent().success_rate(),
        }
    }

    /// From clients' timestamps to the arrival of their messages, all that were told.
    pub fn client_latencies(&self) -> Distribution {
        self.distribution(|shard| &shard.client_latency)
    }

    /// From a publish to the end of the turn in which a shard wrote or batched it.
    pub fn publish_latencies(&self) -> Distribution {
        self.distribution(|shard| &shard.publish_latency)
    }

    fn distribution(&self, of: impl Fn(&ShardCounters) -> &Histogram) -> Distribution {
        let mut distribution = Distribution::default();
        self.shards.iter().for_each(|shard| distribution.add(of(shard)));
        distribution
    }

    /// A run begins: what was remembered of an earlier one goes.
    pub fn begin_history(&self, seconds: usize) {
        *self.history() = History::new(seconds);
        let mut recent = Recent::default();
        recent.record(self.created.elapsed(), self.outgoing());
        *self.lock_recent() = recent;
    }

    /// What went out within the last minutes, and what was lost of it.
    pub fn recent(&self) -> Outgoing {
        let totals = self.outgoing();
        self.lock_recent().until(self.created.elapsed(), totals)
    }

    fn outgoing(&self) -> Outgoing {
        let drops = |reason| self.sum(|shard| shard.drops.get(reason));
        // Accepted for a connection, some to be dropped later; and what never got that far.
        let offered = self.sum(|shard| shard.traffic.get(Traffic::Deliveries))
            + [DropReason::Cleanup, DropReason::QueueFull, DropReason::SlowConsumerNewest]
                .map(drops)
                .iter()
                .sum::<u64>();
        let lost = DropReason::ALL.iter().filter(|reason| **reason != DropReason::Disconnected);
        let mut outgoing = Outgoing {
            offered,
            lost: lost.map(|reason| drops(*reason)).sum(),
            refused: drops(DropReason::QueueFull),
            ..Outgoing::default()
        };
        for shard in &self.shards {
            let (count, sum) = shard.publish_latency.totals();
            outgoing.published += count;
            outgoing.publish_time += sum;
        }
        outgoing
    }

    fn lock_recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn record_second(&self) {
        let now = self.created.elapsed();
        let is_due = self.lock_recent().is_due(now);
        if is_due {
            let totals = self.outgoing();
            self.lock_recent().record(now, totals);
        }
        let statistics = self.read();
        let deliveries = self.sum(|shard| shard.traffic.get(Traffic::Deliveries));
        let totals = Totals { messages: statistics.total_messages, deliveries };
        let gauges = Gauges {
            connections: statistics.active_connections,
            average_latency: statistics.average_latency,
            pending_bytes: self.pending_bytes(),
            resident_bytes: self.resident_bytes.load(Relaxed),
            memory_pressure: f64::from_bits(self.memory_pressure.load(Relaxed)),
        };
        self.history().add(UnixMillis::now(), totals, gauges);
    }

    /// What the memory manager measured: bytes of the process, and the pressure from 0 to 1.
    pub fn set_memory(&self, resident_bytes: u64, pressure: f64) {
        self.resident_bytes.store(resident_bytes, Relaxed);
        self.memory_pressure.store(pressure.to_bits(), Relaxed);
    }

    /// The last seconds, oldest first.
    pub fn seconds(&self) -> Vec<Second> {
        self.history().seconds()
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A count summed over all shards.
    pub fn sum(&self, count: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.shards.iter().map(|shard| count(shard)).sum()
    }

    /// The newest latency samples of all shards, as many as are kept, unordered.
    pub fn latencies(&self) -> Vec<f64> {
        let mut samples: Vec<Latency> = Vec::new();
        for shard in &self.shards {
            samples.extend(shard.latencies.lock().unwrap_or_else(PoisonError::into_inner).iter().copied());
        }
        if samples.len() > self.max_latency_samples {
            samples.sort_unstable_by_key(|sample| std::cmp::Reverse(sample.at.0));
            samples.truncate(self.max_latency_samples);
        }
        samples.into_iter().map(|sample| sample.millis).collect()
    }
}

impl ShardCounters {
    fn new(max_latency_samples: usize) -> Self {
        Self {
            messages: AtomicU64::new(0),
            closes: CounterFamily::default(),
            drops: CounterFamily::default(),
            hooks: CounterFamily::default(),
            rejections: CounterFamily::default(),
            traffic: CounterFamily::default(),
            last_activity: AtomicU64::new(0),
            pending_bytes: AtomicUsize::new(0),
            latencies: Mutex::new(CircularBuffer::new(max_latency_samples)),
            client_latency: Histogram::default(),
            publish_latency: Histogram::default(),
        }
    }

    pub fn message(&self, now: UnixMillis, latency_ms: Option<f64>) {
        self.messages.fetch_add(1, Relaxed);
        self.activity(now);
        if let Some(millis) = latency_ms {
            self.client_latency.record(Duration::from_secs_f64(millis.max(0.0) / 1000.0));
            // Contended only while the samples are read.
            self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(Latency { at: now, millis });
        }
    }

    /// A publish was carried out, this long after it was made.
    pub fn published(&self, latency: Duration) {
        self.publish_latency.record(latency);
    }

    pub fn activity(&self, now: UnixMillis) {
        self.last_activity.store(now.0, Relaxed);
    }

    /// A connection's unwritten bytes went from `before` to `after`.
    pub fn pending(&self, before: usize, after: usize) {
        // Wraps both ways, so a decrease is the addition of its complement.
        self.pending_bytes.fetch_add(after.wrapping_sub(before), Relaxed);
    }

    /// Payloads that were not delivered.
    pub fn dropped(&self, reason: DropReason, count: u32) {
        self.drops.add(reason, u64::from(count));
    }
}

fn average(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

#[cfg(test)]
mod tests;
