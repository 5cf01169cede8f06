//! The only code that names napi: converts, delegates, and carries calls between Node's thread and the shards.
//!
//! `service` is the public class, `options` reads what it is built with, `attach` takes sockets from an
//! http.Server, `listen` opens an own port, `node_host` queues events, hooks and log lines for Node's thread and `events` delivers them there,
//! `event_emitter` to listeners and `hook_calls` to hooks; `guard` is where panics stop; `objects` are the plain objects that getters return; `heap` tells how full
//! V8's heap is.
//! Everything except `node_host` and `log_writer` runs on Node's thread. What a service *does* does not
//! belong here.
#![allow(unsafe_code, reason = "N-API hands out raw handles; every use says why it is sound")]

mod attach;
mod bridge;
// In test builds napi registers no exports, so nothing would use them.
#[cfg(not(test))]
mod constants;
mod error;
mod event_emitter;
mod events;
mod glue;
mod guard;
mod health;
mod heap;
mod hook_calls;
mod listen;
mod listeners;
mod log_writer;
mod logging;
mod memory;
mod node_host;
mod objects;
mod options;
mod publish;
mod runtime_config;
mod service;
mod values;
