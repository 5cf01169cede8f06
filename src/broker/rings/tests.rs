//! Rings by examples and against a model that keeps everything.

use proptest::prelude::*;

use super::*;
use crate::types::BillId;

mod model;

const LIMITS: TopicLimits = TopicLimits { publications: 5, ttl: 1000, bytes: 10_000 };
const REPLAY: ReplayLimits = ReplayLimits { publications: 300, bytes: 256 * 1024 };
const PLENTY: usize = 1 << 20;

fn topic(number: u64) -> Topic {
    Topic::Bill(BillId::new(number).unwrap())
}

fn rings(max_bytes: usize) -> Rings<u64> {
    Rings::new(NodeId::from_random(7), Epoch::from_random(9), max_bytes, REPLAY)
}

/// A publication of 100 bytes whose payload is its sequence.
fn publish(rings: &mut Rings<u64>, number: u64, now: u64) -> Position {
    rings.publish(&topic(number), LIMITS, now, 100, |stamp| stamp.position.id.sequence).position
}

fn resume(rings: &mut Rings<u64>, number: u64, since: Position, now: u64) -> Resumed<u64> {
    rings.resume(&topic(number), &Since::Position(since), now)
}

/// The payloads of a recovered resume.
fn recovered(resumed: &Resumed<u64>) -> Vec<u64> {
    match resumed {
        Resumed::Recovered { entries, .. } => entries.iter().map(|entry| entry.payload).collect(),
        other => panic!("{other:?}"),
    }
}

fn lost(resumed: &Resumed<u64>) -> LossReason {
    match resumed {
        Resumed::Lost { reason, .. } => *reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_gets_what_came_after_its_position_in_order() {
    let mut rings = rings(PLENTY);
    let positions: Vec<_> = (0..4).map(|_| publish(&mut rings, 1, 0)).collect();
    assert_eq!(recovered(&resume(&mut rings, 1, positions[1], 0)), [3, 4]);
    let Resumed::Recovered { top, entries } = resume(&mut rings, 1, positions[0], 0) else { panic!() };
    assert_eq!(top, positions[3]);
    assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), positions[1..]);
    assert_eq!(entries.iter().map(|entry| entry.previous).collect::<Vec<_>>(), [1, 2, 3].map(|s| positions[s - 1].id));
}

#[test]
fn each_publication_names_its_predecessor_also_where_that_has_left() {
    let mut rings = rings(PLENTY);
    let mut previous = rings.top(&topic(1)).id;
    for now in 0..20 {
        let stamp = rings.publish(&topic(1), LIMITS, now * 600, 100, |_| 0);
        assert_eq!(stamp.previous, previous);
        previous = stamp.position.id;
        publish(&mut rings, 2, now * 600);
    }
}

#[test]
fn a_position_at_the_top_is_recovered_also_when_the_history_is_empty() {
    let mut rings = rings(PLENTY);
    let start = rings.top(&topic(1));
    assert!(recovered(&resume(&mut rings, 1, start, 0)).is_empty());
    let position = publish(&mut rings, 1, 0);
    assert!(recovered(&resume(&mut rings, 1, position, 0)).is_empty());
    assert_eq!(recovered(&resume(&mut rings, 1, start, 0)), [1]);
    assert!(recovered(&resume(&mut rings, 1, position, 5000)).is_empty());
    assert_eq!(lost(&resume(&mut rings, 1, start, 5000)), LossReason::Expired);
    assert_eq!(rings.top(&topic(1)), position);
}

#[test]
fn without_a_position_a_client_learns_the_top() {
    let mut rings = rings(PLENTY);
    let position = publish(&mut rings, 1, 0);
    assert_eq!(rings.resume(&topic(1), &Since::Start, 0), Resumed::Started { top: position });
}

#[test]
fn what_exceeds_the_count_is_expired_and_the_position_before_the_oldest_is_not() {
    let mut rings = rings(PLENTY);
    let positions: Vec<_> = (0..8).map(|_| publish(&mut rings, 1, 0)).collect();
    assert_eq!(lost(&resume(&mut rings, 1, positions[1], 0)), LossReason::Expired);
    assert_eq!(recovered(&resume(&mut rings, 1, positions[2], 0)), [4, 5, 6, 7, 8]);
}

#[test]
fn a_publication_leaves_when_it_is_as_old_as_the_ttl() {
    let mut rings = rings(PLENTY);
    let first = publish(&mut rings, 1, 0);
    let second = publish(&mut rings, 1, 500);
    let third = publish(&mut rings, 1, 900);
    assert_eq!(recovered(&resume(&mut rings, 1, first, 1499)), [2, 3]);
    assert_eq!(lost(&resume(&mut rings, 1, first, 1500)), LossReason::Expired);
    assert_eq!(recovered(&resume(&mut rings, 1, second, 1500)), [3]);
    assert!(recovered(&resume(&mut rings, 1, third, 9999)).is_empty());
    // A clock that goes back makes nothing older.
    publish(&mut rings, 1, 9999);
    assert_eq!(recovered(&resume(&mut rings, 1, third, 0)), [4]);
}

#[test]
fn a_topic_holds_no_more_bytes_than_its_limit() {
    let mut rings = rings(PLENTY);
    let limits = TopicLimits { bytes: 1000, ..LIMITS };
    let mut publish = |bytes| rings.publish(&topic(1), limits, 0, bytes, |stamp| stamp.position.id.sequence).position;
    let positions: Vec<_> = [200, 200, 200, 200].into_iter().map(&mut publish).collect();
    // With its entry a publication costs less than 300 and more than 200.
    assert_eq!(recovered(&resume(&mut rings, 1, positions[0], 0)).len(), 3);
    assert!(rings.bytes() < 1000 + 600);
    let large = rings.publish(&topic(1), limits, 0, 990, |_| 0).position;
    assert_eq!(lost(&resume(&mut rings, 1, positions[3], 0)), LossReason::Expired);
    assert!(recovered(&resume(&mut rings, 1, large, 0)).is_empty());
    let next = rings.publish(&topic(1), limits, 0, 10, |_| 77);
    assert_eq!(next.previous, large.id);
    assert_eq!(recovered(&resume(&mut rings, 1, large, 0)), [77]);
    rings.publish(&topic(1), limits, 0, usize::MAX, |_| 0);
    assert_eq!(lost(&resume(&mut rings, 1, large, 0)), LossReason::Expired);
}

#[test]
fn a_topic_without_room_for_one_publication_still_has_positions() {
    for limits in [
        TopicLimits { publications: 0, ..LIMITS },
        TopicLimits { bytes: 0, ..LIMITS },
        TopicLimits { ttl: 0, ..LIMITS },
    ] {
        let mut rings = rings(PLENTY);
        let first = rings.publish(&topic(1), limits, 0, 10, |_| 0).position;
        let second = rings.publish(&topic(1), limits, 0, 10, |_| 0).position;
        assert_eq!(lost(&resume(&mut rings, 1, first, 0)), LossReason::Expired);
        assert!(recovered(&resume(&mut rings, 1, second, 0)).is_empty());
    }
}

#[test]
fn every_forged_position_is_lost_with_its_reason() {
    let mut rings = rings(PLENTY);
    let positions: Vec<_> = (0..8).map(|_| publish(&mut rings, 1, 0)).collect();
    let of_another_topic = publish(&mut rings, 2, 0);
    let [fourth, top] = [positions[3], positions[7]];
    let with = |forge: &dyn Fn(&mut Position)| {
        let mut forged = fourth;
        forge(&mut forged);
        forged
    };
    for (forged, expected) in [
        (with(&|p| p.epoch = Epoch::from_random(1)), LossReason::Reset),
        (with(&|p| p.id.sequence += 1), LossReason::Fork),
        (with(&|p| p.id.node = NodeId::from_random(1)), LossReason::Fork),
        (with(&|p| p.id = PublicationId::none(p.id.node)), LossReason::Fork),
        (with(&|p| p.offset = top.offset.next()), LossReason::Fork),
        (with(&|p| p.offset = Offset::new(u64::MAX)), LossReason::Fork),
        (with(&|p| p.offset = top.offset), LossReason::Fork),
        (with(&|p| p.offset = Offset::ZERO), LossReason::Expired),
        (of_another_topic, LossReason::Expired),
        (Position { offset: fourth.offset, ..of_another_topic }, LossReason::Fork),
    ] {
        assert_eq!(lost(&resume(&mut rings, 1, forged, 0)), expected, "{forged}");
    }
    assert_eq!(lost(&rings.resume(&topic(1), &Since::Malformed, 0)), LossReason::Malformed);
    assert_eq!(lost(&resume(&mut rings, 2, top, 0)), LossReason::Fork);
    assert_eq!(lost(&resume(&mut rings, 3, top, 0)), LossReason::Fork);
}

#[test]
fn asking_for_a_topic_without_a_record_makes_none() {
    let mut rings = rings(PLENTY);
    let start = rings.top(&topic(5));
    resume(&mut rings, 5, start, 0);
    rings.history(&topic(5), &Since::Start, 10, 0);
    assert_eq!((rings.topics(), rings.heap_bytes()), (0, 0));
}

#[test]
fn a_replay_is_whole_or_not_made() {
    let limits = TopicLimits { publications: 1000, ..TopicLimits::DEFAULT };
    let mut by_count = rings(PLENTY);
    let start = by_count.top(&topic(1));
    for _ in 0..300 {
        by_count.publish(&topic(1), limits, 0, 10, |stamp| stamp.position.id.sequence);
    }
    assert_eq!(recovered(&resume(&mut by_count, 1, start, 0)).len(), 300);
    by_count.publish(&topic(1), limits, 0, 10, |_| 0);
    assert_eq!(lost(&resume(&mut by_count, 1, start, 0)), LossReason::TooMany);

    let mut by_bytes = rings(4 * PLENTY);
    let limits = TopicLimits { bytes: PLENTY, ..limits };
    for _ in 0..256 {
        by_bytes.publish(&topic(1), limits, 0, 1024, |stamp| stamp.position.id.sequence);
    }
    assert_eq!(recovered(&resume(&mut by_bytes, 1, start, 0)).len(), 256);
    by_bytes.publish(&topic(1), limits, 0, 1, |_| 0);
    assert_eq!(lost(&resume(&mut by_bytes, 1, start, 0)), LossReason::TooMany);
}

#[test]
fn the_least_recently_used_topic_loses_its_publications_first() {
    let mut rings = rings(20_000);
    let limits = TopicLimits { publications: 100, ..LIMITS };
    let mut first = Vec::new();
    for number in 1..=3 {
        first.push(rings.publish(&topic(number), limits, 0, 5000, |_| 0).position);
        rings.publish(&topic(number), limits, 0, 500, |_| 0);
    }
    assert_eq!(recovered(&resume(&mut rings, 1, first[0], 0)).len(), 1);
    rings.publish(&topic(4), limits, 0, 5000, |_| 0);
    assert!(rings.bytes() <= 20_000, "{}", rings.bytes());
    assert_eq!(lost(&resume(&mut rings, 2, first[1], 0)), LossReason::Expired);
    assert_eq!(recovered(&resume(&mut rings, 1, first[0], 0)).len(), 1);
    assert_eq!(recovered(&resume(&mut rings, 3, first[2], 0)).len(), 1);
    // Its position is left, so a client at the top has missed nothing.
    let top = rings.top(&topic(2));
    assert_eq!(top.offset, first[1].offset.next());
    assert!(recovered(&resume(&mut rings, 2, top, 0)).is_empty());
}

#[test]
fn a_forgotten_topic_begins_above_every_offset_it_ever_had() {
    let mut rings = rings(PLENTY);
    let old: Vec<_> = (0..7).map(|_| publish(&mut rings, 1, 0)).collect();
    rings.set_max_bytes(0);
    assert_eq!((rings.topics(), rings.bytes()), (0, 0));
    rings.set_max_bytes(PLENTY);
    let start = rings.top(&topic(1));
    assert!(start.offset >= old[6].offset);
    for position in &old {
        assert_eq!(lost(&resume(&mut rings, 1, *position, 0)), LossReason::Expired);
    }
    assert!(recovered(&resume(&mut rings, 1, start, 0)).is_empty());
    let next = publish(&mut rings, 1, 0);
    assert_eq!(next.offset, start.offset.next());
    assert_eq!(recovered(&resume(&mut rings, 1, start, 0)), [8]);
    for position in &old {
        assert_eq!(lost(&resume(&mut rings, 1, *position, 0)), LossReason::Expired);
    }
    // Forgotten and back without a publication: the start is still a proof; with one in between it is not.
    rings.set_max_bytes(0);
    assert_eq!(lost(&resume(&mut rings, 1, start, 0)), LossReason::Expired);
    let again = rings.top(&topic(1));
    rings.set_max_bytes(PLENTY);
    rings.set_max_bytes(0);
    assert!(recovered(&resume(&mut rings, 1, again, 0)).is_empty());
}

#[test]
fn positions_of_topics_take_at_most_an_eighth_of_the_bytes() {
    let mut rings = rings(80_000);
    for number in 1..10_000 {
        publish(&mut rings, number, number);
        assert!(rings.bytes() <= 80_000);
        assert!(rings.table.bytes(Use::Empty) <= 10_000);
    }
    let last = rings.top(&topic(9999));
    assert!(recovered(&resume(&mut rings, 9999, last, 9999)).is_empty());
    // All publications expire, most topics are forgotten, and some stay.
    rings.sweep(1 << 40, usize::MAX);
    assert!(rings.bytes() <= 10_000, "{}", rings.bytes());
    assert!(rings.topics() > 10, "{}", rings.topics());
}

#[test]
fn a_sweep_visits_all_topics_in_steps() {
    let mut rings = rings(PLENTY);
    for number in 1..=100 {
        publish(&mut rings, number, 0);
    }
    let with_entries = rings.bytes();
    for _ in 0..10 {
        rings.sweep(2000, 10);
    }
    assert_eq!(rings.bytes(), 100 * Table::<u64>::RECORD_BYTES);
    assert!(rings.bytes() < with_entries);
    assert_eq!(rings.topics(), 100);
}

#[test]
fn a_divisor_shrinks_all_bounds_and_one_restores_them() {
    let mut rings = rings(60_000);
    let limits = TopicLimits { publications: 8, ..LIMITS };
    let mut starts = Vec::new();
    for number in 1..=10 {
        starts.push(rings.top(&topic(number)));
        for _ in 0..8 {
            rings.publish(&topic(number), limits, 0, 500, |stamp| stamp.position.id.sequence);
        }
    }
    rings.set_divisor(4);
    assert!(rings.bytes() <= 15_000);
    rings.sweep(0, usize::MAX);
    assert_eq!(lost(&resume(&mut rings, 10, starts[9], 0)), LossReason::Expired);
    let Resumed::Started { top } = rings.resume(&topic(10), &Since::Start, 0) else { panic!() };
    assert_eq!(rings.history(&topic(10), &Since::Start, 100, 0).entries.len(), 2);
    rings.set_divisor(1);
    for _ in 0..8 {
        rings.publish(&topic(10), limits, 0, 500, |_| 0);
    }
    assert_eq!(recovered(&resume(&mut rings, 10, top, 0)).len(), 8);
}

#[test]
fn history_reads_the_newest_or_what_follows_a_position() {
    let mut rings = rings(PLENTY);
    let positions: Vec<_> = (0..5).map(|_| publish(&mut rings, 1, 0)).collect();
    let mut read = |since: Since, limit| {
        let history = rings.history(&topic(1), &since, limit, 0);
        assert_eq!(history.top, positions[4]);
        (history.entries.iter().map(|entry| entry.payload).collect::<Vec<_>>(), history.recovered)
    };
    assert_eq!(read(Since::Start, 100), (vec![1, 2, 3, 4, 5], true));
    assert_eq!(read(Since::Start, 2), (vec![4, 5], true));
    assert_eq!(read(Since::Start, 0), (vec![], true));
    assert_eq!(read(Since::Position(positions[1]), 100), (vec![3, 4, 5], true));
    assert_eq!(read(Since::Position(positions[1]), 2), (vec![3, 4], true));
    assert_eq!(read(Since::Position(positions[4]), 2), (vec![], true));
    let foreign = Position { epoch: Epoch::from_random(1), ..positions[1] };
    assert_eq!(read(Since::Position(foreign), 2), (vec![4, 5], false));
    assert_eq!(read(Since::Malformed, 1), (vec![5], false));
}

#[test]
fn room_for_entries_never_exceeds_the_limit_and_is_given_back() {
    let mut rings = rings(PLENTY);
    let limits = TopicLimits { publications: 100, ttl: 1000, bytes: PLENTY };
    for _ in 0..1000 {
        rings.publish(&topic(1), limits, 0, 0, |_| 0);
    }
    let full = rings.ring_bytes;
    let slot = full / 100;
    assert_eq!(full, 100 * slot);
    for now in 1000..1010 {
        rings.publish(&topic(1), limits, now, 0, |_| 0);
    }
    assert!(rings.ring_bytes <= 40 * slot);
    rings.sweep(5000, 1);
    assert_eq!(rings.ring_bytes, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Publish { topic: u64, bytes: usize },
    Resume { topic: u64, known: prop::sample::Index },
    Wait(u64),
    Sweep(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..6_u64, 0..400_usize).prop_map(|(topic, bytes)| Step::Publish { topic, bytes }),
        6 => (1..6_u64, any::<prop::sample::Index>()).prop_map(|(topic, known)| Step::Resume { topic, known }),
        2 => (0..600_u64).prop_map(Step::Wait),
        1 => (0..4_usize).prop_map(Step::Sweep),
    ]
}

proptest! {
    /// Without eviction the rings answer exactly as a model that never deletes anything and works out what should be held.
    #[test]
    fn rings_answer_as_a_model_that_keeps_everything(steps in prop::collection::vec(step(), 1..200)) {
        let limits = TopicLimits { publications: 5, ttl: 1000, bytes: 1500 };
        let replay = ReplayLimits { publications: 4, bytes: 900 };
        let mut rings: Rings<u64> = Rings::new(NodeId::from_random(7), Epoch::from_random(9), PLENTY, replay);
        let mut model = model::Model::new(limits, replay);
        let mut known = vec![rings.top(&topic(1))];
        let mut now = 0;
        for step in steps {
            match step {
                Step::Publish { topic: number, bytes } => {
                    let stamp = rings.publish(&topic(number), limits, now, bytes, |stamp| stamp.position.id.sequence);
                    model.publish(number, stamp, bytes, now);
                    known.push(stamp.position);
                }
                Step::Resume { topic: number, known: index } => {
                    // Most of these positions belong to other topics.
                    let since = known[index.index(known.len())];
                    let answer = resume(&mut rings, number, since, now);
                    prop_assert_eq!(model.resume(number, since, now), answer, "topic {} since {}", number, since);
                }
                Step::Wait(time) => now += time,
                Step::Sweep(count) => rings.sweep(now, count),
            }
        }
    }
}
