//! Users, topics, connections and the threads that own them.
//!
//! Reading order: `websocket_service` (the whole), `shard` (one thread), `connection` (one peer), then the shard's
//! doings: `reception`, `visitor`, `admission`, `turn`, `dialogue`, `fan_out`, `heartbeat`, `departure`, `relief`. `connection_manager`,
//! `subscription_manager` and `operation_queue_manager` are what shards and publishers share. Bytes and frames do not belong here
//! (`transport`), nor does Node.js (`binding`).

mod accounting;
mod admission;
mod anonymous;
pub mod authenticator;
pub mod circuit_breaker;
pub mod connection;
pub mod connection_manager;
mod connection_places;
pub(crate) mod containment;
mod deadlines;
mod departure;
mod dialogue;
mod fan_out;
pub mod fault_injection;
mod frame_queue;
mod heartbeat;
pub mod hooks;
pub mod host;
mod ingress;
pub mod inspection;
pub mod json;
pub mod json_members;
pub mod log_throttle;
mod lone_surrogates;
pub mod message_handler;
#[cfg(all(test, feature = "model"))]
mod models;
pub mod operation_queue_manager;
pub mod outbox;
pub mod outgoing;
mod pending_handshakes;
mod receiver;
mod reception;
mod relief;
mod run_end;
pub mod service_options;
pub mod shard;
mod shared;
pub mod subscription_manager;
mod timers;
pub mod token_bucket;
mod turn;
mod visitor;
mod wake_queue;
pub mod websocket_service;

pub use admission::Arrival;
