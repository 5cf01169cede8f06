//! Where topics that were forgotten begin anew: above every offset they ever had, without a record of each of them. Pure.
//!
//! Topics share a fixed number of buckets by their hash. A bucket remembers the highest offset of all topics of its own that were
//! forgotten; each of its topics without a record begins there. So an offset is never handed out twice, and a client's position
//! equals the beginning only if the topic has published nothing since.

use std::hash::{BuildHasher, Hash};

use rustc_hash::FxBuildHasher;

use crate::broker::position::Offset;

/// 32 KiB of offsets. The more buckets, the fewer topics share one, and the fewer clients have to reload because of a topic that
/// they do not follow.
const BUCKETS: usize = 4096;

#[derive(Debug)]
pub struct Floors {
    /// Empty until the first topic is forgotten.
    buckets: Box<[Offset]>,
    count: usize,
}

impl Default for Floors {
    fn default() -> Self {
        Self::new(BUCKETS)
    }
}

impl Floors {
    /// At least one bucket.
    pub fn new(count: usize) -> Self {
        Self { buckets: Box::default(), count: count.max(1) }
    }

    /// The offset that a topic without a record begins at: that of its first publication is the next one.
    pub fn get(&self, topic: &impl Hash) -> Offset {
        self.buckets.get(self.bucket(topic)).copied().unwrap_or(Offset::ZERO)
    }

    /// Keeps the offset of the newest publication of a topic whose record is dropped.
    pub fn raise(&mut self, topic: &impl Hash, top: Offset) {
        if self.buckets.is_empty() {
            self.buckets = vec![Offset::ZERO; self.count].into_boxed_slice();
        }
        let bucket = self.bucket(topic);
        if let Some(floor) = self.buckets.get_mut(bucket) {
            *floor = top.max(*floor);
        }
    }

    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    /// Without a random key: a peer that makes topics share a bucket causes reloads, and gains no data and no time.
    fn bucket(&self, topic: &impl Hash) -> usize {
        // The upper half of the product is the better mixed one.
        let hash = FxBuildHasher.hash_one(topic) >> 32;
        hash as usize % self.count
    }
}
