//! The connections of one shard that are subscribed to one topic: a few without heap, more as a hash table.
//!
//! Part of the shard's subscriptions. Keys of connections are the shard's own, so their table needs no random key.

use rustc_hash::FxHashSet;

use super::ordered_map::table_bytes;
use crate::types::ConnectionKey;

/// As many as fit in two words with their count. There are many topics with few subscribers on one shard.
const INLINE: usize = 3;

#[derive(Debug)]
pub(super) enum LocalSubscribers {
    Few {
        count: u8,
        keys: [ConnectionKey; INLINE],
    },
    #[allow(clippy::box_collection, reason = "a set in place would make every topic larger")]
    Many(Box<FxHashSet<ConnectionKey>>),
}

impl Default for LocalSubscribers {
    fn default() -> Self {
        Self::Few { count: 0, keys: [ConnectionKey(0); INLINE] }
    }
}

impl LocalSubscribers {
    /// `false` and no change if it is there.
    pub fn insert(&mut self, key: ConnectionKey) -> bool {
        match self {
            Self::Many(set) => set.insert(key),
            Self::Few { count, keys } => {
                let (held, free) = keys.split_at_mut(usize::from(*count));
                if held.contains(&key) {
                    return false;
                }
                match free.first_mut() {
                    Some(place) => {
                        *place = key;
                        *count += 1;
                    }
                    None => *self = Self::Many(Box::new(held.iter().copied().chain([key]).collect())),
                }
                true
            }
        }
    }

    /// Whether it was there.
    pub fn remove(&mut self, key: ConnectionKey) -> bool {
        match self {
            Self::Few { count, keys } => {
                let held = &mut keys[..usize::from(*count)];
                let Some(place) = held.iter().position(|one| *one == key) else { return false };
                held.swap(place, held.len() - 1);
                *count -= 1;
                true
            }
            Self::Many(set) => {
                let was_there = set.remove(&key);
                // Not at the bound: one that comes and goes must not move all the others.
                if set.len() <= INLINE / 2 {
                    let mut few = Self::default();
                    set.iter().for_each(|key| {
                        few.insert(*key);
                    });
                    *self = few;
                } else if set.capacity() > 64 && set.len() * 4 < set.capacity() {
                    set.shrink_to(set.len() * 2);
                }
                was_there
            }
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Few { count, .. } => usize::from(*count),
            Self::Many(set) => set.len(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = ConnectionKey> {
        let (few, many) = match self {
            Self::Few { count, keys } => (&keys[..usize::from(*count)], None),
            Self::Many(set) => (&[][..], Some(&**set)),
        };
        few.iter().copied().chain(many.into_iter().flatten().copied())
    }

    pub fn shrink_to_fit(&mut self) {
        if let Self::Many(set) = self {
            set.shrink_to_fit();
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Many(set) => size_of_val(&**set) + table_bytes(set.capacity(), size_of::<ConnectionKey>()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_would(changes in prop::collection::vec((0..12_u32, any::<bool>()), 0..200)) {
            let (mut subscribers, mut expected) = (LocalSubscribers::default(), BTreeSet::new());
            for (key, comes) in changes {
                let key = ConnectionKey(key);
                if comes {
                    prop_assert_eq!(subscribers.insert(key), expected.insert(key));
                } else {
                    prop_assert_eq!(subscribers.remove(key), expected.remove(&key));
                }
                prop_assert_eq!(subscribers.iter().collect::<BTreeSet<_>>(), expected.clone());
                prop_assert_eq!((subscribers.len(), subscribers.iter().count()), (expected.len(), expected.len()));
            }
        }
    }

    #[test]
    fn a_few_take_no_heap() {
        let mut subscribers = LocalSubscribers::default();
        for key in 0..3 {
            subscribers.insert(ConnectionKey(key));
            assert_eq!(subscribers.heap_bytes(), 0);
        }
        assert_eq!(size_of::<LocalSubscribers>(), 16);
        subscribers.insert(ConnectionKey(3));
        assert!(subscribers.heap_bytes() > 0);
    }
}
