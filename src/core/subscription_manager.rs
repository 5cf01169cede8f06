//! Who follows which bill: the topic index of one shard, and the interest all shards share.
//!
//! A [`TopicIndex`] belongs to its shard's thread and finds the connections of a fan-out. The [`Interest`] knows
//! which shards have subscribers of a bill, and which users follow it, for publishers and getters; it is touched
//! when a subscription comes or goes, never per message, and its lock is held for microseconds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashSet;

use crate::types::{BillId, ConnectionKey, FollowedBills, ShardId, UserId};

/// How many changes of a long list are made in one hold of the lock.
const CHANGES_PER_LOCK: usize = 256;

/// What one connection may follow. Far above what a person does; keeps one peer from filling the memory.
pub const MAX_SUBSCRIPTIONS: usize = 16_384;

/// The subscribers of each bill among the connections of one shard.
#[derive(Debug, Default)]
pub struct TopicIndex {
    // Bills are chosen by peers, so their map is keyed at random; the keys of connections are our own.
    subscribers: HashMap<BillId, FxHashSet<ConnectionKey>>,
    pairs: usize,
}

/// What a change in a shard's index means for the interest in the bill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The connection followed the bill already, or did not follow it.
    Nothing,
    /// One more or one less of several in this shard.
    Further,
    /// The first subscriber of this shard came, or the last one went.
    Edge,
}

impl TopicIndex {
    pub fn subscribe(&mut self, bill: BillId, connection: ConnectionKey) -> Change {
        let subscribers = self.subscribers.entry(bill).or_default();
        if !subscribers.insert(connection) {
            return Change::Nothing;
        }
        self.pairs += 1;
        if subscribers.len() == 1 { Change::Edge } else { Change::Further }
    }

    pub fn unsubscribe(&mut self, bill: BillId, connection: ConnectionKey) -> Change {
        let Entry::Occupied(mut entry) = self.subscribers.entry(bill) else { return Change::Nothing };
        let subscribers = entry.get_mut();
        if !subscribers.remove(&connection) {
            return Change::Nothing;
        }
        self.pairs -= 1;
        if subscribers.is_empty() {
            entry.remove();
            give_back(&mut self.subscribers);
            return Change::Edge;
        }
        if subscribers.capacity() > 64 && subscribers.len() * 4 < subscribers.capacity() {
            subscribers.shrink_to(subscribers.len() * 2);
        }
        Change::Further
    }

    pub fn subscribers(&self, bill: BillId) -> impl Iterator<Item = ConnectionKey> {
        self.subscribers.get(&bill).into_iter().flatten().copied()
    }

    pub fn bill_count(&self) -> usize {
        self.subscribers.len()
    }

    pub fn give_back_room(&mut self) {
        self.subscribers.shrink_to_fit();
        self.subscribers.values_mut().for_each(FxHashSet::shrink_to_fit);
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

    pub fn heap_bytes(&self) -> usize {
        self.subscribers.capacity() * (size_of::<(BillId, FxHashSet<ConnectionKey>)>() + 1)
            + self.subscribers.values().map(|set| set.capacity() * (size_of::<ConnectionKey>() + 1)).sum::<usize>()
    }
}

/// Which shards and which users follow which bill.
#[derive(Debug, Default)]
pub struct Interest {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    bills: HashMap<BillId, Bill>,
    /// In the order in which the user came to follow them.
    users: HashMap<UserId, FollowedBills>,
    /// Pairs of a bill and a user that follows it.
    pairs: usize,
}

#[derive(Debug, Default)]
struct Bill {
    shards: ShardSet,
    /// With the number of the user's connections that follow the bill.
    users: HashMap<UserId, u32>,
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

/// Counts for the getters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterestCounts {
    pub bills: usize,
    pub users: usize,
    pub pairs: usize,
}

impl Interest {
    /// One connection of `user` follows `changes`, each with what its shard's index said ([`Change::Nothing`] left out).
    pub fn subscribe(&self, user: &UserId, shard: ShardId, changes: &[(BillId, Change)]) {
        for changes in changes.chunks(CHANGES_PER_LOCK) {
            let mut table = self.lock();
            for (bill, change) in changes {
                table.subscribe(*bill, user, shard, *change);
            }
        }
    }

    /// One connection of `user` follows `changes` no longer.
    pub fn unsubscribe(&self, user: &UserId, shard: ShardId, changes: &[(BillId, Change)]) {
        for changes in changes.chunks(CHANGES_PER_LOCK) {
            self.lock().unsubscribe(user, shard, changes);
        }
    }

    /// Where a publish for the bill has to go.
    pub fn shards(&self, bill: BillId) -> ShardSet {
        self.lock().bills.get(&bill).map(|bill| bill.shards).unwrap_or_default()
    }

    pub fn subscribers(&self, bill: BillId) -> Vec<UserId> {
        self.lock().bills.get(&bill).map(|bill| bill.users.keys().cloned().collect()).unwrap_or_default()
    }

    /// The bills that any open connection of the user follows, in the order they were first followed.
    pub fn subscriptions(&self, user: &str) -> Vec<BillId> {
        self.lock().users.get(user).map(|bills| bills.to_vec()).unwrap_or_default()
    }

    pub fn counts(&self) -> InterestCounts {
        let table = self.lock();
        InterestCounts { bills: table.bills.len(), users: table.users.len(), pairs: table.pairs }
    }

    /// What the tables take; names are counted with the users.
    pub fn heap_bytes(&self) -> usize {
        let table = self.lock();
        let bills: usize =
            table.bills.values().map(|bill| bill.users.capacity() * (size_of::<(UserId, u32)>() + 1)).sum();
        let spilled = |bills: &FollowedBills| if bills.spilled() { bills.capacity() } else { 0 };
        let users = table.users.values().map(spilled).sum::<usize>() * size_of::<BillId>();
        let entries = table.bills.capacity() * (size_of::<(BillId, Bill)>() + 1)
            + table.users.capacity() * (size_of::<(UserId, FollowedBills)>() + 1);
        bills + users + entries
    }

    pub fn give_back_room(&self) {
        let mut table = self.lock();
        table.bills.shrink_to_fit();
        table.users.shrink_to_fit();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No code that can panic runs under the lock, so what it protects is whole even if a thread died.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn subscribe(&mut self, bill: BillId, user: &UserId, shard: ShardId, change: Change) {
        let interest = self.bills.entry(bill).or_default();
        if change == Change::Edge {
            interest.shards.insert(shard);
        }
        let connections = interest.users.entry(user.clone()).or_insert(0);
        *connections += 1;
        if *connections == 1 {
            self.pairs += 1;
            self.users.entry(user.clone()).or_default().push(bill);
        }
    }

    fn unsubscribe(&mut self, user: &UserId, shard: ShardId, changes: &[(BillId, Change)]) {
        let mut gone: FxHashSet<BillId> = FxHashSet::default();
        for (bill, change) in changes {
            let Some(interest) = self.bills.get_mut(bill) else { continue };
            if *change == Change::Edge {
                interest.shards.remove(shard);
            }
            if let Some(connections) = interest.users.get_mut(user.as_str()) {
                *connections -= 1;
                if *connections == 0 {
                    interest.users.remove(user.as_str());
                    gone.insert(*bill);
                }
            }
            if interest.users.capacity() > 64 && interest.users.len() * 4 < interest.users.capacity() {
                interest.users.shrink_to(interest.users.len() * 2);
            }
            if interest.users.is_empty() && interest.shards.is_empty() {
                self.bills.remove(bill);
            }
        }
        self.pairs -= gone.len();
        if let Some(bills) = self.users.get_mut(user.as_str()) {
            bills.retain(|bill| !gone.contains(bill));
            if bills.is_empty() {
                self.users.remove(user.as_str());
            }
        }
        give_back(&mut self.bills);
        give_back(&mut self.users);
    }
}

/// A table that was once large must not stay so.
fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > 1024 && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bill(number: u64) -> BillId {
        BillId::new(number).expect("a valid number")
    }

    const HERE: ShardId = ShardId(0);
    const THERE: ShardId = ShardId(63);

    #[test]
    fn the_index_tells_the_first_and_the_last_subscriber() {
        let mut index = TopicIndex::default();
        let (one, two) = (ConnectionKey(1), ConnectionKey(2));
        assert_eq!(index.subscribe(bill(1), one), Change::Edge);
        assert_eq!(index.subscribe(bill(1), one), Change::Nothing);
        assert_eq!(index.subscribe(bill(1), two), Change::Further);
        assert_eq!(index.unsubscribe(bill(1), one), Change::Further);
        assert_eq!(index.unsubscribe(bill(1), one), Change::Nothing);
        assert_eq!(index.unsubscribe(bill(2), two), Change::Nothing);
        assert_eq!(index.subscribers(bill(1)).collect::<Vec<_>>(), [two]);
        assert_eq!(index.unsubscribe(bill(1), two), Change::Edge);
        assert_eq!((index.bill_count(), index.pairs), (0, 0));
    }

    #[test]
    fn the_index_gives_its_memory_back() {
        let mut index = TopicIndex::default();
        for number in 1..=5000 {
            index.subscribe(bill(number), ConnectionKey(1));
            index.subscribe(bill(1), ConnectionKey(u32::try_from(number).expect("small")));
        }
        for number in 1..=5000 {
            index.unsubscribe(bill(1), ConnectionKey(u32::try_from(number).expect("small")));
            index.unsubscribe(bill(number), ConnectionKey(1));
        }
        assert!(index.heap_bytes() < 64 * 1024, "{}", index.heap_bytes());
    }

    #[test]
    fn a_user_follows_a_bill_as_long_as_any_connection_does() {
        let interest = Interest::default();
        let ann = UserId::new("ann");
        interest.subscribe(&ann, HERE, &[(bill(7), Change::Edge), (bill(3), Change::Edge)]);
        interest.subscribe(&ann, THERE, &[(bill(7), Change::Edge)]);
        assert_eq!(interest.subscriptions("ann"), [bill(7), bill(3)]);
        assert_eq!(interest.counts(), InterestCounts { bills: 2, users: 1, pairs: 2 });
        interest.unsubscribe(&ann, HERE, &[(bill(7), Change::Edge), (bill(3), Change::Edge)]);
        assert_eq!(interest.subscriptions("ann"), [bill(7)]);
        assert!(!interest.shards(bill(7)).contains(HERE));
        assert!(interest.shards(bill(7)).contains(THERE));
        interest.unsubscribe(&ann, THERE, &[(bill(7), Change::Edge)]);
        assert_eq!(interest.counts(), InterestCounts::default());
        assert!(interest.subscribers(bill(7)).is_empty());
    }

    #[test]
    fn very_long_lists_are_forgotten_quickly_and_wholly() {
        let interest = Interest::default();
        let ann = UserId::new("ann");
        let changes: Vec<_> = (1..=MAX_SUBSCRIPTIONS as u64).map(|number| (bill(number), Change::Edge)).collect();
        interest.subscribe(&ann, HERE, &changes);
        assert_eq!(interest.counts().pairs, MAX_SUBSCRIPTIONS);
        interest.unsubscribe(&ann, HERE, &changes);
        assert_eq!(interest.counts(), InterestCounts::default());
        assert!(interest.lock().bills.capacity() < 4096);
    }
}
