//! What becomes of a shard whose loop panics, past every boundary inside: its peers are told to come back, and a new
//! shard takes its place, with the same inbox and the same queue.
//!
//! Runs on the shard's thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tracing::error;

use crate::application::interface::{Ending, Event};
use crate::application::panic_guard::{catch, record_panic};
use crate::error::{CloseReason, Error, ErrorKind};
use crate::hub::operation_queue_manager::OperationQueue;
use crate::shard::event_loop::{Command, Shard};
use crate::shard::parker::Waiting;
use crate::transport::socket::reactor::{Reactor, Registry};

/// A fault that comes back at once must not keep a core busy with restarts.
const PAUSE: Duration = Duration::from_millis(100);

/// With the pause between them, how long a restart is tried for: ten seconds.
const TRIES: u32 = 100;

/// How long the connections of a broken shard may take to write its last words.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Runs a shard until it ends as it should, a new one after each that breaks.
pub(crate) fn keep_running(
    runtime: &Runtime,
    first: (Reactor, Registry),
    make: impl Fn(Registry) -> Shard,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    operations: &OperationQueue,
) {
    let _context = runtime.enter();
    let mut next = first;
    let mut entrance = None;
    loop {
        let (mut reactor, registry) = next;
        let shard = Rc::new(make(registry));
        shard.entrance.replace(entrance);
        let tasks = LocalSet::new();
        let turns = shard.clone().run(&mut inbox, operations, &mut reactor);
        let turns = AssertUnwindSafe(|| tasks.block_on(runtime, turns));
        if catch_unwind(turns).is_ok() {
            return;
        }
        record_panic();
        error!(shard = shard.id.0, "a shard is restarted after a panic");
        // Nothing of a broken shard is relied on: whatever fails here fails alone.
        catch("the end of a broken shard", || {
            tasks.block_on(runtime, shard.give_up(&mut reactor));
        });
        let was_draining = shard.is_draining();
        let message =
            format!("shard {} was restarted after a panic, its connections were closed with 1012", shard.id.0);
        shard.shared.host.emit(Event::Error(Error::new(ErrorKind::Internal, message)));
        drop(tasks);
        entrance = shard.entrance.take();
        if was_draining {
            return;
        }
        next = match anew() {
            Ok(parts) => parts,
            Err(failure) => {
                let message = format!("shard {} could not be restarted: {failure}", shard.id.0);
                error!("{message}");
                return shard.shared.host.emit(Event::Error(Error::new(ErrorKind::Internal, message)));
            }
        };
    }
}

/// After a pause. What the system is short of, it may have again in a while: descriptors of the connections that went.
fn anew() -> io::Result<(Reactor, Registry)> {
    std::thread::sleep(PAUSE);
    for _ in 1..TRIES {
        if let Ok(parts) = Reactor::new() {
            return Ok(parts);
        }
        std::thread::sleep(PAUSE);
    }
    Reactor::new()
}

impl Shard {
    /// Takes every connection out of every table, tells its peer to come back, and lets go of it.
    async fn give_up(self: &Rc<Self>, reactor: &mut Reactor) {
        self.leave_door();
        for connection in self.all_connections() {
            catch("a connection of a broken shard", || self.close(&connection, CloseReason::ServiceRestart));
        }
        catch("last words", || self.flush_staged());
        let deadline = Instant::now() + LAST_WORDS;
        let mut waiting = Waiting::new(&self.bell);
        while !self.connections.borrow().is_empty() && Instant::now() < deadline {
            if !self.has_roused() {
                waiting.until(Some(deadline), reactor).await;
            }
            catch("last words", || self.give_turns(reactor));
        }
        // Rings that were meant for the next shard may have been heard here.
        self.bell.notify_one();
        for connection in self.all_connections() {
            catch("a connection of a broken shard", || self.retire(&connection, Ending::Lost));
        }
    }
}

#[cfg(test)]
mod tests;
