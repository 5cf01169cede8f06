//! The three containers of the design, and nothing else. A helper lives beside its caller.

mod circular_buffer;
mod lru_cache;
mod priority_queue;

pub use circular_buffer::CircularBuffer;
pub use lru_cache::LruCache;
pub use priority_queue::{Full, PriorityQueue};
