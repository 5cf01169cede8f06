//! Counters, health and metrics.
