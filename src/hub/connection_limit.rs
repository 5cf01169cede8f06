//! How many connections the service may have (`maxConnections`), counted over all shards and however they came.
//!
//! Shared by the shards of a run. A handshake takes a place before it asks the application anything, so that those under way
//! cannot pass the limit together; the connection it becomes keeps the place until its socket has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What happens when a user opens one connection more than `MAX_CONNECTIONS_PER_USER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// The new one is refused.
    #[default]
    Refuse,
    /// The user's oldest is closed, once the new one has passed every other check.
    CloseOldest,
}

impl ConnectionLimit {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "refuse" => Some(Self::Refuse),
            "close-oldest" => Some(Self::CloseOldest),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct ConnectionPlaces {
    limit: usize,
    taken: AtomicUsize,
}

/// A place of a handshake under way. Dropping it gives it back.
#[derive(Debug)]
pub struct ConnectionPlace(Option<Arc<ConnectionPlaces>>);

impl ConnectionPlaces {
    /// `None`: any number.
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit: limit.unwrap_or(usize::MAX), taken: AtomicUsize::new(0) }
    }

    /// `None` if all places are taken.
    pub fn take(self: &Arc<Self>) -> Option<ConnectionPlace> {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        let is_taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        is_taken.then(|| ConnectionPlace(Some(self.clone())))
    }

    /// The sockets of so many connections have gone.
    pub fn give_back(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

impl ConnectionPlace {
    /// The handshake has become a connection: its shard gives the place back.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        if let Some(places) = &self.0 {
            places.give_back(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_the_limit_says() {
        let places = Arc::new(ConnectionPlaces::new(Some(2)));
        let first = places.take().unwrap();
        places.take().unwrap().keep();
        assert!(places.take().is_none());
        drop(first);
        let third = places.take().unwrap();
        assert!(places.take().is_none());
        places.give_back(1);
        assert!(places.take().is_some());
        drop(third);
    }

    #[test]
    fn without_a_limit_there_is_always_one() {
        let places = Arc::new(ConnectionPlaces::new(None));
        (0..1000).for_each(|_| places.take().unwrap().keep());
        places.give_back(1000);
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
    }
}
