//! What a message asks for, and what it is answered, in two phases. Pure.
//!
//! [`decode`] reads bytes as a [`Request`]: a [`Command`], or the [`RequestError`] it has already. `shard::session` executes the command on the
//! shard's thread, at once or after a hook has answered, and says how it went as an [`Outcome`]. [`encode`] makes the reply of
//! that. Values of the peer stay where they stand in the message ([`RawJson`]) and go into replies as their own bytes, so
//! that time and memory are linear in the bytes received.

use std::borrow::Cow;

pub use crate::protocol::bills::{GivenBill, bill_id, bill_number};
use crate::protocol::json::{Characters, Kind, RawJson};
pub use crate::protocol::outcome::{Outcome, RequestError, Verdicts};
use crate::protocol::outgoing;
use crate::types::{BillId, Priority};

/// A client's clock may be this far behind ours for its `timestamp` to count as a latency.
const MAX_LATENCY_MS: f64 = 60_000.0;

/// The message most clients send most often, and the one that needs no parsing.
const BARE_PING: &str = r#"{"type":"ping"}"#;

/// One message, as far as it could be understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Request<'m> {
    /// When the peer's clock says that it was sent, in milliseconds since 1970.
    timestamp: Option<f64>,
    /// The member of that name, whatever it is: every error about this request carries it.
    pub message_id: Option<RawJson<'m>>,
    pub command: Result<Command<'m>, RequestError<'m>>,
}

/// What a request asks for. Checked as far as that needs no state.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'m> {
    Authenticate {
        token: Cow<'m, str>,
    },
    /// An array.
    BatchSubscribe {
        bills: RawJson<'m>,
    },
    /// An array.
    BatchUnsubscribe {
        bills: RawJson<'m>,
    },
    LoadPreferences,
    /// Nothing, and it is not answered either.
    Nothing,
    Ping,
    /// An object.
    SavePreferences {
        preferences: RawJson<'m>,
    },
    Subscribe {
        bill: BillId,
        given: GivenBill<'m>,
    },
    /// `bill` is `None` where what was given cannot be one: it has no subscribers.
    Unsubscribe {
        bill: Option<BillId>,
        given: GivenBill<'m>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub json: Cow<'static, [u8]>,
    pub priority: Priority,
}

/// Reads one message. A peer that `is_authenticated` may ask for anything, another one only for authentication.
pub fn decode(text: &str, is_authenticated: bool) -> Request<'_> {
    let mut request = Request { timestamp: None, message_id: None, command: Ok(Command::Ping) };
    if text == BARE_PING && is_authenticated {
        return request;
    }
    let Some(message) = RawJson::parse(text) else {
        request.command = Err(RequestError::InvalidFormat);
        return request;
    };
    let (mut kind, mut data, mut timestamp) = (None, None, None);
    for member in message.members() {
        // The last one of a name counts.
        let place = match () {
            () if member.is("type") => &mut kind,
            () if member.is("data") => &mut data,
            () if member.is("messageId") => &mut request.message_id,
            () if member.is("timestamp") => &mut timestamp,
            () => continue,
        };
        *place = Some(member.value);
    }
    request.timestamp = timestamp.filter(|timestamp| timestamp.is_truthy()).and_then(RawJson::to_number);
    request.command = match kind {
        Some(kind) => Command::decode(kind, data, is_authenticated),
        None => Err(RequestError::InvalidStructure),
    };
    request
}

/// The reply to a request with this `messageId`, if it has one. `now` in milliseconds since 1970.
pub fn encode(outcome: &Outcome<'_>, message_id: Option<RawJson<'_>>, now: f64) -> Option<Reply> {
    let json = match outcome {
        Outcome::Silent => return None,
        Outcome::Pong => {
            return Some(Reply { json: Cow::Borrowed(outgoing::PONG), priority: Priority::Immediate });
        }
        Outcome::Authenticated { user, expires } => outgoing::auth_success(user, *expires),
        Outcome::Failed(error) => outgoing::error(&error.text(), message_id),
        Outcome::BatchSubscribed { bills, verdicts } => outgoing::batch_subscribed(*bills, verdicts),
        Outcome::BatchUnsubscribed { bills } => outgoing::batch_unsubscribed(*bills),
        Outcome::DefaultPreferences => outgoing::default_preferences(now),
        Outcome::PreferencesLoaded { preferences } => outgoing::preferences_loaded(preferences, now),
        Outcome::PreferencesSaved { preferences } => outgoing::preferences_saved(*preferences, now),
        Outcome::Subscribed { bill } => outgoing::subscribed(*bill),
        Outcome::Unsubscribed { bill } => outgoing::unsubscribed(*bill),
    };
    Some(Reply { json: Cow::Owned(json), priority: Priority::Normal })
}

impl<'m> Request<'m> {
    /// How long the message was on its way, if the peer's clock makes sense. `now` in milliseconds since 1970.
    pub fn latency(&self, now: f64) -> Option<f64> {
        Some(now - self.timestamp?).filter(|latency| (0.0..MAX_LATENCY_MS).contains(latency))
    }

    /// That the request has been received, whatever comes of it: sent before anything else, a pong excepted. Only for a
    /// truthy `messageId`.
    pub fn ack(&self) -> Option<Reply> {
        if let Err(RequestError::InvalidFormat | RequestError::InvalidStructure) = self.command {
            return None;
        }
        let message_id = self.message_id.filter(|id| id.is_truthy())?;
        Some(Reply { json: Cow::Owned(outgoing::ack(message_id)), priority: Priority::Normal })
    }
}

impl<'m> Command<'m> {
    fn decode(kind: RawJson<'m>, data: Option<RawJson<'m>>, is_authenticated: bool) -> Result<Self, RequestError<'m>> {
        let given = |name| data.and_then(|data| data.member(name));
        // A name with escapes in it is the same name.
        let name: Cow<'m, str> = match kind.string() {
            Some(written) if written.contains('\\') => Characters::of(written).collect(),
            Some(written) => written.into(),
            None => return Err(RequestError::unknown_type(kind, is_authenticated)),
        };
        match &*name {
            "auth" => match given("token").and_then(RawJson::string) {
                Some(written) if written.contains('\\') => {
                    Ok(Self::Authenticate { token: Characters::of(written).collect() })
                }
                Some(written) => Ok(Self::Authenticate { token: written.into() }),
                None => Err(RequestError::AuthenticationFailed),
            },
            _ if !is_authenticated => Err(RequestError::AuthenticationRequired),
            "subscribe" => {
                let given = given("bill_id").filter(|id| id.is_truthy()).ok_or(RequestError::BillIdRequired)?;
                let bill = bill_id(given).ok_or(RequestError::InvalidBillId)?;
                Ok(Self::Subscribe { bill, given: GivenBill(given) })
            }
            // Without an id there is nothing to say: some clients send that and expect no answer.
            "unsubscribe" => Ok(match given("bill_id").filter(|id| id.is_truthy()) {
                Some(given) => Self::Unsubscribe { bill: bill_id(given), given: GivenBill(given) },
                None => Self::Nothing,
            }),
            "batch_subscribe" => match given("bill_ids") {
                Some(bills) if bills.kind() == Kind::Array => Ok(Self::BatchSubscribe { bills }),
                _ => Err(RequestError::InvalidBatchSubscription),
            },
            "batch_unsubscribe" => match given("bill_ids") {
                Some(bills) if bills.kind() == Kind::Array => Ok(Self::BatchUnsubscribe { bills }),
                _ => Err(RequestError::InvalidBatchUnsubscription),
            },
            "get_preferences" => Ok(Self::LoadPreferences),
            "update_preferences" => match given("preferences") {
                Some(preferences) if preferences.kind() == Kind::Object => Ok(Self::SavePreferences { preferences }),
                _ => Err(RequestError::PreferencesRequired),
            },
            "ping" => Ok(Self::Ping),
            "pong" => Ok(Self::Nothing),
            _ => Err(RequestError::unknown_type(kind, is_authenticated)),
        }
    }
}

#[cfg(test)]
mod tests;
