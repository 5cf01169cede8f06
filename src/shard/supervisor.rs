//! Runs the event loop of a shard on its thread, and a new one in place of one that panicked past every boundary inside.
//!
//! The peers of a failed loop are closed with 1012; its inbox, its queue and its listener go to the next.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{self, Runtime};
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tracing::error;

use crate::application::interface::Event;
use crate::application::panic_guard::{catch, record_panic};
use crate::error::{Error, ErrorKind};
use crate::hub::limit::Limit;
use crate::hub::operation_queue_manager::OperationQueue;
use crate::shard::context::{RunContext, ShardContext};
use crate::shard::event_loop::{EventLoop, Inbox};
use crate::shard::handle::ShardHandle;
use crate::shard::pending_places::MAX_PENDING;
use crate::shard::probe::SnapshotSlot;
use crate::shard::run_end::RunEnd;
use crate::transport::socket::reactor::{Reactor, Registry};
use crate::types::ShardId;

/// A fault that returns at once must not keep a core busy with restarts.
const PAUSE: Duration = Duration::from_millis(100);

/// With the pause between them, how long a restart is tried for: ten seconds.
const TRIES: u32 = 100;

/// How long the connections of a failed loop may take to write their close frames.
const CLOSE_TIME: Duration = Duration::from_millis(500);

/// What the loops of one shard have in common.
struct Supervisor {
    id: ShardId,
    run: Arc<RunContext>,
    notify: Arc<Notify>,
    snapshots: Arc<SnapshotSlot>,
}

/// Starts the thread of a shard. Its runtime is built here, so that a system that refuses one is the caller's error.
pub fn spawn(id: ShardId, run: Arc<RunContext>, end: Arc<RunEnd>) -> io::Result<ShardHandle> {
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let first = {
        let _context = runtime.enter();
        Reactor::new()?
    };
    let (commands, inbox) = mpsc::unbounded_channel();
    let notify = Arc::new(Notify::new());
    let operations = Arc::new(OperationQueue::new(run.options.max_queue_bytes, notify.clone()));
    let snapshots = Arc::new(SnapshotSlot::new(Instant::now()));
    let supervisor = Supervisor { id, run, notify: notify.clone(), snapshots: snapshots.clone() };
    let inbox = Inbox { commands: inbox, operations: operations.clone() };
    let thread = std::thread::Builder::new().name(format!("carillon-{}", id.0)).spawn(move || {
        // Dropped last of all that the thread holds.
        let _end = end;
        let _log = tracing::dispatcher::set_default(&supervisor.run.dispatch);
        supervisor.keep_running(&runtime, first, inbox);
    })?;
    Ok(ShardHandle::new(id, commands, notify, operations, snapshots, thread))
}

impl Supervisor {
    /// Runs a loop until it ends as it should, a new one after each that fails.
    fn keep_running(&self, runtime: &Runtime, first: (Reactor, Registry), mut inbox: Inbox) {
        let _context = runtime.enter();
        let mut next = first;
        let mut listener = None;
        loop {
            let (mut reactor, registry) = next;
            let (results, results_inbox) = mpsc::unbounded_channel();
            let pending = Limit::new((MAX_PENDING / self.run.options.threads.max(1)).max(1));
            let (run, notify) = (self.run.clone(), self.notify.clone());
            let shard = Rc::new(ShardContext::new(self.id, run, notify, pending, results));
            let mut event_loop = EventLoop::new(shard, results_inbox, self.snapshots.clone(), registry, listener);
            let tasks = LocalSet::new();
            let turns = AssertUnwindSafe(|| tasks.block_on(runtime, event_loop.run(&mut inbox, &mut reactor)));
            if catch_unwind(turns).is_ok() {
                return;
            }
            record_panic();
            error!(shard = self.id.0, "a shard is restarted after a panic");
            catch("the end of a failed shard", || {
                tasks.block_on(runtime, event_loop.give_up(&mut reactor, Instant::now() + CLOSE_TIME));
            });
            let was_draining = event_loop.is_draining();
            self.report(format!(
                "shard {} was restarted after a panic, its connections were closed with 1012",
                self.id.0
            ));
            drop(tasks);
            listener = event_loop.take_listener();
            drop(event_loop);
            if was_draining {
                return;
            }
            next = match reactor_after_pause() {
                Ok(parts) => parts,
                Err(failure) => {
                    let message = format!("shard {} could not be restarted: {failure}", self.id.0);
                    error!("{message}");
                    return self.report(message);
                }
            };
        }
    }

    fn report(&self, message: String) {
        self.run.application.emit(Event::Error(Error::new(ErrorKind::Internal, message)));
    }
}

/// After a pause, and again for a while: the system may get descriptors back from the connections that were closed.
fn reactor_after_pause() -> io::Result<(Reactor, Registry)> {
    std::thread::sleep(PAUSE);
    for _ in 1..TRIES {
        if let Ok(parts) = Reactor::new() {
            return Ok(parts);
        }
        std::thread::sleep(PAUSE);
    }
    Reactor::new()
}

#[cfg(test)]
mod tests;
