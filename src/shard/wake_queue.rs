//! Connections whose transport wakes from another thread: those of a bridge, and on Windows all.
//!
//! A waker puts its connection here and rings the shard's bell; the shard's next turn finds it. The lock covers one push or
//! one exchange of the list.

use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::shard::event_loop::Bell;
use crate::sync::Mutex;
use crate::types::{ConnectionKey, ConnectionNumber};

pub struct WakeQueue {
    waiting: Mutex<Vec<(ConnectionKey, ConnectionNumber)>>,
    bell: Arc<Bell>,
}

/// Wakes one connection.
struct ConnectionWaker {
    queue: Arc<WakeQueue>,
    connection: (ConnectionKey, ConnectionNumber),
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.queue.waiting.lock().push(self.connection);
        // After the push: the shard looks once it hears the bell.
        self.queue.bell.notify_one();
    }
}

impl WakeQueue {
    pub fn new(bell: Arc<Bell>) -> Self {
        Self { waiting: Mutex::default(), bell }
    }

    pub fn waker(self: &Arc<Self>, key: ConnectionKey, number: ConnectionNumber) -> Waker {
        Waker::from(Arc::new(ConnectionWaker { queue: self.clone(), connection: (key, number) }))
    }

    /// Those who were woken since this was last called, in order; one may be there several times.
    pub fn take(&self) -> Vec<(ConnectionKey, ConnectionNumber)> {
        std::mem::take(&mut *self.waiting.lock())
    }
}
