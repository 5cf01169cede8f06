//! Where panics stop. One ends what was being done (a call of the host, a command, a publish), never a shard's thread.
//!
//! Used on shards' threads, by publishers and by the binding. A connection's own boundary is in `turn`.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::oneshot;
use tracing::error;

use crate::application::fault_injection;
use crate::application::interface::{Answer, Event, EventKind, HookCall, Host};
use crate::memory::sources::Usage;

/// Panics caught, in all services of the process.
static PANICS: AtomicU64 = AtomicU64::new(0);

pub(crate) fn note_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// What `action` returns, or `None` if it panicked. It must leave whole whatever it shares with others.
pub(crate) fn contain<T>(doing: &'static str, action: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        fault_injection::trip(doing);
        action()
    }));
    if result.is_err() {
        note_panic();
        error!(doing, "carried on after a panic");
    }
    result.ok()
}

/// The same for a task of a shard. What it holds is dropped where it panicked.
pub(crate) async fn contained(doing: &'static str, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|cx| contain(doing, || task.as_mut().poll(cx)).unwrap_or(Poll::Ready(()))).await;
}

/// A host whose panics are its own affair: an event is lost, a hook counts as unanswered.
pub(crate) struct ContainedHost(pub Arc<dyn Host>);

impl Host for ContainedHost {
    fn listens(&self, kind: EventKind) -> bool {
        contain("listens", || self.0.listens(kind)).unwrap_or(false)
    }

    fn emit(&self, event: Event) {
        contain("emit", || self.0.emit(event));
    }

    fn check_health(&self) {
        contain("check_health", || self.0.check_health());
    }

    fn call_hook(&self, call: HookCall, answer: Answer) {
        contain("call_hook", || self.0.call_hook(call, answer));
    }

    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        contain("measure_heap", || self.0.measure_heap(answer));
    }

    fn release_memory(&self) {
        contain("release_memory", || self.0.release_memory());
    }
}
