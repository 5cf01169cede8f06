//! The topics one connection is subscribed to: four without heap, a few as a list, more as a hash table.
//!
//! Owned by the connection's session on its shard's thread. Changes take constant time; there is no order.

use rustc_hash::FxHashSet;

use super::ordered_map::table_bytes;
use crate::hub::topic::TopicId;

/// Topics that take no heap. Nearly all connections follow no more.
const INLINE: usize = 4;

/// Up to so many are a list.
const LIST: usize = 16;

#[derive(Clone, Debug)]
pub struct Topics(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Inline {
        count: u8,
        topics: [u32; INLINE],
    },
    List(Box<[TopicId]>),
    #[allow(clippy::box_collection, reason = "a set in place would make every connection larger")]
    /// A shard chooses its ids, so their table needs no random key.
    Table(Box<FxHashSet<TopicId>>),
}

impl Default for Topics {
    fn default() -> Self {
        Self(Kind::Inline { count: 0, topics: [0; INLINE] })
    }
}

impl Topics {
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Inline { count, .. } => usize::from(*count),
            Kind::List(list) => list.len(),
            Kind::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, topic: TopicId) -> bool {
        match &self.0 {
            Kind::Table(table) => table.contains(&topic),
            _ => self.iter().any(|held| held == topic),
        }
    }

    /// `false` and no change if it is there.
    pub fn insert(&mut self, topic: TopicId) -> bool {
        if let Kind::Table(table) = &mut self.0 {
            return table.insert(topic);
        }
        if self.contains(topic) {
            return false;
        }
        let mut list = Vec::with_capacity(self.len() + 1);
        match &mut self.0 {
            Kind::Inline { count, topics } => {
                if let Some(free) = topics.get_mut(usize::from(*count)) {
                    *free = topic.0;
                    *count += 1;
                    return true;
                }
                list.extend(self.iter());
            }
            Kind::List(held) => list.extend_from_slice(held),
            Kind::Table(_) => {}
        }
        list.push(topic);
        self.0 = if list.len() > LIST {
            Kind::Table(Box::new(list.into_iter().collect()))
        } else {
            Kind::List(list.into_boxed_slice())
        };
        true
    }

    /// Whether it was there.
    pub fn remove(&mut self, topic: TopicId) -> bool {
        if let Kind::Table(table) = &mut self.0 {
            let was_there = table.remove(&topic);
            if table.len() <= LIST / 2 {
                self.0 = Kind::List(table.iter().copied().collect());
            } else if table.capacity() > 64 && table.len() * 4 < table.capacity() {
                table.shrink_to(table.len() * 2);
            }
            return was_there;
        }
        if !self.contains(topic) {
            return false;
        }
        let left: Vec<TopicId> = self.iter().filter(|held| *held != topic).collect();
        *self = if left.len() <= INLINE {
            let mut few = Self::default();
            left.into_iter().for_each(|topic| {
                few.insert(topic);
            });
            few
        } else {
            Self(Kind::List(left.into_boxed_slice()))
        };
        true
    }

    pub fn iter(&self) -> impl Iterator<Item = TopicId> {
        let (inline, list, table) = match &self.0 {
            Kind::Inline { count, topics } => (topics.get(..usize::from(*count)), None, None),
            Kind::List(list) => (None, Some(&**list), None),
            Kind::Table(table) => (None, None, Some(&**table)),
        };
        let inline = inline.unwrap_or_default().iter().map(|number| TopicId(*number));
        inline.chain(list.unwrap_or_default().iter().copied()).chain(table.into_iter().flatten().copied())
    }

    pub fn shrink_to_fit(&mut self) {
        if let Kind::Table(table) = &mut self.0 {
            table.shrink_to_fit();
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Kind::Inline { .. } => 0,
            Kind::List(list) => size_of_val(&**list),
            Kind::Table(table) => size_of_val(&**table) + table_bytes(table.capacity(), size_of::<TopicId>()),
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
        fn it_holds_what_a_set_would(changes in prop::collection::vec((1..40_u32, any::<bool>()), 0..300)) {
            let (mut topics, mut expected) = (Topics::default(), BTreeSet::new());
            for (number, comes) in changes {
                let topic = TopicId(number);
                if comes {
                    prop_assert_eq!(topics.insert(topic), expected.insert(topic));
                } else {
                    prop_assert_eq!(topics.remove(topic), expected.remove(&topic));
                }
                prop_assert_eq!(topics.iter().collect::<BTreeSet<_>>(), expected.clone());
                prop_assert_eq!((topics.len(), topics.iter().count()), (expected.len(), expected.len()));
                prop_assert_eq!(topics.contains(topic), comes);
            }
        }
    }

    #[test]
    fn four_topics_take_no_heap_and_a_few_exactly_their_size() {
        let mut topics = Topics::default();
        let mut bytes = Vec::new();
        for number in 1..=16 {
            topics.insert(TopicId(number));
            bytes.push(topics.heap_bytes());
        }
        assert_eq!(size_of::<Topics>(), 24);
        assert_eq!(bytes, [0, 0, 0, 0, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64]);
    }
}
