//! What `inspect()` shows of the shards: slow consumers, large topics, liveness.
//!
//! Each shard stores a small [`Snapshot`] in its [`SnapshotSlot`] about once a second, as often as takes no more than 1 % of its time.
//! Readers read those and never wait for a shard, so an answer may be a second old, older on a shard with very many topics. A shard
//! lists its first [`TOP`] of each kind; the size of a topic on several shards is the sum of what they list.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::hub::Topic;
use crate::hub::subscription_manager::LocalSubscriptions;
use crate::monitoring::metrics_reporter::ShardReading;
use crate::shard::connection::Connection;
use crate::shard::context::ShardContext;
use crate::shard::peers::Peers;
use crate::types::{ConnectionId, ShardId};

/// How many entries each list of a shard has at most.
pub const TOP: usize = 100;

/// How often a shard shows that it is alive.
pub const TICK: Duration = Duration::from_secs(1);

/// A connection that has unwritten bytes, or has lost payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowConsumer {
    pub id: ConnectionId,
    pub pending_bytes: usize,
    pub dropped: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub connections: usize,
    pub topics: usize,
    /// What the topic index takes.
    pub topic_bytes: usize,
    pub pending_bytes: usize,
    /// Slowest first.
    pub slowest: Vec<SlowConsumer>,
    /// Largest first.
    pub largest: Vec<(Topic, usize)>,
}

/// Where a shard stores what other threads may read of it.
#[derive(Debug)]
pub struct SnapshotSlot {
    began: Instant,
    /// Milliseconds from `began` to the last touch.
    alive: AtomicU64,
    /// Locked by the shard for a moment each second, and by readers.
    snapshot: Mutex<Snapshot>,
}

#[derive(Clone, Debug)]
pub struct ShardInspection {
    pub id: ShardId,
    pub connections: usize,
    pub topics: usize,
    pub queued_operations: usize,
    pub queued_bytes: usize,
    pub pending_bytes: usize,
    /// Since the last turn of its loop.
    pub stalled_for: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub shards: Vec<ShardInspection>,
    pub slowest: Vec<SlowConsumer>,
    pub largest: Vec<(Topic, usize)>,
}

impl SnapshotSlot {
    pub fn new(now: Instant) -> Self {
        Self { began: now, alive: AtomicU64::new(0), snapshot: Mutex::default() }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn topic_bytes(&self) -> usize {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).topic_bytes
    }

    pub fn stalled_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began + Duration::from_millis(self.alive.load(Relaxed)))
    }

    fn touch(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began).as_millis();
        self.alive.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    fn store(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

impl Inspection {
    /// The lists of several shards made into one each.
    pub fn merge(shards: Vec<(ShardInspection, Snapshot)>, top: usize) -> Self {
        let mut merged = Self::default();
        let mut sizes: HashMap<Topic, usize> = HashMap::new();
        for (shard, snapshot) in shards {
            merged.shards.push(shard);
            merged.slowest.extend(snapshot.slowest);
            for (topic, subscribers) in snapshot.largest {
                *sizes.entry(topic).or_default() += subscribers;
            }
        }
        merged.slowest.sort_unstable_by_key(slowness);
        merged.slowest.truncate(top);
        merged.largest = sizes.into_iter().collect();
        merged.largest.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        merged.largest.truncate(top);
        merged
    }
}

impl ShardInspection {
    pub fn reading(&self) -> ShardReading {
        ShardReading {
            id: self.id.0,
            connections: self.connections,
            queued_operations: self.queued_operations,
            queued_bytes: self.queued_bytes,
            pending_bytes: self.pending_bytes,
            stalled_for: self.stalled_for,
        }
    }
}

/// Sorts the slowest first.
fn slowness(consumer: &SlowConsumer) -> (std::cmp::Reverse<(usize, u32)>, u64) {
    (std::cmp::Reverse((consumer.pending_bytes, consumer.dropped)), consumer.id.number.0)
}

/// What a shard does once a second. Owned by its event loop.
pub struct Probe {
    slot: Arc<SnapshotSlot>,
    next_tick: Instant,
    next_snapshot: Instant,
    next_health_check: Instant,
}

impl Probe {
    pub fn new(slot: Arc<SnapshotSlot>, health_check_interval: Duration, now: Instant) -> Self {
        Self { slot, next_tick: now + TICK, next_snapshot: now, next_health_check: now + health_check_interval }
    }

    pub fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Touches the slot, stores a snapshot if it is time, and on the first shard does what is done once for all. `now`: when the turn
    /// began.
    pub fn on_second(&mut self, now: Instant, peers: &Peers, subscriptions: &LocalSubscriptions, shard: &ShardContext) {
        self.next_tick = now + TICK;
        self.slot.touch(now);
        if shard.id.0 == 0 {
            shard.run.statistics.record_second();
            for (line, count) in shard.run.refusal_log.take_held_back() {
                tracing::warn!(count, of = line.label(), "log lines were held back");
            }
            if now >= self.next_health_check {
                self.next_health_check = now + shard.run.options.base.health_check_interval;
                shard.run.application.check_health();
            }
        }
        if now >= self.next_snapshot {
            let begun = Instant::now();
            self.slot.store(snapshot(peers, subscriptions));
            self.next_snapshot = now + begun.elapsed().saturating_mul(100);
        }
    }
}

fn snapshot(peers: &Peers, subscriptions: &LocalSubscriptions) -> Snapshot {
    let mut pending_bytes = 0;
    let mut slow: Vec<_> = Vec::new();
    for connection in peers.connections() {
        let outbox = &connection.outbox;
        pending_bytes += outbox.bytes();
        if outbox.bytes() > 0 || outbox.dropped() > 0 {
            slow.push((outbox.bytes(), outbox.dropped(), connection));
        }
    }
    if slow.len() > TOP {
        slow.select_nth_unstable_by(TOP, |(bytes, dropped, _), other| (other.0, other.1).cmp(&(*bytes, *dropped)));
        slow.truncate(TOP);
    }
    let consumer = |(pending_bytes, dropped, connection): (usize, u32, &Connection)| {
        Some(SlowConsumer { id: connection.id()?, pending_bytes, dropped })
    };
    let mut slowest: Vec<SlowConsumer> = slow.into_iter().filter_map(consumer).collect();
    slowest.sort_unstable_by_key(slowness);
    Snapshot {
        connections: peers.connection_count(),
        topics: subscriptions.topic_count(),
        topic_bytes: subscriptions.heap_bytes(),
        pending_bytes,
        slowest,
        largest: subscriptions.largest(TOP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BillId, ConnectionNumber, UserId};

    fn slow(number: u64, pending_bytes: usize, dropped: u32) -> SlowConsumer {
        let id = ConnectionId { user: UserId::new("ann"), number: ConnectionNumber(number) };
        SlowConsumer { id, pending_bytes, dropped }
    }

    fn shard(id: u8) -> ShardInspection {
        ShardInspection {
            id: ShardId(id),
            connections: 0,
            topics: 0,
            queued_operations: 0,
            queued_bytes: 0,
            pending_bytes: 0,
            stalled_for: Duration::ZERO,
        }
    }

    #[test]
    fn lists_are_merged_in_order_and_topics_added_up() {
        let bill = |number| Topic::Bill(BillId::new(number).expect("a bill"));
        let one = Snapshot {
            slowest: vec![slow(1, 50, 0), slow(2, 0, 3)],
            largest: vec![(bill(7), 5), (bill(8), 4)],
            ..Snapshot::default()
        };
        let other = Snapshot {
            slowest: vec![slow(3, 60, 0)],
            largest: vec![(bill(8), 4), (bill(9), 1)],
            ..Snapshot::default()
        };
        let merged = Inspection::merge(vec![(shard(0), one), (shard(1), other)], 2);
        assert_eq!(merged.shards.len(), 2);
        assert_eq!(merged.slowest, [slow(3, 60, 0), slow(1, 50, 0)]);
        assert_eq!(merged.largest, [(bill(8), 8), (bill(7), 5)]);
    }

    #[test]
    fn a_stall_is_counted_from_the_last_touch() {
        let start = Instant::now();
        let slot = SnapshotSlot::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(slot.stalled_for(start + second), second);
        slot.touch(start + 2 * second);
        assert_eq!(slot.stalled_for(start + 5 * second), 3 * second);
    }
}
