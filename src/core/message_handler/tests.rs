use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::core::json::write_value;

const CONTEXT: Context =
    Context { now_ms: 1000.0, authenticated: true, preference_hooks: false, subscription_room: 100 };
const NOW: &str = "1970-01-01T00:00:01.000Z";

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

fn replies(inbound: &Inbound) -> Vec<String> {
    let mut replies = Vec::new();
    for action in &inbound.actions {
        if let Action::Reply(reply) = action {
            replies.push(String::from_utf8(reply.json.to_vec()).expect("UTF-8"));
        }
    }
    replies
}

fn answer(message: &str) -> Vec<String> {
    replies(&handle(message.as_bytes(), &CONTEXT))
}

fn bills(numbers: &[u64]) -> SmallVec<[BillId; 1]> {
    numbers.iter().filter_map(|number| BillId::new(*number)).collect()
}

#[test]
fn every_request_has_its_exact_reply() {
    let preferences = r#"{"updateFrequency":"immediate","notificationTypes":["status_change","new_comment","amendment","voting_scheduled"]}"#;
    let table: Vec<(&str, Vec<String>)> = vec![
        (
            r#"{"type":"subscribe","data":{"bill_id":42,"subscriptionTypes":["x"]}}"#,
            vec![r#"{"type":"subscribed","data":{"bill_id":42,"message":"Subscribed to bill 42 updates"}}"#.into()],
        ),
        (
            r#"{"type":"subscribe","data":{"bill_id":4.2e1}}"#,
            vec![r#"{"type":"subscribed","data":{"bill_id":42,"message":"Subscribed to bill 42 updates"}}"#.into()],
        ),
        (
            r#"{"type":"subscribe","data":{"bill_id":"42"}}"#,
            vec![r#"{"type":"subscribed","data":{"bill_id":"42","message":"Subscribed to bill 42 updates"}}"#.into()],
        ),
        (
            r#"{"type":"batch_subscribe","data":{"bill_ids":[1,2,2,-1,0,1.5,"3",null,{}]}}"#,
            vec![r#"{"type":"batch_subscribed","data":{"subscribed":[1,2,2],"failed":[-1,0,1.5,"3",null,{}],"message":"Subscribed to 3 bills, 6 failed"}}"#.into()],
        ),
        (
            r#"{"type":"batch_subscribe","data":{"bill_ids":[]}}"#,
            vec![r#"{"type":"batch_subscribed","data":{"subscribed":[],"failed":[],"message":"Subscribed to 0 bills"}}"#.into()],
        ),
        (
            r#"{"type":"batch_subscribe","data":{"bill_ids":5}}"#,
            vec![r#"{"type":"error","message":"Invalid batch subscription request"}"#.into()],
        ),
        (
            r#"{"type":"unsubscribe","data":{"bill_id":7}}"#,
            vec![r#"{"type":"unsubscribed","data":{"bill_id":7,"message":"Unsubscribed from bill 7 updates"}}"#.into()],
        ),
        (
            r#"{"type":"unsubscribe","data":{"bill_id":[1,2]}}"#,
            vec![r#"{"type":"unsubscribed","data":{"bill_id":[1,2],"message":"Unsubscribed from bill 1,2 updates"}}"#.into()],
        ),
        (r#"{"type":"unsubscribe"}"#, vec![]),
        (r#"{"type":"unsubscribe","data":{"bill_id":0},"messageId":"m"}"#, vec![r#"{"type":"ack","messageId":"m"}"#.into()]),
        (
            r#"{"type":"batch_unsubscribe","data":{"bill_ids":[1,"x",null]}}"#,
            vec![r#"{"type":"batch_unsubscribed","data":{"unsubscribed":[1,"x",null],"message":"Unsubscribed from 3 bills"}}"#.into()],
        ),
        (
            r#"{"type":"batch_unsubscribe"}"#,
            vec![r#"{"type":"error","message":"Invalid batch unsubscription request"}"#.into()],
        ),
        (
            r#"{"type":"get_preferences"}"#,
            vec![format!(r#"{{"type":"preferences","data":{preferences},"timestamp":"{NOW}"}}"#)],
        ),
        (
            r#"{"type":"update_preferences","data":{"preferences":{"a":1}}}"#,
            vec![format!(
                r#"{{"type":"preferences_updated","data":{{"a":1,"lastUpdated":"{NOW}"}},"message":"Preferences updated successfully","timestamp":"{NOW}"}}"#
            )],
        ),
        (
            r#"{"type":"update_preferences","data":{"preferences":0}}"#,
            vec![r#"{"type":"error","message":"Preferences data required"}"#.into()],
        ),
        (r#"{"type":"ping"}"#, vec![r#"{"type":"pong","priority":"immediate"}"#.into()]),
        (r#"{"type":"pong"}"#, vec![]),
        (r#"{"type":"batch"}"#, vec![r#"{"type":"error","message":"Unknown message type: batch"}"#.into()]),
        (r#"{"type":null}"#, vec![r#"{"type":"error","message":"Unknown message type: null"}"#.into()]),
        (r#"{"type":123}"#, vec![r#"{"type":"error","message":"Unknown message type: 123"}"#.into()]),
        (
            r#"{"type":{},"messageId":[1.0]}"#,
            vec![
                r#"{"type":"ack","messageId":[1]}"#.into(),
                r#"{"type":"error","message":"Unknown message type: [object Object]"}"#.into(),
            ],
        ),
    ];
    for (message, expected) in table {
        assert_eq!(answer(message), expected, "{message}");
    }
}

#[test]
fn bill_ids_that_are_missing_or_false_are_required_and_others_that_are_none_invalid() {
    for given in ["0", "null", "\"\"", "false", "-0"] {
        let message = format!(r#"{{"type":"subscribe","data":{{"bill_id":{given}}}}}"#);
        assert_eq!(answer(&message), [r#"{"type":"error","message":"Bill ID required"}"#], "{given}");
    }
    for given in ["-1", "1.5", "true", "{}", "[1]", "\"x\"", "\"0\"", "9007199254740992", "\"1e3\""] {
        let inbound = handle(format!(r#"{{"type":"subscribe","data":{{"bill_id":{given}}}}}"#).as_bytes(), &CONTEXT);
        assert_eq!(replies(&inbound), [r#"{"type":"error","message":"Invalid bill ID"}"#], "{given}");
        assert_eq!(inbound.actions.len(), 1);
    }
    for data in ["null", "5", "[]", "\"x\"", "{}"] {
        let message = format!(r#"{{"type":"subscribe","data":{data}}}"#);
        assert_eq!(answer(&message), [r#"{"type":"error","message":"Bill ID required"}"#], "{data}");
    }
}

#[test]
fn what_is_no_json_or_no_message_is_answered_and_nothing_more() {
    for text in ["", "{", "nope", "\u{feff}{}", "{} x", "{\"type\":\"ping\"}]", "NaN", "'x'"] {
        assert_eq!(answer(text), [r#"{"type":"error","message":"Invalid message format"}"#], "{text:?}");
    }
    for text in ["null", "1", "\"x\"", "true", "[]", "[{\"type\":\"ping\"}]", "{}"] {
        assert_eq!(answer(text), [r#"{"type":"error","message":"Invalid message structure"}"#], "{text:?}");
    }
    assert_eq!(
        answer(r#"{"messageId":0}"#),
        [r#"{"type":"error","message":"Invalid message structure","messageId":0}"#]
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(answer(&deep), [r#"{"type":"error","message":"Invalid message format"}"#]);
}

#[test]
fn acks_come_first_and_only_for_truthy_ids() {
    let message = |id: &str| format!(r#"{{"type":"subscribe","data":{{"bill_id":1}},"messageId":{id}}}"#);
    for id in ["\"\"", "0", "false", "null"] {
        assert_eq!(answer(&message(id)).len(), 1, "{id}");
    }
    for id in ["\"a\"", "1", "true", "{}", "[]"] {
        assert_eq!(answer(&message(id)).first(), Some(&format!(r#"{{"type":"ack","messageId":{id}}}"#)));
    }
}

#[test]
fn subscriptions_come_before_their_confirmation() {
    let inbound = handle(br#"{"type":"subscribe","data":{"bill_id":"042"}}"#, &CONTEXT);
    assert_eq!(inbound.actions.first(), Some(&Action::Subscribe(bills(&[42]))));
    let inbound = handle(br#"{"type":"batch_unsubscribe","data":{"bill_ids":[1,"2",-1]}}"#, &CONTEXT);
    assert_eq!(inbound.actions.first(), Some(&Action::Unsubscribe(bills(&[1, 2]))));
}

#[test]
fn no_connection_follows_more_bills_than_it_may() {
    let full = Context { subscription_room: 0, ..CONTEXT };
    let inbound = handle(br#"{"type":"subscribe","data":{"bill_id":1}}"#, &full);
    assert_eq!(replies(&inbound), [r#"{"type":"error","message":"Subscription limit reached"}"#]);
    let nearly = Context { subscription_room: 2, ..CONTEXT };
    let inbound = handle(br#"{"type":"batch_subscribe","data":{"bill_ids":[1,2,3]}}"#, &nearly);
    assert_eq!(inbound.actions.first(), Some(&Action::Subscribe(bills(&[1, 2]))));
    assert!(replies(&inbound).concat().contains(r#""failed":[3]"#));
}

#[test]
fn latency_is_measured_where_the_timestamp_makes_sense_even_in_a_broken_message() {
    for (timestamp, expected) in [
        ("900", Some(100.0)),
        ("\"900\"", Some(100.0)),
        ("1000", Some(0.0)),
        ("1001", None),
        ("0", None),
        ("null", None),
        ("\"x\"", None),
        ("{}", None),
        ("-59000", None),
    ] {
        let message = format!(r#"{{"timestamp":{timestamp}}}"#);
        assert_eq!(handle(message.as_bytes(), &CONTEXT).latency_ms, expected, "{timestamp}");
    }
}

#[test]
fn before_authentication_only_auth_is_heard() {
    let context = Context { authenticated: false, ..CONTEXT };
    let inbound = handle(br#"{"type":"subscribe","data":{"bill_id":1},"messageId":1}"#, &context);
    assert_eq!(
        replies(&inbound),
        [r#"{"type":"ack","messageId":1}"#, r#"{"type":"error","message":"Authentication required"}"#]
    );
    let inbound = handle(br#"{"type":"auth","data":{"token":"t"}}"#, &context);
    assert_eq!(inbound.actions.as_slice(), [Action::Authenticate { token: "t".into() }]);
    for data in ["{}", "null", r#"{"token":1}"#] {
        let inbound = handle(format!(r#"{{"type":"auth","data":{data}}}"#).as_bytes(), &context);
        assert_eq!(replies(&inbound), [r#"{"type":"error","message":"Authentication failed"}"#]);
    }
}

#[test]
fn hooks_take_preferences_over() {
    let context = Context { preference_hooks: true, ..CONTEXT };
    assert_eq!(handle(br#"{"type":"get_preferences"}"#, &context).actions.as_slice(), [Action::LoadPreferences]);
    let inbound = handle(br#"{"type":"update_preferences","data":{"preferences":{"a":1}}}"#, &context);
    let Value::Object(expected) = json!({"a": 1}) else { unreachable!() };
    assert_eq!(inbound.actions.as_slice(), [Action::SavePreferences(expected)]);
}

#[test]
fn the_last_of_equal_members_wins_and_proto_is_an_ordinary_one() {
    assert_eq!(answer(r#"{"type":"x","type":"ping"}"#), [r#"{"type":"pong","priority":"immediate"}"#]);
    assert_eq!(
        answer(r#"{"__proto__":{"type":"ping"}}"#),
        [r#"{"type":"error","message":"Invalid message structure"}"#]
    );
    let echoed = answer(r#"{"type":"update_preferences","data":{"preferences":{"__proto__":{"a":1}}}}"#).concat();
    assert!(echoed.contains(r#""data":{"__proto__":{"a":1},"#), "{echoed}");
}

#[test]
fn what_shipped_clients_send_beyond_the_contract_keeps_its_answer() {
    for (message, expected) in [
        (r#"{"type":"subscribe","topic":"bills","filters":{},"subscriptionId":"s"}"#, &["Bill ID required"][..]),
        (r#"{"type":"unsubscribe","topic":"bills"}"#, &[]),
        (r#"{"type":"subscribe","data":{"billId":7}}"#, &["Bill ID required"]),
        (
            r#"{"type":"subscribe","data":{"subscriptions":[{"id":"s","topic":"t"}]},"timestamp":1}"#,
            &["Bill ID required"],
        ),
        (r#"{"type":"batch","messages":[{"type":"ping"}]}"#, &["Unknown message type: batch"]),
        (r#"{"type":"heartbeat","data":{"type":"ping"}}"#, &["Unknown message type: heartbeat"]),
        (r#"{"type":"updatePreferences","data":{}}"#, &["Unknown message type: updatePreferences"]),
        (r#"{"type":"room:join"}"#, &["Unknown message type: room:join"]),
        (r#"{"event":"join_room","data":{}}"#, &["Invalid message structure"]),
    ] {
        let expected: Vec<_> =
            expected.iter().map(|text| format!(r#"{{"type":"error","message":"{text}"}}"#)).collect();
        assert_eq!(answer(message), expected, "{message}");
    }
}

#[test]
fn a_pong_needs_no_answer_and_a_ping_looks_the_same_however_it_is_written() {
    assert_eq!(answer(r#"{"type":"pong","messageId":"m"}"#), [r#"{"type":"ack","messageId":"m"}"#]);
    for ping in [r#"{"type":"ping"}"#, r#" {"type" : "ping"} "#, r#"{"type":"\u0070ing","data":null}"#] {
        let inbound = handle(ping.as_bytes(), &CONTEXT);
        let pong = Reply { json: Cow::Borrowed(outgoing::PONG), priority: Priority::Immediate };
        assert_eq!(inbound.actions.as_slice(), [Action::Reply(pong)], "{ping}");
        let anonymous = handle(ping.as_bytes(), &Context { authenticated: false, ..CONTEXT });
        assert_eq!(replies(&anonymous), [r#"{"type":"error","message":"Authentication required"}"#], "{ping}");
    }
}

#[test]
fn who_is_nobody_yet_is_still_told_of_broken_messages() {
    let context = Context { authenticated: false, ..CONTEXT };
    for (message, expected) in [("{", "Invalid message format"), ("[]", "Invalid message structure")] {
        let expected = format!(r#"{{"type":"error","message":"{expected}"}}"#);
        assert_eq!(replies(&handle(message.as_bytes(), &context)), [expected], "{message}");
    }
    let inbound = handle(br#"{"type":"auth","data":{"token":"t"},"messageId":1}"#, &CONTEXT);
    assert_eq!(replies(&inbound), [r#"{"type":"ack","messageId":1}"#]);
    assert_eq!(inbound.actions.last(), Some(&Action::Authenticate { token: "t".into() }));
}

#[test]
fn preferences_of_any_kind_are_spread() {
    for (given, expected) in [
        (r#"{"b":1,"7":2,"lastUpdated":3}"#, format!(r#"{{"7":2,"b":1,"lastUpdated":"{NOW}"}}"#)),
        (r#"["x",{}]"#, format!(r#"{{"0":"x","1":{{}},"lastUpdated":"{NOW}"}}"#)),
        (r#""ab""#, format!(r#"{{"0":"a","1":"b","lastUpdated":"{NOW}"}}"#)),
        ("true", format!(r#"{{"lastUpdated":"{NOW}"}}"#)),
        ("5", format!(r#"{{"lastUpdated":"{NOW}"}}"#)),
    ] {
        let reply = answer(&format!(r#"{{"type":"update_preferences","data":{{"preferences":{given}}}}}"#)).concat();
        assert!(reply.contains(&format!(r#""data":{expected},"message""#)), "{given}: {reply}");
    }
}

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
        "[0,".repeat(5000),
    ] {
        for kind in TYPES {
            for member in ["bill_id", "bill_ids", "preferences", "token"] {
                let data = format!(r#"{{"{member}":{value}}}"#);
                for reply in
                    answer(&format!(r#"{{"type":"{kind}","data":{data},"messageId":{value},"timestamp":{value}}}"#))
                {
                    serde_json::from_str::<Value>(&reply).expect("JSON");
                }
            }
        }
    }
    let many: Vec<_> = (1..=50_000).map(|number: u32| number.to_string()).collect();
    let message = format!(r#"{{"type":"batch_subscribe","data":{{"bill_ids":[{}]}}}}"#, many.join(","));
    let inbound = handle(message.as_bytes(), &CONTEXT);
    let Some(Action::Subscribe(bills)) = inbound.actions.first() else { panic!("no subscriptions") };
    assert_eq!(bills.len(), CONTEXT.subscription_room);
    assert!(replies(&inbound).concat().contains("Subscribed to 100 bills, 49900 failed"));
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

/// Equal for values that JavaScript prints the same: numbers beyond 2^53 come back rounded.
fn printed(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_value(&mut out, value);
    out
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
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

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for reply in replies(&handle(&bytes, &CONTEXT)) {
            prop_assert!(serde_json::from_str::<Value>(&reply).is_ok());
        }
    }

    #[test]
    fn every_reply_to_any_value_is_json_and_only_valid_bills_are_followed(value in any_json()) {
        let inbound = handle(value.to_string().as_bytes(), &CONTEXT);
        for reply in replies(&inbound) {
            prop_assert!(serde_json::from_str::<Value>(&reply).is_ok(), "{reply}");
        }
        for action in &inbound.actions {
            if let Action::Subscribe(bills) = action {
                prop_assert!(bills.iter().all(|bill| (1..=BillId::MAX).contains(&bill.get())));
            }
        }
    }

    #[test]
    fn every_message_is_acked_if_asked_and_answered_as_often_as_it_must_be(
        kind in prop::sample::select(TYPES.as_slice()),
        data in any_json(),
        id in any_json(),
        timestamp in any_json(),
    ) {
        // The values as the peer wrote them and the service read them.
        let message = json!({"type": kind, "data": data, "messageId": id, "timestamp": timestamp}).to_string();
        let Value::Object(read) = serde_json::from_str(&message).expect("JSON") else { unreachable!() };
        let replies: Vec<Value> =
            answer(&message).iter().map(|reply| serde_json::from_str(reply).expect("JSON")).collect();
        let is_acked = is_truthy(&read["messageId"]);
        prop_assert_eq!(replies.len(), usize::from(is_acked) + replies_due(&read));
        if is_acked {
            prop_assert_eq!(&replies[0]["type"], "ack");
            prop_assert_eq!(printed(&replies[0]["messageId"]), printed(&read["messageId"]));
        }
    }
}
