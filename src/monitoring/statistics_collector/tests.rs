//! Tests of `statistics_collector`.

use super::*;

#[test]
fn shards_are_summed_and_the_newest_samples_averaged() {
    let collector = StatisticsCollector::new(2, 3, UnixMillis(1000));
    assert_eq!(collector.read().average_latency, 0.0);
    for (index, at, millis) in [(0, 1, 90.0), (0, 2, 90.0), (1, 3, 1.0), (1, 4, 2.0), (0, 5, 3.0)] {
        collector.shard(index).message(UnixMillis(2000 + at), Some(millis));
    }
    collector.shard(1).message(UnixMillis(2010), None);
    let statistics = collector.read();
    assert_eq!(statistics.total_messages, 6);
    assert_eq!(statistics.average_latency, 2.0);
    assert_eq!(statistics.last_activity, UnixMillis(2010));
    assert_eq!(statistics.start_time, UnixMillis(1000));
}

#[test]
fn the_peak_stays_and_what_was_refused_was_dropped_too() {
    let collector = StatisticsCollector::new(1, 10, UnixMillis(0));
    collector.connection_opened(false);
    collector.connection_opened(true);
    collector.connection_closed();
    collector.connection_opened(false);
    collector.refused();
    collector.shard(0).dropped(DropReason::Disconnected, 4);
    let statistics = collector.read();
    assert_eq!((statistics.active_connections, statistics.peak_connections), (2, 2));
    assert_eq!((statistics.total_connections, statistics.reconnections), (3, 1));
    assert_eq!((statistics.dropped_messages, statistics.queue_overflows), (5, 1));
}

#[test]
fn what_ended_connections_leave_behind_is_dropped_but_not_lost() {
    let collector = StatisticsCollector::new(1, 10, UnixMillis(0));
    collector.begin_history(0);
    let shard = collector.shard(0);
    shard.traffic.add(Traffic::Deliveries, 200);
    shard.dropped(DropReason::Disconnected, 150);
    assert_eq!((collector.read().dropped_messages, collector.recent().lost), (150, 0));
    assert_eq!(collector.read().message_success_rate, 1.0);
    shard.dropped(DropReason::SlowConsumerOldest, 50);
    assert_eq!(collector.read().message_success_rate, 0.75);
    collector.refused();
    assert_eq!((collector.recent().refused, collector.recent().offered), (1, 201));
    // The next run begins anew.
    collector.begin_history(0);
    assert_eq!(collector.recent(), Outgoing::default());
}

#[test]
fn the_time_a_publish_takes_is_not_told_by_clients() {
    let collector = StatisticsCollector::new(1, 10, UnixMillis(0));
    collector.begin_history(0);
    collector.shard(0).message(UnixMillis(1), Some(59_000.0));
    collector.shard(0).published(Duration::from_millis(3));
    assert_eq!(collector.read().average_latency, 59_000.0);
    assert_eq!(collector.recent().average_publish_time(), Duration::from_millis(3));
}
