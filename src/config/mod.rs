//! What can be set: once for a service (`base_config`) and while it runs (`runtime_config`).
//!
//! Keyed as the design spells it at the edges, typed inside. What an option of one component means belongs there.

mod base_config;
mod keyed;
mod runtime_config;

pub use base_config::BaseConfig;
pub use keyed::closest;
pub use runtime_config::{DegradedValues, RuntimeConfig, RuntimeKey, RuntimeValues};
