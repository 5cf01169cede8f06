//! Carillon: a WebSocket service for Node.js servers whose connections live in Rust threads.
//!
//! ```text
//!  Node main thread                      shard threads (one tokio current-thread runtime each)
//!  ┌───────────────────────────┐        ┌───────────────────────────────────────────────┐
//!  │ http.Server ──'upgrade'──►│ fd     │ Shard: owns its connections, its topic index,  │
//!  │ WebSocketService          ├───────►│ their outboxes, its inflater and deflaters,    │
//!  │  publish → JSON once ─────┤Command │ one 64 KiB read buffer, one reactor. No lock   │
//!  │  getters ← shared tables  │        │ from socket read to socket write.              │
//!  │  hooks, events, logger ◄──┼────────┤                                                │
//!  └───────────────────────────┘ batched└───────────────────────────────────────────────┘
//! ```
//!
//! Dependencies point one way: `binding → core → shard → {hub, application, authenticator, protocol, broker} → {transport, memory,
//! monitoring} → {config, utils}`; every module uses `types` and `error`. What holds everywhere:
//!
//! 1. A shard's connections, topic index and outboxes are touched by its thread alone.
//! 2. `transport` knows no users and no topics; `memory` and `monitoring` know no sockets; only `binding` knows napi.
//! 3. Bookkeeping is never dropped. Payloads may be, by a named policy, and then are counted.
//! 4. Every queue of payloads is bounded, and the bound is in the queue itself.
//! 5. Peer input never panics, never aborts the host, never costs memory beyond the connection's limits.
//! 6. Whatever a peer sent after its handshake is processed, also what came in the same packet.
//! 7. A publish accepted before `shutdown()` is written before the close frame.
//! 8. After a connection has gone nothing of it is left.
//! 9. No token, secret or payload in a log line, an error message or a metric.
//!
//! A panic ends what was being done, never the process: one connection, one publish, or one shard that is replaced.
//!
//! Reading order: [`types`], [`error`], [`config`], [`transport`], [`protocol`], [`hub`], [`application`], [`authenticator`], [`shard`], [`core`],
//! [`memory`], [`monitoring`], [`broker`], and then `binding`, which only converts. `ARCHITECTURE.md` says why things are as they are, and how to add to them.

pub mod application;
pub mod authenticator;
pub mod broker;
pub mod config;
pub mod core;
pub mod error;
pub mod hub;
pub mod memory;
pub mod monitoring;
pub mod protocol;
pub mod shard;
mod sync;
pub mod transport;
pub mod types;
pub mod utils;

#[cfg(feature = "node")]
mod binding;
