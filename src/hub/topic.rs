//! Topics: what a client can subscribe to. A topic is a bill, named by its number, or a channel, named by the application.
//!
//! Pure values: cheap to clone, to compare and to hash, and valid once constructed. A topic's wire name identifies it among all
//! topics of both kinds.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::types::BillId;

/// Separates a channel's namespace from the rest of its name.
const NAMESPACE_SEPARATOR: char = ':';

/// The name of a channel: 1 to 255 bytes of `[A-Za-z0-9_.:/@-]`, not digits alone. A clone shares the text.
///
/// Digits alone would read like a bill's number wherever both kinds of topic share a map or a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

/// Why a text is not the name of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidChannelName {
    Empty,
    TooLong,
    /// A byte outside `[A-Za-z0-9_.:/@-]`.
    Character,
    /// Digits alone.
    Number,
}

impl ChannelName {
    /// In bytes.
    pub const MAX_LEN: usize = 255;

    /// Allocates only for a valid name, and then for at most [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub fn new(name: &str) -> Result<Self, InvalidChannelName> {
        Self::validate(name)?;
        Ok(Self(name.into()))
    }

    /// Checks a name without keeping it. Reads at most [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub fn validate(name: &str) -> Result<(), InvalidChannelName> {
        if name.is_empty() {
            return Err(InvalidChannelName::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(InvalidChannelName::TooLong);
        }
        if !name.bytes().all(is_allowed) {
            return Err(InvalidChannelName::Character);
        }
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidChannelName::Number);
        }
        Ok(())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `:`. `None` for a name without one, which has no namespace. May be empty (`:a`).
    pub fn namespace(&self) -> Option<&str> {
        self.0.split_once(NAMESPACE_SEPARATOR).map(|(namespace, _)| namespace)
    }

    /// The text with its two reference counts, in whole words. Shared by all clones.
    pub fn heap_bytes(&self) -> usize {
        (self.0.len() + 2 * size_of::<usize>()).next_multiple_of(size_of::<usize>())
    }
}

fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'@' | b'-')
}

/// Hashes and compares like its text, so that a table of names can be searched with a `&str`.
impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a channel name must not be empty",
            Self::TooLong => "a channel name has at most 255 bytes",
            Self::Character => "a channel name consists of A-Z a-z 0-9 _ . : / @ -",
            Self::Number => "a channel name must not consist of digits alone",
        })
    }
}

impl std::error::Error for InvalidChannelName {}

/// What a client can subscribe to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Bill(BillId),
    Channel(ChannelName),
}

/// A topic of one shard, while it has subscribers there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u32);

/// Without the kind: a number and a text hash differently enough, and every publication hashes its topic.
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Bill(bill) => bill.hash(state),
            Self::Channel(channel) => channel.hash(state),
        }
    }
}

impl Topic {
    /// The bill, if it is one.
    pub fn bill(&self) -> Option<BillId> {
        match self {
            Self::Bill(bill) => Some(*bill),
            Self::Channel(_) => None,
        }
    }

    /// The topic with this wire name: decimal digits name a bill, everything else a channel.
    pub fn from_wire_name(name: &str) -> Option<Self> {
        match ChannelName::new(name) {
            Ok(channel) => Some(Self::Channel(channel)),
            Err(InvalidChannelName::Number) => BillId::from_digits(name).map(Self::Bill),
            Err(_) => None,
        }
    }

    /// The options of a channel belong to its namespace. Bills have none.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Bill(_) => None,
            Self::Channel(channel) => channel.namespace(),
        }
    }

    /// What the topic owns on the heap. Shared by all clones.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Bill(_) => 0,
            Self::Channel(channel) => channel.heap_bytes(),
        }
    }
}

/// The wire name: a key of the maps in `batch_subscribe`, and part of the names of keys and channels on a broker.
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bill(bill) => bill.fmt(f),
            Self::Channel(channel) => channel.fmt(f),
        }
    }
}

impl From<BillId> for Topic {
    fn from(bill: BillId) -> Self {
        Self::Bill(bill)
    }
}

impl From<ChannelName> for Topic {
    fn from(channel: ChannelName) -> Self {
        Self::Channel(channel)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn bill(number: u64) -> Topic {
        Topic::Bill(BillId::new(number).unwrap())
    }

    fn channel(name: &str) -> Topic {
        Topic::Channel(ChannelName::new(name).unwrap())
    }

    #[test]
    fn names_of_allowed_characters_are_valid() {
        let longest = "x".repeat(255);
        for name in ["a", "chat:42", "Z_.:/@-9", "a@b.example", "-", ":", "::", "/", "4a", "42:", "1.5", "-1", &longest]
        {
            assert_eq!(ChannelName::new(name).map(|name| name.to_string()).as_deref(), Ok(name));
        }
    }

    #[test]
    fn every_other_name_is_refused_with_its_reason() {
        let too_long = "x".repeat(256);
        let huge = "\u{1F600}".repeat(1 << 18);
        for (name, expected) in [
            ("", InvalidChannelName::Empty),
            (too_long.as_str(), InvalidChannelName::TooLong),
            (huge.as_str(), InvalidChannelName::TooLong),
            (" ", InvalidChannelName::Character),
            ("a b", InvalidChannelName::Character),
            ("a\0", InvalidChannelName::Character),
            ("a\n", InvalidChannelName::Character),
            ("{a}", InvalidChannelName::Character),
            ("a*", InvalidChannelName::Character),
            ("a\"b", InvalidChannelName::Character),
            ("a\\b", InvalidChannelName::Character),
            ("a%20", InvalidChannelName::Character),
            ("é", InvalidChannelName::Character),
            ("a\u{200B}", InvalidChannelName::Character),
            // A letter that looks like an ASCII one: Cyrillic `а`.
            ("ch\u{430}t", InvalidChannelName::Character),
            // Digits of another script are no digits here, and no allowed characters.
            ("\u{664}\u{662}", InvalidChannelName::Character),
            ("0", InvalidChannelName::Number),
            ("42", InvalidChannelName::Number),
            ("99999999999999999999999", InvalidChannelName::Number),
        ] {
            assert_eq!(ChannelName::new(name), Err(expected), "{name:.40?}");
        }
    }

    #[test]
    fn every_byte_is_allowed_or_refused_as_the_character_set_says() {
        const ALLOWED: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/@-";
        for character in (0..=0x24F).filter_map(char::from_u32) {
            let name = format!("a{character}");
            assert_eq!(ChannelName::new(&name).is_ok(), ALLOWED.contains(character), "{character:?}");
        }
    }

    #[test]
    fn the_namespace_is_the_part_before_the_first_colon() {
        for (name, expected) in [
            ("news", None),
            ("chat:42", Some("chat")),
            ("chat:42:typing", Some("chat")),
            (":a", Some("")),
            ("a:", Some("a")),
            ("a/b:c", Some("a/b")),
        ] {
            assert_eq!(channel(name).namespace(), expected, "{name}");
        }
        assert_eq!(bill(1).namespace(), None);
    }

    #[test]
    fn a_wire_name_names_one_topic() {
        for topic in [bill(1), bill(BillId::MAX), channel("chat:1"), channel("1:"), channel("-1"), channel("1.0")] {
            assert_eq!(Topic::from_wire_name(&topic.to_string()), Some(topic));
        }
        for name in ["", "0", "9007199254740992", "1 ", " 1", "+1", "a b", "\u{664}"] {
            assert_eq!(Topic::from_wire_name(name), None, "{name:?}");
        }
        assert_eq!(Topic::from_wire_name("042"), Some(bill(42)));
    }

    #[test]
    fn equal_topics_are_found_in_a_table_and_others_are_not() {
        let table: HashMap<Topic, u8> = [(bill(1), 0), (channel("a"), 1), (channel("A"), 2)].into();
        assert_eq!(table.get(&bill(1)), Some(&0));
        assert_eq!(table.get(&channel("A")), Some(&2));
        assert_eq!(table.get(&channel("b")), None);
        let names: HashMap<ChannelName, u8> = [(ChannelName::new("a").unwrap(), 1)].into();
        assert_eq!((names.get("a"), names.get("A")), (Some(&1), None));
    }

    #[test]
    fn a_topic_is_two_words_and_a_clone_shares_the_name() {
        assert_eq!(size_of::<Topic>(), 2 * size_of::<usize>());
        let name = ChannelName::new("chat:42").unwrap();
        assert!(std::ptr::eq(name.as_str(), name.clone().as_str()));
        assert_eq!((channel("chat:42").heap_bytes(), bill(42).heap_bytes()), (8 + 2 * size_of::<usize>(), 0));
    }

    proptest! {
        #[test]
        fn a_constructed_name_is_the_given_text_and_only_valid_text_constructs(text in ".{0,300}") {
            match ChannelName::new(&text) {
                Ok(name) => {
                    prop_assert_eq!(name.as_str(), &text);
                    prop_assert!((1..=255).contains(&text.len()));
                    let topic = Topic::from_wire_name(&text);
                    prop_assert_eq!(topic, Some(Topic::Channel(name)));
                }
                Err(_) => prop_assert!(!matches!(Topic::from_wire_name(&text), Some(Topic::Channel(_)))),
            }
        }

        #[test]
        fn every_bill_round_trips_through_its_wire_name(number in 1..=BillId::MAX) {
            let topic = bill(number);
            prop_assert_eq!(Topic::from_wire_name(&topic.to_string()), Some(topic));
        }
    }

    #[test]
    fn a_topic_is_two_words() {
        assert_eq!(size_of::<Topic>(), 16);
    }
}
