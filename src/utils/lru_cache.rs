//! A bounded cache whose entries also grow old: the least recently used goes first, the too old are as good as gone.
//!
//! For the dedupe of publishes, look-ups and users who left. Pure: time comes in as milliseconds of the caller's
//! own clock.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroUsize;

pub struct LruCache<K: Hash + Eq, V> {
    entries: lru::LruCache<K, Entry<V>>,
}

struct Entry<V> {
    value: V,
    since: u64,
}

impl<K: Hash + Eq, V> LruCache<K, V> {
    /// Holds `capacity` entries, at least one. Allocates as they come.
    pub fn new(capacity: usize) -> Self {
        let mut entries = lru::LruCache::unbounded();
        entries.resize(at_least_one(capacity));
        Self { entries }
    }

    /// The value, if it was put less than `max_age` ago. Makes it the most recently used; its age stays.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q, now: u64, max_age: u64) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entries.get(key)?;
        (now.saturating_sub(entry.since) < max_age).then_some(&entry.value)
    }

    /// Adds or replaces a value, which is `0` old at `now`.
    pub fn put(&mut self, key: K, value: V, now: u64) {
        self.entries.put(key, Entry { value, since: now });
    }

    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.entries.pop(key).map(|entry| entry.value)
    }

    /// Drops every entry put `max_age` ago or earlier and returns how many there were.
    pub fn evict_older_than(&mut self, now: u64, max_age: u64) -> usize
    where
        K: Clone,
    {
        let is_old = |entry: &Entry<V>| now.saturating_sub(entry.since) >= max_age;
        let old: Vec<K> = self.entries.iter().filter(|(_, entry)| is_old(entry)).map(|(key, _)| key.clone()).collect();
        for key in &old {
            self.entries.pop(key);
        }
        old.len()
    }

    /// Changes the capacity; the least recently used beyond it go.
    pub fn resize(&mut self, capacity: usize) {
        self.entries.resize(at_least_one(capacity));
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.entries.cap().get()
    }

    /// Gives the room back too.
    pub fn clear(&mut self) {
        *self = Self::new(self.capacity());
    }

    /// About what the entries cost, without what keys and values own elsewhere.
    pub fn heap_bytes(&self) -> usize {
        // A node with its two links, and a slot of the table with its control byte.
        const LINKS: usize = 4 * size_of::<usize>() + 1;
        self.len() * (size_of::<K>() + size_of::<Entry<V>>() + LINKS)
    }
}

impl<K: Hash + Eq, V> fmt::Debug for LruCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LruCache").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

fn at_least_one(capacity: usize) -> NonZeroUsize {
    NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = LruCache::new(2);
        cache.put("a", 1, 0);
        cache.put("b", 2, 0);
        assert_eq!(cache.get("a", 0, 10), Some(&1));
        cache.put("c", 3, 0);
        assert_eq!(cache.get("b", 0, 10), None);
        assert_eq!(cache.get("a", 0, 10), Some(&1));
        cache.resize(1);
        assert_eq!((cache.len(), cache.get("a", 0, 10)), (1, Some(&1)));
    }

    #[test]
    fn an_entry_ages_from_when_it_was_put_however_often_it_is_used() {
        let mut cache = LruCache::new(2);
        cache.put("a", 1, 100);
        assert_eq!(cache.get("a", 109, 10), Some(&1));
        assert_eq!(cache.get("a", 110, 10), None);
        cache.put("a", 1, 110);
        assert_eq!(cache.get("a", 119, 10), Some(&1));
    }

    #[test]
    fn what_is_cleared_costs_nothing_and_the_capacity_stays() {
        let mut cache = LruCache::new(3);
        for key in 0..5_u64 {
            cache.put(key, (), 0);
        }
        assert!(cache.heap_bytes() >= 3 * (size_of::<u64>() + size_of::<u64>()));
        cache.clear();
        assert_eq!((cache.len(), cache.heap_bytes(), cache.capacity()), (0, 0, 3));
        cache.resize(0);
        cache.put(1, (), 0);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_old() {
        let mut cache = LruCache::new(2);
        cache.put("a", 1, 100);
        assert_eq!(cache.get("a", 50, 10), Some(&1));
        assert_eq!(cache.evict_older_than(50, 10), 0);
        assert_eq!(cache.get("a", 100, 0), None);
    }

    #[test]
    fn the_old_are_evicted_and_counted() {
        let mut cache = LruCache::new(10);
        for (key, since) in [("a", 0), ("b", 5), ("c", 6)] {
            cache.put(key, (), since);
        }
        assert_eq!(cache.evict_older_than(10, 5), 2);
        assert_eq!(cache.len(), 1);
        assert!(cache.remove("c").is_some());
        assert!(cache.is_empty());
    }
}
