//! The hash of tables whose keys peers choose.
//!
//! Keyed at random once per process, so that no peer can choose keys that collide. A table that uses it stores no key of
//! its own, which matters where there is one small table per topic or per connection. Used on any thread.

use std::hash::{BuildHasher, DefaultHasher, RandomState};
use std::sync::LazyLock;

/// Takes no room in a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyedHash;

impl BuildHasher for KeyedHash {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        KEYS.build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_have_equal_hashes_in_every_table() {
        assert_eq!(KeyedHash.hash_one(7_u64), KeyedHash.hash_one(7_u64));
        assert_ne!(KeyedHash.hash_one(7_u64), KeyedHash.hash_one(8_u64));
        assert_eq!(size_of::<KeyedHash>(), 0);
    }
}
