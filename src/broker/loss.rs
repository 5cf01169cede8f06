//! Why a client cannot be given everything that it has missed. Pure values.

use std::fmt;

/// The `reason` of `recovered: false` and of `gap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LossReason {
    /// Publications after the client's position are no longer held.
    Expired,
    /// The history began anew.
    Reset,
    /// Another publication stands at the client's position, or none yet.
    Fork,
    /// More was missed, or waits, than is replayed.
    TooMany,
    /// The broker did not answer in time.
    Unavailable,
    /// The connection did not take its messages in time and some were dropped. The news must stand in the outbox exactly where the
    /// first publication of the topic was dropped: a client that receives a later position first, and then loses the connection,
    /// resumes from there and believes that it has everything. News of one topic without a publication of it in between are one,
    /// with the newest position; so they are bounded like the publications.
    Slow,
    /// What the client sent is no position.
    Malformed,
}

impl LossReason {
    pub const ALL: [Self; 7] =
        [Self::Expired, Self::Reset, Self::Fork, Self::TooMany, Self::Unavailable, Self::Slow, Self::Malformed];

    /// As clients receive it, and as the label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Reset => "reset",
            Self::Fork => "fork",
            Self::TooMany => "too_many",
            Self::Unavailable => "unavailable",
            Self::Slow => "slow",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
