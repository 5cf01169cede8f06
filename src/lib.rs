//! Carillon: a WebSocket service whose connections live in Rust threads.

pub mod config;
pub mod core;
pub mod error;
pub mod memory;
pub mod monitoring;
pub mod transport;
pub mod types;
pub mod utils;

#[cfg(feature = "node")]
mod binding;
