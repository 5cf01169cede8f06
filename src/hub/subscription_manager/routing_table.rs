//! Which shards and which users follow which topic, for publishers and getters.
//!
//! Shared by the shards of a run, which report every change of a subscription; publishers ask it which shards a
//! publication concerns. Its three tables are cut into stripes, each with a lock of its own:
//!
//! * routes: topic → shards. All that a publisher looks at. Held for one look-up or one change, never for a walk.
//! * users: user → topics, with the number of the user's connections that follow each.
//! * followers: topic → users. Changed while the user's stripe is held, so that the two agree; the order of the locks is
//!   always user, then topic.
//!
//! So a getter that lists the followers of a large topic holds up no publisher, and totals are read without any lock.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::keyed_hash::KeyedHash;
use super::ordered_map::{OrderedMap, give_back, table_bytes};
use super::shard_set::ShardSet;
use super::transition::Transition;
use crate::hub::topic::Topic;
use crate::sync::{Mutex, MutexGuard};
use crate::types::{ShardId, UserId};

/// More than of the others: a stripe that grows is copied under its lock, which publishers wait for.
const ROUTE_STRIPES: usize = 256;

const STRIPES: usize = 64;

/// How many changes of a long list are made in one hold of a user's stripe.
const CHANGES_PER_LOCK: usize = 64;

type Table<K, V> = HashMap<K, V, KeyedHash>;

#[derive(Debug)]
pub struct RoutingTable {
    routes: Stripes<Topic, ShardSet>,
    users: Stripes<UserId, OrderedMap<Topic, u32>>,
    followers: Stripes<Topic, OrderedMap<UserId, ()>>,
    topic_count: AtomicUsize,
    user_count: AtomicUsize,
    pair_count: AtomicUsize,
    /// What the lists of single users and topics take.
    list_bytes: AtomicUsize,
}

/// Totals for the getters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoutingCounts {
    pub topics: usize,
    pub users: usize,
    /// Pairs of a topic and a subscribed user.
    pub pairs: usize,
}

#[derive(Debug)]
struct Stripes<K, V>(Box<[Mutex<Table<K, V>>]>);

impl<K: Eq + Hash, V> Stripes<K, V> {
    fn new(count: usize) -> Self {
        Self((0..count).map(|_| Mutex::new(Table::default())).collect())
    }

    fn lock<Q: Hash + ?Sized>(&self, key: &Q) -> MutexGuard<'_, Table<K, V>> {
        // Other bits than those by which the table inside finds its buckets.
        let hash = KeyedHash.hash_one(key) >> 32;
        self.0[hash as usize % self.0.len()].lock()
    }

    fn each(&self, mut visit: impl FnMut(&mut Table<K, V>)) {
        self.0.iter().for_each(|stripe| visit(&mut stripe.lock()));
    }
}

impl Default for RoutingTable {
    fn default() -> Self {
        Self {
            routes: Stripes::new(ROUTE_STRIPES),
            users: Stripes::new(STRIPES),
            followers: Stripes::new(STRIPES),
            topic_count: AtomicUsize::new(0),
            user_count: AtomicUsize::new(0),
            pair_count: AtomicUsize::new(0),
            list_bytes: AtomicUsize::new(0),
        }
    }
}

impl RoutingTable {
    /// One connection of `user` subscribed to these topics, each with what its shard's subscriptions said. Called by the shard's thread
    /// after every change of those, in the same order.
    pub fn subscribe(&self, user: &UserId, shard: ShardId, changes: &[(Topic, Transition)]) {
        for topic in first_or_last(changes) {
            self.routes.lock(topic).entry(topic.clone()).or_default().insert(shard);
        }
        for changes in changes.chunks(CHANGES_PER_LOCK) {
            let mut users = self.users.lock(user);
            let topics = match users.entry(user.clone()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    self.user_count.fetch_add(1, Relaxed);
                    entry.insert(OrderedMap::default())
                }
            };
            let before = topics.heap_bytes();
            for (topic, _) in changes {
                if let Some(connections) = topics.get_mut(topic) {
                    *connections += 1;
                } else {
                    topics.insert(topic.clone(), 1);
                    self.follow(topic, user);
                }
            }
            self.account(before, topics.heap_bytes());
        }
    }

    /// One connection of `user` unsubscribed from these topics.
    pub fn unsubscribe(&self, user: &UserId, shard: ShardId, changes: &[(Topic, Transition)]) {
        for topic in first_or_last(changes) {
            let mut routes = self.routes.lock(topic);
            if let Some(shards) = routes.get_mut(topic) {
                shards.remove(shard);
                if shards.is_empty() {
                    routes.remove(topic);
                    give_back(&mut routes);
                }
            }
        }
        for changes in changes.chunks(CHANGES_PER_LOCK) {
            let mut users = self.users.lock(user);
            let Some(topics) = users.get_mut(user) else { return };
            let before = topics.heap_bytes();
            for (topic, _) in changes {
                let Some(connections) = topics.get_mut(topic) else { continue };
                *connections -= 1;
                if *connections == 0 {
                    topics.remove(topic);
                    self.unfollow(topic, user);
                }
            }
            self.account(before, topics.heap_bytes());
            if topics.is_empty() {
                users.remove(user);
                self.user_count.fetch_sub(1, Relaxed);
                give_back(&mut users);
            }
        }
    }

    /// The shards that a publication of the topic concerns.
    pub fn shards(&self, topic: &Topic) -> ShardSet {
        self.routes.lock(topic).get(topic).copied().unwrap_or_default()
    }

    /// The users of whom a connection is subscribed to the topic, in the order in which they subscribed.
    pub fn subscribers(&self, topic: &Topic) -> Vec<UserId> {
        let users = self.followers.lock(topic).get(topic).map(OrderedMap::keys);
        users.unwrap_or_default().in_order()
    }

    /// The topics that any open connection of the user is subscribed to, in the order in which the first one subscribed.
    pub fn subscriptions(&self, user: &str) -> Vec<Topic> {
        let topics = self.users.lock(user).get(user).map(OrderedMap::keys);
        topics.unwrap_or_default().in_order()
    }

    /// Without a lock, so each is a moment old on its own.
    pub fn counts(&self) -> RoutingCounts {
        RoutingCounts {
            topics: self.topic_count.load(Relaxed),
            users: self.user_count.load(Relaxed),
            pairs: self.pair_count.load(Relaxed),
        }
    }

    /// What the tables take beyond what they take empty; names are counted with the users. Looks at each stripe, at no entry.
    pub fn heap_bytes(&self) -> usize {
        let mut bytes = self.list_bytes.load(Relaxed);
        self.routes.each(|routes| bytes += stripe_bytes(routes));
        self.users.each(|users| bytes += stripe_bytes(users));
        self.followers.each(|followers| bytes += stripe_bytes(followers));
        bytes
    }

    /// Stripe by stripe.
    pub fn shrink(&self) {
        self.routes.each(|routes| routes.shrink_to_fit());
        self.users.each(|users| {
            self.shrink_lists(users.values_mut());
            users.shrink_to_fit();
        });
        self.followers.each(|followers| {
            self.shrink_lists(followers.values_mut());
            followers.shrink_to_fit();
        });
    }

    fn follow(&self, topic: &Topic, user: &UserId) {
        let mut followers = self.followers.lock(topic);
        let users = match followers.entry(topic.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.topic_count.fetch_add(1, Relaxed);
                entry.insert(OrderedMap::default())
            }
        };
        let before = users.heap_bytes();
        users.insert(user.clone(), ());
        self.pair_count.fetch_add(1, Relaxed);
        self.account(before, users.heap_bytes());
    }

    fn unfollow(&self, topic: &Topic, user: &UserId) {
        let mut followers = self.followers.lock(topic);
        let Some(users) = followers.get_mut(topic) else { return };
        let before = users.heap_bytes();
        users.remove(user);
        self.pair_count.fetch_sub(1, Relaxed);
        self.account(before, users.heap_bytes());
        if users.is_empty() {
            followers.remove(topic);
            self.topic_count.fetch_sub(1, Relaxed);
            give_back(&mut followers);
        }
    }

    fn shrink_lists<'a, K: Clone + Eq + Hash + 'a, V: 'a>(
        &self,
        lists: impl Iterator<Item = &'a mut OrderedMap<K, V>>,
    ) {
        for list in lists {
            let before = list.heap_bytes();
            list.shrink();
            self.account(before, list.heap_bytes());
        }
    }

    fn account(&self, before: usize, after: usize) {
        // Wraps both ways, so a decrease is the addition of its complement.
        self.list_bytes.fetch_add(after.wrapping_sub(before), Relaxed);
    }
}

fn stripe_bytes<K, V>(stripe: &Table<K, V>) -> usize {
    table_bytes(stripe.capacity(), size_of::<(K, V)>())
}

/// The topics whose route through this shard begins or ends.
fn first_or_last(changes: &[(Topic, Transition)]) -> impl Iterator<Item = &Topic> {
    changes.iter().filter(|(_, transition)| *transition == Transition::FirstOrLast).map(|(topic, _)| topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BillId;

    const HERE: ShardId = ShardId(0);
    const THERE: ShardId = ShardId(63);

    fn bill(number: u64) -> Topic {
        Topic::Bill(BillId::new(number).expect("a valid number"))
    }

    fn first_or_last(numbers: impl IntoIterator<Item = u64>) -> Vec<(Topic, Transition)> {
        numbers.into_iter().map(|number| (bill(number), Transition::FirstOrLast)).collect()
    }

    fn names(users: &[UserId]) -> Vec<&str> {
        users.iter().map(UserId::as_str).collect()
    }

    #[test]
    fn a_user_follows_a_bill_as_long_as_any_connection_does() {
        let table = RoutingTable::default();
        let ann = UserId::new("ann");
        table.subscribe(&ann, HERE, &first_or_last([7, 3]));
        table.subscribe(&ann, THERE, &first_or_last([7]));
        assert_eq!(table.subscriptions("ann"), [bill(7), bill(3)]);
        assert_eq!(table.counts(), RoutingCounts { topics: 2, users: 1, pairs: 2 });
        table.unsubscribe(&ann, HERE, &first_or_last([7, 3]));
        assert_eq!(table.subscriptions("ann"), [bill(7)]);
        assert!(!table.shards(&bill(7)).contains(HERE));
        assert!(table.shards(&bill(7)).contains(THERE));
        table.unsubscribe(&ann, THERE, &first_or_last([7]));
        assert_eq!(table.counts(), RoutingCounts::default());
        assert!(table.subscribers(&bill(7)).is_empty() && table.shards(&bill(7)).is_empty());
    }

    #[test]
    fn lists_users_in_the_order_in_which_they_came_and_bills_in_the_order_they_were_followed() {
        let table = RoutingTable::default();
        let users: Vec<String> =
            (0..200_u32).map(|number| format!("user-{}", number.wrapping_mul(7919) % 1000)).collect();
        for name in &users {
            table.subscribe(&UserId::new(name), HERE, &[(bill(1), Transition::Other)]);
        }
        assert_eq!(names(&table.subscribers(&bill(1))), users);
        // A second connection does not change a user's place; leaving wholly and coming back does.
        let first = UserId::new(&users[0]);
        table.subscribe(&first, THERE, &first_or_last([1]));
        table.unsubscribe(&first, HERE, &[(bill(1), Transition::Other)]);
        assert_eq!(names(&table.subscribers(&bill(1))), users);
        table.unsubscribe(&first, THERE, &first_or_last([1]));
        table.subscribe(&first, THERE, &first_or_last([1]));
        let moved: Vec<&str> = users[1..].iter().chain(&users[..1]).map(String::as_str).collect();
        assert_eq!(names(&table.subscribers(&bill(1))), moved);

        let ann = UserId::new("ann");
        let numbers: Vec<u64> = (0..300_u64).map(|number| 1 + number * 7919 % 1009).collect();
        table.subscribe(&ann, HERE, &first_or_last(numbers.iter().copied()));
        assert_eq!(
            table.subscriptions("ann").iter().filter_map(|topic| Some(topic.bill()?.get())).collect::<Vec<_>>(),
            numbers
        );
    }

    #[test]
    fn what_is_counted_while_it_changes_is_what_a_walk_would_count() {
        let table = RoutingTable::default();
        for number in 1..50_u64 {
            let user = UserId::new(&format!("user-{number}"));
            table.subscribe(&user, HERE, &first_or_last(1..=number));
            table.subscribe(&user, THERE, &first_or_last(number..=number + 30));
            table.unsubscribe(&user, HERE, &first_or_last(1..=number / 2));
        }
        let mut walked = RoutingCounts::default();
        let mut bytes = 0;
        table.users.each(|users| {
            walked.users += users.len();
            bytes += users.values().map(OrderedMap::heap_bytes).sum::<usize>();
        });
        table.followers.each(|followers| {
            walked.topics += followers.len();
            bytes += followers.values().map(OrderedMap::heap_bytes).sum::<usize>();
            walked.pairs += followers.values().map(|users| users.keys().in_order().len()).sum::<usize>();
        });
        assert_eq!(table.counts(), walked);
        assert_eq!(table.list_bytes.load(Relaxed), bytes);
        table.shrink();
        assert!(table.list_bytes.load(Relaxed) <= bytes);
    }

    #[test]
    fn a_publisher_does_not_wait_for_a_walk_of_users_or_followers() {
        let table = RoutingTable::default();
        table.subscribe(&UserId::new("ann"), HERE, &first_or_last(1..=100));
        // The locks of every walk and of every change of them are held meanwhile.
        let users: Vec<_> = table.users.0.iter().map(Mutex::lock).collect();
        let followers: Vec<_> = table.followers.0.iter().map(Mutex::lock).collect();
        assert!((1..=100).all(|number| table.shards(&bill(number)).contains(HERE)));
        assert_eq!(table.counts().pairs, 100);
        drop((users, followers));
    }

    #[test]
    fn a_change_takes_as_long_for_a_user_who_follows_much_as_for_one_who_follows_little() {
        // The best of several tries, so that a busy machine does not matter; in proportion, so that a slow one does not.
        let time = |followed: u64| {
            let (table, ann) = (RoutingTable::default(), UserId::new("ann"));
            table.subscribe(&ann, HERE, &first_or_last(1..=followed));
            let change = first_or_last([followed + 1]);
            let try_once = || {
                let started = std::time::Instant::now();
                for _ in 0..200 {
                    table.subscribe(&ann, HERE, &change);
                    table.unsubscribe(&ann, HERE, &change);
                }
                started.elapsed()
            };
            (0..10).map(|_| try_once()).min().unwrap_or_default()
        };
        let (little, much) = (time(100), time(100_000));
        assert!(much < little * 20, "{little:?} for a user with 100 bills, {much:?} for one with 100 000");
    }

    #[test]
    fn a_subscription_takes_at_most_so_many_bytes() {
        let per_subscription = |connections: u8, bills: u64| {
            let (table, ann) = (RoutingTable::default(), UserId::new("ann"));
            let empty = table.heap_bytes();
            (0..connections).for_each(|shard| table.subscribe(&ann, ShardId(shard), &first_or_last(1..=bills)));
            (table.heap_bytes() - empty) as u64 / (u64::from(connections) * bills)
        };
        // 100 000 at one connection; and the most that one user has with default settings: 5 connections, 1000 bills each.
        let (many, five_times) = (per_subscription(1, 100_000), per_subscription(5, 1000));
        assert!(many <= 140, "{many}");
        assert!(five_times <= 40, "{five_times}");
    }

    #[test]
    fn a_very_long_list_is_forgotten_wholly_and_its_room_given_back() {
        let table = RoutingTable::default();
        let empty = table.heap_bytes();
        let ann = UserId::new("ann");
        table.subscribe(&ann, HERE, &first_or_last(1..=50_000));
        assert_eq!(table.counts().pairs, 50_000);
        table.unsubscribe(&ann, HERE, &first_or_last(1..=50_000));
        assert_eq!(table.counts(), RoutingCounts::default());
        let left = table.heap_bytes() - empty;
        assert!(left < 128 * 1024, "{left}");
    }
}
