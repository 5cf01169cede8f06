//! What is due when, for very many entries with the same delay: one queue instead of one timer each.
//!
//! Owned by a shard, one queue per purpose. Entries are never cancelled: whoever takes a due entry checks
//! whether it still means anything.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Deadlines<T> {
    epoch: Instant,
    /// Nanoseconds since the epoch: half the size of an `Instant`.
    entries: VecDeque<(u64, T)>,
}

impl<T> Deadlines<T> {
    /// Nothing is due before `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, entries: VecDeque::new() }
    }

    /// Entries come in order of their deadlines as long as the delay stays; one that would come early
    /// (the delay was lowered meanwhile) is put in its place.
    pub fn push(&mut self, now: Instant, delay: Duration, entry: T) {
        let since_epoch = now.saturating_duration_since(self.epoch).saturating_add(delay);
        let due = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        let at = self.entries.iter().rposition(|(earlier, _)| *earlier <= due).map_or(0, |last| last + 1);
        if at == self.entries.len() {
            self.entries.push_back((due, entry));
        } else {
            self.entries.insert(at, (due, entry));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.entries.front().map(|(due, _)| self.instant(*due))
    }

    /// The earliest entry if it is due, with the moment it was due at.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.next()? > now {
            return None;
        }
        let (due, entry) = self.entries.pop_front()?;
        // A queue that once held a burst must not keep its size for ever.
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some((self.instant(due), entry))
    }

    fn instant(&self, nanoseconds: u64) -> Instant {
        self.epoch + Duration::from_nanos(nanoseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn entries_come_out_in_the_order_of_their_deadlines_also_after_the_delay_was_lowered() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.push(start, 3 * SECOND, 'c');
        deadlines.push(start, 3 * SECOND, 'd');
        deadlines.push(start, SECOND, 'a');
        deadlines.push(start, 2 * SECOND, 'b');
        assert_eq!(deadlines.next(), Some(start + SECOND));
        let mut order = Vec::new();
        while let Some((_, entry)) = deadlines.pop_due(start + 3 * SECOND) {
            order.push(entry);
        }
        assert_eq!(order, ['a', 'b', 'c', 'd']);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.push(start, SECOND, ());
        assert!(deadlines.pop_due(start + SECOND / 2).is_none());
        assert_eq!(deadlines.pop_due(start + SECOND), Some((start + SECOND, ())));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_burst_leaves_no_capacity_behind() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        for entry in 0..10_000 {
            deadlines.push(start, SECOND, entry);
        }
        while deadlines.pop_due(start + SECOND).is_some() {}
        assert!(deadlines.entries.capacity() <= 64, "{}", deadlines.entries.capacity());
    }
}
