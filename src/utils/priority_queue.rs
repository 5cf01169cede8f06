//! A queue with two priorities, bounded by what its items cost: urgent first, without starving the rest.
//!
//! For publishes waiting for a shard. Pure; the bound, the refusal and the order are all here.

use std::collections::VecDeque;

use crate::types::Priority;

/// After this many urgent items in a row a normal one is taken, if there is one.
pub const URGENT_IN_A_ROW: u32 = 16;

#[derive(Debug)]
pub struct PriorityQueue<T> {
    urgent: VecDeque<(usize, T)>,
    normal: VecDeque<(usize, T)>,
    bytes: usize,
    /// Room that was promised and is not used yet.
    reserved: usize,
    max_bytes: usize,
    urgent_in_a_row: u32,
    refused: u64,
}

/// The queue is full; the item comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<T> PriorityQueue<T> {
    /// Takes items until their costs add up to `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            urgent: VecDeque::new(),
            normal: VecDeque::new(),
            bytes: 0,
            reserved: 0,
            max_bytes,
            urgent_in_a_row: 0,
            refused: 0,
        }
    }

    /// Promises room for one item of this cost, or refuses and counts it. A queue in which nothing waits and nothing is
    /// promised takes any one item. Every promise ends with [`push_reserved`](Self::push_reserved) or
    /// [`release`](Self::release).
    pub fn reserve(&mut self, cost: usize) -> bool {
        let taken = self.bytes.saturating_add(self.reserved);
        let fits = (self.is_empty() && self.reserved == 0) || taken.saturating_add(cost) <= self.max_bytes;
        if fits {
            self.reserved = self.reserved.saturating_add(cost);
        } else {
            self.refused += 1;
        }
        fits
    }

    /// Gives promised room back.
    pub fn release(&mut self, cost: usize) {
        self.reserved = self.reserved.saturating_sub(cost);
    }

    /// Puts an item, whose room was promised, behind those of its priority.
    pub fn push_reserved(&mut self, priority: Priority, cost: usize, item: T) {
        self.release(cost);
        self.bytes += cost;
        match priority {
            Priority::Immediate => self.urgent.push_back((cost, item)),
            Priority::Normal => self.normal.push_back((cost, item)),
        }
    }

    /// Both in one.
    pub fn push(&mut self, priority: Priority, cost: usize, item: T) -> Result<(), Full<T>> {
        if !self.reserve(cost) {
            return Err(Full(item));
        }
        self.push_reserved(priority, cost, item);
        Ok(())
    }

    /// The next item: first in, first out within a priority.
    pub fn pop(&mut self) -> Option<T> {
        let is_normals_turn = self.urgent.is_empty() || self.urgent_in_a_row >= URGENT_IN_A_ROW;
        let (cost, item) = if is_normals_turn && !self.normal.is_empty() {
            self.urgent_in_a_row = 0;
            self.normal.pop_front()?
        } else {
            self.urgent_in_a_row = self.urgent_in_a_row.saturating_add(1);
            self.urgent.pop_front()?
        };
        self.bytes -= cost;
        if self.is_empty() {
            self.forget_room();
        }
        Some(item)
    }

    /// Discards, from the front of each priority, what `is_over` says and returns how much it was.
    pub fn discard_while(&mut self, is_over: impl Fn(&T) -> bool) -> usize {
        let mut discarded = 0;
        for lane in [&mut self.urgent, &mut self.normal] {
            while lane.front().is_some_and(|(_, item)| is_over(item)) {
                self.bytes -= lane.pop_front().map_or(0, |(cost, _)| cost);
                discarded += 1;
            }
        }
        discarded
    }

    pub fn len(&self) -> usize {
        self.urgent.len() + self.normal.len()
    }

    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.normal.is_empty()
    }

    /// What the waiting items cost together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many items were refused since the queue was made.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    pub fn clear(&mut self) {
        self.urgent = VecDeque::new();
        self.normal = VecDeque::new();
        self.bytes = 0;
        self.urgent_in_a_row = 0;
    }

    /// A burst must not keep its room for ever.
    fn forget_room(&mut self) {
        self.urgent_in_a_row = 0;
        for lane in [&mut self.urgent, &mut self.normal] {
            if lane.capacity() > 1024 {
                *lane = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urgent_items_come_first() {
        let mut queue = PriorityQueue::new(100);
        for (priority, item) in [(Priority::Normal, 1), (Priority::Immediate, 2), (Priority::Normal, 3)] {
            queue.push(priority, 1, item).expect("room");
        }
        assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), [2, 1, 3]);
    }

    #[test]
    fn the_bound_refuses_and_counts_but_one_item_always_fits() {
        let mut queue = PriorityQueue::new(10);
        assert_eq!(queue.push(Priority::Normal, 50, 'a'), Ok(()));
        assert_eq!(queue.push(Priority::Immediate, 1, 'b'), Err(Full('b')));
        assert_eq!((queue.refused(), queue.bytes(), queue.len()), (1, 50, 1));
        queue.pop();
        assert_eq!(queue.push(Priority::Normal, 5, 'c'), Ok(()));
        assert_eq!(queue.push(Priority::Normal, 5, 'd'), Ok(()));
        assert_eq!(queue.push(Priority::Normal, 1, 'e'), Err(Full('e')));
        queue.clear();
        assert_eq!((queue.bytes(), queue.is_empty()), (0, true));
    }

    #[test]
    fn normal_items_progress_under_an_endless_stream_of_urgent_ones() {
        let mut queue = PriorityQueue::new(usize::MAX);
        for item in 0..10 {
            queue.push(Priority::Normal, 1, item).expect("room");
        }
        let mut taken = 0;
        let mut normals = 0;
        while normals < 10 {
            queue.push(Priority::Immediate, 1, 1000).expect("room");
            normals += usize::from(queue.pop() < Some(1000));
            taken += 1;
            assert!(taken <= 10 * (URGENT_IN_A_ROW + 1), "starved");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_priority_keeps_its_order(steps in prop::collection::vec(any::<Option<bool>>(), 0..300)) {
            let mut queue = PriorityQueue::new(usize::MAX);
            let (mut pushed, mut popped) = (Vec::new(), Vec::new());
            for (item, step) in steps.iter().enumerate() {
                match step {
                    Some(is_urgent) => {
                        let priority = if *is_urgent { Priority::Immediate } else { Priority::Normal };
                        queue.push(priority, item, (priority, item)).expect("room");
                        pushed.push((priority, item));
                    }
                    None => popped.extend(queue.pop()),
                }
            }
            popped.extend(std::iter::from_fn(|| queue.pop()));
            prop_assert_eq!(queue.bytes(), 0);
            for priority in [Priority::Immediate, Priority::Normal] {
                let only = |list: &[(Priority, usize)]| {
                    list.iter().filter(|(other, _)| *other == priority).copied().collect::<Vec<_>>()
                };
                prop_assert_eq!(only(&pushed), only(&popped));
            }
        }

        #[test]
        fn no_normal_item_at_the_front_waits_for_more_urgent_ones_than_promised(
            steps in prop::collection::vec((any::<bool>(), 0..4_u8), 0..400),
        ) {
            let mut queue = PriorityQueue::new(usize::MAX);
            let mut urgent_while_normal_waits = 0;
            for (is_urgent, pops) in steps {
                let priority = if is_urgent { Priority::Immediate } else { Priority::Normal };
                queue.push(priority, 1, priority).expect("room");
                for _ in 0..pops {
                    let normal_waits = !queue.normal.is_empty();
                    match queue.pop() {
                        Some(Priority::Immediate) if normal_waits => urgent_while_normal_waits += 1,
                        _ => urgent_while_normal_waits = 0,
                    }
                    prop_assert!(urgent_while_normal_waits <= URGENT_IN_A_ROW);
                }
            }
        }

        #[test]
        fn the_bound_holds_whatever_comes(costs in prop::collection::vec((any::<bool>(), 0..50_usize), 0..200)) {
            let mut queue = PriorityQueue::new(100);
            let mut refused = 0;
            for (pops, cost) in costs {
                refused += u64::from(queue.push(Priority::Normal, cost, ()).is_err());
                prop_assert!(queue.bytes() <= 100);
                if pops {
                    queue.pop();
                }
            }
            prop_assert_eq!(queue.refused(), refused);
        }
    }
}
