//! Positions: which publication of a topic a client has seen last, and the text form that clients store and send back.
//!
//! Pure values. A position is epoch, offset and id. Offsets count the publications of a topic within an epoch. The id proves that
//! two positions with the same epoch and offset name the same publication: a broker that was set back hands out offsets twice.
//!
//! The text form is `epoch:offset:node-sequence`: epoch and node in base 62, offset and sequence in decimal, no leading zeros.
//! Each position has exactly one text. Clients treat it as opaque; what they send is parsed here as hostile input.

use std::fmt;
use std::str::FromStr;

mod base62;

/// Names one life of a topic's history. Offsets of different epochs cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(u64);

/// The random id of one start of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

/// Counts the publications of a topic within an epoch. The first publication of an epoch has an offset above 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(u64);

/// Names a publication among those of all nodes and all topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicationId {
    pub node: NodeId,
    /// Counts the publications that the node made, in all topics, from 1. 0 stands for no publication.
    pub sequence: u64,
}

/// A publication of a topic, or the start of a history before its first publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub epoch: Epoch,
    pub offset: Offset,
    pub id: PublicationId,
}

/// A text that is not the text form of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedPosition;

/// What a client sends as `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// `null`: the client has seen nothing yet and wants positions from now on.
    Start,
    Position(Position),
    /// Anything else.
    Malformed,
}

impl Epoch {
    /// Keeps as much of `random` as fits into eight digits, 47 bits.
    pub const fn from_random(random: u64) -> Self {
        Self(random % base62::EIGHT_DIGITS)
    }
}

impl NodeId {
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn to_bits(self) -> u64 {
        self.0
    }

    /// Keeps as much of `random` as fits into eight digits, 47 bits.
    pub const fn from_random(random: u64) -> Self {
        Self(random % base62::EIGHT_DIGITS)
    }
}

impl Offset {
    pub const ZERO: Self = Self(0);

    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The offset of the following publication. Stays where it is at the end of the range, which no history reaches.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many publications come after `earlier` up to this one. `None` if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }
}

impl PublicationId {
    /// Stands for no publication: the predecessor of the first one.
    pub const fn none(node: NodeId) -> Self {
        Self { node, sequence: 0 }
    }

    pub const fn is_none(self) -> bool {
        self.sequence == 0
    }
}

impl Position {
    /// The longest text form, in bytes: base 62 takes 11 digits for 64 bits, decimal takes 20.
    pub const MAX_TEXT_LEN: usize = 11 + 1 + 20 + 1 + 11 + 1 + 20;

    /// Reads the text form. Reads at most [`MAX_TEXT_LEN`](Self::MAX_TEXT_LEN) bytes and allocates nothing.
    pub fn parse(text: &str) -> Result<Self, MalformedPosition> {
        Self::from_text(text).ok_or(MalformedPosition)
    }

    fn from_text(text: &str) -> Option<Self> {
        if text.len() > Self::MAX_TEXT_LEN {
            return None;
        }
        let (epoch, rest) = text.split_once(':')?;
        let (offset, id) = rest.split_once(':')?;
        let (node, sequence) = id.split_once('-')?;
        Some(Self {
            epoch: Epoch(base62::parse(epoch)?),
            offset: Offset(parse_decimal(offset)?),
            id: PublicationId { node: NodeId(base62::parse(node)?), sequence: parse_decimal(sequence)? },
        })
    }
}

impl Since {
    /// `None` stands for JSON's `null`. A value that is neither `null` nor a string is [`Malformed`](Self::Malformed).
    pub fn parse(text: Option<&str>) -> Self {
        match text.map(Position::parse) {
            None => Self::Start,
            Some(Ok(position)) => Self::Position(position),
            Some(Err(MalformedPosition)) => Self::Malformed,
        }
    }
}

/// Decimal digits without a leading zero.
fn parse_decimal(digits: &str) -> Option<u64> {
    let is_canonical = digits == "0" || !digits.starts_with('0');
    // `u64::from_str` accepts a plus sign.
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_canonical && are_digits { digits.parse().ok() } else { None }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        base62::write(self.0, f)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        base62::write(self.0, f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PublicationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.node, self.sequence)
    }
}

/// The text form.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.offset, self.id)
    }
}

impl FromStr for Position {
    type Err = MalformedPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The text form, as it appears on a broker.
impl FromStr for NodeId {
    type Err = MalformedPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        base62::parse(text).map(Self).ok_or(MalformedPosition)
    }
}

/// The text form, as it appears on a broker.
impl FromStr for Epoch {
    type Err = MalformedPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        base62::parse(text).map(Self).ok_or(MalformedPosition)
    }
}

impl fmt::Display for MalformedPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a position")
    }
}

impl std::error::Error for MalformedPosition {}

#[cfg(test)]
mod tests;
