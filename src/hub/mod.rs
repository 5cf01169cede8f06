//! Who is connected and who is subscribed to what; no I/O and no sockets.
//!
//! `connection_manager` and the routing table of `subscription_manager` are shared by all threads of a run, each behind its own short
//! locks; the subscriptions of one shard belong to it alone. `operation_queue_manager` carries publications to a shard.

pub mod connection_limit;
pub mod connection_manager;
pub mod limit;
pub mod operation_queue_manager;
pub mod publication;
pub mod router;
pub mod subscription_manager;
mod topic;

pub use topic::{ChannelName, InvalidChannelName, Topic, TopicId};
