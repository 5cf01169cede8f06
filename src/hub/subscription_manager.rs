//! Who is subscribed to what: the subscriptions of one shard, and the routing table that all shards share.
//!
//! [`LocalSubscriptions`] belong to their shard's thread and find the connections of a publication. The [`RoutingTable`] knows which
//! shards have subscribers of a topic, and which users, for publishers and getters; it changes with subscriptions, never per message.
//! [`Topics`] are what one connection is subscribed to.

mod keyed_hash;
mod local_subscribers;
mod local_subscriptions;
mod ordered_map;
mod routing_table;
mod shard_set;
mod topics;
mod transition;

pub use keyed_hash::KeyedHash;
pub use local_subscriptions::LocalSubscriptions;
pub use routing_table::{RoutingCounts, RoutingTable};
pub use shard_set::ShardSet;
pub use topics::Topics;
pub use transition::Transition;
