//! The only code that names napi: converts, delegates, and carries calls between Node's thread and the shards.
//!
//! `service` is the public class, `options` reads what it is built with, `attach` takes sockets from an
//! http.Server, `listen` opens an own port, `events` brings events, hooks and log lines to Node's thread, `objects` are the plain objects that
//! getters return, `heap` tells how full V8's heap is. Everything except `events::NodeHost` runs on Node's thread. What a service *does* does not
//! belong here.
#![allow(unsafe_code, reason = "N-API hands out raw handles; every use says why it is sound")]

mod attach;
mod bridge;
// In test builds napi registers no exports, so nothing would use them.
#[cfg(not(test))]
mod constants;
mod error;
mod events;
mod health;
mod heap;
mod listen;
mod logging;
mod memory;
mod objects;
mod options;
mod publish;
mod runtime_config;
mod service;
mod values;
