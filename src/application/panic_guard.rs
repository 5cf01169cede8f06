//! Catches panics where the current operation ends: a call of the application, a command, a publish. The process and the thread continue.
//!
//! Used on shards' threads, by publishers and by the binding. The guard around one connection is in `shard/event_loop`.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::oneshot;
use tracing::error;

use crate::application::fault_injection;
use crate::application::interface::{Answer, Application, Event, EventKind, HookCall};
use crate::memory::sources::Usage;

/// Panics caught, in all services of the process.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts a panic that was caught elsewhere.
pub(crate) fn record_panic() {
    PANICS.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Returns what `action` returns, or `None` if it panicked. `action` must keep shared state consistent at every point where it may
/// panic.
pub(crate) fn catch<T>(operation: &'static str, action: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        fault_injection::trip(operation);
        action()
    }));
    if result.is_err() {
        record_panic();
        error!(operation, "a panic ended the operation, the service continues");
    }
    result.ok()
}

/// [`catch`] for a task of a shard: a panic completes the task and drops what it holds.
pub(crate) async fn catch_task(operation: &'static str, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|cx| catch(operation, || task.as_mut().poll(cx)).unwrap_or(Poll::Ready(()))).await;
}

/// An application whose panics are caught: the event is lost, the hook counts as unanswered.
pub(crate) struct PanicGuarded(pub Arc<dyn Application>);

impl Application for PanicGuarded {
    fn listens(&self, kind: EventKind) -> bool {
        catch("listens", || self.0.listens(kind)).unwrap_or(false)
    }

    fn emit(&self, event: Event) {
        catch("emit", || self.0.emit(event));
    }

    fn check_health(&self) {
        catch("check_health", || self.0.check_health());
    }

    fn call_hook(&self, call: HookCall, answer: Answer) {
        catch("call_hook", || self.0.call_hook(call, answer));
    }

    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        catch("measure_heap", || self.0.measure_heap(answer));
    }

    fn release_memory(&self) {
        catch("release_memory", || self.0.release_memory());
    }
}
