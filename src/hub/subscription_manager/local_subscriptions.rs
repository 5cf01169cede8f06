//! The subscribers of each topic among the connections of one shard.
//!
//! Topics are interned: a connection keeps the ids of what it is subscribed to. Owned by the shard's tables, used on its thread.

use std::hash::BuildHasher;

use hashbrown::HashTable;
use slab::Slab;

use super::keyed_hash::KeyedHash;
use super::local_subscribers::LocalSubscribers;
use super::ordered_map::table_bytes;
use super::transition::Transition;
use crate::hub::topic::{Topic, TopicId};
use crate::types::ConnectionKey;

/// Up to so many places, the tables keep their room when the last topic has gone.
const MAX_IDLE: usize = 1024;

/// Room for so many topics at least is added at once.
const MIN_GROWTH: usize = 16;

#[derive(Debug, Default)]
pub struct LocalSubscriptions {
    /// By the hash of their topic, which stands in `topics` alone.
    ids: HashTable<TopicId>,
    topics: Slab<Entry>,
    pairs: usize,
    /// What the sets of single topics take.
    set_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    topic: Topic,
    subscribers: LocalSubscribers,
}

impl LocalSubscriptions {
    /// The id of a topic that has subscribers here.
    pub fn id(&self, topic: &Topic) -> Option<TopicId> {
        self.ids.find(KeyedHash.hash_one(topic), |id| self.topic(*id) == Some(topic)).copied()
    }

    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(id.0 as usize).map(|entry| &entry.topic)
    }

    /// `None` if the connection is subscribed already.
    pub fn subscribe(&mut self, topic: &Topic, connection: ConnectionKey) -> Option<(TopicId, Transition)> {
        let id = match self.id(topic) {
            Some(id) => id,
            None => self.intern(topic)?,
        };
        let subscribers = &mut self.topics.get_mut(id.0 as usize)?.subscribers;
        let before = subscribers.heap_bytes();
        if !subscribers.insert(connection) {
            return None;
        }
        self.set_bytes = self.set_bytes - before + subscribers.heap_bytes();
        self.pairs += 1;
        Some((id, if subscribers.len() == 1 { Transition::FirstOrLast } else { Transition::Other }))
    }

    /// `None` if the connection was not subscribed. The id means nothing any more after the last subscriber.
    pub fn unsubscribe(&mut self, id: TopicId, connection: ConnectionKey) -> Option<(Topic, Transition)> {
        let entry = self.topics.get_mut(id.0 as usize)?;
        let before = entry.subscribers.heap_bytes();
        if !entry.subscribers.remove(connection) {
            return None;
        }
        self.set_bytes = self.set_bytes - before + entry.subscribers.heap_bytes();
        self.pairs -= 1;
        if entry.subscribers.len() > 0 {
            return Some((entry.topic.clone(), Transition::Other));
        }
        let Entry { topic, .. } = self.topics.remove(id.0 as usize);
        if let Ok(place) = self.ids.find_entry(KeyedHash.hash_one(&topic), |one| *one == id) {
            place.remove();
        }
        // Places of topics keep their ids, so that only their index shrinks before the last topic has gone.
        if self.ids.capacity() > MAX_IDLE && self.ids.len() * 4 < self.ids.capacity() {
            let topics = &self.topics;
            self.ids.shrink_to(self.ids.len() * 2, |id| hash_of(topics, *id));
        }
        if self.topics.is_empty() && self.topics.capacity() > MAX_IDLE {
            *self = Self::default();
        }
        Some((topic, Transition::FirstOrLast))
    }

    pub fn subscribers(&self, topic: &Topic) -> impl Iterator<Item = ConnectionKey> {
        let entry = self.id(topic).and_then(|id| self.topics.get(id.0 as usize));
        entry.into_iter().flat_map(|entry| entry.subscribers.iter())
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn shrink(&mut self) {
        let topics = &self.topics;
        self.ids.shrink_to_fit(|id| hash_of(topics, *id));
        self.topics.shrink_to_fit();
        self.topics.iter_mut().for_each(|(_, entry)| entry.subscribers.shrink_to_fit());
        self.set_bytes = self.topics.iter().map(|(_, entry)| entry.subscribers.heap_bytes()).sum();
    }

    /// The topics with most subscribers, largest first.
    pub fn largest(&self, top: usize) -> Vec<(Topic, usize)> {
        let mut sizes: Vec<(&Topic, usize)> =
            self.topics.iter().map(|(_, entry)| (&entry.topic, entry.subscribers.len())).collect();
        let order =
            |one: &(&Topic, usize), other: &(&Topic, usize)| other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0));
        // Sorting all of very many would hold up the shard.
        if sizes.len() > top {
            sizes.select_nth_unstable_by(top, order);
            sizes.truncate(top);
        }
        sizes.sort_unstable_by(order);
        sizes.into_iter().map(|(topic, size)| (topic.clone(), size)).collect()
    }

    /// What the subscriptions take. In constant time.
    pub fn heap_bytes(&self) -> usize {
        table_bytes(self.ids.capacity(), size_of::<TopicId>())
            + self.topics.capacity() * size_of::<Entry>()
            + self.set_bytes
    }

    fn intern(&mut self, topic: &Topic) -> Option<TopicId> {
        if self.topics.len() == self.topics.capacity() {
            // By an eighth: twice the room would be half empty on average, and moving entries is cheap.
            self.topics.reserve_exact(self.topics.len() / 8 + MIN_GROWTH);
        }
        let entry = Entry { topic: topic.clone(), subscribers: LocalSubscribers::default() };
        // A shard would need 2^32 topics to run out of ids.
        let id = TopicId(u32::try_from(self.topics.insert(entry)).ok()?);
        let topics = &self.topics;
        self.ids.insert_unique(KeyedHash.hash_one(topic), id, |id| hash_of(topics, *id));
        Some(id)
    }
}

fn hash_of(topics: &Slab<Entry>, id: TopicId) -> u64 {
    topics.get(id.0 as usize).map_or(0, |entry| KeyedHash.hash_one(&entry.topic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BillId;

    fn bill(number: u64) -> Topic {
        Topic::Bill(BillId::new(number).expect("a valid number"))
    }

    #[test]
    fn the_first_and_the_last_subscriber_are_told_apart() {
        let mut subscriptions = LocalSubscriptions::default();
        let (one, two) = (ConnectionKey(1), ConnectionKey(2));
        let (id, transition) = subscriptions.subscribe(&bill(1), one).expect("it is new");
        assert_eq!(transition, Transition::FirstOrLast);
        assert_eq!(subscriptions.subscribe(&bill(1), one), None);
        assert_eq!(subscriptions.subscribe(&bill(1), two), Some((id, Transition::Other)));
        assert_eq!((subscriptions.id(&bill(1)), subscriptions.topic(id)), (Some(id), Some(&bill(1))));
        assert_eq!(subscriptions.unsubscribe(id, one), Some((bill(1), Transition::Other)));
        assert_eq!(subscriptions.unsubscribe(id, one), None);
        assert_eq!(subscriptions.id(&bill(2)), None);
        assert_eq!(subscriptions.subscribers(&bill(1)).collect::<Vec<_>>(), [two]);
        assert_eq!(subscriptions.unsubscribe(id, two), Some((bill(1), Transition::FirstOrLast)));
        assert_eq!(subscriptions.unsubscribe(id, two), None);
        assert_eq!((subscriptions.topic_count(), subscriptions.pairs), (0, 0));
    }

    #[test]
    fn memory_is_given_back() {
        let mut subscriptions = LocalSubscriptions::default();
        let key = |number: u64| ConnectionKey(u32::try_from(number).expect("small"));
        for number in 1..=5000 {
            subscriptions.subscribe(&bill(number), ConnectionKey(1));
            subscriptions.subscribe(&bill(1), key(number));
        }
        let counted: usize = subscriptions.topics.iter().map(|(_, entry)| entry.subscribers.heap_bytes()).sum();
        assert_eq!(subscriptions.set_bytes, counted);
        let first = subscriptions.id(&bill(1)).expect("it has subscribers");
        for number in 1..=5000 {
            subscriptions.unsubscribe(first, key(number));
            if let Some(id) = subscriptions.id(&bill(number)) {
                subscriptions.unsubscribe(id, ConnectionKey(1));
            }
        }
        assert!(subscriptions.heap_bytes() < 8 * 1024, "{}", subscriptions.heap_bytes());
        assert_eq!(subscriptions.set_bytes, 0);
    }
}
