//! Tests of `metrics_reporter`.

use super::*;
use crate::types::UnixMillis;

fn readings(collector: &StatisticsCollector) -> Readings<'_> {
    Readings {
        collector,
        users: 2,
        anonymous: 0,
        topics: 3,
        subscriptions: 4,
        shards: vec![ShardReading {
            id: 0,
            connections: 5,
            queued_operations: 6,
            queued_bytes: 7,
            pending_bytes: 8,
            stalled_for: Duration::from_millis(250),
        }],
        circuits: vec![(HookKind::LookupUser, 2)],
        panics: 0,
        event_loop_delay: None,
        memory: MemoryReading {
            level: 2,
            usages: vec![("heap", 0.5)],
            resident: Some(1024),
            held: [("connections", 1), ("subscriptions", 2), ("dedupe", 3), ("queues", 4), ("unwritten", 5)],
        },
    }
}

#[test]
fn each_family_has_help_type_and_samples_and_no_name_comes_twice() {
    let collector = StatisticsCollector::new(1, 10, UnixMillis(5000));
    let text = render(&readings(&collector));
    let names = |prefix: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    };
    let mut helped = names("# HELP ");
    assert_eq!(helped, names("# TYPE "));
    let count = helped.len();
    helped.sort();
    helped.dedup();
    assert_eq!(helped.len(), count);
    assert!(helped.iter().all(|name| name.starts_with("carillon_")));
}

#[test]
fn counts_appear_under_their_reason() {
    let collector = StatisticsCollector::new(2, 10, UnixMillis(5000));
    collector.shard(1).dropped(DropReason::SlowConsumerOldest, 3);
    collector.refused();
    collector.shard(0).published(Duration::from_micros(300));
    let text = render(&readings(&collector));
    for line in [
        "carillon_messages_dropped_total{reason=\"slow_consumer_drop_oldest\"} 3",
        "carillon_messages_dropped_total{reason=\"queue_full\"} 1",
        "carillon_shard_silence_seconds{shard=\"0\"} 0.25",
        "carillon_circuit_breaker_state{hook=\"lookupUser\"} 2",
        "carillon_publish_latency_seconds_bucket{le=\"0.00025\"} 0",
        "carillon_publish_latency_seconds_bucket{le=\"0.0005\"} 1",
        "carillon_publish_latency_seconds_bucket{le=\"+Inf\"} 1",
        "carillon_start_time_seconds 5",
    ] {
        assert!(text.lines().any(|candidate| candidate == line), "{line} is not in\n{text}");
    }
}
