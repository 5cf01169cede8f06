//! Streams by examples. Interleavings with cuts, set-backs and failures are the simulator's.

use super::*;
use crate::broker::position::{Epoch, NodeId};

const LIMITS: TopicLimits = TopicLimits { publications: 10, ..TopicLimits::DEFAULT };

/// The sequence of the first attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Payload(u64);

impl Origin for Payload {
    fn origin(&self) -> PublicationId {
        id(self.0)
    }
}

fn id(sequence: u64) -> PublicationId {
    PublicationId { node: NodeId::from_random(1), sequence }
}

fn position(epoch: u64, offset: u64, sequence: u64) -> Position {
    Position { epoch: Epoch::from_random(epoch), offset: Offset::new(offset), id: id(sequence) }
}

/// Publications with these sequences, the first at `offset`, after one with the sequence `previous`.
fn line(epoch: u64, offset: u64, previous: u64, sequences: &[u64]) -> Vec<Entry<Payload>> {
    let previous = std::iter::once(previous).chain(sequences.iter().copied());
    (offset..)
        .zip(sequences)
        .zip(previous)
        .map(|((offset, sequence), previous)| Entry {
            position: position(epoch, offset, *sequence),
            previous: id(previous),
            time: 0,
            bytes: 10,
            payload: Payload(*sequence),
        })
        .collect()
}

fn whole(entries: Vec<Entry<Payload>>) -> FetchedHistory<Payload> {
    FetchedHistory::new(entries.last().unwrap().position, entries, true).unwrap()
}

/// The steps in short.
#[derive(Debug, PartialEq)]
enum Short {
    Deliver(u64),
    Skip(u64),
    Gap(LossReason, u64),
    Fetch(Option<u64>),
}

fn act(act: impl FnOnce(&mut Vec<Step<Payload>>)) -> Vec<Short> {
    let mut steps = Vec::new();
    act(&mut steps);
    steps
        .into_iter()
        .map(|step| match step {
            Step::Deliver(entry) => Short::Deliver(entry.payload.0),
            Step::Skip(position) => Short::Skip(position.offset.get()),
            Step::Gap { reason, position } => Short::Gap(reason, position.offset.get()),
            Step::Fetch { from } => Short::Fetch(from.map(Offset::get)),
        })
        .collect()
}

/// Follows a topic whose publications so far have the sequences and offsets 1 to 3.
fn following() -> Stream<Payload> {
    let mut stream = Stream::new(LIMITS, GateLimits::DEFAULT);
    assert!(stream.is_behind());
    assert_eq!(act(|steps| stream.synchronize(steps)), [Short::Fetch(None)]);
    assert!(!stream.is_behind());
    assert_eq!(act(|steps| stream.fetched(whole(line(1, 1, 0, &[1, 2, 3])), 0, steps)), []);
    assert_eq!(stream.top(), Some(position(1, 3, 3)));
    stream
}

fn push(stream: &mut Stream<Payload>, entry: &Entry<Payload>) -> Vec<Short> {
    act(|steps| stream.receive(entry.clone(), 0, steps))
}

#[test]
fn what_follows_is_delivered_once() {
    let mut stream = following();
    let next = line(1, 4, 3, &[4, 5]);
    assert_eq!(push(&mut stream, &next[0]), [Short::Deliver(4)]);
    assert_eq!(push(&mut stream, &next[0]), []);
    assert_eq!(push(&mut stream, &next[1]), [Short::Deliver(5)]);
    assert!(!stream.is_behind());
}

#[test]
fn a_publication_that_is_missing_is_fetched_and_delivered_in_its_place() {
    let mut stream = following();
    let next = line(1, 4, 3, &[4, 5, 6, 7]);
    assert_eq!(push(&mut stream, &next[1]), [Short::Fetch(Some(4))]);
    assert_eq!(push(&mut stream, &next[3]), []);
    let reply = FetchedHistory::new(position(1, 6, 6), next[..3].to_vec(), false).unwrap();
    let expected = [Short::Deliver(4), Short::Deliver(5), Short::Deliver(6), Short::Deliver(7)];
    assert_eq!(act(|steps| stream.fetched(reply, 0, steps)), expected);
    assert!(!stream.is_behind());
}

#[test]
fn what_is_pushed_before_the_first_fetch_reaches_subscribers_also_if_the_fetch_contains_it() {
    let mut stream = Stream::new(LIMITS, GateLimits::DEFAULT);
    act(|steps| stream.synchronize(steps));
    let all = line(1, 1, 0, &[1, 2, 3, 4]);
    assert_eq!(push(&mut stream, &all[2]), []);
    assert_eq!(push(&mut stream, &all[3]), []);
    let reply = whole(all[..3].to_vec());
    assert_eq!(act(|steps| stream.fetched(reply, 0, steps)), [Short::Deliver(3), Short::Deliver(4)]);
}

#[test]
fn another_publication_at_the_same_offset_is_a_fork_from_the_last_one_shared() {
    let mut stream = following();
    let other = line(1, 3, 2, &[4, 5]);
    assert_eq!(push(&mut stream, &other[0]), [Short::Fetch(Some(4))]);
    let reply = FetchedHistory::new(position(1, 4, 5), other[1..].to_vec(), false).unwrap();
    assert_eq!(act(|steps| stream.fetched(reply, 0, steps)), [Short::Fetch(None)]);
    let reply = whole([line(1, 1, 0, &[1, 2]), other].concat());
    let expected = [Short::Gap(LossReason::Fork, 2), Short::Deliver(4), Short::Deliver(5)];
    assert_eq!(act(|steps| stream.fetched(reply, 0, steps)), expected);
    assert_eq!(stream.top(), Some(position(1, 4, 5)));
}

#[test]
fn a_publication_that_is_offered_again_is_skipped_wherever_it_is_stored() {
    let mut stream = following();
    act(|steps| stream.synchronize(steps));
    // The broker was set back to offset 1; publication 4 came first, then 3 was offered again, as attempt 5.
    let mut other = line(1, 1, 0, &[1, 4, 5]);
    other[2].payload = Payload(3);
    let expected = [Short::Gap(LossReason::Fork, 1), Short::Deliver(4), Short::Skip(3)];
    assert_eq!(act(|steps| stream.fetched(whole(other), 0, steps)), expected);
    // And 2 is offered after that, as attempt 6.
    let mut offered = line(1, 4, 5, &[6]).remove(0);
    offered.payload = Payload(2);
    assert_eq!(push(&mut stream, &offered), [Short::Skip(4)]);
}

#[test]
fn another_epoch_is_a_reset_and_everything_new_of_it_is_delivered() {
    let mut stream = following();
    let other = line(2, 1, 0, &[4, 5]);
    assert_eq!(push(&mut stream, &other[1]), [Short::Fetch(Some(4))]);
    let expected = [Short::Gap(LossReason::Reset, 0), Short::Deliver(4), Short::Deliver(5)];
    assert_eq!(act(|steps| stream.fetched(whole(other), 0, steps)), expected);
}

#[test]
fn what_has_left_the_history_cannot_be_healed() {
    let mut stream = following();
    act(|steps| stream.synchronize(steps));
    let expected = [Short::Gap(LossReason::Expired, 7), Short::Deliver(8), Short::Deliver(9)];
    assert_eq!(act(|steps| stream.fetched(whole(line(1, 8, 7, &[8, 9])), 0, steps)), expected);
}

#[test]
fn an_own_publication_that_was_delivered_without_a_position_is_not_delivered_again() {
    let mut stream = following();
    stream.delivered_locally(id(4));
    let next = line(1, 4, 3, &[4, 5]);
    assert_eq!(push(&mut stream, &next[0]), [Short::Skip(4)]);
    assert_eq!(push(&mut stream, &next[1]), [Short::Deliver(5)]);
}

#[test]
fn a_failed_fetch_is_repeated_and_what_is_held_stays() {
    let mut stream = following();
    let next = line(1, 4, 3, &[4, 5]);
    push(&mut stream, &next[1]);
    stream.fetch_failed();
    assert!(stream.is_behind());
    assert_eq!(act(|steps| stream.synchronize(steps)), [Short::Fetch(Some(4))]);
    let reply = FetchedHistory::new(position(1, 4, 4), next[..1].to_vec(), false).unwrap();
    assert_eq!(act(|steps| stream.fetched(reply, 0, steps)), [Short::Deliver(4), Short::Deliver(5)]);
}

#[test]
fn a_push_that_the_history_never_explains_is_given_up() {
    let mut stream = following();
    push(&mut stream, &line(1, 9, 8, &[9])[0]);
    for _ in 0..MAX_FETCHES {
        assert_eq!(act(|steps| stream.fetched(whole(line(1, 1, 0, &[1, 2, 3])), 0, steps)), []);
        act(|steps| stream.synchronize(steps));
    }
    act(|steps| stream.fetched(whole(line(1, 1, 0, &[1, 2, 3])), 0, steps));
    assert!(!stream.is_behind());
    assert_eq!(push(&mut stream, &line(1, 4, 3, &[4])[0]), [Short::Deliver(4)]);
}

#[test]
fn what_is_held_is_bounded() {
    let mut stream = Stream::new(LIMITS, GateLimits { publications: 3, bytes: 1000 });
    act(|steps| stream.synchronize(steps));
    let all = line(1, 1, 0, &(1..=50).collect::<Vec<_>>());
    for entry in &all {
        push(&mut stream, entry);
        assert!(stream.held.len() <= 3 && stream.held_bytes == 10 * stream.held.len());
    }
    let expected: Vec<_> = (stream.held[0].payload.0..=50).map(Short::Deliver).collect();
    assert_eq!(act(|steps| stream.fetched(whole(all), 0, steps)), expected);
    assert_eq!(stream.held_bytes, 0);
}

#[test]
fn a_reply_that_is_not_consecutive_is_none() {
    let all = line(1, 1, 0, &[1, 2, 3]);
    let top = all[2].position;
    assert!(FetchedHistory::new(top, all.clone(), true).is_ok());
    assert_eq!(FetchedHistory::new(all[1].position, all.clone(), true), Err(BrokenChain));
    let with_hole = vec![all[0].clone(), all[2].clone()];
    assert_eq!(FetchedHistory::new(top, with_hole, true), Err(BrokenChain));
    let forged = vec![all[1].clone(), Entry { previous: id(9), ..all[2].clone() }];
    assert_eq!(FetchedHistory::new(top, forged, true), Err(BrokenChain));
}
