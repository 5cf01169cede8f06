//! What an operator asks when something is wrong: who is slow, what is large, how shards are.
//!
//! Each shard leaves a small [`Snapshot`] in its [`Post`] about once a second, as often as takes no more than 1 % of its
//! time; whoever asks reads those and waits for no shard. So an answer may be a second old, longer on a shard with very
//! many topics. Of each kind of list a shard tells its first [`TOP`]; a topic on several shards is the sum of what they
//! tell.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::monitoring::metrics_reporter::ShardReading;
use crate::shard::event_loop::Shard;
use crate::types::{BillId, ConnectionId, ShardId};

/// How many entries each list of a shard has at most.
pub const TOP: usize = 100;

/// Between two signs of life of a shard.
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
    pub largest: Vec<(BillId, usize)>,
}

/// Where a shard leaves what others may know of it.
#[derive(Debug)]
pub struct Post {
    began: Instant,
    /// Milliseconds from `began` to the last sign of life.
    alive: AtomicU64,
    /// Locked by the shard for a moment each second, and by whoever asks.
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
    /// Since its last turn.
    pub stalled_for: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Inspection {
    pub shards: Vec<ShardInspection>,
    pub slowest: Vec<SlowConsumer>,
    pub largest: Vec<(BillId, usize)>,
}

impl Post {
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

    fn sign_of_life(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.began).as_millis();
        self.alive.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Relaxed);
    }

    fn leave(&self, snapshot: Snapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

impl Inspection {
    /// The lists of several shards made into one each.
    pub fn merge(shards: Vec<(ShardInspection, Snapshot)>, top: usize) -> Self {
        let mut merged = Self::default();
        let mut sizes: HashMap<BillId, usize> = HashMap::new();
        for (shard, snapshot) in shards {
            merged.shards.push(shard);
            merged.slowest.extend(snapshot.slowest);
            for (bill, subscribers) in snapshot.largest {
                *sizes.entry(bill).or_default() += subscribers;
            }
        }
        merged.slowest.sort_unstable_by_key(slowness);
        merged.slowest.truncate(top);
        merged.largest = sizes.into_iter().collect();
        merged.largest.sort_unstable_by_key(|(bill, subscribers)| (std::cmp::Reverse(*subscribers), *bill));
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

impl Shard {
    /// The second's sign of life, and what the first shard does for all; `now` is when the turn began.
    pub(crate) fn tick(&self, now: Instant) {
        self.next_tick.set(now + TICK);
        self.post.sign_of_life(now);
        if self.id.0 == 0 {
            self.shared.statistics.record_second();
            for (line, count) in self.shared.refusal_log.take_held_back() {
                tracing::warn!(count, of = line.label(), "log lines were held back");
            }
            if now >= self.next_health_check.get() {
                self.next_health_check.set(now + self.shared.options.base.health_check_interval);
                self.shared.host.check_health();
            }
        }
        if now >= self.next_snapshot.get() {
            let begun = Instant::now();
            self.post.leave(self.snapshot());
            self.next_snapshot.set(now + begun.elapsed().saturating_mul(100));
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut pending_bytes = 0;
        let mut slow: Vec<(usize, u32, usize)> = Vec::new();
        let connections = self.connections.borrow();
        for (key, connection) in connections.iter() {
            let outbox = connection.outbox.borrow();
            pending_bytes += outbox.bytes();
            if outbox.bytes() > 0 || outbox.dropped() > 0 {
                slow.push((outbox.bytes(), outbox.dropped(), key));
            }
        }
        if slow.len() > TOP {
            slow.select_nth_unstable_by(TOP, |one, other| other.cmp(one));
            slow.truncate(TOP);
        }
        let mut slowest: Vec<SlowConsumer> = slow
            .into_iter()
            .filter_map(|(pending_bytes, dropped, key)| {
                let id = connections.get(key)?.id()?;
                Some(SlowConsumer { id, pending_bytes, dropped })
            })
            .collect();
        slowest.sort_unstable_by_key(slowness);
        let topics = self.topics.borrow();
        Snapshot {
            connections: connections.len(),
            topics: topics.bill_count(),
            topic_bytes: topics.heap_bytes(),
            pending_bytes,
            slowest,
            largest: topics.largest(TOP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConnectionNumber, UserId};

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
        let bill = |number| BillId::new(number).expect("a bill");
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
    fn silence_is_counted_from_the_last_sign_of_life() {
        let start = Instant::now();
        let post = Post::new(start);
        let second = Duration::from_secs(1);
        assert_eq!(post.stalled_for(start + second), second);
        post.sign_of_life(start + 2 * second);
        assert_eq!(post.stalled_for(start + 5 * second), 3 * second);
    }
}
