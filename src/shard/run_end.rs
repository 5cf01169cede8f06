//! Calls a function when the last shard of a run has ended, where no thread could be started to wait for it.
//!
//! Each shard's thread holds a [`RunEnd`] while it lives. Owned by those threads; called on the one that ends last.

use std::sync::{Mutex, PoisonError, Weak};

type Call = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct RunEnd(Mutex<Option<Call>>);

impl RunEnd {
    /// Calls `call` when the last shard has ended: on its thread, or here and now if that was before.
    pub fn then(end: &Weak<Self>, call: impl FnOnce() + Send + 'static) {
        match end.upgrade() {
            // If the last shard ends meanwhile, this is the last holder, and the call is made at the end of this scope.
            Some(end) => *end.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(call)),
            None => call(),
        }
    }
}

impl Drop for RunEnd {
    fn drop(&mut self) {
        let call = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(call) = call {
            call();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_call_is_made_once_when_the_last_holder_goes_or_at_once_if_it_has_gone() {
        let calls = Arc::new(AtomicUsize::new(0));
        let call = || {
            let calls = calls.clone();
            move || {
                calls.fetch_add(1, Ordering::Relaxed);
            }
        };
        let (first, weak) = {
            let end = Arc::new(RunEnd::default());
            let weak = Arc::downgrade(&end);
            (end, weak)
        };
        let second = first.clone();
        RunEnd::then(&weak, call());
        drop(first);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        drop(second);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        RunEnd::then(&weak, call());
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
