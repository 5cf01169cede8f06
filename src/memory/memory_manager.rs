//! Drives the memory policies: samples on a thread of its own, decides, cleans up.
//!
//! One per run of a service, started and stopped with it. Its decisions are carried out by the implementation of
//! [`MemoryEffects`], the core; the policies are in `progressive_degradation` and `leak_detector_handler`. A report
//! from outside is decided on at once, on the reporter's thread.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{Dispatch, debug, error};

use crate::memory::heap_probe::HeapProbe;
use crate::memory::leak_detector_handler::{Leak, LeakDetectorHandler, SAMPLE_INTERVAL, Sample};
use crate::memory::progressive_degradation::{DegradationLevel, LevelChange, ProgressiveDegradation, Thresholds};
use crate::memory::sources::{MemorySources, Pressure, Reading, ServiceUsage, System, Usage};

const MEASURE_INTERVAL: Duration = Duration::from_secs(1);

/// What the manager sees and changes of the service. Called on the manager's thread and on that of a reporter.
pub trait MemoryEffects: Send + Sync + 'static {
    fn service_usage(&self) -> ServiceUsage;
    /// Between two clean-ups, as it is now.
    fn cleanup_interval(&self) -> Duration;
    /// Asks how V8's heap is used, without waiting. A dropped answer: not known.
    fn measure_heap(&self, answer: oneshot::Sender<Usage>);
    /// A new measurement, after what it led to.
    fn measured(&self, reading: &Reading);
    /// Puts a level into effect.
    fn degrade(&self, change: &LevelChange);
    /// The run has ended degraded: the next one begins with the owner's settings.
    fn restore(&self);
    fn clean_up(&self, depth: ReclaimLevel) -> Reclaimed;
    fn leak_found(&self, leak: &Leak);
}

/// How much a clean-up may cost others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReclaimLevel {
    /// Expired entries and unused capacity.
    Routine,
    /// Under critical pressure also what can be done without, slow consumers included.
    Emergency,
}

/// What a clean-up has given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    pub dedupe_entries: usize,
    /// Publishes that waited too long for their shard.
    pub operations: usize,
    /// Slow consumers that were closed.
    pub connections: usize,
    /// Of buffers and tables.
    pub bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub thresholds: Thresholds,
    /// How long the pressure must be low before each step of the recovery.
    pub dwell: Duration,
    /// What counts as pressure.
    pub sources: MemorySources,
    /// Where `proc` and `sys` are; another place than `/` is for tests.
    pub system_root: PathBuf,
}

pub struct MemoryManager {
    monitor: Arc<Monitor>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and the reporters share.
struct Monitor {
    effects: Box<dyn MemoryEffects>,
    system: System,
    sources: MemorySources,
    started: Instant,
    interval: Duration,
    /// Share of memory where degradation begins.
    first_threshold: f64,
    policy: Mutex<ProgressiveDegradation>,
    /// What was measured last.
    reading: Mutex<Reading>,
    requests: Mutex<Requests>,
    requested: Condvar,
}

#[derive(Debug, Default)]
struct Requests {
    is_ended: bool,
    /// The level has become critical: the clean-up cannot wait.
    is_urgent: bool,
}

/// What only the thread knows.
#[derive(Default)]
struct ThreadState {
    leaks: LeakDetectorHandler,
    heap: HeapProbe,
    sampled: Option<Duration>,
    cleaned: Duration,
}

impl MemoryManager {
    /// Starts the thread. Log lines go to `dispatch`.
    pub fn start_monitoring(settings: Settings, effects: impl MemoryEffects, dispatch: Dispatch) -> io::Result<Self> {
        let monitor = Arc::new(Monitor {
            effects: Box::new(effects),
            system: System::at(settings.system_root),
            sources: settings.sources,
            started: Instant::now(),
            interval: MEASURE_INTERVAL.min(settings.dwell).max(Duration::from_millis(10)),
            first_threshold: settings.thresholds.high,
            policy: Mutex::new(ProgressiveDegradation::new(settings.thresholds, settings.dwell)),
            reading: Mutex::default(),
            requests: Mutex::default(),
            requested: Condvar::new(),
        });
        let thread = std::thread::Builder::new().name("carillon-memory".into()).spawn({
            let monitor = monitor.clone();
            move || {
                let _log = tracing::dispatcher::set_default(&dispatch);
                monitor.run();
            }
        })?;
        Ok(Self { monitor, thread: Mutex::new(Some(thread)) })
    }

    /// Tells the thread to end, which it does at once; [`join`](Self::join) waits for it.
    pub fn stop_monitoring(&self) {
        self.monitor.requests().is_ended = true;
        self.monitor.requested.notify_all();
    }

    /// Waits until the thread has ended, and undoes the degradation. Of several callers, all wait.
    pub fn join(&self) {
        self.stop_monitoring();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // Its panics are contained below.
            let _ = thread.join();
            if self.level() != DegradationLevel::Normal {
                self.monitor.effects.restore();
            }
        }
    }

    /// The application has measured: `pressure` and the threshold from which they are concerned, both 0 to 1.
    pub fn handle_memory_pressure(&self, pressure: f64, threshold: f64) {
        let now = self.monitor.now();
        self.monitor.decide(|policy| policy.report(pressure, threshold, now));
    }

    /// Gives back what is not needed, now and on this thread.
    pub fn perform_cleanup(&self, depth: ReclaimLevel) -> Reclaimed {
        self.monitor.perform_cleanup(depth)
    }

    pub fn level(&self) -> DegradationLevel {
        self.monitor.policy().level()
    }

    /// What was measured last, about a second ago.
    pub fn reading(&self) -> Reading {
        *self.monitor.reading()
    }

    /// The worst that is known at present.
    pub fn pressure(&self) -> Option<Pressure> {
        let now = self.monitor.now();
        self.monitor.policy().pressure(now)
    }
}

impl Drop for MemoryManager {
    fn drop(&mut self) {
        self.stop_monitoring();
    }
}

impl Monitor {
    fn run(&self) {
        debug!("memory monitoring started");
        let mut state = ThreadState { cleaned: self.now(), ..ThreadState::default() };
        loop {
            let is_urgent = std::mem::take(&mut self.requests().is_urgent);
            // Without this a fault here would leave the service without any defence.
            if catch_unwind(AssertUnwindSafe(|| self.round(&mut state, is_urgent))).is_err() {
                error!("memory monitoring carries on after a panic");
            }
            let requests = self.requests();
            let is_idle = |requests: &mut Requests| !requests.is_ended && !requests.is_urgent;
            let pause = state.heap.pause(self.now(), self.first_threshold).min(self.interval);
            let waited = self.requested.wait_timeout_while(requests, pause, is_idle);
            if waited.unwrap_or_else(PoisonError::into_inner).0.is_ended {
                break;
            }
        }
        debug!("memory monitoring ended");
    }

    fn round(&self, state: &mut ThreadState, is_urgent: bool) {
        let now = self.now();
        let reading = Reading {
            heap: state.heap.poll(now, self.first_threshold, |answer| self.effects.measure_heap(answer)),
            ..self.system.read()
        };
        *self.reading() = reading;
        self.decide(|policy| policy.measure(reading.pressure(self.sources), now));
        self.effects.measured(&reading);
        if state.sampled.is_none_or(|at| now.saturating_sub(at) >= SAMPLE_INTERVAL) {
            state.sampled = Some(now);
            self.look_for_leaks(&mut state.leaks, &reading, now);
        }
        let is_due = now.saturating_sub(state.cleaned) >= self.effects.cleanup_interval();
        if is_due || is_urgent {
            state.cleaned = now;
            let is_critical = self.policy().level() == DegradationLevel::Critical;
            self.perform_cleanup(if is_critical { ReclaimLevel::Emergency } else { ReclaimLevel::Routine });
        }
    }

    /// Puts a change into effect before the next decision, so that effects follow decisions in order.
    fn decide(&self, decide: impl FnOnce(&mut ProgressiveDegradation) -> Option<LevelChange>) {
        let mut policy = self.policy();
        let Some(change) = decide(&mut policy) else { return };
        self.effects.degrade(&change);
        if change.level == DegradationLevel::Critical {
            self.requests().is_urgent = true;
            self.requested.notify_all();
        }
    }

    fn look_for_leaks(&self, leaks: &mut LeakDetectorHandler, reading: &Reading, now: Duration) {
        // Where the system does not tell, V8's heap is better than nothing.
        let Some(resident) = reading.resident.or(reading.heap.map(|heap| heap.used)) else { return };
        let leak = leaks.observe(Sample {
            at: now,
            resident,
            heap: reading.heap.map(|heap| heap.used),
            service_usage: self.effects.service_usage(),
            pressure: self.policy().pressure(now).map_or(0.0, |pressure| pressure.ratio),
        });
        if let Some(leak) = leak {
            self.effects.leak_found(&leak);
        }
    }

    fn perform_cleanup(&self, depth: ReclaimLevel) -> Reclaimed {
        let freed = self.effects.clean_up(depth);
        debug!(
            ?depth,
            dedupe_entries = freed.dedupe_entries,
            operations = freed.operations,
            connections = freed.connections,
            bytes = freed.bytes,
            "memory cleaned up"
        );
        freed
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn policy(&self) -> MutexGuard<'_, ProgressiveDegradation> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
