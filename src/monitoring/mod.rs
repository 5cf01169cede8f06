//! Counters, and what is told of them; knows no sockets.

pub mod statistics_collector;
