//! Topics with their rings, in order of use. Pure.
//!
//! Records lie densely in one vector: the last one takes the place of one that is removed, so room is never fragmented and all
//! records can be visited in steps. Two lists thread through them, each from the most to the least recently used: topics that hold
//! publications, and topics of which only the position is left.

use std::collections::HashMap;
use std::hash::RandomState;

use super::ring::Ring;
use crate::hub::Topic;

/// The place of no record.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub struct Table<P> {
    records: Vec<Record<P>>,
    /// Keyed at random: clients choose names of topics.
    places: HashMap<Topic, u32, RandomState>,
    lists: [List; 2],
}

#[derive(Debug)]
struct Record<P> {
    topic: Topic,
    ring: Ring<P>,
    list: Use,
    newer: u32,
    older: u32,
}

/// The list that a record is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Holds publications.
    Stored,
    /// Holds its position only.
    Empty,
}

#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    bytes: usize,
}

impl<P> Default for Table<P> {
    fn default() -> Self {
        Self { records: Vec::new(), places: HashMap::default(), lists: [List::EMPTY; 2] }
    }
}

impl List {
    const EMPTY: Self = Self { newest: NONE, oldest: NONE, bytes: 0 };
}

impl<P> Table<P> {
    /// The most that one topic costs beside its name and its publications: its record, a third of one for room to spare, and its
    /// share of the table of places, of which at least 3/4 of 7/16 are in use, with a control byte.
    pub const RECORD_BYTES: usize = size_of::<Record<P>>()
        + size_of::<Record<P>>().div_ceil(3)
        + ((size_of::<(Topic, u32)>() + 1) * 64).div_ceil(21);

    /// What the smallest table of places costs above the share of its records.
    pub const FIXED_BYTES: usize = 4 * (size_of::<(Topic, u32)>() + 1) + 16;

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The most that the records of a list cost, with the names of their topics and without their rings.
    pub fn bytes(&self, list: Use) -> usize {
        self.lists[list as usize].bytes
    }

    /// Valid until a record is removed.
    pub fn find(&self, topic: &Topic) -> Option<u32> {
        self.places.get(topic).copied()
    }

    pub fn ring(&self, place: u32) -> Option<&Ring<P>> {
        self.records.get(place as usize).map(|record| &record.ring)
    }

    /// Call [`touch`](Self::touch) or [`settle`](Self::settle) after a change: a ring that became empty belongs to another list.
    pub fn ring_mut(&mut self, place: u32) -> Option<&mut Ring<P>> {
        self.records.get_mut(place as usize).map(|record| &mut record.ring)
    }

    /// The least recently used record of a list.
    pub fn oldest(&self, list: Use) -> Option<u32> {
        let oldest = self.lists[list as usize].oldest;
        (oldest != NONE).then_some(oldest)
    }

    /// Adds a topic that has no record, as the most recently used of its list.
    pub fn insert(&mut self, topic: Topic, ring: Ring<P>) -> u32 {
        let place = self.records.len() as u32;
        if self.records.len() == self.records.capacity() {
            self.records.reserve_exact(self.records.len() / 8 + 1);
        }
        self.places.insert(topic.clone(), place);
        let list = use_of(&ring);
        self.records.push(Record { topic, ring, list, newer: NONE, older: NONE });
        self.link_newest(place);
        place
    }

    /// Makes the record the most recently used of the list that it belongs to now.
    pub fn touch(&mut self, place: u32) {
        self.unlink(place);
        if let Some(record) = self.records.get_mut(place as usize) {
            record.list = use_of(&record.ring);
        }
        self.link_newest(place);
    }

    /// Moves the record to the other list if it belongs there now, as the most recently used one; otherwise leaves it where it is.
    pub fn settle(&mut self, place: u32) {
        if self.records.get(place as usize).is_some_and(|record| record.list != use_of(&record.ring)) {
            self.touch(place);
        }
    }

    pub fn remove(&mut self, place: u32) -> Option<(Topic, Ring<P>)> {
        self.records.get(place as usize)?;
        self.unlink(place);
        let removed = self.records.swap_remove(place as usize);
        self.places.remove(&removed.topic);
        self.relocate(place);
        self.shrink();
        Some((removed.topic, removed.ring))
    }

    /// Makes everything that names the record that has just moved to `to` name its new place.
    fn relocate(&mut self, to: u32) {
        let Some(moved) = self.records.get(to as usize) else { return };
        let (newer, older, list) = (moved.newer, moved.older, moved.list);
        if let Some(place) = self.places.get_mut(&moved.topic) {
            *place = to;
        }
        let ends = &mut self.lists[list as usize];
        match self.records.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = to,
            None => ends.newest = to,
        }
        match self.records.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = to,
            None => ends.oldest = to,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let Some(record) = self.records.get_mut(place as usize) else { return };
        let list = &mut self.lists[record.list as usize];
        (record.newer, record.older) = (NONE, list.newest);
        list.bytes += cost(record);
        let previous = std::mem::replace(&mut list.newest, place);
        if list.oldest == NONE {
            list.oldest = place;
        }
        if let Some(previous) = self.records.get_mut(previous as usize) {
            previous.newer = place;
        }
    }

    fn unlink(&mut self, place: u32) {
        let Some(record) = self.records.get(place as usize) else { return };
        let (newer, older) = (record.newer, record.older);
        let list = &mut self.lists[record.list as usize];
        list.bytes -= cost(record);
        match self.records.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = older,
            None => list.newest = older,
        }
        match self.records.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = newer,
            None => list.oldest = newer,
        }
    }

    fn shrink(&mut self) {
        let length = self.records.len();
        if length * 4 < self.records.capacity() * 3 {
            self.records.shrink_to(length + length / 8);
            self.places.shrink_to(length);
        }
    }
}

fn cost<P>(record: &Record<P>) -> usize {
    Table::<P>::RECORD_BYTES + record.topic.heap_bytes()
}

fn use_of<P>(ring: &Ring<P>) -> Use {
    if ring.is_empty() { Use::Empty } else { Use::Stored }
}

#[cfg(test)]
mod tests;
