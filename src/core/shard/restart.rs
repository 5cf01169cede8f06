//! What becomes of a shard whose loop panics, past every boundary inside: its peers are told to come back, and a new
//! shard takes its place, with the same inbox and the same queue.
//!
//! Runs on the shard's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tracing::error;

use super::{Command, Shard};
use crate::core::containment::{contain, note_panic};
use crate::core::host::{Ending, Event};
use crate::core::operation_queue_manager::OperationQueue;
use crate::error::{CloseReason, Error, ErrorKind};

/// A fault that comes back at once must not keep a core busy with restarts.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the tasks of a broken shard may take to write its last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a shard until it ends as it should, a new one after each that breaks.
pub(super) fn keep_running(
    runtime: &Runtime,
    make: impl Fn() -> Shard,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    operations: &OperationQueue,
) {
    loop {
        let shard = Rc::new(make());
        let tasks = LocalSet::new();
        let turns = AssertUnwindSafe(|| tasks.block_on(runtime, shard.clone().run(&mut inbox, operations)));
        if catch_unwind(turns).is_ok() {
            return;
        }
        note_panic();
        error!(shard = shard.id.0, "a shard is restarted after a panic");
        // Nothing of a broken shard is relied on: whatever fails here fails alone.
        contain("the end of a broken shard", || {
            tasks.block_on(runtime, shard.give_up());
        });
        let was_draining = shard.is_draining();
        let message =
            format!("shard {} was restarted after a panic, its connections were closed with 1012", shard.id.0);
        shard.shared.host.emit(Event::Error(Error::new(ErrorKind::Internal, message)));
        drop(tasks);
        if was_draining {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

impl Shard {
    /// Takes every connection out of every table, tells its peer to come back, and lets go of it.
    async fn give_up(self: &Rc<Self>) {
        for connection in self.all_connections() {
            contain("a connection of a broken shard", || self.close(&connection, CloseReason::ServiceRestart));
        }
        contain("last words", || self.flush_staged());
        let deadline = Instant::now() + LAST_WORDS;
        while !self.connections.borrow().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for connection in self.all_connections() {
            contain("a connection of a broken shard", || self.retire(&connection, Ending::Lost));
        }
    }
}

#[cfg(test)]
mod tests;
