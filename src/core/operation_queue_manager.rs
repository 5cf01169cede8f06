//! Publishes waiting for a shard, by priority, bounded in bytes; never used for bookkeeping.
//!
//! Publishers push from any thread, the shard takes. The lock covers moving pointers, nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::core::connection_manager::ConnectionRef;
use crate::core::shard::Bell;
use crate::transport::prepared::Prepared;
use crate::types::{BillId, Priority};
use crate::utils::PriorityQueue;

/// What an operation costs beside its payload: the entry itself and its targets.
const OVERHEAD_BYTES: usize = 128;

/// One publish on its way to the connections of one shard.
#[derive(Clone, Debug)]
pub struct Operation {
    pub target: Target,
    pub message: Arc<Prepared>,
    pub priority: Priority,
    pub published: Instant,
}

/// Who of a shard's connections receives it.
#[derive(Clone, Debug)]
pub enum Target {
    Bill(BillId),
    Connections(Arc<[ConnectionRef]>),
    Everybody,
}

#[derive(Debug)]
pub struct OperationQueue {
    waiting: Mutex<PriorityQueue<Operation>>,
    bell: Arc<Bell>,
}

impl OperationQueue {
    /// `bell` is rung whenever there is something to take.
    pub fn new(max_bytes: usize, bell: Arc<Bell>) -> Self {
        Self { waiting: Mutex::new(PriorityQueue::new(max_bytes)), bell }
    }

    /// Whether an operation with this message would be accepted now.
    pub fn has_room(&self, message: &Prepared) -> bool {
        self.lock().has_room(Operation::cost(message))
    }

    /// `false` if the bound forbids it; the operation is then counted as refused and gone.
    pub fn push(&self, operation: Operation) -> bool {
        let cost = Operation::cost(&operation.message);
        let accepted = self.lock().push(operation.priority, cost, operation).is_ok();
        if accepted {
            self.bell.notify_one();
        }
        accepted
    }

    /// The next operations in the order they are to be carried out, at most `most`.
    pub fn take(&self, most: usize, into: &mut Vec<Operation>) {
        let mut waiting = self.lock();
        while into.len() < most {
            let Some(next) = waiting.pop() else { break };
            into.push(next);
        }
    }

    /// Discards what waits and returns how much it was.
    pub fn clear(&self) -> usize {
        let mut waiting = self.lock();
        let count = waiting.len();
        waiting.clear();
        count
    }

    /// Discards what has waited for `age` or longer and returns how much it was.
    pub fn discard_older(&self, now: Instant, age: Duration) -> usize {
        self.lock().discard_while(|waiting| now.saturating_duration_since(waiting.published) >= age)
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    fn lock(&self) -> MutexGuard<'_, PriorityQueue<Operation>> {
        // No code that can panic runs under the lock, so what it protects is whole even if a thread died.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    fn cost(message: &Prepared) -> usize {
        message.payload().len() + OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(priority: Priority, text: &str) -> Operation {
        Operation {
            target: Target::Everybody,
            message: Prepared::text(text.into()),
            priority,
            published: Instant::now(),
        }
    }

    #[test]
    fn urgent_operations_are_taken_first_and_each_kind_in_order() {
        let queue = OperationQueue::new(1 << 20, Arc::default());
        for text in ["a", "b"] {
            assert!(queue.push(operation(Priority::Normal, text)));
            assert!(queue.push(operation(Priority::Immediate, &text.to_uppercase())));
        }
        let mut taken = Vec::new();
        queue.take(10, &mut taken);
        let order: Vec<_> = taken.iter().map(|operation| operation.message.payload()).collect();
        assert_eq!(order, [b"A", b"B", b"a", b"b"]);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[test]
    fn the_bound_is_in_bytes() {
        let queue = OperationQueue::new(10_000, Arc::default());
        let mut accepted = 0;
        while queue.push(operation(Priority::Normal, &"x".repeat(1000 - OVERHEAD_BYTES))) {
            accepted += 1;
        }
        assert_eq!(accepted, 10);
        assert!(!queue.has_room(&Prepared::text(Vec::new())));
        let mut taken = Vec::new();
        queue.take(1, &mut taken);
        assert!(queue.has_room(&Prepared::text(Vec::new())));
    }

    #[test]
    fn what_has_waited_too_long_is_discarded_and_counted() {
        let queue = OperationQueue::new(1 << 20, Arc::default());
        let minute = Duration::from_secs(60);
        for priority in [Priority::Normal, Priority::Immediate, Priority::Normal] {
            assert!(queue.push(operation(priority, "a")));
        }
        let now = Instant::now();
        assert_eq!(queue.discard_older(now, minute), 0);
        assert_eq!(queue.discard_older(now + minute, minute), 3);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn the_bell_is_rung_by_a_push_before_or_after_somebody_waits_for_it() {
        let bell = Arc::new(Bell::new());
        let queue = OperationQueue::new(1 << 20, bell.clone());
        assert!(queue.push(operation(Priority::Normal, "a")));
        bell.notified().await;
        let waiter = tokio::spawn(async move { bell.notified().await });
        tokio::task::yield_now().await;
        assert!(queue.push(operation(Priority::Normal, "b")));
        waiter.await.expect("no panic");
    }
}
