//! A reference counted on one thread, carried through another and back.

use std::rc::Rc;
use std::thread::{self, ThreadId};

pub struct ThreadBound<T>(Option<Rc<T>>, ThreadId);

// SAFETY: the reference is touched only by `get` and `drop`, which compare the thread first. On any other thread than the one it was
// made on it is leaked instead of counted down.
unsafe impl<T> Send for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    pub fn new(value: Rc<T>) -> Self {
        Self(Some(value), thread::current().id())
    }

    /// `None` on another thread than the one it was made on.
    pub fn get(&self) -> Option<&Rc<T>> {
        self.0.as_ref().filter(|_| self.1 == thread::current().id())
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        if self.1 != thread::current().id() {
            std::mem::forget(self.0.take());
        }
    }
}
