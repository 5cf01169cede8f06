//! History of topics and what a resuming subscription is owed, and how nodes share both. No I/O, no threads, no clock: publications,
//! time and random numbers come in, decisions come out. The caller owns the state and brings it together with sockets and shards.

pub mod cursor;
pub mod gate;
pub mod loss;
pub mod position;
pub mod random;
pub mod reload;
pub mod rings;
pub mod stream;
pub mod wire;

#[cfg(test)]
mod simulator;
