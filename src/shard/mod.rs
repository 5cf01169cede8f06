//! One thread that owns a share of the connections, and its event loop.
//!
//! `event_loop` owns the parts; each part is a struct with methods of its own, and code that needs several takes them as arguments.
//! Reading order: `event_loop`, `connection` (one peer), `drive` (reads and writes it), `receiver` and `session` (its requests),
//! `fan_out` and `egress` (publications), `close`, `handshake` (how connections begin). Bytes and frames are `transport`'s, users and
//! topics are `hub`'s.

mod acceptor;
mod access;
mod answer;
mod authorize;
pub mod batch_cache;
mod close;
mod closings;
pub mod command;
pub mod connection;
pub mod context;
mod deadlines;
mod drive;
mod egress;
mod establish;
mod event_loop;
mod fan_out;
mod frame_queue;
pub mod handle;
mod handshake;
mod heartbeat;
mod heartbeats;
mod ingress;
mod labels;
pub mod outbox;
mod parker;
mod peers;
mod pending;
mod pending_places;
pub mod probe;
mod receiver;
pub mod reclaim;
pub mod run_end;
mod run_queue;
mod scope;
pub mod service_options;
mod session;
pub mod supervisor;
mod tasks;
mod timers;
pub mod token_bucket;
pub mod wake_queue;
