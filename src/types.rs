//! Small types that cannot be wrong: users, bills, connections, shards, priorities, times.
//!
//! Everything above `transport` speaks in these; each is cheap to copy or to share.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The application's name for a user, as its tokens carry it. Shared, never copied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name with the counts of its owners.
    pub fn heap_bytes(&self) -> usize {
        self.0.len() + 2 * size_of::<usize>()
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&UserId> for Arc<str> {
    fn from(user: &UserId) -> Self {
        user.0.clone()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Declares the hooks: the functions of the application that the service calls. One row per hook:
/// `Kind = "label", answer, repeat, effect;`.
///
/// The label is the name in logs and metrics, and the place among the options: `option` or `option.member`. The binding reads it from
/// there.
macro_rules! hook_kinds {
    ($($(#[$meta:meta])* $kind:ident = $label:literal, $answer:ident, $repeat:ident, $effect:ident;)+) => {
        /// A function of the application that the service calls.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum HookKind {
            $($(#[$meta])* $kind,)+
        }

        impl HookKind {
            pub const ALL: [Self; [$($label),+].len()] = [$(Self::$kind),+];

            /// The name in options, logs and metrics.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)+
                }
            }

            pub const fn answer(self) -> AnswerForm {
                match self {
                    $(Self::$kind => AnswerForm::$answer,)+
                }
            }

            const fn repeat(self) -> Repeat {
                match self {
                    $(Self::$kind => Repeat::$repeat,)+
                }
            }

            const fn effect(self) -> Effect {
                match self {
                    $(Self::$kind => Effect::$effect,)+
                }
            }
        }
    };
}

hook_kinds! {
    LookupUser = "lookupUser", Truth, Safe, Reads;
    LoadPreferences = "preferences.load", Json, Safe, Reads;
    SavePreferences = "preferences.save", Nothing, Unsafe, Writes;
}

/// How a hook's answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// Truthy or falsy.
    Truth,
    /// The result of `JSON.stringify`.
    Json,
    /// The value is ignored.
    Nothing,
}

/// Whether a call may be made again after a failure.
#[derive(Clone, Copy)]
enum Repeat {
    Safe,
    Unsafe,
}

#[derive(Clone, Copy)]
enum Effect {
    Reads,
    Writes,
}

impl HookKind {
    pub const COUNT: usize = Self::ALL.len();

    /// Whether a second call after a failure can do no harm.
    pub const fn may_be_repeated(self) -> bool {
        matches!(self.repeat(), Repeat::Safe)
    }

    /// Whether a call changes nothing, so that it need not be made when no connection is left to send the answer to.
    pub const fn only_reads(self) -> bool {
        matches!(self.effect(), Effect::Reads)
    }

    /// The option that has the function, and the function's name in it where the option is an object of functions.
    pub fn option(self) -> (&'static str, Option<&'static str>) {
        match self.label().split_once('.') {
            Some((option, member)) => (option, Some(member)),
            None => (self.label(), None),
        }
    }
}

/// The hooks that the application supplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HookSet(u32);

// A set has one bit per hook.
const _: () = assert!(HookKind::COUNT <= u32::BITS as usize);

impl HookSet {
    pub const fn contains(self, hook: HookKind) -> bool {
        self.0 & (1 << hook as u32) != 0
    }
}

impl Extend<HookKind> for HookSet {
    fn extend<T: IntoIterator<Item = HookKind>>(&mut self, hooks: T) {
        for hook in hooks {
            self.0 |= 1 << hook as u32;
        }
    }
}

impl FromIterator<HookKind> for HookSet {
    fn from_iter<T: IntoIterator<Item = HookKind>>(hooks: T) -> Self {
        let mut set = Self::default();
        set.extend(hooks);
        set
    }
}

/// A peer of a shard, which may be gone by now: the number tells it from a later one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerRef {
    pub key: ConnectionKey,
    pub number: ConnectionNumber,
}

/// A bill's number: a positive integer that JavaScript can hold exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BillId(u64);

impl BillId {
    /// `Number.MAX_SAFE_INTEGER`.
    pub const MAX: u64 = (1 << 53) - 1;

    /// `None` for zero and for what a JavaScript number cannot hold exactly.
    pub fn new(number: u64) -> Option<Self> {
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// `None` unless the number is a positive safe integer.
    pub fn from_f64(number: f64) -> Option<Self> {
        let whole = number.fract() == 0.0 && number >= 1.0 && number <= Self::MAX as f64;
        whole.then_some(Self(number as u64))
    }

    /// A string of decimal digits means that number.
    pub fn from_digits(digits: &str) -> Option<Self> {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Self::new(digits.parse().ok()?)
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts connections process-wide from 0 and is never reused, so it tells two connections apart
/// that held the same place in a shard one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionNumber(pub u64);

/// What clients and events call a connection: `user-number`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    pub user: UserId,
    pub number: ConnectionNumber,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.user, self.number.0)
    }
}

/// A shard's place among the shards of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

/// A connection's place within its shard. Places are reused: keep a [`ConnectionNumber`] beside it
/// wherever the connection may have gone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u32);

/// Milliseconds since 1970, as JavaScript's `Date.now()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    pub fn now() -> Self {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn as_f64(self) -> f64 {
        // Exact until the year 287396.
        self.0 as f64
    }
}

/// How urgent a publish is; urgent ones overtake normal ones that still wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Notifications, announcements, system messages: sent at once.
    Immediate,
    /// Bill updates: batched.
    Normal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bill_ids_are_positive_safe_integers() {
        for (number, expected) in [
            (0.0, None),
            (-1.0, None),
            (1.0, Some(1)),
            (1.5, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (9_007_199_254_740_991.0, Some(BillId::MAX)),
            (9_007_199_254_740_992.0, None),
        ] {
            assert_eq!(BillId::from_f64(number).map(BillId::get), expected, "{number}");
        }
    }

    #[test]
    fn decimal_digits_name_a_bill() {
        for (digits, expected) in [
            ("42", Some(42)),
            ("042", Some(42)),
            ("0", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("4.2", None),
            ("1e3", None),
            (" 1", None),
            ("9007199254740991", Some(BillId::MAX)),
            ("9007199254740992", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(BillId::from_digits(digits).map(BillId::get), expected, "{digits:?}");
        }
    }

    #[test]
    fn a_hook_set_contains_what_was_inserted() {
        let set: HookSet = [HookKind::SavePreferences].into_iter().collect();
        let contained: Vec<HookKind> = HookKind::ALL.into_iter().filter(|hook| set.contains(*hook)).collect();
        assert_eq!(contained, [HookKind::SavePreferences]);
    }

    #[test]
    fn a_label_tells_the_option_of_a_hook() {
        assert_eq!(HookKind::LookupUser.option(), ("lookupUser", None));
        assert_eq!(HookKind::SavePreferences.option(), ("preferences", Some("save")));
    }

    #[test]
    fn a_connection_id_reads_user_dash_number() {
        let id = ConnectionId { user: UserId::new("ann"), number: ConnectionNumber(7) };
        assert_eq!(id.to_string(), "ann-7");
    }
}
