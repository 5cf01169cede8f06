//! The history of one topic: consecutive publications in memory, bounded by count, age and bytes. Pure.
//!
//! A ring holds the newest publications without a gap between them, so a publication is found by its offset alone. The base is the
//! position just before the oldest publication held: with it, a client that has seen everything up to there is told apart from one
//! that has not. Every publication that leaves moves the base, so what is missing is always known to be missing.

use std::collections::VecDeque;

use super::limits::TopicLimits;
use crate::broker::position::{Epoch, Offset, Position, PublicationId};

/// A deque starts with room for so many publications.
const FIRST_CAPACITY: usize = 4;

#[derive(Debug)]
pub struct Ring<P> {
    epoch: Epoch,
    /// Offset and id of the position just before the first entry.
    base_offset: Offset,
    base_id: PublicationId,
    /// Their offsets follow that of the base one by one.
    entries: VecDeque<Slot<P>>,
    payload_bytes: usize,
    limits: TopicLimits,
}

#[derive(Debug)]
struct Slot<P> {
    id: PublicationId,
    time: u64,
    bytes: usize,
    payload: P,
}

/// A publication as a resuming subscription receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<P> {
    pub position: Position,
    /// The id of the publication before it in the topic.
    pub previous: PublicationId,
    /// When it was stored, in milliseconds of the caller's clock.
    pub time: u64,
    /// What the payload was declared to cost.
    pub bytes: usize,
    pub payload: P,
}

/// Where a position lies in relation to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Everything after the position is held: this many publications.
    Held(usize),
    /// Publications after the position have left the ring, or the ring cannot prove that they have not.
    Before,
    /// The position is not one of this topic's publications, or comes after the newest.
    Foreign,
    /// The position belongs to another epoch.
    OtherEpoch,
}

impl<P> Entry<P> {
    /// The position of its predecessor. The first publication of an epoch has offset 1 or more.
    pub fn before(&self) -> Position {
        let offset = Offset::new(self.position.offset.get().saturating_sub(1));
        Position { epoch: self.position.epoch, offset, id: self.previous }
    }
}

impl<P> Ring<P> {
    /// What a publication costs beside its payload.
    pub const ENTRY_BYTES: usize = size_of::<Slot<P>>();

    /// A topic without publications that starts after `base`.
    pub fn new(base: Position, limits: TopicLimits) -> Self {
        Self {
            epoch: base.epoch,
            base_offset: base.offset,
            base_id: base.id,
            entries: VecDeque::new(),
            payload_bytes: 0,
            limits,
        }
    }

    /// The position of the newest publication; the base if none is held.
    pub fn top(&self) -> Position {
        let offset = Offset::new(self.base_offset.get().saturating_add(self.entries.len() as u64));
        let id = self.entries.back().map_or(self.base_id, |newest| newest.id);
        Position { epoch: self.epoch, offset, id }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn set_limits(&mut self, limits: TopicLimits) {
        self.limits = limits;
    }

    /// What the publications cost: their payloads and the room for their entries.
    pub fn heap_bytes(&self) -> usize {
        self.payload_bytes + self.entries.capacity() * Self::ENTRY_BYTES
    }

    /// Stores the publication after [`top`](Self::top) and lets go of the oldest ones beyond its limits, divided by `divisor`. `bytes`
    /// is what the payload costs. A publication that exceeds the limits alone is counted, not held: the history is empty then and
    /// its top is that publication.
    pub fn push(&mut self, id: PublicationId, payload: P, bytes: usize, now: u64, divisor: usize) {
        self.expire(now);
        let limits = self.limits.divided_by(divisor);
        let cost = bytes.saturating_add(Self::ENTRY_BYTES);
        self.trim_to(limits.publications.saturating_sub(1), limits.bytes.saturating_sub(cost));
        if limits.publications == 0 || cost > limits.bytes {
            self.clear();
            self.base_offset = self.base_offset.next();
            self.base_id = id;
            return;
        }
        self.grow();
        self.entries.push_back(Slot { id, time: now, bytes, payload });
        self.payload_bytes += bytes;
    }

    /// Lets go of publications that are as old as the limits allow, or older.
    pub fn expire(&mut self, now: u64) {
        while self.entries.front().is_some_and(|oldest| now.saturating_sub(oldest.time) >= self.limits.ttl) {
            self.drop_oldest();
        }
        self.shrink();
    }

    /// Lets go of the oldest publications beyond the limits, divided by `divisor`.
    pub fn trim(&mut self, divisor: usize) {
        let limits = self.limits.divided_by(divisor);
        self.trim_to(limits.publications, limits.bytes);
    }

    /// Lets go of all publications. The top stays what it is.
    pub fn clear(&mut self) {
        let top = self.top();
        (self.base_offset, self.base_id) = (top.offset, top.id);
        self.entries = VecDeque::new();
        self.payload_bytes = 0;
    }

    /// Finds a position that a client claims to have reached. The client is not trusted: only an id that stands at the same offset
    /// proves the claim.
    pub fn locate(&self, claimed: &Position) -> Place {
        if claimed.epoch != self.epoch {
            return Place::OtherEpoch;
        }
        let top = self.top();
        let Some(later) = top.offset.since(claimed.offset) else { return Place::Foreign };
        if claimed.offset < self.base_offset {
            return Place::Before;
        }
        // Within `base..=top`, so the difference is at most the number of entries.
        let later = later as usize;
        if self.id_after(self.entries.len() - later) == claimed.id {
            return Place::Held(later);
        }
        // A base without an id is where a forgotten topic began anew: the id that stood there is not known.
        let is_unknown = claimed.offset == self.base_offset && self.base_id.is_none() && claimed.offset != Offset::ZERO;
        if is_unknown { Place::Before } else { Place::Foreign }
    }

    /// The newest `count` publications, in order.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = Entry<P>>
    where
        P: Clone,
    {
        let first = self.entries.len().saturating_sub(count);
        self.entries.iter().enumerate().skip(first).map(|(index, slot)| Entry {
            position: Position {
                epoch: self.epoch,
                offset: Offset::new(self.base_offset.get() + index as u64 + 1),
                id: slot.id,
            },
            previous: self.id_after(index),
            time: slot.time,
            bytes: slot.bytes,
            payload: slot.payload.clone(),
        })
    }

    /// What the payloads of the newest `count` publications cost.
    pub fn newest_bytes(&self, count: usize) -> usize {
        self.entries.iter().rev().take(count).map(|slot| slot.bytes).sum()
    }

    /// The id that stands at the epoch and the offset of this position, which is the base or one of the publications held.
    pub fn id_at(&self, position: Position) -> Option<PublicationId> {
        let count = position.offset.since(self.base_offset)?;
        let is_held = position.epoch == self.epoch && count <= self.entries.len() as u64;
        is_held.then(|| self.id_after(count as usize))
    }

    /// The id of the publication that `count` entries end with: that of the base for 0.
    fn id_after(&self, count: usize) -> PublicationId {
        count.checked_sub(1).and_then(|index| self.entries.get(index)).map_or(self.base_id, |slot| slot.id)
    }

    /// What counts against the limit of the topic: no room to spare.
    fn counted_bytes(&self) -> usize {
        self.payload_bytes + self.entries.len() * Self::ENTRY_BYTES
    }

    fn trim_to(&mut self, publications: usize, bytes: usize) {
        while self.entries.len() > publications || self.counted_bytes() > bytes {
            self.drop_oldest();
        }
        self.shrink();
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.base_offset = self.base_offset.next();
        self.base_id = oldest.id;
        self.payload_bytes -= oldest.bytes;
    }

    /// Doubles the room when it is used up, but never beyond the limit.
    fn grow(&mut self) {
        let length = self.entries.len();
        if length == self.entries.capacity() {
            let wanted = (length * 2).max(FIRST_CAPACITY).min(self.limits.publications).max(length + 1);
            self.entries.reserve_exact(wanted - length);
        }
    }

    /// Halves the room when three quarters of it are free.
    fn shrink(&mut self) {
        let length = self.entries.len();
        if length == 0 {
            self.entries = VecDeque::new();
        } else if self.entries.capacity() > FIRST_CAPACITY && length * 4 <= self.entries.capacity() {
            self.entries.shrink_to(length * 2);
        }
    }
}
