//! How many connections have no user yet, and how many may have none.
//!
//! One counter per run, shared by its shards. A place is given back when its connection has a user, or has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub struct Anonymous {
    taken: Arc<AtomicUsize>,
}

/// A place among the connections without a user.
#[derive(Debug)]
pub struct AnonymousPlace(Arc<AtomicUsize>);

impl Anonymous {
    /// `None` if as many as `most` are taken.
    pub fn reserve(&self, most: usize) -> Option<AnonymousPlace> {
        let taken = |taken| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        Some(AnonymousPlace(self.taken.clone()))
    }

    pub fn count(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for AnonymousPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_are_given_than_there_are_and_each_comes_back_once() {
        let anonymous = Anonymous::default();
        let places: Vec<_> = std::iter::from_fn(|| anonymous.reserve(3)).collect();
        assert_eq!((places.len(), anonymous.count()), (3, 3));
        drop(places);
        assert_eq!(anonymous.count(), 0);
        assert!(anonymous.reserve(0).is_none());
    }

    #[test]
    fn threads_that_ask_together_never_get_more_than_there_are() {
        let anonymous = Anonymous::default();
        let given: usize = std::thread::scope(|scope| {
            let ask = || (0..1000).filter_map(|_| anonymous.reserve(100)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let places: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
            places.iter().map(Vec::len).sum()
        });
        assert_eq!((given, anonymous.count()), (100, 0));
    }
}
