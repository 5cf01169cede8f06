//! The gate by examples. Interleavings with publications, drops and restarts are the simulator's.

use proptest::prelude::*;

use super::*;
use crate::broker::position::{Epoch, NodeId, Offset, PublicationId};

const LIMITS: GateLimits = GateLimits { publications: 4, bytes: 1000 };

fn id(sequence: u64) -> PublicationId {
    PublicationId { node: NodeId::from_random(1), sequence }
}

fn position(offset: u64) -> Position {
    Position { epoch: Epoch::from_random(1), offset: Offset::new(offset), id: id(offset) }
}

/// The publication with this offset, of 10 bytes.
fn entry(offset: u64) -> Entry<u64> {
    Entry { position: position(offset), previous: id(offset - 1), time: 0, bytes: 10, payload: offset }
}

fn recovered(offsets: std::ops::RangeInclusive<u64>) -> Resumed<u64> {
    Resumed::Recovered { top: position(*offsets.end()), entries: offsets.map(entry).collect() }
}

/// All that comes out: offsets of publications, and of gaps with their reasons.
fn drain(gate: &mut Gate<u64>) -> Vec<Result<u64, (LossReason, u64)>> {
    std::iter::from_fn(|| gate.next_output())
        .map(|output| match output {
            Output::Publication(entry) => Ok(entry.payload),
            Output::Gap { reason, position } => Err((reason, position.offset.get())),
        })
        .collect()
}

#[test]
fn what_arrives_while_history_is_read_follows_the_replay_once() {
    let mut gate = Gate::new(LIMITS);
    for offset in [3, 4, 5, 6] {
        gate.push(entry(offset));
    }
    assert_eq!(gate.next_output(), None, "nothing before the answer");
    assert_eq!(gate.answer(recovered(2..=4)), Some(Reply::Recovered { position: position(4) }));
    assert_eq!(drain(&mut gate), [2, 3, 4, 5, 6].map(Ok));
    assert!(gate.is_open());
    let mut cursor = gate.into_cursor();
    assert_eq!(cursor.accept(position(6), id(5)), Arrival::Duplicate);
    assert_eq!(cursor.accept(position(7), id(6)), Arrival::Deliver);
}

#[test]
fn a_publication_that_was_replayed_and_arrives_later_is_a_duplicate() {
    let mut gate = Gate::new(LIMITS);
    gate.answer(recovered(2..=4));
    assert_eq!(gate.next_output(), Some(Output::Publication(entry(2))));
    for offset in [2, 3, 4, 5] {
        gate.push(entry(offset));
    }
    assert_eq!(drain(&mut gate), [3, 4, 5].map(Ok));
}

#[test]
fn a_client_at_the_top_receives_only_what_follows() {
    let mut gate = Gate::new(LIMITS);
    gate.push(entry(4));
    gate.push(entry(5));
    let reply = gate.answer(Resumed::Recovered { top: position(4), entries: Vec::new() });
    assert_eq!(reply, Some(Reply::Recovered { position: position(4) }));
    assert_eq!(drain(&mut gate), [Ok(5)]);
}

#[test]
fn a_client_that_starts_or_has_lost_continuity_receives_what_follows_its_new_position() {
    for resumed in
        [Resumed::Started { top: position(4) }, Resumed::Lost { top: position(4), reason: LossReason::Expired }]
    {
        let mut gate = Gate::new(LIMITS);
        for offset in [4, 5] {
            gate.push(entry(offset));
        }
        let expected = match resumed {
            Resumed::Lost { .. } => Reply::Lost { reason: LossReason::Expired, position: Some(position(4)) },
            _ => Reply::Started { position: position(4) },
        };
        assert_eq!(gate.answer(resumed), Some(expected));
        assert_eq!(drain(&mut gate), [Ok(5)]);
    }
}

#[test]
fn more_than_the_bound_before_the_answer_is_told_in_the_reply() {
    for (count, bytes) in [(5, 10), (2, 501)] {
        let mut gate = Gate::new(LIMITS);
        for offset in 1..=count {
            gate.push(Entry { bytes, ..entry(offset) });
        }
        assert!(gate.heap_bytes() == 0, "what is over the bound is not held");
        gate.push(entry(count + 1));
        let position = position(count + 1);
        assert_eq!(
            gate.answer(recovered(1..=count)),
            Some(Reply::Lost { reason: LossReason::TooMany, position: Some(position) })
        );
        assert_eq!(drain(&mut gate), []);
        assert!(gate.is_open());
        gate.push(entry(count + 2));
        assert_eq!(drain(&mut gate), [Ok(count + 2)]);
    }
}

#[test]
fn exactly_the_bound_is_held() {
    for bytes in [10, 250] {
        let mut gate = Gate::new(LIMITS);
        for offset in 1..=4 {
            gate.push(Entry { bytes, ..entry(offset) });
        }
        gate.answer(Resumed::Started { top: position(0) });
        assert_eq!(drain(&mut gate), [1, 2, 3, 4].map(Ok));
    }
}

#[test]
fn a_start_needs_no_more_than_the_newest_position() {
    let mut gate = Gate::new(LIMITS);
    for offset in 1..=9 {
        gate.push(entry(offset));
    }
    assert_eq!(gate.answer(Resumed::Started { top: position(2) }), Some(Reply::Started { position: position(9) }));
    gate.push(entry(10));
    assert_eq!(drain(&mut gate), [Ok(10)]);
}

#[test]
fn a_replay_that_was_announced_is_completed_also_when_too_much_arrives() {
    let mut gate = Gate::new(LIMITS);
    gate.push(entry(5));
    gate.answer(recovered(2..=4));
    assert_eq!(gate.next_output(), Some(Output::Publication(entry(2))));
    for offset in 6..=12 {
        gate.push(entry(offset));
    }
    assert_eq!(drain(&mut gate), [Ok(3), Ok(4), Err((LossReason::TooMany, 12))]);
    gate.push(entry(13));
    assert_eq!(drain(&mut gate), [Ok(13)]);
    assert!(gate.is_open());
}

#[test]
fn room_comes_back_as_the_client_takes_what_was_held() {
    let mut gate = Gate::new(LIMITS);
    gate.answer(Resumed::Started { top: position(0) });
    for offset in 1..=4 {
        gate.push(entry(offset));
    }
    for offset in 5..=20 {
        assert_eq!(gate.next_output(), Some(Output::Publication(entry(offset - 4))));
        gate.push(entry(offset));
    }
    assert_eq!(drain(&mut gate), [17, 18, 19, 20].map(Ok));
}

#[test]
fn an_unavailable_history_is_answered_once_and_everything_that_arrived_follows() {
    let mut gate = Gate::new(LIMITS);
    gate.push(entry(7));
    assert_eq!(gate.give_up(), Some(Reply::Lost { reason: LossReason::Unavailable, position: None }));
    assert_eq!(gate.answer(recovered(2..=4)), None);
    assert_eq!(gate.give_up(), None);
    gate.push(entry(8));
    assert_eq!(drain(&mut gate), [7, 8].map(Ok));
}

#[test]
fn a_missing_publication_and_another_epoch_are_told_before_what_follows() {
    let mut gate = Gate::new(GateLimits::DEFAULT);
    let other =
        |offset| Entry { position: Position { epoch: Epoch::from_random(2), ..position(offset) }, ..entry(offset) };
    gate.push(entry(5));
    gate.push(entry(8));
    gate.push(other(1));
    gate.push(other(2));
    gate.push_gap(LossReason::Fork, Position { epoch: Epoch::from_random(2), ..position(1) });
    gate.push(other(2));
    gate.answer(recovered(3..=4));
    let fork = |offset| Err((LossReason::Fork, offset));
    let expected = [Ok(3), Ok(4), Ok(5), fork(7), Ok(8), Err((LossReason::Reset, 0)), Ok(1), Ok(2), fork(1), Ok(2)];
    assert_eq!(drain(&mut gate), expected);
}

#[test]
fn a_topic_that_began_anew_is_followed_without_a_gap() {
    let mut gate = Gate::new(LIMITS);
    gate.push(Entry { previous: id(0), ..entry(500) });
    gate.answer(recovered(3..=4));
    assert_eq!(drain(&mut gate), [3, 4, 500].map(Ok));
}

proptest! {
    /// Whenever the history is read, answered and taken: each publication after the client's position once and in order, or the
    /// client is told that some are missing.
    #[test]
    fn no_publication_is_lost_silently_or_delivered_twice(
        since in 0..10_u64,
        read_at in 0..12_u64,
        lag in 0..4_u64,
        answer_at in 0..12_u64,
        takes in prop::collection::vec(0..3_usize, 24),
    ) {
        // Publications come one per step; each is in the history at once and arrives `lag` steps later.
        let mut gate = Gate::new(LIMITS);
        let (mut read, mut reply, mut sent) = (None, None, Vec::new());
        let subscribed_at = since;
        for (step, take) in (since..since + 24).zip(takes) {
            if step == subscribed_at + read_at {
                read = Some(recovered(since + 1..=step));
            }
            if step >= subscribed_at + read_at + answer_at
                && let Some(read) = read.take()
            {
                reply = gate.answer(read);
            }
            // What was published before the subscription never arrives.
            if let Some(offset) = step.checked_sub(lag).filter(|offset| *offset > since) {
                gate.push(entry(offset));
            }
            sent.extend((0..take).map_while(|_| gate.next_output()));
        }
        let Some(reply) = reply else { return Ok(()) };
        sent.extend(std::iter::from_fn(|| gate.next_output()));
        let mut seen = match reply {
            Reply::Recovered { .. } => since,
            Reply::Lost { position: Some(position), reason } => {
                prop_assert_eq!(reason, LossReason::TooMany);
                position.offset.get()
            }
            other => panic!("{other:?}"),
        };
        for output in sent {
            match output {
                Output::Publication(entry) => {
                    prop_assert_eq!(entry.payload, seen + 1);
                    seen = entry.payload;
                }
                Output::Gap { position, .. } => {
                    prop_assert!(position.offset.get() > seen);
                    seen = position.offset.get();
                }
            }
        }
        prop_assert!(seen >= since + 23 - lag, "{} of {}", seen, since + 23 - lag);
    }
}
