//! The last so many seconds at a glance: what was counted in each. Pure: totals come in, differences come out.
//!
//! Filled by the first shard's tick, read by `getMetrics()`.

use crate::types::UnixMillis;
use crate::utils::CircularBuffer;

/// One second, or a little more under load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Second {
    pub at: UnixMillis,
    pub messages_per_second: f64,
    pub deliveries_per_second: f64,
    pub gauges: Gauges,
}

/// What was so at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    pub connections: usize,
    /// Milliseconds.
    pub average_latency: f64,
    /// Unwritten bytes of all connections.
    pub pending_bytes: usize,
    /// Of the process, in physical memory; 0 where that is not known.
    pub resident_bytes: u64,
    /// 0 to 1; 0 where nothing can be measured.
    pub memory_pressure: f64,
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub messages: u64,
    pub deliveries: u64,
}

#[derive(Debug)]
pub struct History {
    seconds: CircularBuffer<Second>,
    before: Option<(UnixMillis, Totals)>,
}

impl History {
    pub fn new(capacity: usize) -> Self {
        Self { seconds: CircularBuffer::new(capacity), before: None }
    }

    /// Adds what was counted since the last call. The first call only begins.
    pub fn add(&mut self, at: UnixMillis, totals: Totals, gauges: Gauges) {
        let Some((then, before)) = self.before.replace((at, totals)) else { return };
        let seconds = at.0.saturating_sub(then.0).max(1) as f64 / 1000.0;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        self.seconds.push(Second {
            at,
            messages_per_second: rate(totals.messages, before.messages),
            deliveries_per_second: rate(totals.deliveries, before.deliveries),
            gauges,
        });
    }

    /// Oldest first.
    pub fn seconds(&self) -> Vec<Second> {
        self.seconds.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_over_the_time_that_passed_and_the_oldest_go() {
        let mut history = History::new(2);
        for (at, messages, deliveries) in [(0, 100, 0), (1000, 110, 5), (3000, 150, 5), (4000, 150, 1005)] {
            history.add(
                UnixMillis(at),
                Totals { messages, deliveries },
                Gauges { connections: 7, ..Gauges::default() },
            );
        }
        let rates: Vec<_> = history
            .seconds()
            .iter()
            .map(|second| (second.at.0, second.messages_per_second, second.deliveries_per_second))
            .collect();
        assert_eq!(rates, [(3000, 20.0, 0.0), (4000, 0.0, 1000.0)]);
        assert!(history.seconds().iter().all(|second| second.gauges.connections == 7));
    }
}
