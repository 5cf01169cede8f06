//! What other threads hold of a shard. Dropping it without a [`Command::Drain`] ends the shard at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{Notify, mpsc};
use tracing::warn;

use crate::hub::operation_queue_manager::OperationQueue;
use crate::shard::command::{Command, ShardInbox};
use crate::shard::probe::{ShardInspection, Snapshot, SnapshotSlot};
use crate::types::ShardId;

pub struct ShardHandle {
    pub id: ShardId,
    commands: mpsc::UnboundedSender<Command>,
    notify: Arc<Notify>,
    pub operations: Arc<OperationQueue>,
    pub snapshots: Arc<SnapshotSlot>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ShardHandle {
    pub fn new(
        id: ShardId,
        commands: mpsc::UnboundedSender<Command>,
        notify: Arc<Notify>,
        operations: Arc<OperationQueue>,
        snapshots: Arc<SnapshotSlot>,
        thread: JoinHandle<()>,
    ) -> Self {
        Self { id, commands, notify, operations, snapshots, thread: Mutex::new(Some(thread)) }
    }

    /// Reaches the shard, but does not keep it running.
    pub fn inbox(&self) -> ShardInbox {
        ShardInbox::new(self.commands.downgrade(), self.notify.clone())
    }

    /// `false` if the shard has ended.
    pub fn send(&self, command: Command) -> bool {
        let is_sent = self.commands.send(command).is_ok();
        self.notify.notify_one();
        is_sent
    }

    /// What is known of the shard without asking it.
    pub fn inspect(&self, now: Instant) -> (ShardInspection, Snapshot) {
        let snapshot = self.snapshots.snapshot();
        let shard = ShardInspection {
            id: self.id,
            connections: snapshot.connections,
            topics: snapshot.topics,
            queued_operations: self.operations.len(),
            queued_bytes: self.operations.bytes(),
            pending_bytes: snapshot.pending_bytes,
            stalled_for: self.snapshots.stalled_for(now),
        };
        (shard, snapshot)
    }

    /// Waits for the thread to end. Of several callers, all wait.
    pub fn join(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            warn!(shard = self.id.0, "a shard ended by a panic");
        }
    }
}

impl Drop for ShardHandle {
    fn drop(&mut self) {
        // The inbox closes with the last sender, which the shard notices when it looks.
        let (closed, _) = mpsc::unbounded_channel();
        self.commands = closed;
        self.notify.notify_one();
    }
}
