//! One thread that owns a share of the connections, and its event loop.
//!
//! Reading order: `event_loop` (the loop and its parts), `connection` (one peer), `drive` (reading and writing one), `session` (requests),
//! `fan_out` (publications), `close`, `handshake`, `acceptor`. Bytes and frames are `transport`'s, users and topics are `hub`'s.

pub mod acceptor;
pub mod close;
pub mod connection;
pub mod context;
pub mod deadlines;
pub mod drive;
pub mod event_loop;
pub mod fan_out;
mod frame_queue;
pub mod handshake;
pub mod heartbeat;
mod ingress;
pub mod labels;
pub mod outbox;
pub mod parker;
pub mod pending;
pub mod pending_places;
pub mod probe;
pub mod receiver;
pub mod reclaim;
pub mod run_end;
pub mod service_options;
pub mod session;
pub mod supervisor;
pub mod timers;
pub mod token_bucket;
pub mod wake_queue;
