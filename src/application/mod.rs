//! The application as the service sees it: the events it listens to, the functions it supplies, and how those are called safely.
//!
//! Knows no connections. `interface` has the trait that the binding and the tests implement, `event` what it is told; `hooks` calls the
//! application's functions with a deadline, retries and a circuit breaker; `panic_guard` catches panics before they end a thread.

pub mod circuit_breaker;
pub mod event;
pub mod fault_injection;
pub mod hooks;
pub mod interface;
pub(crate) mod panic_guard;
pub mod stop_signal;
