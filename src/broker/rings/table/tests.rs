//! The table against two lists in vectors.

use proptest::prelude::*;

use super::*;
use crate::broker::position::{Epoch, NodeId, Offset, Position, PublicationId};
use crate::broker::rings::TopicLimits;
use crate::types::BillId;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64),
    Touch(u64),
    Push(u64),
    Clear(u64),
    Remove(u64),
    RemoveOldest(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let topic = 1..12_u64;
    prop_oneof![
        3 => topic.clone().prop_map(Step::Insert),
        2 => topic.clone().prop_map(Step::Touch),
        3 => topic.clone().prop_map(Step::Push),
        2 => topic.clone().prop_map(Step::Clear),
        1 => topic.prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::RemoveOldest),
    ]
}

fn topic(number: u64) -> Topic {
    Topic::Bill(BillId::new(number).unwrap())
}

fn id(sequence: u64) -> PublicationId {
    PublicationId { node: NodeId::from_random(1), sequence }
}

/// From the least to the most recently used.
fn order(table: &Table<u64>, list: Use) -> Vec<Topic> {
    let mut order = Vec::new();
    let mut place = table.lists[list as usize].oldest;
    let mut older = NONE;
    while let Some(record) = table.records.get(place as usize) {
        assert_eq!((record.older, record.list, table.find(&record.topic)), (older, list, Some(place)));
        order.push(record.topic.clone());
        (older, place) = (place, record.newer);
    }
    assert_eq!(table.lists[list as usize].newest, older);
    order
}

proptest! {
    #[test]
    fn records_keep_their_order_and_their_rings(steps in prop::collection::vec(step(), 1..300)) {
        let mut table: Table<u64> = Table::default();
        // Topics with the number of publications held, from the least to the most recently used.
        let mut model: [Vec<(Topic, usize)>; 2] = [Vec::new(), Vec::new()];
        for step in steps {
            let number = match step {
                Step::Insert(n) | Step::Touch(n) | Step::Push(n) | Step::Clear(n) | Step::Remove(n) => n,
                Step::RemoveOldest(_) => 1,
            };
            let (topic, place) = (topic(number), table.find(&topic(number)));
            let known = model.iter().flatten().find(|(known, _)| *known == topic).map(|(_, held)| *held);
            prop_assert_eq!(place.is_some(), known.is_some());
            let mut place_newest = |held: Option<usize>| {
                model.iter_mut().for_each(|list| list.retain(|(known, _)| *known != topic));
                if let Some(held) = held {
                    model[usize::from(held == 0)].push((topic.clone(), held));
                }
            };
            match (step, place, known) {
                (Step::Insert(_), None, _) => {
                    let base = Position { epoch: Epoch::from_random(1), offset: Offset::ZERO, id: id(0) };
                    table.insert(topic.clone(), Ring::new(base, TopicLimits::DEFAULT));
                    place_newest(Some(0));
                }
                (Step::Touch(_), Some(place), known) => {
                    table.touch(place);
                    place_newest(known);
                }
                (Step::Push(_), Some(place), Some(held)) => {
                    table.ring_mut(place).unwrap().push(id(1), number, 1, 0, 1);
                    table.touch(place);
                    place_newest(Some(held + 1));
                }
                (Step::Clear(_), Some(place), Some(held)) => {
                    table.ring_mut(place).unwrap().clear();
                    table.settle(place);
                    // A topic that was empty before stays where it is.
                    if held > 0 {
                        place_newest(Some(0));
                    }
                }
                (Step::Remove(_), Some(place), _) => {
                    prop_assert_eq!(table.remove(place).map(|(removed, _)| removed), Some(topic.clone()));
                    place_newest(None);
                }
                (Step::RemoveOldest(stored), ..) => {
                    let list = if stored { Use::Stored } else { Use::Empty };
                    let removed = table.oldest(list).and_then(|place| table.remove(place)).map(|(removed, _)| removed);
                    let list = &mut model[list as usize];
                    let expected = (!list.is_empty()).then(|| list.remove(0).0);
                    prop_assert_eq!(removed, expected);
                }
                _ => (),
            }
            for list in [Use::Stored, Use::Empty] {
                let expected: Vec<_> = model[list as usize].iter().map(|(topic, _)| topic.clone()).collect();
                prop_assert_eq!(order(&table, list), expected);
                prop_assert_eq!(table.bytes(list), model[list as usize].len() * Table::<u64>::RECORD_BYTES);
            }
            for (topic, held) in model.iter().flatten() {
                let ring = table.find(topic).and_then(|place| table.ring(place)).unwrap();
                prop_assert_eq!(ring.newest(usize::MAX).count(), *held);
            }
        }
    }
}
