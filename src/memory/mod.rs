//! What memory is in use, what is done when it gets scarce, and whether something leaks.
//!
//! `sources` reads, `heap_probe` asks V8 and `heap_limit` knows its limit, `progressive_degradation` and `leak_detector_handler` decide (pure), `memory_manager` drives
//! both on a thread of its own and hands their decisions to the core. Knows no sockets: what a decision does to
//! connections is the core's affair.

pub mod heap_limit;
pub mod heap_probe;
pub mod leak_detector_handler;
pub mod memory_manager;
pub mod progressive_degradation;
pub mod sources;
