//! Embedded history: the newest publications of each topic, in the memory of this node, for clients that resume. Pure: publications
//! and time come in, positions and answers come out.
//!
//! Owned by one caller at a time. A position must be assigned and the publication handed to the shards in one critical section per
//! topic, or subscribers receive publications in another order than that of their positions.
//!
//! Bounded three ways: each topic by its [`TopicLimits`], all topics by a number of bytes, and each replay by its
//! [`ReplayLimits`]. When bytes run out, the least recently used topic loses its publications first and keeps its position, so that a
//! client at the top still resumes. Positions of topics may take an eighth of the bytes; then the least recently used topic is
//! forgotten, and begins anew above every offset it ever had ([`floors`]).

mod floors;
mod limits;
mod ring;
mod table;

pub use limits::{ReplayLimits, TopicLimits};
pub use ring::{Entry, Ring};

use self::floors::Floors;
use self::ring::Place;
use self::table::{Table, Use};
use crate::broker::loss::LossReason;
use crate::broker::position::{Epoch, NodeId, Offset, Position, PublicationId, Since};
use crate::hub::Topic;

/// The share of all bytes that positions of topics without publications may take.
const EMPTY_SHARE: usize = 8;

/// `P` is a handle to the stored message, cheap to clone.
#[derive(Debug)]
pub struct Rings<P> {
    node: NodeId,
    epoch: Epoch,
    /// Of the last publication of any topic.
    sequence: u64,
    table: Table<P>,
    floors: Floors,
    /// What all rings hold on the heap.
    ring_bytes: usize,
    max_bytes: usize,
    /// Divides all bounds while memory is short.
    divisor: usize,
    replay: ReplayLimits,
    /// Where the next sweep continues.
    swept: u32,
}

/// The place of a new publication in its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub position: Position,
    pub previous: PublicationId,
}

/// The answer to a subscription with `since`. `top` is the position of the topic's newest publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumed<P> {
    /// The client has seen nothing yet.
    Started { top: Position },
    /// `entries` are all publications after the client's position, in order; the last one is at `top`.
    Recovered { top: Position, entries: Vec<Entry<P>> },
    /// Nothing is replayed.
    Lost { top: Position, reason: LossReason },
}

/// The answer to a request of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<P> {
    /// In order, without a gap.
    pub entries: Vec<Entry<P>>,
    pub top: Position,
    /// Whether `entries` begins with the first publication after the position that was asked for. `true` without one.
    pub recovered: bool,
}

impl<P: Clone> Rings<P> {
    /// `epoch` is random and new for each life of the rings, `node` for each start of the node. `max_bytes` bounds all topics.
    pub fn new(node: NodeId, epoch: Epoch, max_bytes: usize, replay: ReplayLimits) -> Self {
        Self {
            node,
            epoch,
            sequence: 0,
            table: Table::default(),
            floors: Floors::default(),
            ring_bytes: 0,
            max_bytes,
            divisor: 1,
            replay,
            swept: 0,
        }
    }

    /// Makes topics that are forgotten share fewer buckets.
    #[cfg(test)]
    pub fn set_floors(&mut self, buckets: usize) {
        self.floors = Floors::new(buckets);
    }

    /// Stores the next publication of a topic. `bytes` is the most that the payload costs while it is stored, `make` makes the
    /// payload for its place. Amortised constant time.
    pub fn publish(
        &mut self,
        topic: &Topic,
        limits: TopicLimits,
        now: u64,
        bytes: usize,
        make: impl FnOnce(Stamp) -> P,
    ) -> Stamp {
        let place = match self.table.find(topic) {
            Some(place) => place,
            None => self.table.insert(topic.clone(), Ring::new(self.beginning(topic), limits)),
        };
        self.sequence += 1;
        let id = PublicationId { node: self.node, sequence: self.sequence };
        let top = self.table.ring(place).map_or_else(|| self.beginning(topic), Ring::top);
        let stamp = Stamp { position: Position { offset: top.offset.next(), id, ..top }, previous: top.id };
        let payload = make(stamp);
        let divisor = self.divisor;
        self.change(place, |ring| {
            ring.set_limits(limits);
            ring.push(id, payload, bytes, now, divisor);
        });
        self.table.touch(place);
        self.evict();
        stamp
    }

    /// What a client that has reached `since` has missed. Linear in the publications replayed, of which there are few by the limits.
    pub fn resume(&mut self, topic: &Topic, since: &Since, now: u64) -> Resumed<P> {
        let limits = self.replay;
        self.read(topic, now, |ring| {
            let top = ring.top();
            let lost = |reason| Resumed::Lost { top, reason };
            let claimed = match since {
                Since::Start => return Resumed::Started { top },
                Since::Malformed => return lost(LossReason::Malformed),
                Since::Position(claimed) => claimed,
            };
            match ring.locate(claimed) {
                Place::Held(missed) if missed > limits.publications || ring.newest_bytes(missed) > limits.bytes => {
                    lost(LossReason::TooMany)
                }
                Place::Held(missed) => Resumed::Recovered { top, entries: ring.newest(missed).collect() },
                Place::Before => lost(LossReason::Expired),
                Place::Foreign => lost(LossReason::Fork),
                Place::OtherEpoch => lost(LossReason::Reset),
            }
        })
    }

    /// The publications of a topic, at most `limit`: the first ones after `since`, or the newest ones without it. If `since` is not
    /// held, the newest ones and `recovered: false`.
    pub fn history(&mut self, topic: &Topic, since: &Since, limit: usize, now: u64) -> History<P> {
        self.read(topic, now, |ring| {
            let later = match since {
                Since::Position(claimed) => ring.locate(claimed),
                Since::Start | Since::Malformed => Place::Before,
            };
            let (entries, recovered) = match later {
                Place::Held(later) => (ring.newest(later).take(limit).collect(), true),
                Place::Before | Place::Foreign | Place::OtherEpoch => {
                    (ring.newest(limit).collect(), *since == Since::Start)
                }
            };
            History { entries, top: ring.top(), recovered }
        })
    }

    /// The position of the topic's newest publication. Reading it is no use of the topic.
    pub fn top(&self, topic: &Topic) -> Position {
        let ring = self.table.find(topic).and_then(|place| self.table.ring(place));
        ring.map_or_else(|| self.beginning(topic), Ring::top)
    }

    /// Lets go of publications that are too old, or too many since the bounds shrank, in the next `at_most` topics. Called at
    /// intervals, it visits all topics in turn, so that a topic without publications and without readers is cleared as well.
    pub fn sweep(&mut self, now: u64, at_most: usize) {
        for _ in 0..at_most.min(self.table.len()) {
            if self.swept as usize >= self.table.len() {
                self.swept = 0;
            }
            let place = self.swept;
            self.swept += 1;
            let divisor = self.divisor;
            self.change(place, |ring| {
                ring.expire(now);
                ring.trim(divisor);
            });
            self.table.settle(place);
        }
        self.evict();
    }

    /// Bounds all topics anew, and at once.
    pub fn set_max_bytes(&mut self, max_bytes: usize) {
        self.max_bytes = max_bytes;
        self.evict();
    }

    /// Divides all bounds: that of all topics at once, those of each topic with its next publication or sweep. 1 restores them.
    pub fn set_divisor(&mut self, divisor: usize) {
        self.divisor = divisor.max(1);
        self.evict();
    }

    /// What counts against the bound of all topics: payloads as declared, the room of all entries, and the most that records
    /// cost.
    pub fn bytes(&self) -> usize {
        self.ring_bytes + self.table.bytes(Use::Stored) + self.table.bytes(Use::Empty)
    }

    /// [`bytes`](Self::bytes) and what does not grow with the topics, once it exists.
    pub fn heap_bytes(&self) -> usize {
        let fixed = if self.table.len() == 0 { 0 } else { Table::<P>::FIXED_BYTES };
        self.bytes() + fixed + self.floors.heap_bytes()
    }

    /// How many topics have a record.
    pub fn topics(&self) -> usize {
        self.table.len()
    }

    /// Reads a topic without what is too old by now. A topic without a record reads as an empty one, and gets none: otherwise clients
    /// could push out the histories of others by asking for topics that do not exist.
    fn read<R>(&mut self, topic: &Topic, now: u64, read: impl FnOnce(&Ring<P>) -> R) -> R {
        if let Some(place) = self.table.find(topic) {
            self.change(place, |ring| ring.expire(now));
            self.table.touch(place);
            if let Some(ring) = self.table.ring(place) {
                return read(ring);
            }
        }
        read(&Ring::new(self.beginning(topic), TopicLimits::DEFAULT))
    }

    /// Where a topic without a record begins.
    fn beginning(&self, topic: &Topic) -> Position {
        let offset: Offset = self.floors.get(topic);
        Position { epoch: self.epoch, offset, id: PublicationId::none(self.node) }
    }

    fn change(&mut self, place: u32, change: impl FnOnce(&mut Ring<P>)) {
        let Some(ring) = self.table.ring_mut(place) else { return };
        self.ring_bytes -= ring.heap_bytes();
        change(ring);
        self.ring_bytes += ring.heap_bytes();
    }

    /// Brings all topics within the bound. Each step undoes at least one earlier publication, so it costs nothing in the long run.
    fn evict(&mut self) {
        let max_bytes = self.max_bytes / self.divisor;
        let max_empty = max_bytes / EMPTY_SHARE;
        while self.table.bytes(Use::Empty) > max_empty {
            self.forget_oldest();
        }
        while self.bytes() > max_bytes {
            let Some(place) = self.table.oldest(Use::Stored) else {
                if !self.forget_oldest() {
                    break;
                }
                continue;
            };
            self.change(place, Ring::clear);
            self.table.settle(place);
            if self.table.bytes(Use::Empty) > max_empty {
                self.forget_oldest();
            }
        }
    }

    /// Drops the record of the least recently used topic without publications. `false` if there is none.
    fn forget_oldest(&mut self) -> bool {
        let Some(place) = self.table.oldest(Use::Empty) else { return false };
        let Some((topic, ring)) = self.table.remove(place) else { return false };
        self.floors.raise(&topic, ring.top().offset);
        true
    }
}

#[cfg(test)]
mod tests;
