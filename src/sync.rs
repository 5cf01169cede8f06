//! The locks of tables that threads share, in one place so that their interleavings can be explored.
//!
//! `parking_lot`'s: a byte each, no poisoning, and fair to a publisher that waits while shards take the lock again and again.
//! With the feature `model` they are those of `shuttle`, which tries the orders in which threads can take them; see
//! `core/models.rs`. Only for state that no panic can leave half changed.

#[cfg(not(feature = "model"))]
pub use parking_lot::{Mutex, MutexGuard};

#[cfg(feature = "model")]
pub use model::{Mutex, MutexGuard};

#[cfg(feature = "model")]
mod model {
    use std::sync::PoisonError;

    pub use shuttle::sync::MutexGuard;

    /// With `parking_lot`'s interface.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
