//! A part of a topic's history, as it was read from a broker. Pure.

use crate::broker::position::Position;
use crate::broker::rings::Entry;

/// Consecutive publications of one topic up to the newest one. Once constructed, it is known to be without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedHistory<P> {
    top: Position,
    entries: Vec<Entry<P>>,
    is_whole: bool,
}

/// What was read is not consecutive, or does not end at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenChain;

impl<P> FetchedHistory<P> {
    /// `top` is what the broker says is the newest publication, `is_whole` whether `entries` is all that the broker has.
    pub fn new(top: Position, entries: Vec<Entry<P>>, is_whole: bool) -> Result<Self, BrokenChain> {
        let follows = |pair: &[Entry<P>]| match pair {
            [one, next] => next.before() == one.position,
            _ => false,
        };
        let ends_at_top = entries.last().is_none_or(|last| last.position == top);
        if entries.windows(2).all(follows) && ends_at_top {
            Ok(Self { top, entries, is_whole })
        } else {
            Err(BrokenChain)
        }
    }

    pub fn top(&self) -> Position {
        self.top
    }

    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub fn entries(&self) -> &[Entry<P>] {
        &self.entries
    }

    pub fn into_entries(self) -> Vec<Entry<P>> {
        self.entries
    }

    /// The position before the first publication.
    pub fn base(&self) -> Position {
        self.entries.first().map_or(self.top, Entry::before)
    }

    /// Whether the position is the base or one of the publications.
    pub fn contains(&self, position: &Position) -> bool {
        self.base() == *position || self.entries.iter().any(|entry| entry.position == *position)
    }
}
