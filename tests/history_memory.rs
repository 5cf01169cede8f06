//! What histories of topics cost, byte by byte, beside what they say they cost.
//!
//! One test: the bytes counted are those of the whole process, so nothing may run beside.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "support/heap.rs"]
mod heap;

use std::sync::Arc;

use carillon::broker::position::{Epoch, NodeId, Since};
use carillon::broker::rings::{ReplayLimits, Resumed, Rings, TopicLimits};
use carillon::hub::{ChannelName, Topic};
use carillon::types::BillId;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

type Payload = Arc<[u8]>;

const MAX_BYTES: usize = 4 << 20;
/// The reference counts of an `Arc`.
const COUNTS: usize = 2 * size_of::<usize>();

fn topic(number: u64) -> Topic {
    if number.is_multiple_of(2) {
        Topic::Channel(ChannelName::new(&format!("chat:{number}")).unwrap())
    } else {
        Topic::Bill(BillId::new(number).unwrap())
    }
}

/// Publishes to topics in a fixed disorder and calls `check` now and then.
fn publish(rings: &mut Rings<Payload>, topics: u64, publications: u64, mut check: impl FnMut(&Rings<Payload>)) {
    let limits = TopicLimits { publications: 20, ttl: 100_000, bytes: 16 << 10 };
    for count in 0..publications {
        let number = count.wrapping_mul(0x9E37_79B9_7F4A_7C15) % topics + 1;
        let bytes = (count * 37 % 700) as usize;
        let cost = (bytes + COUNTS).next_multiple_of(size_of::<usize>());
        rings.publish(&topic(number), limits, count, cost, |_| vec![0; bytes].into());
        if count % 97 == 0 {
            check(rings);
        }
    }
}

#[test]
fn histories_cost_what_they_say_and_give_it_back() {
    for topics in [1, 3, 300, 20_000] {
        let before = heap::in_use();
        let used = || usize::try_from(heap::in_use() - before).unwrap();
        let mut rings = Rings::new(NodeId::from_random(1), Epoch::from_random(2), MAX_BYTES, ReplayLimits::DEFAULT);
        assert_eq!(used(), 0, "rings that hold nothing cost nothing");

        publish(&mut rings, topics, 60_000, |rings| {
            assert!(rings.bytes() <= MAX_BYTES);
            assert!(used() <= rings.heap_bytes(), "{topics} topics: {} in use, {} said", used(), rings.heap_bytes());
        });
        let least = rings.heap_bytes() * 8 / 10;
        assert!(used() >= least, "{topics} topics: {} in use, {} said", used(), rings.heap_bytes());

        // The bounds shrink while memory is short.
        rings.set_divisor(8);
        assert!(rings.bytes() <= MAX_BYTES / 8);
        assert!(used() <= rings.heap_bytes(), "{topics} topics: {} in use, {} said", used(), rings.heap_bytes());
        rings.set_divisor(1);
        publish(&mut rings, topics, 60_000, |_| ());
        assert!(used() <= rings.heap_bytes());

        // Everything expires: positions remain, within their share.
        rings.sweep(1 << 40, usize::MAX);
        assert!(rings.bytes() <= MAX_BYTES / 8);
        assert!(used() <= rings.heap_bytes(), "{topics} topics: {} in use, {} said", used(), rings.heap_bytes());

        rings.set_max_bytes(0);
        assert_eq!((rings.topics(), rings.bytes()), (0, 0));
        assert_eq!(used(), rings.heap_bytes(), "only the floors are left");
        drop(rings);
        assert_eq!(used(), 0);
    }

    // A resume costs its entries and no copy of a payload.
    let mut rings: Rings<Payload> =
        Rings::new(NodeId::from_random(1), Epoch::from_random(2), MAX_BYTES, ReplayLimits::DEFAULT);
    let topic = topic(1);
    let start = rings.top(&topic);
    for count in 0..10 {
        rings.publish(&topic, TopicLimits::DEFAULT, count, 4096, |_| vec![0; 4096].into());
    }
    let before = heap::reset_peak();
    let resumed = rings.resume(&topic, &Since::Position(start), 10);
    assert!(heap::peak() - before <= 10 * 128, "{}", heap::peak() - before);
    assert!(matches!(resumed, Resumed::Recovered { entries, .. } if entries.len() == 10));
}
