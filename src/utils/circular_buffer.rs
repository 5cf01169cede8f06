//! The newest so many values: what comes in when it is full pushes the oldest out.
//!
//! For samples and histories. Pure; an owner that shares one hides it behind a lock.

use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub struct CircularBuffer<T> {
    values: VecDeque<T>,
    capacity: usize,
}

impl<T> CircularBuffer<T> {
    /// Allocates as values come, not before.
    pub fn new(capacity: usize) -> Self {
        Self { values: VecDeque::new(), capacity }
    }

    /// Adds a value and returns the one it pushed out, which is the value itself if nothing can be kept.
    pub fn push(&mut self, value: T) -> Option<T> {
        if self.capacity == 0 {
            return Some(value);
        }
        let oldest = if self.values.len() == self.capacity { self.values.pop_front() } else { None };
        self.values.push_back(value);
        oldest
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.values.iter()
    }

    pub fn newest(&self) -> Option<&T> {
        self.values.back()
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes the capacity; the oldest beyond it go, and so does their room.
    pub fn resize_keep_newest(&mut self, capacity: usize) {
        self.values.drain(..self.values.len().saturating_sub(capacity));
        self.values.shrink_to(capacity);
        self.capacity = capacity;
    }

    /// Gives the room back too.
    pub fn clear(&mut self) {
        self.values = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_stay_and_the_oldest_come_out() {
        let mut buffer = CircularBuffer::new(3);
        let pushed_out: Vec<_> = (1..=5).filter_map(|value| buffer.push(value)).collect();
        assert_eq!(pushed_out, [1, 2]);
        assert_eq!(buffer.iter().copied().collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!((buffer.newest(), buffer.len()), (Some(&5), 3));
        buffer.clear();
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_new_capacity_keeps_the_newest() {
        let mut buffer = CircularBuffer::new(4);
        for value in 1..=6 {
            buffer.push(value);
        }
        buffer.resize_keep_newest(2);
        assert_eq!((buffer.iter().copied().collect::<Vec<_>>(), buffer.capacity()), (vec![5, 6], 2));
        assert_eq!(buffer.push(7), Some(5));
        buffer.resize_keep_newest(3);
        assert_eq!(buffer.push(8), None);
        assert_eq!(buffer.iter().copied().collect::<Vec<_>>(), [6, 7, 8]);
        buffer.resize_keep_newest(0);
        assert_eq!((buffer.len(), buffer.push(9)), (0, Some(9)));
    }

    #[test]
    fn without_capacity_nothing_is_kept() {
        let mut buffer = CircularBuffer::new(0);
        assert_eq!(buffer.push(1), Some(1));
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn it_holds_the_end_of_all_that_came(values in prop::collection::vec(any::<u8>(), 0..50), capacity in 0..20_usize) {
            let mut buffer = CircularBuffer::new(capacity);
            let mut all: Vec<u8> = values.iter().filter_map(|value| buffer.push(*value)).collect();
            prop_assert_eq!(buffer.len(), capacity.min(values.len()));
            all.extend(buffer.iter());
            prop_assert_eq!(all, values);
        }
    }
}
