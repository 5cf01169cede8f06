//! The application as the service sees it: events it hears, functions it supplies, and how they are called safely.
//!
//! Knows no connections. `interface` is what the binding and the tests implement; `hooks` calls the application's functions with a
//! deadline, retries and a circuit breaker; `panic_guard` keeps panics from ending a thread.

pub mod circuit_breaker;
pub mod fault_injection;
pub mod hooks;
pub mod interface;
pub(crate) mod panic_guard;
