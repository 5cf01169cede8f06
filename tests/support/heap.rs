//! Counts the bytes of heap that the whole process has in use.
#![allow(unsafe_code, reason = "an allocator is unsafe by its interface; it passes everything on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

pub struct Counting;

static IN_USE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

/// Bytes in use now.
pub fn in_use() -> isize {
    IN_USE.load(Relaxed)
}

/// Forgets earlier peaks and returns what is in use now.
pub fn reset_peak() -> isize {
    PEAK.store(in_use(), Relaxed);
    in_use()
}

/// The most bytes in use since [`reset_peak`].
pub fn peak() -> isize {
    PEAK.load(Relaxed)
}

fn count(bytes: isize) {
    let now = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }
}
