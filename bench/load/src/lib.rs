//! What Carillon is measured with: a load generator that counts every message, and the peers written in Rust.
//!
//! `bin/load.rs` takes commands and runs a [`generator`] over many [`connection`]s; the [`ledger`] knows what was published
//! and what must still arrive; [`wire`] is the little of RFC 6455 that both ends need; [`control`] is how a server under test
//! is told to publish. One thread, no runtime: the generator must never be what limits a server.

mod actions;
pub mod command;
pub mod connection;
pub mod control;
mod dialogue;
pub mod generator;
pub mod ledger;
pub mod stream;
pub mod token;
pub mod wire;
