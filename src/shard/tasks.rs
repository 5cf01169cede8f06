//! Starts the shard's tasks: what waits for the application, on the shard's thread, beside the loop.
//!
//! A task holds no part of the shard. It ends by sending exactly one [`Internal`] message to the loop, also when it panics.

use std::rc::Rc;

use crate::application::panic_guard::catch_task;
use crate::shard::command::Internal;
use crate::shard::context::ShardContext;
use crate::types::PeerRef;

/// Reports a task that ends without a result.
struct Report {
    shard: Rc<ShardContext>,
    peer: PeerRef,
    is_sent: bool,
}

impl Report {
    fn send(mut self, result: Internal) {
        self.is_sent = true;
        self.shard.send(result);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_sent {
            self.shard.send(Internal::TaskFailed { peer: self.peer });
        }
    }
}

/// Runs `task` for a peer. `name` is what the log calls it if it panics.
pub fn spawn(
    name: &'static str,
    shard: &Rc<ShardContext>,
    peer: PeerRef,
    task: impl AsyncFnOnce(Rc<ShardContext>) -> Internal + 'static,
) {
    // Built before the first poll, which may panic.
    let report = Report { shard: shard.clone(), peer, is_sent: false };
    let shard = shard.clone();
    tokio::task::spawn_local(catch_task(name, async move {
        let result = task(shard).await;
        report.send(result);
    }));
}
