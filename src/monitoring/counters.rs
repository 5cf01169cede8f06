//! Counters by label: every close, drop, rejection and call of a hook falls under exactly one label of a bounded set.
//!
//! Each shard has its own, written by its thread and read by any. Relaxed atomics: a sum may be slightly out of date, never torn.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::CloseReason;
use crate::types::HookKind;

/// A bounded set of labels.
pub trait Label: Copy + 'static {
    const ALL: &'static [Self];
    fn index(self) -> usize;
}

/// One counter for each label of a set.
#[derive(Debug)]
pub struct CounterFamily<L> {
    counts: Box<[AtomicU64]>,
    labels: PhantomData<L>,
}

impl<L: Label> Default for CounterFamily<L> {
    fn default() -> Self {
        Self { counts: L::ALL.iter().map(|_| AtomicU64::new(0)).collect(), labels: PhantomData }
    }
}

impl<L: Label> CounterFamily<L> {
    pub fn add(&self, label: L, count: u64) {
        if let Some(counter) = self.counts.get(label.index()) {
            counter.fetch_add(count, Relaxed);
        }
    }

    pub fn get(&self, label: L) -> u64 {
        self.counts.get(label.index()).map_or(0, |counter| counter.load(Relaxed))
    }

    pub fn sum(&self) -> u64 {
        self.counts.iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

/// Defines an enum with its label set; `$text` is the label's text in the metrics.
macro_rules! labels {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }

        impl $name {
            pub const COUNT: usize = [$(Self::$variant),+].len();

            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    HookOutcome {
        Answered => "answered",
        Failed => "failed",
        TimedOut => "timed_out",
        /// Not called: its circuit is open.
        Refused => "circuit_open",
        /// A failed attempt that was not the last.
        Retried => "retried",
    }
}

labels! {
    /// Why a payload was not delivered.
    DropReason {
        /// Discarded by `cleanup()` or under memory pressure.
        Cleanup => "cleanup",
        /// Undelivered when the connection ended.
        Disconnected => "disconnected",
        /// A publish refused because a shard's queue was full.
        QueueFull => "queue_full",
        /// Discarded when a slow consumer was closed.
        SlowConsumerClosed => "slow_consumer_closed",
        /// Dropped as the newest or the oldest payload of a slow consumer.
        SlowConsumerNewest => "slow_consumer_drop_newest",
        SlowConsumerOldest => "slow_consumer_drop_oldest",
    }
}

labels! {
    /// Volumes.
    Traffic {
        BytesIn => "bytes_in",
        BytesOut => "bytes_out",
        /// Payloads accepted for one connection each.
        Deliveries => "deliveries",
        /// Frames queued, control frames included.
        FramesOut => "frames_out",
        /// Messages and control frames of peers that were faster than their rate, and so not processed.
        RateLimited => "rate_limited",
    }
}

labels! {
    /// Why a connection ended.
    CloseCause {
        AuthenticationRequired => "authentication_required",
        /// The peer closed with 1000.
        PeerNormal => "peer_normal",
        /// The peer closed with 1001: its page or process ends.
        PeerGoingAway => "peer_going_away",
        /// The peer closed without a code.
        PeerNoStatus => "peer_no_status",
        /// The peer closed with another code.
        PeerOther => "peer_other",
        /// The stream ended or failed without a close frame.
        Lost => "lost",
        /// No pong in time.
        Unresponsive => "unresponsive",
        /// Aborted at the end of the grace period.
        GraceExceeded => "grace_exceeded",
        InvalidData => "invalid_data",
        MessageTooBig => "message_too_big",
        ProtocolError => "protocol_error",
        RateLimited => "rate_limited",
        /// The user opened one connection too many, and this was its oldest.
        Replaced => "replaced",
        ServiceRestart => "service_restart",
        Shutdown => "shutdown",
        SlowConsumer => "slow_consumer",
        TooManyFragments => "too_many_fragments",
    }
}

labels! {
    /// Why a request was rejected. Malformed heads occur on the own port only; elsewhere Node answers them.
    RejectionReason {
        CircuitOpen => "circuit_open",
        ConnectionLimit => "connection_limit",
        /// Own port: it sent nothing, and its place was given to another connection.
        Displaced => "displaced",
        ForbiddenOrigin => "forbidden_origin",
        HeadTooLarge => "head_too_large",
        HeadTooSlow => "head_too_slow",
        InvalidExtensions => "invalid_extensions",
        InvalidKey => "invalid_key",
        InvalidSubprotocol => "invalid_subprotocol",
        InvalidUpgrade => "invalid_upgrade",
        InvalidVersion => "invalid_version",
        MalformedHead => "malformed_head",
        MemoryPressure => "memory_pressure",
        MethodNotAllowed => "method_not_allowed",
        Stopping => "stopping",
        TooManyAnonymous => "too_many_anonymous",
        TooManyConnections => "too_many_connections",
        Unauthorized => "unauthorized",
        WrongPath => "wrong_path",
    }
}

impl Label for (HookKind, HookOutcome) {
    const ALL: &'static [Self] = &{
        let mut all = [(HookKind::LookupUser, HookOutcome::Answered); HookKind::COUNT * HookOutcome::COUNT];
        let mut index = 0;
        while index < all.len() {
            all[index] = (HookKind::ALL[index / HookOutcome::COUNT], HookOutcome::ALL[index % HookOutcome::COUNT]);
            index += 1;
        }
        all
    };

    fn index(self) -> usize {
        self.0 as usize * HookOutcome::COUNT + self.1 as usize
    }
}

impl From<CloseReason> for CloseCause {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::AuthenticationRequired => Self::AuthenticationRequired,
            CloseReason::InvalidData => Self::InvalidData,
            CloseReason::MessageTooBig => Self::MessageTooBig,
            CloseReason::ProtocolError => Self::ProtocolError,
            CloseReason::RateLimited => Self::RateLimited,
            CloseReason::Replaced => Self::Replaced,
            CloseReason::ServiceRestart => Self::ServiceRestart,
            CloseReason::Shutdown => Self::Shutdown,
            CloseReason::SlowConsumer => Self::SlowConsumer,
            CloseReason::TooManyFragments => Self::TooManyFragments,
        }
    }
}

impl CloseCause {
    /// The cause for a close frame of the peer's.
    pub fn by_peer(code: u16) -> Self {
        match code {
            1000 => Self::PeerNormal,
            1001 => Self::PeerGoingAway,
            1005 => Self::PeerNoStatus,
            _ => Self::PeerOther,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_hook_and_outcome_has_a_counter_of_its_own() {
        let counters = CounterFamily::<(HookKind, HookOutcome)>::default();
        for (index, label) in <(HookKind, HookOutcome)>::ALL.iter().enumerate() {
            assert_eq!(label.index(), index);
            counters.add(*label, index as u64 + 1);
        }
        assert_eq!(counters.get((HookKind::SavePreferences, HookOutcome::Retried)), 15);
        assert_eq!(counters.sum(), 15 * 16 / 2);
    }
}
