//! The three containers of the design, and nothing else.

mod circular_buffer;
mod lru_cache;
mod priority_queue;

pub use circular_buffer::*;
pub use lru_cache::*;
pub use priority_queue::*;
