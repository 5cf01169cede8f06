//! Bytes to messages and back, for one connection; knows no users and no topics.

pub mod assembler;
pub mod deflate;
pub mod forwarded;
pub mod frame;
pub mod handshake;
pub mod head_reader;
pub mod host;
pub mod prepared;
