//! Deadlines of very many entries with the same delay: one queue instead of one timer each. Pure.
//!
//! Owned by a shard, one queue per purpose. Entries are never cancelled: the code that takes a due entry checks
//! whether it still means anything.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// A time on the clock of one shard: nanoseconds since it began. Half the size of an `Instant`, and compared in one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

#[derive(Debug)]
pub struct Deadlines<T> {
    /// In order.
    entries: VecDeque<(Moment, T)>,
    /// Entries that are due before one that was added earlier, as when the delay was lowered.
    early: BinaryHeap<Reverse<Early<T>>>,
    /// Keeps early entries with the same deadline in their order.
    next_number: u64,
}

#[derive(Debug)]
struct Early<T> {
    due: Moment,
    number: u64,
    entry: T,
}

impl<T> Early<T> {
    fn order(&self) -> (Moment, u64) {
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

impl Moment {
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Milliseconds since the shard began; wraps after 49 days, so only differences mean anything.
    pub fn millis(self) -> u32 {
        // Truncation is the wrapping.
        (self.0 / 1_000_000) as u32
    }

    /// Zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl<T> Default for Deadlines<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), early: BinaryHeap::new(), next_number: 0 }
    }
}

impl<T> Deadlines<T> {
    /// In constant time while the delay stays the same, in logarithmic time after it was lowered.
    pub fn push(&mut self, due: Moment, entry: T) {
        if self.entries.back().is_none_or(|(last, _)| *last <= due) {
            self.entries.push_back((due, entry));
        } else {
            let number = self.next_number;
            self.next_number += 1;
            self.early.push(Reverse(Early { due, number, entry }));
        }
    }

    pub fn next(&self) -> Option<Moment> {
        let in_order = self.entries.front().map(|(due, _)| *due);
        match self.early.peek() {
            Some(Reverse(early)) => Some(in_order.map_or(early.due, |due| due.min(early.due))),
            None => in_order,
        }
    }

    /// The earliest entry if it is due, with the moment it was due at.
    pub fn pop_due(&mut self, now: Moment) -> Option<(Moment, T)> {
        let next = self.next().filter(|next| *next <= now)?;
        let in_order = self.entries.front().is_some_and(|(due, _)| *due == next);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Moment = Moment(17);

    fn after(seconds: u32) -> Moment {
        START.after(seconds * SECOND)
    }

    #[test]
    fn entries_are_taken_in_the_order_of_their_deadlines_also_after_the_delay_was_lowered() {
        let mut deadlines = Deadlines::default();
        for (seconds, entry) in [(3, 'c'), (3, 'd'), (1, 'a'), (2, 'b')] {
            deadlines.push(after(seconds), entry);
        }
        assert_eq!(deadlines.next(), Some(after(1)));
        let mut order = Vec::new();
        while let Some((_, entry)) = deadlines.pop_due(after(3)) {
            order.push(entry);
        }
        assert_eq!(order, ['a', 'b', 'c', 'd']);
    }

    #[test]
    fn a_lowered_delay_costs_no_more_with_many_old_deadlines_than_with_none() {
        let mut deadlines = Deadlines::default();
        for entry in 0..80_000 {
            deadlines.push(after(100), entry);
        }
        for entry in 0..1000 {
            deadlines.push(after(1), entry);
        }
        // None of the old ones was touched.
        assert_eq!((deadlines.entries.len(), deadlines.early.len()), (80_000, 1000));
        for entry in 0..1000 {
            assert_eq!(deadlines.pop_due(after(1)), Some((after(1), entry)));
        }
        assert_eq!(deadlines.pop_due(after(1)), None);
        deadlines.clear();
        assert_eq!(deadlines.next(), None);
        assert!(deadlines.entries.capacity() <= 64 && deadlines.early.capacity() <= 64);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut deadlines = Deadlines::default();
        deadlines.push(after(1), ());
        assert!(deadlines.pop_due(START.after(SECOND / 2)).is_none());
        assert_eq!(deadlines.pop_due(after(1)), Some((after(1), ())));
        assert_eq!(deadlines.next(), None);
        assert_eq!((after(3).since(after(1)), after(1).since(after(3))), (2 * SECOND, Duration::ZERO));
    }

    #[test]
    fn a_burst_leaves_no_capacity_behind() {
        let mut deadlines = Deadlines::default();
        for entry in 0..10_000 {
            deadlines.push(after(1), entry);
        }
        while deadlines.pop_due(after(1)).is_some() {}
        assert!(deadlines.entries.capacity() <= 64, "{}", deadlines.entries.capacity());
    }
}
