//! The only code that names napi: converts, delegates, and carries calls between Node's thread and the shards.
//!
//! ```text
//! service, queries, event_emitter, constants      the public class and what else the package exports
//!   instance, own_port                            one service: its lifecycle, its server, its port
//!     attach, listen, options, health, publish    the parts of a service's interface
//!       event_dispatcher                          carries out tasks on Node's thread
//!         bridge, hook_calls, listeners, logger   what tasks reach
//!           node_application                      queues tasks, on every thread
//!             glue, guard, reference, values      JavaScript values and calls
//! ```
//!
//! Everything except `node_application`, `logging` and `log_writer` runs on Node's thread. Behaviour of the service does not belong here.
#![allow(unsafe_code, reason = "N-API uses raw handles; every use says why it is sound")]

mod attach;
mod backlog;
mod bridge;
// In test builds napi registers no exports, so nothing would use them.
#[cfg(not(test))]
mod constants;
mod error;
mod event_arguments;
mod event_dispatcher;
mod event_emitter;
mod glue;
mod guard;
mod health;
mod heap;
mod hook_calls;
mod instance;
mod js_task;
mod listen;
mod listeners;
mod log_writer;
mod logger;
mod logging;
mod memory;
mod node_application;
mod objects;
mod options;
mod own_port;
mod publish;
mod queries;
mod reference;
mod runtime_config;
mod service;
mod thread_bound;
mod values;
