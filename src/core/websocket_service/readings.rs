//! What can be asked of the service: counts, sizes, health, metrics. Waits for no shard.

use std::time::{Duration, Instant};

use super::WebSocketService;
use super::sizes::{Counts, Sizes};
use crate::application::circuit_breaker::Circuit;
use crate::application::panic_guard;
use crate::monitoring::health_checker::RuntimeInputs;
use crate::monitoring::history::Second;
use crate::monitoring::metrics_reporter::{self, Readings};
use crate::monitoring::recent::Outgoing;
use crate::monitoring::statistics_collector::Statistics;
use crate::shard::connection::CONNECTION_BYTES;
use crate::shard::probe::{Inspection, ShardInspection};
use crate::types::{BillId, HookKind, UserId};

impl WebSocketService {
    pub fn statistics(&self) -> Statistics {
        self.statistics.read()
    }

    /// What went out within the last minutes, and what was lost of it: what health is judged by.
    pub fn recent(&self) -> Outgoing {
        self.statistics.recent()
    }

    /// The newest latency samples in milliseconds, unordered.
    pub fn latencies(&self) -> Vec<f64> {
        self.statistics.latencies()
    }

    pub fn counts(&self) -> Counts {
        let dedupe_entries = self.dedupe().len();
        let Some(run) = self.run() else { return Counts { dedupe_entries, ..Counts::default() } };
        let routing = run.context.routing.counts();
        Counts {
            users: run.context.users.user_count(),
            bills: routing.topics,
            subscribed_users: routing.users,
            subscriptions: routing.pairs,
            queue_depth: run.shards.iter().map(|shard| shard.operations.len()).sum(),
            queue_bytes: run.shards.iter().map(|shard| shard.operations.bytes()).sum(),
            dedupe_entries,
        }
    }

    /// The last seconds of this run, oldest first.
    pub fn history(&self) -> Vec<Second> {
        self.statistics.seconds()
    }

    /// What the health check looks at beside the counters.
    pub fn surroundings(&self, event_loop_delay: Option<Duration>) -> RuntimeInputs {
        let open = self.circuits().into_iter().filter(|(_, circuit)| *circuit == Circuit::Open);
        RuntimeInputs {
            shard_stalls: self.inspect(0).shards.iter().map(|shard| (shard.id.0, shard.stalled_for)).collect(),
            open_circuits: open.map(|(hook, _)| hook.label()).collect(),
            event_loop_delay,
            degradation: self.degradation(),
        }
    }

    /// At most a second or so old, see `inspection`.
    pub fn inspect(&self, top: usize) -> Inspection {
        let now = Instant::now();
        let shards = self.run().map(|run| run.shards.iter().map(|shard| shard.inspect(now)).collect());
        Inspection::merge(shards.unwrap_or_default(), top)
    }

    /// Prometheus text, format 0.0.4. Waits for no shard.
    pub fn metrics_text(&self, event_loop_delay: Option<Duration>) -> String {
        let counts = self.counts();
        let circuits = self.circuits().into_iter().map(|(hook, circuit)| (hook, circuit as u8));
        metrics_reporter::render(&Readings {
            collector: &self.statistics,
            users: counts.users,
            anonymous: self.run().map_or(0, |run| run.context.anonymous.taken()),
            topics: counts.bills,
            subscriptions: counts.subscriptions,
            shards: self.inspect(0).shards.iter().map(ShardInspection::reading).collect(),
            circuits: circuits.collect(),
            panics: panic_guard::panics(),
            event_loop_delay,
            memory: self.memory_reading(),
        })
    }

    /// The state of each hook's circuit breaker; closed while nothing runs.
    pub fn circuits(&self) -> [(HookKind, Circuit); HookKind::COUNT] {
        let run = self.run();
        let circuit = |hook| run.as_ref().map_or(Circuit::Closed, |run| run.context.hooks.circuit(hook));
        HookKind::ALL.map(|hook| (hook, circuit(hook)))
    }

    pub fn sizes(&self) -> Sizes {
        let dedupe = self.dedupe().heap_bytes();
        let buffers = self.statistics.pending_bytes();
        let Some(run) = self.run() else { return Sizes { dedupe, buffers, ..Sizes::default() } };
        let topics: usize = run.shards.iter().map(|shard| shard.snapshots.topic_bytes()).sum();
        Sizes {
            connections: self.statistics.active_connections() * CONNECTION_BYTES + run.context.users.heap_bytes(),
            subscriptions: topics + run.context.routing.heap_bytes(),
            dedupe,
            queues: run.shards.iter().map(|shard| shard.operations.bytes()).sum(),
            buffers,
        }
    }

    /// Oldest first, without duplicates.
    pub fn user_subscriptions(&self, user: &str) -> Vec<BillId> {
        self.run()
            .map(|run| run.context.routing.subscriptions(user))
            .unwrap_or_default()
            .into_iter()
            .filter_map(|topic| topic.bill())
            .collect()
    }

    pub fn bill_subscribers(&self, bill: BillId) -> Vec<UserId> {
        self.run().map(|run| run.context.routing.subscribers(&bill.into())).unwrap_or_default()
    }

    pub fn connection_count(&self, user: &str) -> usize {
        self.run().map_or(0, |run| run.context.users.connection_count(user))
    }

    pub fn connected_users(&self) -> Vec<UserId> {
        self.run().map(|run| run.context.users.connected_users()).unwrap_or_default()
    }
}
