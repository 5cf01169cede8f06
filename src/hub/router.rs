//! The only way for a publication into the shards, from this process and from others.
//!
//! One per run, called on any thread; waits for no shard.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::hub::connection_manager::ConnectionManager;
use crate::hub::operation_queue_manager::{Operation, OperationQueue, Permit, Receivers};
use crate::hub::publication::{Publication, Target};
use crate::hub::subscription_manager::{RoutingTable, ShardSet};
use crate::types::ShardId;

pub struct Router {
    routing: Arc<RoutingTable>,
    users: Arc<ConnectionManager>,
    /// One per shard, in the order of their ids.
    queues: Vec<Arc<OperationQueue>>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Routed {
    /// It concerns no shard.
    NoReceivers,
    /// Every shard that it concerns has it.
    Queued,
    /// No shard has it, since the queue of one that it concerns is full.
    Refused,
}

impl Router {
    pub fn new(routing: Arc<RoutingTable>, users: Arc<ConnectionManager>, queues: Vec<Arc<OperationQueue>>) -> Self {
        Self { routing, users, queues }
    }

    /// Whether any shard is concerned. By the time of a publication that may have changed.
    pub fn has_receivers(&self, target: &Target) -> bool {
        match target {
            Target::All => true,
            Target::Topic(topic) => !self.routing.shards(topic).is_empty(),
            Target::User(user) => self.users.connection_count(user.as_str()) > 0,
        }
    }

    /// Queues a publication at the shards it concerns: at all of them or, if one has no room, at none.
    pub fn on_publication(&self, publication: &Publication) -> Routed {
        let (receivers, shards) = self.resolve(&publication.target);
        if shards.is_empty() {
            return Routed::NoReceivers;
        }
        let concerned = self.queues.iter().enumerate().filter(|(id, _)| shards.contains(shard_id(*id)));
        let permits: Option<SmallVec<[Permit<'_>; 8]>> =
            concerned.map(|(_, queue)| queue.reserve(&publication.message)).collect();
        let Some(permits) = permits else { return Routed::Refused };
        for permit in permits {
            permit.push(Operation {
                receivers: receivers.clone(),
                message: publication.message.clone(),
                priority: publication.priority,
                published: publication.published,
            });
        }
        Routed::Queued
    }

    /// A user's connections are those at this moment: one that closes before the delivery is passed over, and a later one has not
    /// missed anything.
    fn resolve(&self, target: &Target) -> (Receivers, ShardSet) {
        match target {
            Target::All => (Receivers::All, self.queues.iter().enumerate().map(|(id, _)| shard_id(id)).collect()),
            Target::Topic(topic) => (Receivers::Topic(topic.clone()), self.routing.shards(topic)),
            Target::User(user) => {
                let open = self.users.connections(user.as_str());
                (Receivers::Connections(open.as_slice().into()), open.iter().map(|open| open.shard).collect())
            }
        }
    }
}

fn shard_id(index: usize) -> ShardId {
    // There are at most 64 shards.
    ShardId(u8::try_from(index).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::connection_limit::ConnectionLimit;
    use crate::hub::connection_manager::ConnectionRef;
    use crate::hub::subscription_manager::Transition;
    use crate::hub::topic::Topic;
    use crate::transport::encoded_message::EncodedMessage;
    use crate::types::{BillId, ConnectionKey, ConnectionNumber, Priority, UserId};

    struct Trial {
        router: Router,
        routing: Arc<RoutingTable>,
        users: Arc<ConnectionManager>,
        queues: Vec<Arc<OperationQueue>>,
    }

    /// Three shards, each with room for one publication of 100 bytes.
    fn trial() -> Trial {
        let routing = Arc::new(RoutingTable::default());
        let users = Arc::new(ConnectionManager::new(std::time::Instant::now()));
        let queues: Vec<_> = (0..3).map(|_| Arc::new(OperationQueue::new(300, Arc::default()))).collect();
        Trial { router: Router::new(routing.clone(), users.clone(), queues.clone()), routing, users, queues }
    }

    fn bill() -> Topic {
        Topic::Bill(BillId::new(7).unwrap())
    }

    fn publication(target: Target) -> Publication {
        Publication::new(target, EncodedMessage::text(vec![b'x'; 100]), Priority::Normal)
    }

    fn waiting(trial: &Trial) -> Vec<usize> {
        trial.queues.iter().map(|queue| queue.len()).collect()
    }

    #[test]
    fn a_publication_goes_to_the_shards_it_concerns() {
        let trial = trial();
        let ann = UserId::new("ann");
        assert_eq!(trial.router.on_publication(&publication(Target::Topic(bill()))), Routed::NoReceivers);
        assert_eq!(trial.router.on_publication(&publication(Target::User(ann.clone()))), Routed::NoReceivers);
        trial.routing.subscribe(&ann, ShardId(1), &[(bill(), Transition::FirstOrLast)]);
        assert!(trial.router.has_receivers(&Target::Topic(bill())));
        assert_eq!(trial.router.on_publication(&publication(Target::Topic(bill()))), Routed::Queued);
        assert_eq!(waiting(&trial), [0, 1, 0]);
        let place = trial.users.reserve(&ann, 1, ConnectionLimit::Refuse).unwrap();
        let connection = ConnectionRef { number: ConnectionNumber(1), key: ConnectionKey(0), shard: ShardId(2) };
        place.open(connection, std::time::Instant::now());
        assert_eq!(trial.router.on_publication(&publication(Target::User(ann))), Routed::Queued);
        assert_eq!(waiting(&trial), [0, 1, 1]);
    }

    #[test]
    fn one_full_queue_refuses_a_publication_for_all() {
        let trial = trial();
        trial.routing.subscribe(&UserId::new("ann"), ShardId(1), &[(bill(), Transition::FirstOrLast)]);
        assert_eq!(trial.router.on_publication(&publication(Target::Topic(bill()))), Routed::Queued);
        assert_eq!(trial.router.on_publication(&publication(Target::All)), Routed::Refused);
        assert_eq!(waiting(&trial), [0, 1, 0]);
        trial.queues[1].clear();
        assert_eq!(trial.router.on_publication(&publication(Target::All)), Routed::Queued);
        assert_eq!(waiting(&trial), [1, 1, 1]);
    }
}
