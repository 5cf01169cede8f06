//! Who follows which bill: the topic index of one shard, and the routing table all shards share.
//!
//! A [`TopicIndex`] belongs to its shard's thread and finds the connections of a fan-out. The [`RoutingTable`] knows
//! which shards have subscribers of a bill, and which users follow it, for publishers and getters; it is touched
//! when a subscription comes or goes, never per message. [`Topics`] is what one connection follows.

mod keyed_hash;
mod local_subscribers;
mod ordered_map;
mod routing_table;
mod topics;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

pub use keyed_hash::KeyedHash;
pub use routing_table::{RoutingCounts, RoutingTable};
pub use topics::Topics;

use crate::types::{BillId, ConnectionKey, ShardId};
use local_subscribers::LocalSubscribers;
use ordered_map::{give_back, table_bytes};

/// The subscribers of each bill among the connections of one shard.
#[derive(Debug, Default)]
pub struct TopicIndex {
    subscribers: HashMap<BillId, LocalSubscribers, KeyedHash>,
    pairs: usize,
    /// What the sets of single bills take.
    set_bytes: usize,
}

/// What a change in a shard's index means for the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The first subscriber of this shard came, or the last one went.
    FirstOrLast,
    /// One more or one less of several in this shard.
    Other,
}

impl TopicIndex {
    /// `None` if the connection follows the bill already.
    pub fn subscribe(&mut self, bill: BillId, connection: ConnectionKey) -> Option<Transition> {
        let subscribers = self.subscribers.entry(bill).or_default();
        let before = subscribers.heap_bytes();
        if !subscribers.insert(connection) {
            return None;
        }
        self.set_bytes = self.set_bytes - before + subscribers.heap_bytes();
        self.pairs += 1;
        Some(if subscribers.len() == 1 { Transition::FirstOrLast } else { Transition::Other })
    }

    /// `None` if the connection did not follow the bill.
    pub fn unsubscribe(&mut self, bill: BillId, connection: ConnectionKey) -> Option<Transition> {
        let Entry::Occupied(mut entry) = self.subscribers.entry(bill) else { return None };
        let subscribers = entry.get_mut();
        let before = subscribers.heap_bytes();
        if !subscribers.remove(connection) {
            return None;
        }
        self.set_bytes = self.set_bytes - before + subscribers.heap_bytes();
        self.pairs -= 1;
        if subscribers.len() == 0 {
            entry.remove();
            give_back(&mut self.subscribers);
            return Some(Transition::FirstOrLast);
        }
        Some(Transition::Other)
    }

    pub fn subscribers(&self, bill: BillId) -> impl Iterator<Item = ConnectionKey> {
        self.subscribers.get(&bill).into_iter().flat_map(LocalSubscribers::iter)
    }

    pub fn bill_count(&self) -> usize {
        self.subscribers.len()
    }

    pub fn give_back_room(&mut self) {
        self.subscribers.shrink_to_fit();
        self.subscribers.values_mut().for_each(LocalSubscribers::shrink_to_fit);
        self.set_bytes = self.subscribers.values().map(LocalSubscribers::heap_bytes).sum();
    }

    /// The bills with most subscribers, largest first.
    pub fn largest(&self, top: usize) -> Vec<(BillId, usize)> {
        let mut bills: Vec<_> = self.subscribers.iter().map(|(bill, subscribers)| (*bill, subscribers.len())).collect();
        let order = |(bill, count): &(BillId, usize)| (std::cmp::Reverse(*count), *bill);
        // Sorting all of very many would hold up the shard.
        if bills.len() > top {
            bills.select_nth_unstable_by_key(top, order);
            bills.truncate(top);
        }
        bills.sort_unstable_by_key(order);
        bills
    }

    /// What the index takes. In constant time.
    pub fn heap_bytes(&self) -> usize {
        table_bytes(self.subscribers.capacity(), size_of::<(BillId, LocalSubscribers)>()) + self.set_bytes
    }
}

/// A set of shards; there are at most 64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// As many shards as fit.
    pub const CAPACITY: usize = 64;

    pub fn contains(self, shard: ShardId) -> bool {
        self.0 & (1 << shard.0) != 0
    }

    pub fn insert(&mut self, shard: ShardId) {
        self.0 |= 1 << shard.0;
    }

    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(number: u64) -> BillId {
        BillId::new(number).expect("a valid number")
    }

    #[test]
    fn the_index_tells_the_first_and_the_last_subscriber() {
        let mut index = TopicIndex::default();
        let (one, two) = (ConnectionKey(1), ConnectionKey(2));
        assert_eq!(index.subscribe(bill(1), one), Some(Transition::FirstOrLast));
        assert_eq!(index.subscribe(bill(1), one), None);
        assert_eq!(index.subscribe(bill(1), two), Some(Transition::Other));
        assert_eq!(index.unsubscribe(bill(1), one), Some(Transition::Other));
        assert_eq!(index.unsubscribe(bill(1), one), None);
        assert_eq!(index.unsubscribe(bill(2), two), None);
        assert_eq!(index.subscribers(bill(1)).collect::<Vec<_>>(), [two]);
        assert_eq!(index.unsubscribe(bill(1), two), Some(Transition::FirstOrLast));
        assert_eq!((index.bill_count(), index.pairs), (0, 0));
    }

    #[test]
    fn the_index_gives_its_memory_back() {
        let mut index = TopicIndex::default();
        let key = |number: u64| ConnectionKey(u32::try_from(number).expect("small"));
        for number in 1..=5000 {
            index.subscribe(bill(number), ConnectionKey(1));
            index.subscribe(bill(1), key(number));
        }
        let counted: usize = index.subscribers.values().map(LocalSubscribers::heap_bytes).sum();
        assert_eq!(index.set_bytes, counted);
        for number in 1..=5000 {
            index.unsubscribe(bill(1), key(number));
            index.unsubscribe(bill(number), ConnectionKey(1));
        }
        assert!(index.heap_bytes() < 8 * 1024, "{}", index.heap_bytes());
        assert_eq!(index.set_bytes, 0);
    }
}
