//! Tells the tasks of one shard that it drains: what they wait for is given up.
//!
//! Set once by the shard's loop, awaited by its tasks on the same thread.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct StopSignal {
    is_set: AtomicBool,
    changed: Notify,
}

impl StopSignal {
    /// Wakes everything that waits. Setting it again changes nothing.
    pub fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// Ends when the signal is set, at once if it is.
    pub async fn wait(&self) {
        // Created before the look: a signal between the two is not missed.
        let changed = self.changed.notified();
        if !self.is_set() {
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn those_that_wait_and_those_that_come_later_are_both_released() {
        let signal = Arc::new(StopSignal::default());
        let waiting = tokio::spawn({
            let signal = signal.clone();
            async move { signal.wait().await }
        });
        tokio::task::yield_now().await;
        assert!(!signal.is_set());
        signal.set();
        waiting.await.expect("no panic");
        signal.wait().await;
        assert!(signal.is_set());
    }
}
