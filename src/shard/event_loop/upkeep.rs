//! Applies changed settings, and gives back memory.

use super::parts::Parts;
use crate::config::RuntimeValues;
use crate::memory::memory_manager::ReclaimLevel;
use crate::monitoring::counters::DropReason;
use crate::shard::close;
use crate::shard::reclaim::{self, Reclaimed};
use crate::transport::deflate::Inflater;

pub fn reconfigure(parts: &mut Parts, values: RuntimeValues) {
    let before = parts.egress.set_settings(values);
    if values.batch_delay != before.batch_delay || values.batch_size < before.batch_size {
        // What waits was promised to the old setting; sending it early is never wrong.
        for key in parts.peers.connection_keys() {
            parts.guarded(key, |scope| scope.flush_batch());
        }
        parts.egress.clear_batches();
        parts.timers.clear_flushes();
    }
}

pub fn clear_buffers(parts: &mut Parts) {
    for connection in parts.peers.connections_mut() {
        let discarded = connection.outbox.take_batch().len();
        parts.shard.counters.dropped(DropReason::Cleanup, u32::try_from(discarded).unwrap_or(u32::MAX));
    }
    parts.egress.clear_batches();
}

pub fn reclaim(parts: &mut Parts, depth: ReclaimLevel) -> Reclaimed {
    let slow = if depth == ReclaimLevel::Emergency { reclaim::slowest(&parts.peers) } else { Vec::new() };
    for key in &slow {
        parts.guarded(*key, |scope| {
            close::close_slow_consumer(scope);
            scope.connection.account(&scope.shard.counters);
        });
    }
    let before = idle_capacity(parts);
    parts.egress.clear_batches();
    parts.tables.subscriptions.shrink();
    reclaim::shrink_connections(&mut parts.peers);
    if depth == ReclaimLevel::Emergency {
        // Built again when the next message needs it.
        parts.ingress.inflater = Inflater::default();
        parts.egress.reclaim();
    }
    Reclaimed { connections: slow.len(), bytes: before.saturating_sub(idle_capacity(parts)) }
}

fn idle_capacity(parts: &Parts) -> usize {
    reclaim::connection_capacity(&parts.peers)
        + parts.tables.subscriptions.heap_bytes()
        + parts.ingress.inflater.heap_bytes()
        + parts.egress.idle_capacity()
}
