//! The result of a request. Made by the shard's `session` when a command has been executed; the texts are the contract's. Pure.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::protocol::bills::GivenBill;
use crate::protocol::json::RawJson;

/// The result of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<'m> {
    /// `expires`: when the new claims end, in milliseconds since 1970.
    Authenticated {
        user: &'m str,
        expires: Option<f64>,
    },
    /// The elements of the request, and which of them are followed now.
    BatchSubscribed {
        bills: RawJson<'m>,
        verdicts: Verdicts,
    },
    BatchUnsubscribed {
        bills: RawJson<'m>,
    },
    /// The application keeps no preferences.
    DefaultPreferences,
    Failed(RequestError<'m>),
    Pong,
    /// JSON from the application.
    PreferencesLoaded {
        preferences: &'m str,
    },
    /// The object of the request.
    PreferencesSaved {
        preferences: RawJson<'m>,
    },
    /// There is no reply.
    Silent,
    Subscribed {
        bill: GivenBill<'m>,
    },
    Unsubscribed {
        bill: GivenBill<'m>,
    },
}

/// For each element of a batch, whether it was accepted.
pub type Verdicts = SmallVec<[bool; 16]>;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError<'m> {
    AuthenticationFailed,
    AuthenticationRequired,
    BillIdRequired,
    InvalidBatchSubscription,
    InvalidBatchUnsubscription,
    InvalidBillId,
    InvalidFormat,
    InvalidStructure,
    PreferencesNotLoaded,
    PreferencesNotSaved,
    PreferencesRequired,
    SubscriptionLimit,
    /// With the type as text, cut to 256 characters.
    UnknownType(Cow<'m, str>),
}

impl<'m> RequestError<'m> {
    pub(super) fn unknown_type(kind: RawJson<'m>, is_authenticated: bool) -> Self {
        if is_authenticated { Self::UnknownType(kind.to_text().into()) } else { Self::AuthenticationRequired }
    }

    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::AuthenticationFailed => "Authentication failed",
            Self::AuthenticationRequired => "Authentication required",
            Self::BillIdRequired => "Bill ID required",
            Self::InvalidBatchSubscription => "Invalid batch subscription request",
            Self::InvalidBatchUnsubscription => "Invalid batch unsubscription request",
            Self::InvalidBillId => "Invalid bill ID",
            Self::InvalidFormat => "Invalid message format",
            Self::InvalidStructure => "Invalid message structure",
            Self::PreferencesNotLoaded => "Failed to get preferences",
            Self::PreferencesNotSaved => "Failed to update preferences",
            Self::PreferencesRequired => "Preferences data required",
            Self::SubscriptionLimit => "Subscription limit reached",
            Self::UnknownType(kind) => return format!("Unknown message type: {kind}").into(),
        }
        .into()
    }
}
