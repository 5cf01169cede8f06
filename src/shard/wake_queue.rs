//! Peers whose transport wakes from another thread: those of a bridge, and on Windows all.
//!
//! A waker puts its peer here and notifies the shard; the shard's next turn finds it. The lock covers one push or
//! one exchange of the list.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::sync::Mutex;
use crate::types::PeerRef;
use tokio::sync::Notify;

pub struct WakeQueue {
    waiting: Mutex<Vec<PeerRef>>,
    notify: Arc<Notify>,
}

/// Wakes the shard for one peer.
struct ConnectionWaker {
    queue: Arc<WakeQueue>,
    peer: PeerRef,
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.queue.waiting.lock().push(self.peer);
        // After the push: the shard looks once it is notified.
        self.queue.notify.notify_one();
    }
}

impl WakeQueue {
    pub fn new(notify: Arc<Notify>) -> Self {
        Self { waiting: Mutex::default(), notify }
    }

    pub fn waker(self: &Arc<Self>, peer: PeerRef) -> Waker {
        Waker::from(Arc::new(ConnectionWaker { queue: self.clone(), peer }))
    }

    /// The peers that were woken since this was last called, in order; one may be there several times.
    pub fn take(&self) -> Vec<PeerRef> {
        std::mem::take(&mut *self.waiting.lock())
    }
}
