//! What the memory manager's decisions do to the service: settings, orders to the shards, words to clients and to
//! the application.
//!
//! Called on the manager's thread, and on the application's for its own reports. Holds the service weakly: a manager
//! does not keep alive what it watches over.

use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{Dispatch, info, warn};

use super::{Runtime, WebSocketService};
use crate::application::interface::{Event, EventKind};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::leak_detector_handler::Leak;
use crate::memory::memory_manager::{MemoryEffects, MemoryManager, ReclaimLevel, Reclaimed, Settings};
use crate::memory::progressive_degradation::{DegradationLevel, LevelChange, Thresholds};
use crate::memory::sources::{Pressure, PressureSource, Reading, ServiceUsage, Usage};
use crate::monitoring::counters::DropReason;
use crate::monitoring::health_checker::ActiveDegradation;
use crate::monitoring::metrics_reporter::MemoryReading;
use crate::protocol::outgoing;
use crate::shard::command::Command;
use crate::shard::service_options::ServiceOptions;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::UnixMillis;

/// A publish that has waited this long for its shard is of no use any more, and the shard in trouble.
const STALE_OPERATION: Duration = Duration::from_secs(30);

/// How long a clean-up waits for the shards to report what they gave back.
const RECLAIM_TIMEOUT: Duration = Duration::from_secs(1);

/// As the original's health check, by which it recovered: a step of the recovery for each sixth of its interval.
const STEPS_PER_HEALTH_CHECK: u32 = 6;

struct Effects {
    service: Weak<WebSocketService>,
    dedupe_cleanup_age: Duration,
}

impl WebSocketService {
    /// The manager of a run that is about to begin.
    pub(super) fn watch_memory(&self, options: &ServiceOptions, dispatch: Dispatch) -> Result<MemoryManager> {
        let base = &options.base;
        let settings = Settings {
            thresholds: Thresholds {
                high: base.high_memory_threshold / 100.0,
                critical: base.critical_memory_threshold / 100.0,
            },
            dwell: base.health_check_interval / STEPS_PER_HEALTH_CHECK,
            sources: options.memory_sources,
            system_root: options.system_root.clone(),
        };
        let effects = Effects { service: self.this.clone(), dedupe_cleanup_age: base.dedupe_cache_cleanup_age };
        MemoryManager::start_monitoring(settings, effects, dispatch)
            .map_err(|cause| Error::new(ErrorKind::Internal, "memory monitoring could not be started").caused_by(cause))
    }

    /// The application has measured: `pressure` and the threshold that concerns it, both 0 to 1. Takes effect before
    /// this returns; nothing while the service does not run.
    pub fn report_memory_pressure(&self, pressure: f64, threshold: f64) {
        match self.running() {
            Some(run) => run.memory.handle_memory_pressure(pressure, threshold),
            None => info!(pressure, threshold, "memory pressure was reported to a service that does not run"),
        }
    }

    /// The application has found a leak, or the service itself.
    pub fn report_memory_leak(&self, leak: &Leak) {
        warn!(
            severity = leak.severity.as_str(),
            growth_rate = leak.growth_rate,
            retained_increase = leak.retained_increase,
            recommendations = leak.recommendations.join(" "),
            "memory leak"
        );
        if self.host.listens(EventKind::MemoryLeak) {
            self.host.emit(Event::MemoryLeak(leak.clone()));
        }
        let response = leak.severity.response();
        if response.clears_buffers {
            self.cleanup();
        } else if response.halves_dedupe_cache {
            // The entries go, not the room for new ones: a second report must not reduce the capacity permanently.
            let mut dedupe = self.dedupe();
            let (half, capacity) = (dedupe.len() / 2, dedupe.capacity());
            dedupe.resize(half);
            dedupe.resize(capacity);
        }
        if let Some(run) = self.running() {
            self.broadcast_system(&run, outgoing::system_warning(leak.severity.as_str(), UnixMillis::now().as_f64()));
        }
    }

    pub fn degradation_level(&self) -> DegradationLevel {
        self.run().map(|run| run.context.level.get()).unwrap_or_default()
    }

    /// How scarce memory is, and by whose account; nothing where it cannot be measured.
    pub fn memory_pressure(&self) -> Option<Pressure> {
        self.run().and_then(|run| run.memory.pressure())
    }

    /// What the pressure does to the service, if anything.
    pub(super) fn degradation(&self) -> Option<ActiveDegradation> {
        let level = self.degradation_level();
        (level != DegradationLevel::Normal).then(|| ActiveDegradation {
            level: level.as_str(),
            rejects_new_connections: level.rejects_new_connections(),
            pressure: self.memory_pressure().map(|pressure| (pressure.ratio * 100.0, pressure.source.as_str())),
        })
    }

    pub(super) fn memory_reading(&self) -> MemoryReading {
        let reading = self.run().map(|run| run.memory.reading()).unwrap_or_default();
        let sizes = self.sizes();
        let usages = [
            (PressureSource::Container, reading.container),
            (PressureSource::Heap, reading.heap),
            (PressureSource::Machine, reading.machine),
        ]
        .into_iter()
        .filter_map(|(source, usage)| Some((source.as_str(), usage?.ratio())))
        .collect();
        MemoryReading {
            level: self.degradation_level().number(),
            usages,
            resident: reading.resident,
            held: [
                ("connections", sizes.connections),
                ("subscriptions", sizes.subscriptions),
                ("dedupe", sizes.dedupe),
                ("queues", sizes.queues),
                ("unwritten", sizes.buffers),
            ],
        }
    }

    /// To every open connection, past the queue: what the service says of itself is not a publish that a full queue
    /// may refuse.
    fn broadcast_system(&self, run: &Runtime, message: Vec<u8>) {
        let message = EncodedMessage::text(message);
        run.command_all(|| Command::BroadcastSystem(message.clone()));
        self.statistics.broadcast(UnixMillis::now());
    }

    fn give_back(&self, depth: ReclaimLevel, dedupe_cleanup_age: Duration) -> Reclaimed {
        let mut freed =
            Reclaimed { dedupe_entries: self.forget_updates(depth, dedupe_cleanup_age), ..Reclaimed::default() };
        let Some(run) = self.run() else { return freed };
        let now = Instant::now();
        freed.operations = run.shards.iter().map(|shard| shard.operations.discard_older(now, STALE_OPERATION)).sum();
        self.statistics.shard(0).dropped(DropReason::Cleanup, u32::try_from(freed.operations).unwrap_or(u32::MAX));
        run.context.users.expire_recent_disconnects(now);
        run.context.routing.shrink();
        let (report, reports) = mpsc::channel();
        run.command_all(|| Command::Reclaim { depth, report: report.clone() });
        drop(report);
        let deadline = now + RECLAIM_TIMEOUT;
        // Ends when every shard has answered or gone.
        while let Ok(reclaimed) = reports.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            freed.connections += reclaimed.connections;
            freed.bytes += reclaimed.bytes;
        }
        if depth == ReclaimLevel::Emergency {
            self.host.release_memory();
        }
        freed
    }

    fn forget_updates(&self, depth: ReclaimLevel, cleanup_age: Duration) -> usize {
        let mut dedupe = self.dedupe();
        match depth {
            ReclaimLevel::Routine => {
                // What the window still covers is needed, whatever its age.
                let age = cleanup_age.max(self.runtime.values().dedupe_window);
                dedupe.evict_older_than(self.elapsed_ms(), u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
            }
            ReclaimLevel::Emergency => {
                let count = dedupe.len();
                dedupe.clear();
                count
            }
        }
    }
}

impl Effects {
    fn with<T>(&self, act: impl FnOnce(&Arc<WebSocketService>) -> T) -> Option<T> {
        self.service.upgrade().map(|service| act(&service))
    }
}

impl MemoryEffects for Effects {
    fn service_usage(&self) -> ServiceUsage {
        self.with(|service| {
            let Some(run) = service.run() else { return ServiceUsage::default() };
            ServiceUsage {
                connections: service.statistics.active_connections() as u64,
                subscriptions: run.context.routing.counts().pairs as u64,
                queued_bytes: run.shards.iter().map(|shard| shard.operations.bytes() as u64).sum(),
                unwritten_bytes: service.statistics.pending_bytes() as u64,
                dedupe_entries: service.dedupe().len() as u64,
            }
        })
        .unwrap_or_default()
    }

    fn cleanup_interval(&self) -> Duration {
        self.with(|service| service.runtime.values().memory_cleanup_interval).unwrap_or(Duration::MAX)
    }

    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        self.with(|service| service.host.measure_heap(answer));
    }

    fn measured(&self, reading: &Reading) {
        self.with(|service| {
            let pressure = service.memory_pressure().map_or(0.0, |pressure| pressure.ratio);
            service.statistics.set_memory(reading.resident.unwrap_or(0), pressure);
        });
    }

    fn degrade(&self, change: &LevelChange) {
        let LevelChange { level, previous, pressure } = *change;
        self.with(|service| {
            if level > previous {
                warn!(
                    level = level.as_str(),
                    pressure = pressure.ratio,
                    source = pressure.source.as_str(),
                    "degraded under memory pressure"
                );
            } else {
                info!(level = level.as_str(), pressure = pressure.ratio, "recovering from memory pressure");
            }
            if let Some(run) = service.run() {
                run.context.level.set(level);
                service.runtime.degrade(level.settings());
                service.broadcast_system(&run, outgoing::system_status(level.number(), UnixMillis::now().as_f64()));
            }
            if service.host.listens(EventKind::Degradation) {
                service.host.emit(Event::Degradation { level, previous, pressure: pressure.ratio });
            }
        });
    }

    fn restore(&self) {
        self.with(|service| {
            if let Some(run) = service.run() {
                run.context.level.set(DegradationLevel::Normal);
            }
            service.runtime.degrade(None);
        });
    }

    fn clean_up(&self, depth: ReclaimLevel) -> Reclaimed {
        self.with(|service| service.give_back(depth, self.dedupe_cleanup_age)).unwrap_or_default()
    }

    fn leak_found(&self, leak: &Leak) {
        self.with(|service| service.report_memory_leak(leak));
    }
}
