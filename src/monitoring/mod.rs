//! Counters, and what is reported of them; knows no sockets.

pub mod counters;
pub mod health_checker;
pub mod histogram;
pub mod history;
pub mod log_throttle;
pub mod metrics_reporter;
pub mod recent;
pub mod statistics_collector;
