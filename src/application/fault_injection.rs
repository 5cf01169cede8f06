//! Panics on purpose, for the tests of the built addon: `CARILLON_TEST_PANIC="getStats;a command"` panics the first time that
//! each of the named points is reached.
//!
//! The variable is read in builds with debug assertions only. A release build contains neither the variable's name nor a check.

/// Panics if the tests ask for it at `point`, once per point and process.
#[cfg(debug_assertions)]
pub fn trip(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    static POINTS: OnceLock<Vec<(String, AtomicBool)>> = OnceLock::new();
    let points = POINTS.get_or_init(|| {
        let named = std::env::var("CARILLON_TEST_PANIC").unwrap_or_default();
        named.split(';').filter(|name| !name.is_empty()).map(|name| (name.to_owned(), AtomicBool::new(false))).collect()
    });
    if let Some((_, has_tripped)) = points.iter().find(|(name, _)| name == point) {
        assert!(has_tripped.swap(true, Ordering::Relaxed), "the test asks for a panic at \"{point}\"");
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn trip(_point: &str) {}
