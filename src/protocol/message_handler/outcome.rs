//! How a request went. Made by `dialogue` when a command has been executed; the texts are the contract's. Pure.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::protocol::json::{RawJson, write_string};
use crate::protocol::message_handler::bill_number;

/// What came of a request.
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

/// A bill as the peer named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenBill<'m>(pub RawJson<'m>);

impl GivenBill<'_> {
    /// Appends it as the peer wrote it, the number of a bill as JavaScript prints it.
    pub fn write(self, out: &mut Vec<u8>) {
        match bill_number(self.0).filter(|_| !self.is_plain()) {
            Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
            None => out.extend_from_slice(self.0.as_str().as_bytes()),
        }
    }

    /// Appends a string in quotes that names it between two words.
    pub fn write_sentence(self, out: &mut Vec<u8>, before: &str, after: &str) {
        match bill_number(self.0) {
            Some(number) => out.extend_from_slice(format!("\"{before}{number}{after}\"").as_bytes()),
            None => write_string(out, &format!("{before}{}{after}", self.0.to_text())),
        }
    }

    /// Whether it is digits alone, which JavaScript prints as they stand while they are a bill.
    fn is_plain(self) -> bool {
        self.0.as_str().bytes().all(|byte| byte.is_ascii_digit())
    }
}
