//! A map that remembers the order in which its keys came, with changes in constant time and no waste for a few keys.
//!
//! A few entries are a list in their order. More are a hash table in which each entry carries a number that grows;
//! a caller that needs the order sorts a copy, outside of any lock. Pure; owned by the routing table.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::keyed_hash::KeyedHash;

/// Up to so many entries are a list: comparing them one by one is faster than hashing.
const LIST: usize = 16;

/// A table becomes a list again when this few are left.
const LIST_AGAIN: usize = 8;

#[derive(Debug)]
pub(super) enum OrderedMap<K, V> {
    One(K, V),
    /// In their order; also none.
    List(Box<[(K, V)]>),
    Table(Box<Table<K, V>>),
}

#[derive(Debug)]
pub(super) struct Table<K, V> {
    slots: HashMap<K, Slot<V>, KeyedHash>,
    /// The number of the next key to come.
    next: u32,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    number: u32,
}

/// The keys of a map at one moment, still to be sorted.
pub(super) struct Keys<K>(Vec<(u32, K)>);

impl<K> Keys<K> {
    pub fn in_order(self) -> Vec<K> {
        let mut keys = self.0;
        // A list has no numbers to sort by; the sort is stable.
        keys.sort_by_key(|(number, _)| *number);
        keys.into_iter().map(|(_, key)| key).collect()
    }
}

impl<K> Default for Keys<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self::List(Box::default())
    }
}

impl<K: Clone + Eq + Hash, V> OrderedMap<K, V> {
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self {
            Self::One(held, value) => (held == key).then_some(value),
            Self::List(list) => list.iter_mut().find(|(held, _)| held == key).map(|(_, value)| value),
            Self::Table(table) => table.slots.get_mut(key).map(|slot| &mut slot.value),
        }
    }

    /// Puts a key that is not there behind all others; `false` and no change if it is there.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        if let Self::Table(table) = self {
            return table.insert(key, value);
        }
        if self.get_mut(&key).is_some() {
            return false;
        }
        *self = match std::mem::take(self) {
            Self::List(list) if list.is_empty() => Self::One(key, value),
            short => {
                let mut list = short.into_list();
                // Exactly as large as needed: most lists never grow again.
                list.reserve_exact(1);
                list.push((key, value));
                Self::from_list(list)
            }
        };
        true
    }

    /// Whether the key was there.
    pub fn remove(&mut self, key: &K) -> bool {
        match self {
            Self::One(held, _) => {
                let is_it = held == key;
                if is_it {
                    *self = Self::default();
                }
                is_it
            }
            Self::List(list) => {
                let Some(place) = list.iter().position(|(held, _)| held == key) else { return false };
                let mut list = std::mem::take(list).into_vec();
                list.remove(place);
                *self = Self::from_list(list);
                true
            }
            Self::Table(table) => {
                let was_there = table.slots.remove(key).is_some();
                if table.slots.len() <= LIST_AGAIN {
                    *self = Self::from_list(table.take_list());
                } else {
                    give_back(&mut table.slots);
                }
                was_there
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Self::List(list) if list.is_empty())
    }

    pub fn keys(&self) -> Keys<K> {
        Keys(match self {
            Self::One(key, _) => vec![(0, key.clone())],
            Self::List(list) => list.iter().map(|(key, _)| (0, key.clone())).collect(),
            Self::Table(table) => table.slots.iter().map(|(key, slot)| (slot.number, key.clone())).collect(),
        })
    }

    /// What the map takes beside itself; what keys own is counted elsewhere. In constant time.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::One(..) => 0,
            Self::List(list) => size_of_val(&**list),
            Self::Table(table) => {
                size_of::<Table<K, V>>() + table_bytes(table.slots.capacity(), size_of::<(K, Slot<V>)>())
            }
        }
    }

    pub fn shrink(&mut self) {
        if let Self::Table(table) = self {
            table.slots.shrink_to_fit();
        }
    }

    fn into_list(self) -> Vec<(K, V)> {
        match self {
            Self::One(key, value) => vec![(key, value)],
            Self::List(list) => list.into_vec(),
            Self::Table(mut table) => table.take_list(),
        }
    }

    fn from_list(mut list: Vec<(K, V)>) -> Self {
        if list.len() > LIST {
            let mut table = Table { slots: HashMap::default(), next: 0 };
            for (key, value) in list {
                table.insert(key, value);
            }
            return Self::Table(Box::new(table));
        }
        match list.len() {
            1 => list.pop().map_or_else(Self::default, |(key, value)| Self::One(key, value)),
            _ => Self::List(list.into_boxed_slice()),
        }
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    fn insert(&mut self, key: K, value: V) -> bool {
        if self.next == u32::MAX {
            self.renumber();
        }
        let Entry::Vacant(slot) = self.slots.entry(key) else { return false };
        slot.insert(Slot { value, number: self.next });
        self.next += 1;
        true
    }

    fn take_list(&mut self) -> Vec<(K, V)> {
        let mut entries: Vec<_> = self.slots.drain().collect();
        entries.sort_unstable_by_key(|(_, slot)| slot.number);
        entries.into_iter().map(|(key, slot)| (key, slot.value)).collect()
    }

    /// The counter is exhausted after 2^32 keys: numbers the present keys again.
    fn renumber(&mut self) {
        let mut slots: Vec<_> = self.slots.values_mut().collect();
        slots.sort_unstable_by_key(|slot| slot.number);
        self.next = 0;
        for slot in slots {
            slot.number = self.next;
            self.next += 1;
        }
    }
}

/// A table that was once large must not stay so. Halving it costs as much as the removals before it, on average a constant.
pub(super) fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V, KeyedHash>) {
    // An empty table keeps no more than the smallest: the first entry of all comes and goes often.
    let least = if table.is_empty() { 3 } else { 16 };
    if table.capacity() > least && table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2);
    }
}

/// About what a hash table with room for `capacity` entries of `entry` bytes takes of the heap.
pub(super) fn table_bytes(capacity: usize, entry: usize) -> usize {
    // Seven of eight buckets may be filled; each has a control byte beside its entry.
    (capacity * 8).div_ceil(7) * (entry + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(map: &OrderedMap<u64, u32>) -> Vec<u64> {
        map.keys().in_order()
    }

    proptest! {
        #[test]
        fn keys_keep_their_order_whatever_comes_and_goes(changes in prop::collection::vec((0..40_u64, any::<bool>()), 0..400)) {
            let mut map = OrderedMap::default();
            let mut expected: Vec<u64> = Vec::new();
            for (key, comes) in changes {
                let is_there = expected.contains(&key);
                if comes {
                    prop_assert_eq!(map.insert(key, 1), !is_there);
                    if !is_there {
                        expected.push(key);
                    }
                } else {
                    prop_assert_eq!(map.remove(&key), is_there);
                    expected.retain(|held| *held != key);
                }
                prop_assert_eq!(order(&map), expected.clone());
                prop_assert_eq!(map.is_empty(), expected.is_empty());
                prop_assert_eq!(map.get_mut(&key).is_some(), comes);
            }
        }
    }

    #[test]
    fn numbers_that_run_out_begin_anew() {
        let mut map = OrderedMap::default();
        for key in 0..20 {
            map.insert(key, 0);
        }
        map.remove(&3);
        let OrderedMap::Table(table) = &mut map else { panic!("20 entries are a table") };
        table.next = u32::MAX;
        map.insert(3, 0);
        map.insert(20, 0);
        assert_eq!(order(&map), (0..20).filter(|key| *key != 3).chain([3, 20]).collect::<Vec<_>>());
    }

    #[test]
    fn a_few_entries_take_exactly_their_size_and_one_takes_nothing() {
        let mut map = OrderedMap::<u64, u32>::default();
        assert_eq!((map.heap_bytes(), size_of_val(&map)), (0, 24));
        map.insert(1, 0);
        assert_eq!(map.heap_bytes(), 0);
        for key in 2..=16 {
            map.insert(key, 0);
            assert_eq!(map.heap_bytes(), key as usize * 16);
        }
        for key in 17..=4000 {
            map.insert(key, 0);
        }
        for key in 2..=4000 {
            map.remove(&key);
        }
        assert_eq!((map.heap_bytes(), order(&map)), (0, vec![1]));
    }
}
