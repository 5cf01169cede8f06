//! How many there may be of something at once: connections without a user, pending handshakes of a shard.
//!
//! Shared by the threads or tasks that ask. A slot gives itself back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Clone, Debug)]
pub struct Limit {
    most: usize,
    taken: Arc<AtomicUsize>,
}

/// One of the places of a [`Limit`].
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Limit {
    pub fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// `None` if all places are taken.
    pub fn take(&self) -> Option<Slot> {
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Slot(self.taken.clone()))
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_slots_are_given_than_there_are_and_each_comes_back_once() {
        let limit = Limit::new(3);
        let slots: Vec<_> = std::iter::from_fn(|| limit.take()).collect();
        assert_eq!((slots.len(), limit.taken()), (3, 3));
        drop(slots);
        assert_eq!(limit.taken(), 0);
        assert!(Limit::new(0).take().is_none());
    }

    #[test]
    fn threads_that_ask_together_never_get_more_than_there_are() {
        let limit = Limit::new(100);
        let given: usize = std::thread::scope(|scope| {
            let ask = || (0..1000).filter_map(|_| limit.take()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let slots: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().ok()).collect();
            slots.iter().map(Vec::len).sum()
        });
        assert_eq!((given, limit.taken()), (100, 0));
    }
}
