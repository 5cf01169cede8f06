//! Which topics of a slow connection have lost publications to a drop policy, until the client has been told. Pure.
//!
//! Owned by the outbox of the connection; empty for one that keeps up. Telling must not change the order: a client that has received
//! a later position before the news of the loss would resume from there and believe that it has everything. So a loss is told where
//! the publication would have been among the publications of its topic, and a topic has at most one loss at each end of the queue.
//! Replies keep their own places: a reply that stands before the publications of its topic is written before the loss of the first.

use smallvec::SmallVec;

use super::position::Position;

/// `T` names a topic.
#[derive(Clone, Debug)]
pub struct Drops<T> {
    front: SmallVec<[Loss<T>; 1]>,
    back: SmallVec<[Loss<T>; 1]>,
}

/// The publications of a topic up to `position` were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss<T> {
    pub topic: T,
    pub position: Position,
}

impl<T> Default for Drops<T> {
    fn default() -> Self {
        Self { front: SmallVec::new(), back: SmallVec::new() }
    }
}

impl<T: PartialEq> Drops<T> {
    pub fn is_empty(&self) -> bool {
        self.front.is_empty() && self.back.is_empty()
    }

    /// A publication was taken out of the front of the queue.
    pub fn oldest_dropped(&mut self, topic: T, position: Position) {
        record(&mut self.front, topic, position);
    }

    /// A publication was not put in at the back of the queue.
    pub fn newest_dropped(&mut self, topic: T, position: Position) {
        record(&mut self.back, topic, position);
    }

    /// What to tell before the next publication, or the next loss that was queued, is written.
    pub fn before_publication(&mut self) -> impl Iterator<Item = Loss<T>> {
        std::mem::take(&mut self.front).into_iter()
    }

    /// What to queue before a publication of this topic is queued.
    pub fn before_push(&mut self, topic: &T) -> Option<Loss<T>> {
        let place = self.back.iter().position(|loss| loss.topic == *topic)?;
        Some(self.back.swap_remove(place))
    }

    /// What to tell once the queue is empty. The first ones are older.
    pub fn when_empty(&mut self) -> impl Iterator<Item = Loss<T>> {
        let front = std::mem::take(&mut self.front);
        front.into_iter().chain(std::mem::take(&mut self.back))
    }

    /// The subscription has ended: nothing is told about it any more. The client has the position before the loss.
    pub fn forget(&mut self, topic: &T) {
        self.front.retain(|loss| loss.topic != *topic);
        self.back.retain(|loss| loss.topic != *topic);
    }
}

fn record<T: PartialEq>(losses: &mut SmallVec<[Loss<T>; 1]>, topic: T, position: Position) {
    match losses.iter_mut().find(|loss| loss.topic == topic) {
        Some(loss) => loss.position = position,
        None => losses.push(Loss { topic, position }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::position::{Epoch, NodeId, Offset, PublicationId};

    fn position(offset: u64) -> Position {
        let id = PublicationId { node: NodeId::from_random(1), sequence: offset };
        Position { epoch: Epoch::from_random(1), offset: Offset::new(offset), id }
    }

    fn told(losses: impl Iterator<Item = Loss<char>>) -> Vec<(char, u64)> {
        losses.map(|loss| (loss.topic, loss.position.offset.get())).collect()
    }

    #[test]
    fn losses_of_a_topic_are_told_once_up_to_the_newest() {
        let mut drops = Drops::default();
        assert!(drops.is_empty());
        for (topic, offset) in [('a', 1), ('b', 1), ('a', 2)] {
            drops.oldest_dropped(topic, position(offset));
        }
        assert_eq!(told(drops.before_publication()), [('a', 2), ('b', 1)]);
        assert!(drops.is_empty());
        assert_eq!(told(drops.before_publication()), []);
    }

    #[test]
    fn a_loss_at_the_back_is_told_before_the_next_publication_of_its_topic_or_when_the_queue_is_empty() {
        let mut drops = Drops::default();
        drops.newest_dropped('a', position(4));
        drops.newest_dropped('b', position(7));
        drops.newest_dropped('a', position(5));
        assert_eq!(told(drops.before_publication()), [], "older publications of the topic are still queued");
        assert_eq!(drops.before_push(&'c'), None);
        assert_eq!(drops.before_push(&'a'), Some(Loss { topic: 'a', position: position(5) }));
        assert_eq!(drops.before_push(&'a'), None);
        drops.oldest_dropped('b', position(6));
        assert_eq!(told(drops.when_empty()), [('b', 6), ('b', 7)]);
        assert!(drops.is_empty());
    }

    #[test]
    fn nothing_is_told_about_a_topic_that_is_not_followed_any_more() {
        let mut drops = Drops::default();
        drops.oldest_dropped('a', position(1));
        drops.newest_dropped('a', position(2));
        drops.newest_dropped('b', position(2));
        drops.forget(&'a');
        assert_eq!(told(drops.when_empty()), [('b', 2)]);
    }
}
