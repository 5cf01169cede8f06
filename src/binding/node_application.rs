//! The [`Application`] of a Node service: queues tasks for Node's thread and wakes it.
//!
//! Shared by all shards; the queue's lock is held for a push or a swap. Events without a listener and log lines without a logger are not
//! queued. `event_dispatcher` takes the tasks.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use napi::Status;
use napi::bindgen_prelude::Unknown;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::application::interface::{Answer, Application, Event, EventKind, HookCall};
use crate::binding::js_task::{JsTask, LogLevel};
use crate::binding::memory;
use crate::memory::sources::Usage;

pub type Wake = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true>;

#[derive(Default)]
pub struct NodeApplication {
    queue: Mutex<Queue>,
    /// One bit per kind of event that has a listener, and per log level that has a method.
    consumers: AtomicU32,
    /// Events and log lines that Node's thread has taken and not delivered yet.
    undelivered: AtomicUsize,
    wake: OnceLock<Wake>,
    /// A health check is queued.
    is_check_queued: AtomicBool,
    longest_delay: Mutex<Option<Delay>>,
}

/// How long a task waited for Node's thread.
#[derive(Clone, Copy)]
struct Delay {
    waited: Duration,
    measured: Instant,
}

/// An older delay says nothing about the present. The default health check interval is as long.
const DELAY_LIFETIME: Duration = Duration::from_secs(60);

/// Tasks that wait for Node's thread. Calls of hooks are bounded by the connections that wait for them; events and log lines by
/// [`MAX_WAITING`].
#[derive(Default)]
pub struct Queue {
    pub tasks: Vec<JsTask>,
    /// When the first of them was queued.
    since: Option<Instant>,
    /// Events and log lines that were dropped because the queue was full.
    pub lost: u64,
}

/// How many tasks may wait before further events and log lines are dropped and counted.
const MAX_WAITING: usize = 262_144;

/// The bits of log levels follow those of events.
const FIRST_LOG_BIT: u32 = 16;
const _: () = assert!(EventKind::ALL.len() <= FIRST_LOG_BIT as usize);

fn event_bit(kind: EventKind) -> u32 {
    1 << kind as u32
}

fn log_bit(level: LogLevel) -> u32 {
    1 << (FIRST_LOG_BIT + level as u32)
}

impl NodeApplication {
    /// Called once, before another thread has the application.
    pub fn set_wake(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    pub fn logs(&self, level: LogLevel) -> bool {
        self.consumers.load(Ordering::Relaxed) & log_bit(level) != 0
    }

    pub fn set_logs(&self, level: LogLevel, has_method: bool) {
        self.set_consumers(log_bit(level), has_method);
    }

    pub fn set_listens(&self, kind: EventKind, has_listeners: bool) {
        self.set_consumers(event_bit(kind), has_listeners);
    }

    pub fn log(&self, level: LogLevel, message: String, context: Map<String, Value>) {
        self.send(JsTask::Log { level, message, context });
    }

    pub fn serve_bridges(&self) {
        self.send(JsTask::ServeBridges);
    }

    pub fn health_check_taken(&self) {
        self.is_check_queued.store(false, Ordering::Relaxed);
    }

    /// The longest that a task waited for Node's thread within the last minute. `None` if no task was taken.
    pub fn event_loop_delay(&self) -> Option<Duration> {
        let delay = *self.longest_delay.lock().unwrap_or_else(PoisonError::into_inner);
        delay.filter(|delay| delay.measured.elapsed() < DELAY_LIFETIME).map(|delay| delay.waited)
    }

    /// Takes all waiting tasks. On Node's thread.
    pub fn take(&self) -> Queue {
        let queue = std::mem::take(&mut *self.queue());
        if let Some(since) = queue.since {
            let mut longest = self.longest_delay.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = since.elapsed();
            if longest.is_none_or(|longest| longest.waited <= waited || longest.measured.elapsed() > DELAY_LIFETIME) {
                *longest = Some(Delay { waited, measured: Instant::now() });
            }
        }
        queue
    }

    /// Sets how many events and log lines have been taken and not delivered. They count towards [`MAX_WAITING`].
    pub fn set_undelivered(&self, count: usize) {
        self.undelivered.store(count, Ordering::Relaxed);
    }

    fn set_consumers(&self, bits: u32, exist: bool) {
        if exist {
            self.consumers.fetch_or(bits, Ordering::Relaxed);
        } else {
            self.consumers.fetch_and(!bits, Ordering::Relaxed);
        }
    }

    fn send(&self, task: JsTask) {
        let mut queue = self.queue();
        if !task.is_urgent() && queue.tasks.len() + self.undelivered.load(Ordering::Relaxed) >= MAX_WAITING {
            queue.lost += 1;
            return;
        }
        queue.tasks.push(task);
        let is_first = queue.tasks.len() == 1;
        if is_first {
            queue.since = Some(Instant::now());
        }
        drop(queue);
        if is_first && let Some(wake) = self.wake.get() {
            // Refused while the environment is being torn down: no JavaScript runs any more.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Application for NodeApplication {
    fn listens(&self, kind: EventKind) -> bool {
        self.consumers.load(Ordering::Relaxed) & event_bit(kind) != 0
    }

    fn emit(&self, event: Event) {
        if self.listens(event.kind()) {
            self.send(JsTask::Emit(event));
        }
    }

    fn check_health(&self) {
        // One at a time: while JavaScript is blocked further checks would only queue up.
        if self.listens(EventKind::Health) && !self.is_check_queued.swap(true, Ordering::Relaxed) {
            self.send(JsTask::CheckHealth);
        }
    }

    fn call_hook(&self, call: HookCall, answer: Answer) {
        self.send(JsTask::CallHook { call, answer });
    }

    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        self.send(JsTask::MeasureHeap(answer));
    }

    fn release_memory(&self) {
        self.send(JsTask::CollectGarbage);
        memory::trim_allocator();
    }
}
