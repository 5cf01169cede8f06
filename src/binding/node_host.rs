//! The core's way to Node's thread: what is queued for it, and the thread-safe function that wakes it.
//!
//! Shared by all shards; the queue's lock is held for a push or a swap. Nothing is queued for an event without a listener. Delivery is
//! in `events`.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use napi::Status;
use napi::bindgen_prelude::Unknown;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::application::interface::{Answer, Application, Event, EventKind, HookCall};
use crate::binding::bridge::BridgeId;
use crate::binding::memory;
use crate::memory::sources::Usage;

pub type Wake = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true>;

#[derive(Default)]
pub struct NodeHost {
    queue: Mutex<Queue>,
    /// One bit per kind of event with a listener, and per level with a log method.
    heard: AtomicU32,
    /// Events and log lines that Node's thread has taken and not delivered yet.
    held: AtomicUsize,
    wake: OnceLock<Wake>,
    /// A health check is under way to Node's thread.
    is_check_due: AtomicBool,
    delay: Mutex<Option<Delay>>,
}

/// The longest that a parcel had to wait for Node's thread of late.
#[derive(Clone, Copy)]
struct Delay {
    waited: Duration,
    seen: Instant,
}

/// A delay seen longer ago says nothing of now. A health check comes as often by default.
const DELAY_LIFETIME: Duration = Duration::from_secs(60);

/// What waits for Node's thread. Calls of hooks are bounded by the connections that wait for them; events and log lines
/// by [`MAX_WAITING`].
#[derive(Default)]
pub struct Queue {
    pub parcels: Vec<Parcel>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Events and log lines that found the queue full.
    pub lost: u64,
}

/// How many parcels may wait before further events and log lines are lost, and said to be.
const MAX_WAITING: usize = 262_144;

/// Something for Node's thread.
pub enum Parcel {
    CheckHealth,
    /// A bridge's shard wants something done with its socket.
    Bridge(BridgeId),
    Event(Event),
    Log {
        level: LogLevel,
        message: String,
        context: Map<String, Value>,
    },
    Hook {
        call: HookCall,
        answer: Answer,
    },
    MeasureHeap(oneshot::Sender<Usage>),
    CollectGarbage,
}

impl Parcel {
    /// Whether a peer or a shard waits for it. Events and log lines wait for nobody, and may be many.
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Self::Event(_) | Self::Log { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    pub fn method(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    fn bit(self) -> u32 {
        1 << (16 + self as u32)
    }
}

fn bit(kind: EventKind) -> u32 {
    1 << kind as u32
}

impl NodeHost {
    /// Set once, before anybody else has the host.
    pub fn set_wake(&self, wake: Wake) {
        let _ = self.wake.set(wake);
    }

    pub fn logs(&self, level: LogLevel) -> bool {
        self.heard.load(Ordering::Relaxed) & level.bit() != 0
    }

    pub fn set_logs(&self, level: LogLevel, is_heard: bool) {
        self.set_heard(level.bit(), is_heard);
    }

    pub fn set_listens(&self, kind: EventKind, is_heard: bool) {
        self.set_heard(bit(kind), is_heard);
    }

    pub fn log(&self, level: LogLevel, message: String, context: Map<String, Value>) {
        self.send(Parcel::Log { level, message, context });
    }

    pub fn bridge_has_work(&self, id: BridgeId) {
        self.send(Parcel::Bridge(id));
    }

    pub fn health_check_taken(&self) {
        self.is_check_due.store(false, Ordering::Relaxed);
    }

    /// The longest that the JavaScript thread kept a parcel waiting within a minute; unknown if there was none.
    pub fn event_loop_delay(&self) -> Option<Duration> {
        let delay = *self.delay.lock().unwrap_or_else(PoisonError::into_inner);
        delay.filter(|delay| delay.seen.elapsed() < DELAY_LIFETIME).map(|delay| delay.waited)
    }

    /// Takes all that waits. On Node's thread.
    pub fn take(&self) -> Queue {
        let queue = std::mem::take(&mut *self.queue());
        if let Some(since) = queue.since {
            let mut longest = self.delay.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = since.elapsed();
            if longest.is_none_or(|longest| longest.waited <= waited || longest.seen.elapsed() > DELAY_LIFETIME) {
                *longest = Some(Delay { waited, seen: Instant::now() });
            }
        }
        queue
    }

    /// Tells how many events and log lines have been taken and are not delivered: they count as waiting.
    pub fn set_held(&self, count: usize) {
        self.held.store(count, Ordering::Relaxed);
    }

    fn set_heard(&self, bits: u32, heard: bool) {
        if heard {
            self.heard.fetch_or(bits, Ordering::Relaxed);
        } else {
            self.heard.fetch_and(!bits, Ordering::Relaxed);
        }
    }

    fn send(&self, parcel: Parcel) {
        let mut queue = self.queue();
        if !parcel.is_urgent() && queue.parcels.len() + self.held.load(Ordering::Relaxed) >= MAX_WAITING {
            queue.lost += 1;
            return;
        }
        queue.parcels.push(parcel);
        let is_first = queue.parcels.len() == 1;
        if is_first {
            queue.since = Some(Instant::now());
        }
        drop(queue);
        if is_first && let Some(wake) = self.wake.get() {
            // While the environment is being torn down the call is refused: nobody is there to hear.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Application for NodeHost {
    fn listens(&self, kind: EventKind) -> bool {
        self.heard.load(Ordering::Relaxed) & bit(kind) != 0
    }

    fn emit(&self, event: Event) {
        if self.listens(event.kind()) {
            self.send(Parcel::Event(event));
        }
    }

    fn check_health(&self) {
        // One at a time: while JavaScript is stuck there is nobody to tell.
        if self.listens(EventKind::Health) && !self.is_check_due.swap(true, Ordering::Relaxed) {
            self.send(Parcel::CheckHealth);
        }
    }

    fn call_hook(&self, call: HookCall, answer: Answer) {
        self.send(Parcel::Hook { call, answer });
    }

    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        self.send(Parcel::MeasureHeap(answer));
    }

    fn release_memory(&self) {
        self.send(Parcel::CollectGarbage);
        memory::trim_allocator();
    }
}
