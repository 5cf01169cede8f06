//! Publications waiting for a shard, by priority, bounded in bytes; never used for bookkeeping.
//!
//! Publishers reserve room on every shard a publication concerns and then push through the permits, so that it is queued at all of
//! them or at none; the shard takes. The lock covers moving pointers, nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::hub::connection_manager::ConnectionRef;
use crate::hub::topic::Topic;
use crate::sync::{Mutex, MutexGuard};
use crate::transport::encoded_message::EncodedMessage;
use crate::types::Priority;
use crate::utils::PriorityQueue;
use tokio::sync::Notify;

/// What an operation costs beside its payload: the entry itself and its targets.
const OVERHEAD_BYTES: usize = 128;

/// One publication on its way to the connections of one shard.
#[derive(Clone, Debug)]
pub struct Operation {
    pub receivers: Receivers,
    pub message: Arc<EncodedMessage>,
    pub priority: Priority,
    /// For the latency histogram.
    pub published: Instant,
}

/// Which of a shard's connections receive it.
#[derive(Clone, Debug)]
pub enum Receivers {
    /// Every open connection.
    All,
    /// These, as far as they are the shard's and still there.
    Connections(Arc<[ConnectionRef]>),
    /// Those that are subscribed when it is delivered.
    Topic(Topic),
}

#[derive(Debug)]
pub struct OperationQueue {
    waiting: Mutex<PriorityQueue<Operation>>,
    notify: Arc<Notify>,
}

/// Room for one message in one queue. Dropped without a push, it gives the room back.
#[must_use = "room that is not used is given back"]
#[derive(Debug)]
pub struct Permit<'queue> {
    queue: &'queue OperationQueue,
    /// 0 once it is used.
    cost: usize,
}

impl OperationQueue {
    /// `notify` wakes the shard whenever there is something to take.
    pub fn new(max_bytes: usize, notify: Arc<Notify>) -> Self {
        Self { waiting: Mutex::new(PriorityQueue::new(max_bytes)), notify }
    }

    /// Room for an operation with this message, which is reserved for the caller; `None` if the bound forbids it.
    pub fn reserve(&self, message: &EncodedMessage) -> Option<Permit<'_>> {
        let cost = message.payload().len() + OVERHEAD_BYTES;
        let fits = self.lock().reserve(cost);
        // Made only if it fits: a permit that is dropped gives room back.
        fits.then(|| Permit { queue: self, cost })
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
        self.waiting.lock()
    }
}

impl Permit<'_> {
    /// Queues an operation with the message the room was reserved for. Cannot fail.
    pub fn push(mut self, operation: Operation) {
        let cost = std::mem::take(&mut self.cost);
        self.queue.lock().push_reserved(operation.priority, cost, operation);
        self.queue.notify.notify_one();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.cost > 0 {
            self.queue.lock().release(self.cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(priority: Priority, text: &str) -> Operation {
        let message = EncodedMessage::text(text.into());
        Operation { receivers: Receivers::All, message, priority, published: Instant::now() }
    }

    fn push(queue: &OperationQueue, operation: Operation) -> bool {
        let Some(permit) = queue.reserve(&operation.message) else { return false };
        permit.push(operation);
        true
    }

    #[test]
    fn urgent_operations_are_taken_first_and_each_kind_in_order() {
        let queue = OperationQueue::new(1 << 20, Arc::default());
        for text in ["a", "b"] {
            assert!(push(&queue, operation(Priority::Normal, text)));
            assert!(push(&queue, operation(Priority::Immediate, &text.to_uppercase())));
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
        while push(&queue, operation(Priority::Normal, &"x".repeat(1000 - OVERHEAD_BYTES))) {
            accepted += 1;
        }
        assert_eq!(accepted, 10);
        assert!(queue.reserve(&EncodedMessage::text(Vec::new())).is_none());
        let mut taken = Vec::new();
        queue.take(1, &mut taken);
        assert!(queue.reserve(&EncodedMessage::text(Vec::new())).is_some());
    }

    #[test]
    fn reserved_room_is_exclusive_and_given_back_if_it_is_not_used() {
        let queue = OperationQueue::new(1000, Arc::default());
        let large = operation(Priority::Normal, &"x".repeat(800 - OVERHEAD_BYTES));
        let small = operation(Priority::Normal, &"x".repeat(300 - OVERHEAD_BYTES));
        let permit = queue.reserve(&large.message).expect("room");
        assert!(queue.reserve(&small.message).is_none(), "also while nothing waits yet");
        assert!(queue.is_empty());
        drop(permit);
        let first = queue.reserve(&small.message).expect("the room given back");
        let second = queue.reserve(&small.message).expect("room");
        assert!(queue.reserve(&large.message).is_none());
        second.push(small.clone());
        // `cleanup()` between a reservation and its push costs neither.
        assert_eq!(queue.clear(), 1);
        first.push(small);
        assert_eq!((queue.len(), queue.bytes()), (1, 300));
    }

    #[test]
    fn what_has_waited_too_long_is_discarded_and_counted() {
        let queue = OperationQueue::new(1 << 20, Arc::default());
        let minute = Duration::from_secs(60);
        for priority in [Priority::Normal, Priority::Immediate, Priority::Normal] {
            assert!(push(&queue, operation(priority, "a")));
        }
        let now = Instant::now();
        assert_eq!(queue.discard_older(now, minute), 0);
        assert_eq!(queue.discard_older(now + minute, minute), 3);
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn a_push_notifies_the_shard_whether_it_waits_already_or_not() {
        let notify = Arc::new(Notify::new());
        let queue = OperationQueue::new(1 << 20, notify.clone());
        assert!(push(&queue, operation(Priority::Normal, "a")));
        notify.notified().await;
        let waiter = tokio::spawn(async move { notify.notified().await });
        tokio::task::yield_now().await;
        assert!(push(&queue, operation(Priority::Normal, "b")));
        waiter.await.expect("no panic");
    }
}
