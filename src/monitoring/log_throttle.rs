//! Bounds the log lines that peers can cause: a few per second of each kind, the others counted.
//!
//! One per run, shared by its shards; the lock is held for a comparison and an addition. Which lines were held back is told by the
//! first shard, once a second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of one kind per second.
pub const LINES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(1);

/// The kinds of lines, each with a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A handshake was refused, for any reason.
    Refused,
    /// A token, a user or a limit was the reason.
    Unauthorized,
    /// The application's hook failed, and the handshake with it.
    HookFailed,
    /// Preferences could not be loaded or saved.
    PreferencesFailed,
}

#[derive(Debug, Default)]
pub struct LogThrottle {
    windows: Mutex<[Window; Line::ALL.len()]>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    held_back: u64,
}

impl Line {
    pub const ALL: [Self; 4] = [Self::Refused, Self::Unauthorized, Self::HookFailed, Self::PreferencesFailed];

    /// What the line that tells the count calls them.
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused handshakes",
            Self::Unauthorized => "failed authentications",
            Self::HookFailed => "failed calls of lookupUser",
            Self::PreferencesFailed => "failed calls of preferences hooks",
        }
    }
}

impl LogThrottle {
    /// Whether a line may be written; otherwise it is counted.
    pub fn admits(&self, line: Line, now: Instant) -> bool {
        let window = &mut self.windows()[line as usize];
        if window.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.written = 0;
        }
        if window.written < LINES {
            window.written += 1;
            return true;
        }
        window.held_back += 1;
        false
    }

    /// How many lines of each kind were held back since this was last asked; those of which there were none are left out.
    pub fn take_held_back(&self) -> Vec<(Line, u64)> {
        let mut windows = self.windows();
        let counts = Line::ALL.map(|line| (line, std::mem::take(&mut windows[line as usize].held_back)));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn windows(&self) -> MutexGuard<'_, [Window; Line::ALL.len()]> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_a_few_lines_and_counts_the_others() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        let written = (0..1000).filter(|_| throttle.admits(Line::Refused, start)).count();
        assert_eq!(written, LINES as usize);
        assert!(throttle.admits(Line::HookFailed, start), "another kind has a bound of its own");
        assert_eq!(throttle.take_held_back(), [(Line::Refused, 990)]);
        assert_eq!(throttle.take_held_back(), []);
    }

    #[test]
    fn the_next_second_may_write_again() {
        let throttle = LogThrottle::default();
        let start = Instant::now();
        for _ in 0..20 {
            throttle.admits(Line::Unauthorized, start);
        }
        assert!(!throttle.admits(Line::Unauthorized, start + Duration::from_millis(999)));
        assert!(throttle.admits(Line::Unauthorized, start + WINDOW));
    }
}
