//! Deadlines of very many entries with the same delay: one queue instead of one timer each. Pure.
//!
//! Owned by a shard, one queue per purpose. Entries are never cancelled: the code that takes a due entry checks
//! whether it still means anything.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Deadlines<T> {
    epoch: Instant,
    /// Nanoseconds since the epoch: half the size of an `Instant`. In order.
    entries: VecDeque<(u64, T)>,
    /// Entries that are due before one that was added earlier, as when the delay was lowered.
    early: BinaryHeap<Reverse<Early<T>>>,
    /// Keeps early entries with the same deadline in their order.
    next_number: u64,
}

#[derive(Debug)]
struct Early<T> {
    due: u64,
    number: u64,
    entry: T,
}

impl<T> Early<T> {
    fn order(&self) -> (u64, u64) {
        (self.due, self.number)
    }
}

impl<T> PartialEq for Early<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Early<T> {}

impl<T> PartialOrd for Early<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Early<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl<T> Deadlines<T> {
    /// Nothing is due before `epoch`.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, entries: VecDeque::new(), early: BinaryHeap::new(), next_number: 0 }
    }

    /// In constant time while the delay stays the same, in logarithmic time after it was lowered.
    pub fn push(&mut self, now: Instant, delay: Duration, entry: T) {
        let since_epoch = now.saturating_duration_since(self.epoch).saturating_add(delay);
        let due = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
        if self.entries.back().is_none_or(|(last, _)| *last <= due) {
            self.entries.push_back((due, entry));
        } else {
            let number = self.next_number;
            self.next_number += 1;
            self.early.push(Reverse(Early { due, number, entry }));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        let in_order = self.entries.front().map(|(due, _)| *due);
        let early = self.early.peek().map(|Reverse(early)| early.due);
        [in_order, early].into_iter().flatten().min().map(|due| self.instant(due))
    }

    /// The earliest entry if it is due, with the moment it was due at.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        let next = self.next().filter(|next| *next <= now)?;
        let in_order = self.entries.front().is_some_and(|(due, _)| self.instant(*due) == next);
        let entry = match in_order {
            true => self.entries.pop_front()?.1,
            false => self.early.pop()?.0.entry,
        };
        self.shrink();
        Some((next, entry))
    }

    /// Removes every entry.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.early.clear();
        self.shrink();
    }

    /// A queue that once held a burst must not keep its size.
    fn shrink(&mut self) {
        if self.entries.capacity() > 64 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        if self.early.capacity() > 64 && self.early.len() * 4 < self.early.capacity() {
            self.early.shrink_to(self.early.len() * 2);
        }
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
    fn a_lowered_delay_costs_no_more_with_many_old_deadlines_than_with_none() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        for entry in 0..80_000 {
            deadlines.push(start, 100 * SECOND, entry);
        }
        for entry in 0..1000 {
            deadlines.push(start, SECOND, entry);
        }
        // None of the old ones was touched.
        assert_eq!((deadlines.entries.len(), deadlines.early.len()), (80_000, 1000));
        for entry in 0..1000 {
            assert_eq!(deadlines.pop_due(start + SECOND), Some((start + SECOND, entry)));
        }
        assert_eq!(deadlines.pop_due(start + SECOND), None);
        deadlines.clear();
        assert_eq!(deadlines.next(), None);
        assert!(deadlines.entries.capacity() <= 64 && deadlines.early.capacity() <= 64);
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
