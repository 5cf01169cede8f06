//! Decoding and encoding hold for arbitrary messages.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const TYPES: [&str; 9] = [
    "auth",
    "batch_subscribe",
    "batch_unsubscribe",
    "get_preferences",
    "ping",
    "pong",
    "subscribe",
    "unsubscribe",
    "update_preferences",
];

#[test]
fn nothing_is_too_deep_too_long_or_too_large() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let members = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    for value in [
        nested(100),
        nested(10_000),
        members(100),
        members(10_000),
        "1e400".into(),
        "-1e400".into(),
        "9".repeat(5000),
        format!("1e{}", "9".repeat(50)),
        format!("0.{}1", "0".repeat(5000)),
        r#""\ud800""#.into(),
        format!("\"{}\"", r"\ud800".repeat(5000)),
        "[0,".repeat(5000),
    ] {
        for kind in TYPES {
            for member in ["bill_id", "bill_ids", "preferences", "token"] {
                let data = format!(r#"{{"{member}":{value}}}"#);
                let message = format!(r#"{{"type":"{kind}","data":{data},"messageId":{value},"timestamp":{value}}}"#);
                for reply in answer(&message) {
                    assert!(RawJson::parse(&reply).is_some(), "{}", &reply[..100]);
                    assert!(reply.len() < message.len() + 1024, "{}", reply.len());
                }
            }
        }
    }
    let many: Vec<_> = (1..=50_000).map(|number: u32| number.to_string()).collect();
    let message = format!(r#"{{"type":"batch_subscribe","data":{{"bill_ids":[{}]}}}}"#, many.join(","));
    let mut model = Model::default();
    assert!(model.answer(&message).concat().contains("Subscribed to 100 bills, 49900 failed"));
    assert_eq!(model.followed.len(), 100);
}

/// How many replies the contract has for a message, acks aside.
fn replies_due(message: &Map<String, Value>) -> usize {
    let data = message.get("data").and_then(Value::as_object);
    let has_bill = data.and_then(|data| data.get("bill_id")).is_some_and(is_truthy);
    let has_token = data.and_then(|data| data.get("token")).is_some_and(Value::is_string);
    match message.get("type").and_then(Value::as_str) {
        Some("auth") => usize::from(!has_token),
        Some("pong") => 0,
        Some("unsubscribe") => usize::from(has_bill),
        _ => 1,
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..20_u8).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(TYPES.as_slice()).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop::sample::select(vec![
            "type",
            "data",
            "messageId",
            "timestamp",
            "bill_id",
            "bill_ids",
            "token",
            "preferences",
            "lastUpdated",
            "__proto__",
            "x",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

/// What the peer reads of a reply.
fn read(reply: &str) -> Value {
    serde_json::from_str(reply).expect("a reply is JSON")
}

proptest! {
    #[test]
    fn no_text_is_too_strange(text in any::<String>(), is_authenticated: bool) {
        let mut model = Model { is_authenticated, ..Model::default() };
        for reply in model.answer(&text) {
            prop_assert!(RawJson::parse(&reply).is_some());
        }
    }

    #[test]
    fn every_reply_to_any_value_is_json(value in any_json(), is_authenticated: bool) {
        let mut model = Model { is_authenticated, ..Model::default() };
        for reply in model.answer(&value.to_string()) {
            prop_assert!(read(&reply)["type"].is_string(), "{reply}");
        }
        prop_assert!(is_authenticated || model.followed.is_empty());
    }

    #[test]
    fn every_message_is_acked_if_asked_and_answered_as_often_as_it_must_be(
        kind in prop_oneof![prop::sample::select(TYPES.as_slice()).prop_map(Value::from), any_json()],
        data in any_json(),
        id in prop::option::of(any_json()),
        timestamp in any_json(),
    ) {
        let mut message = json!({"type": kind, "data": data, "timestamp": timestamp});
        if let Some(id) = &id {
            message["messageId"] = id.clone();
        }
        // The values as the peer wrote them and the service read them.
        let message = message.to_string();
        let Value::Object(sent) = read(&message) else { unreachable!() };
        let id = sent.get("messageId");
        let replies: Vec<Value> = answer(&message).iter().map(|reply| read(reply)).collect();
        let is_acked = id.is_some_and(is_truthy);
        prop_assert_eq!(replies.len(), usize::from(is_acked) + replies_due(&sent));
        if is_acked {
            prop_assert_eq!(&replies[0]["type"], "ack");
            prop_assert_eq!(replies[0].get("messageId"), id);
        }
        for error in replies.iter().filter(|reply| reply["type"] == "error") {
            prop_assert_eq!(error.get("messageId"), id);
        }
    }

    #[test]
    fn a_batch_is_parted_as_its_elements_are_bills_and_nothing_of_it_is_lost(
        elements in prop::collection::vec(any_json(), 0..40),
        max_subscriptions in 0..20_usize,
    ) {
        let message = json!({"type": "batch_subscribe", "data": {"bill_ids": elements}}).to_string();
        let elements = read(&message)["data"]["bill_ids"].as_array().expect("a list").clone();
        let mut model = Model { max_subscriptions, ..Model::default() };
        let reply = read(&model.answer(&message).concat());
        // By the book: a list of those followed, a list of the others, both in order.
        let mut followed = BTreeSet::new();
        let (mut subscribed, mut failed) = (Vec::new(), Vec::new());
        for element in elements {
            let number = element.as_f64().filter(|number| *number >= 1.0 && number.fract() == 0.0 && *number < 2f64.powi(53));
            match number {
                Some(number) if followed.contains(&(number as u64)) || followed.len() < max_subscriptions => {
                    followed.insert(number as u64);
                    subscribed.push(number);
                }
                _ => failed.push(element),
            }
        }
        let numbers: Vec<_> = reply["data"]["subscribed"].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        prop_assert_eq!(numbers, subscribed);
        prop_assert_eq!(reply["data"]["failed"].as_array().expect("a list"), &failed);
    }

    #[test]
    fn preferences_come_back_as_they_were_with_the_time(preferences in any_json()) {
        let message = json!({"type": "update_preferences", "data": {"preferences": preferences}}).to_string();
        let sent = read(&message)["data"]["preferences"].clone();
        let reply = read(&answer(&message).concat());
        match sent {
            Value::Object(mut sent) => {
                sent.insert("lastUpdated".into(), NOW.into());
                prop_assert_eq!(&reply["data"], &Value::Object(sent));
            }
            _ => prop_assert_eq!(&reply["message"], "Preferences data required"),
        }
    }
}
