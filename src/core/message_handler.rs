//! Parses, validates and routes one inbound message. Pure: bytes and the time come in, actions come out.
//!
//! Called by `dialogue` on the shard's thread, which carries the actions out in their order.

use std::borrow::Cow;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::core::json::{is_truthy, to_number, to_text};
use crate::core::outgoing;
use crate::types::{BillId, Priority};

/// A client's clock may be this far behind ours for its `timestamp` to count as a latency.
const MAX_LATENCY_MS: f64 = 60_000.0;

/// The message most clients send most often, and the one that needs no parsing.
const BARE_PING: &[u8] = br#"{"type":"ping"}"#;

/// What a message is judged by beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Milliseconds since 1970.
    pub now_ms: f64,
    /// Whether the connection has a user.
    pub authenticated: bool,
    /// Whether the application keeps preferences.
    pub preference_hooks: bool,
    /// How many more bills the connection may follow. What is named twice counts twice, so a full connection is
    /// refused also what it follows already.
    pub subscription_room: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Authenticate { token: String },
    LoadPreferences,
    Reply(Reply),
    SavePreferences(Map<String, Value>),
    Subscribe(SmallVec<[BillId; 1]>),
    Unsubscribe(SmallVec<[BillId; 1]>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub json: Cow<'static, [u8]>,
    pub priority: Priority,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inbound {
    pub latency_ms: Option<f64>,
    pub actions: SmallVec<[Action; 3]>,
}

/// Decides what one message means.
pub fn handle(payload: &[u8], context: &Context) -> Inbound {
    let mut inbound = Inbound::default();
    if payload == BARE_PING && context.authenticated {
        inbound.pong();
        return inbound;
    }
    let Ok(message) = serde_json::from_slice::<Value>(payload) else {
        inbound.reply(outgoing::error("Invalid message format"));
        return inbound;
    };
    let Value::Object(message) = message else {
        inbound.reply(outgoing::structure_error(None));
        return inbound;
    };
    inbound.latency_ms = latency(message.get("timestamp"), context.now_ms);
    let Some(kind) = message.get("type") else {
        inbound.reply(outgoing::structure_error(message.get("messageId")));
        return inbound;
    };
    if let Some(id) = message.get("messageId").filter(|id| is_truthy(id)) {
        inbound.reply(outgoing::ack(id));
    }
    let empty = Map::new();
    let data = message.get("data").and_then(Value::as_object).unwrap_or(&empty);
    inbound.dispatch(kind, data, context);
    inbound
}

impl Inbound {
    fn dispatch(&mut self, kind: &Value, data: &Map<String, Value>, context: &Context) {
        match kind.as_str() {
            Some("auth") => self.auth(data),
            _ if !context.authenticated => self.reply(outgoing::error("Authentication required")),
            Some("subscribe") => self.subscribe(data, context.subscription_room),
            Some("unsubscribe") => self.unsubscribe(data),
            Some("batch_subscribe") => self.batch_subscribe(data, context.subscription_room),
            Some("batch_unsubscribe") => self.batch_unsubscribe(data),
            Some("get_preferences") if context.preference_hooks => self.actions.push(Action::LoadPreferences),
            Some("get_preferences") => self.reply(outgoing::default_preferences(context.now_ms)),
            Some("update_preferences") => self.update_preferences(data, context),
            Some("ping") => self.pong(),
            Some("pong") => {}
            _ => self.reply(outgoing::error(&format!("Unknown message type: {}", to_text(kind)))),
        }
    }

    fn auth(&mut self, data: &Map<String, Value>) {
        match data.get("token").and_then(Value::as_str) {
            Some(token) => self.actions.push(Action::Authenticate { token: token.to_owned() }),
            None => self.reply(outgoing::error("Authentication failed")),
        }
    }

    fn subscribe(&mut self, data: &Map<String, Value>, room: usize) {
        let Some(given) = data.get("bill_id").filter(|id| is_truthy(id)) else {
            return self.reply(outgoing::error("Bill ID required"));
        };
        let Some(bill) = bill_id(given) else {
            return self.reply(outgoing::error("Invalid bill ID"));
        };
        if room == 0 {
            return self.reply(outgoing::error("Subscription limit reached"));
        }
        self.actions.push(Action::Subscribe(SmallVec::from_slice(&[bill])));
        self.reply(outgoing::subscribed(given, &to_text(given)));
    }

    fn unsubscribe(&mut self, data: &Map<String, Value>) {
        // Without an id there is nothing to say: some clients send that and expect no answer.
        let Some(given) = data.get("bill_id").filter(|id| is_truthy(id)) else { return };
        if let Some(bill) = bill_id(given) {
            self.actions.push(Action::Unsubscribe(SmallVec::from_slice(&[bill])));
        }
        self.reply(outgoing::unsubscribed(given, &to_text(given)));
    }

    fn batch_subscribe(&mut self, data: &Map<String, Value>, room: usize) {
        let Some(given) = data.get("bill_ids").and_then(Value::as_array) else {
            return self.reply(outgoing::error("Invalid batch subscription request"));
        };
        let (mut bills, mut subscribed, mut failed) = (SmallVec::new(), Vec::new(), Vec::new());
        for element in given {
            match element.as_f64().and_then(BillId::from_f64) {
                Some(bill) if bills.len() < room => {
                    bills.push(bill);
                    subscribed.push(element);
                }
                _ => failed.push(element),
            }
        }
        let reply = outgoing::batch_subscribed(&subscribed, &failed);
        self.actions.push(Action::Subscribe(bills));
        self.reply(reply);
    }

    fn batch_unsubscribe(&mut self, data: &Map<String, Value>) {
        let Some(given) = data.get("bill_ids").and_then(Value::as_array) else {
            return self.reply(outgoing::error("Invalid batch unsubscription request"));
        };
        self.actions.push(Action::Unsubscribe(given.iter().filter_map(bill_id).collect()));
        self.reply(outgoing::batch_unsubscribed(given));
    }

    fn update_preferences(&mut self, data: &Map<String, Value>, context: &Context) {
        let Some(given) = data.get("preferences").filter(|given| is_truthy(given)) else {
            return self.reply(outgoing::error("Preferences data required"));
        };
        let preferences = spread(given);
        if context.preference_hooks {
            self.actions.push(Action::SavePreferences(preferences));
        } else {
            self.reply(outgoing::preferences_saved(preferences, context.now_ms));
        }
    }

    /// Urgent, so that it overtakes an ack of the same message.
    fn pong(&mut self) {
        let reply = Reply { json: Cow::Borrowed(outgoing::PONG), priority: Priority::Immediate };
        self.actions.push(Action::Reply(reply));
    }

    fn reply(&mut self, json: Vec<u8>) {
        self.actions.push(Action::Reply(Reply { json: Cow::Owned(json), priority: Priority::Normal }));
    }
}

/// A positive integer, or the decimal digits of one.
fn bill_id(given: &Value) -> Option<BillId> {
    match given {
        Value::Number(number) => number.as_f64().and_then(BillId::from_f64),
        Value::String(digits) => BillId::from_digits(digits),
        _ => None,
    }
}

/// `{...value}` of a truthy value: an object's members, an array's elements, a string's characters.
fn spread(value: &Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members.clone(),
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(index, element)| (index.to_string(), element.clone())).collect()
        }
        Value::String(text) => {
            text.chars().enumerate().map(|(index, letter)| (index.to_string(), letter.to_string().into())).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Map::new(),
    }
}

fn latency(timestamp: Option<&Value>, now_ms: f64) -> Option<f64> {
    let sent = to_number(timestamp.filter(|timestamp| is_truthy(timestamp))?)?;
    Some(now_ms - sent).filter(|latency| (0.0..MAX_LATENCY_MS).contains(latency))
}

#[cfg(test)]
mod tests;
