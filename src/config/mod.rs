//! What can be set: once for a service (`base_config`) and while it runs (`runtime_config`).

mod base_config;
mod runtime_config;

pub use base_config::*;
pub use runtime_config::*;
