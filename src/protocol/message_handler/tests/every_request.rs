//! Every request with every kind of value in every member it has, with and without a `messageId`: the exact replies.

use super::*;

/// A value of each kind, as it is written; with what JavaScript makes of it as text.
const VALUES: [(&str, &str); 20] = [
    ("null", "null"),
    ("true", "true"),
    ("false", "false"),
    ("0", "0"),
    ("-0", "0"),
    ("-1", "-1"),
    ("1.5", "1.5"),
    ("7", "7"),
    ("7.0", "7"),
    ("9007199254740992", "9007199254740992"),
    ("1e400", "Infinity"),
    (r#""""#, ""),
    (r#""x""#, "x"),
    (r#""7""#, "7"),
    (r#""\ud800""#, "\u{fffd}"),
    ("[]", ""),
    ("[7,null,[8]]", "7,,8"),
    ("{}", "[object Object]"),
    (r#"{"a":1}"#, "[object Object]"),
    (r#"{"__proto__":[],"length":1}"#, "[object Object]"),
];

const FALSY: [&str; 5] = ["null", "false", "0", "-0", r#""""#];

/// What comes of a request beside its ack.
enum Expected {
    Nothing,
    Error(String),
    Exactly(String),
}

use Expected::{Error, Exactly, Nothing};

fn is_truthy(value: &str) -> bool {
    !FALSY.contains(&value)
}

/// Sends it without and with each kind of `messageId`.
fn check(members: &str, expected: &Expected) {
    let replies = |message_id: Option<&str>| match expected {
        Nothing => vec![],
        Error(text) => vec![message_id.map_or_else(|| error(text), |id| error_about(text, id))],
        Exactly(reply) => vec![reply.clone()],
    };
    assert_eq!(answer(&format!("{{{members}}}")), replies(None), "{members}");
    for (id, _) in VALUES {
        let ack = is_truthy(id).then(|| format!(r#"{{"type":"ack","messageId":{id}}}"#));
        let expected: Vec<_> = ack.into_iter().chain(replies(Some(id))).collect();
        for message in [format!(r#"{{{members},"messageId":{id}}}"#), format!(r#"{{ "messageId" : {id} , {members}}}"#)]
        {
            assert_eq!(answer(&message), expected, "{message}");
        }
    }
}

/// As [`check`], for the value of one member of `data`.
fn check_member(kind: &str, member: &str, expected: impl Fn(&str, &str) -> Expected) {
    for (value, text) in VALUES {
        check(&format!(r#""type":"{kind}","data":{{"{member}":{value}}}"#), &expected(value, text));
    }
}

fn fails(text: &str) -> Expected {
    Error(text.to_owned())
}

#[test]
fn every_type_that_is_no_type() {
    for (value, text) in VALUES {
        let text = serde_json::to_string(&format!("Unknown message type: {text}")).expect("JSON");
        check(&format!(r#""type":{value}"#), &fails(text.trim_matches('"')));
    }
}

#[test]
fn every_data_that_is_no_object() {
    for (data, _) in VALUES {
        for (kind, expected) in [
            ("subscribe", fails("Bill ID required")),
            ("unsubscribe", Nothing),
            ("batch_subscribe", fails("Invalid batch subscription request")),
            ("batch_unsubscribe", fails("Invalid batch unsubscription request")),
            ("update_preferences", fails("Preferences data required")),
            ("auth", fails("Authentication failed")),
            ("pong", Nothing),
            ("nonsense", fails("Unknown message type: nonsense")),
        ] {
            check(&format!(r#""type":"{kind}","data":{data}"#), &expected);
            check(&format!(r#""type":"{kind}""#), &expected);
        }
    }
}

#[test]
fn subscribe_with_every_bill() {
    check_member("subscribe", "bill_id", |value, text| match value {
        "7" | "7.0" => {
            Exactly(r#"{"type":"subscribed","data":{"bill_id":7,"message":"Subscribed to bill 7 updates"}}"#.to_owned())
        }
        r#""7""# => Exactly(format!(
            r#"{{"type":"subscribed","data":{{"bill_id":{value},"message":"Subscribed to bill {text} updates"}}}}"#
        )),
        value if is_truthy(value) => fails("Invalid bill ID"),
        _ => fails("Bill ID required"),
    });
}

#[test]
fn unsubscribe_with_every_bill() {
    check_member("unsubscribe", "bill_id", |value, text| {
        let echo = if value == "7.0" { "7" } else { value };
        match is_truthy(value) {
            true => Exactly(format!(
                r#"{{"type":"unsubscribed","data":{{"bill_id":{echo},"message":"Unsubscribed from bill {text} updates"}}}}"#
            )),
            false => Nothing,
        }
    });
}

#[test]
fn batches_with_every_list_and_every_element() {
    for (kind, problem) in [
        ("batch_subscribe", "Invalid batch subscription request"),
        ("batch_unsubscribe", "Invalid batch unsubscription request"),
    ] {
        check_member(kind, "bill_ids", |value, _| {
            match (kind, value) {
            ("batch_subscribe", "[]") => Exactly(
                r#"{"type":"batch_subscribed","data":{"subscribed":[],"failed":[],"message":"Subscribed to 0 bills"}}"#
                    .to_owned(),
            ),
            ("batch_subscribe", "[7,null,[8]]") => Exactly(
                r#"{"type":"batch_subscribed","data":{"subscribed":[7],"failed":[null,[8]],"message":"Subscribed to 1 bills, 2 failed"}}"#
                    .to_owned(),
            ),
            ("batch_unsubscribe", "[]") => Exactly(
                r#"{"type":"batch_unsubscribed","data":{"unsubscribed":[],"message":"Unsubscribed from 0 bills"}}"#
                    .to_owned(),
            ),
            ("batch_unsubscribe", "[7,null,[8]]") => Exactly(
                r#"{"type":"batch_unsubscribed","data":{"unsubscribed":[7,null,[8]],"message":"Unsubscribed from 3 bills"}}"#
                    .to_owned(),
            ),
            _ => fails(problem),
        }
        });
    }
    for (value, _) in VALUES {
        let echo = if value == "7.0" { "7" } else { value };
        let subscribed = match value {
            "7" | "7.0" => r#""subscribed":[7,1],"failed":[],"message":"Subscribed to 2 bills""#.to_owned(),
            _ => format!(r#""subscribed":[1],"failed":[{value}],"message":"Subscribed to 1 bills, 1 failed""#),
        };
        check(
            &format!(r#""type":"batch_subscribe","data":{{"bill_ids":[{value}, 1]}}"#),
            &Exactly(format!(r#"{{"type":"batch_subscribed","data":{{{subscribed}}}}}"#)),
        );
        check(
            &format!(r#""type":"batch_unsubscribe","data":{{"bill_ids":[{value}, 1]}}"#),
            &Exactly(format!(
                r#"{{"type":"batch_unsubscribed","data":{{"unsubscribed":[{echo},1],"message":"Unsubscribed from 2 bills"}}}}"#
            )),
        );
    }
}

#[test]
fn update_preferences_with_everything_that_is_an_object_or_none() {
    check_member("update_preferences", "preferences", |value, _| {
        let Some(members) = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            return fails("Preferences data required");
        };
        let separator = if members.is_empty() { "" } else { "," };
        Exactly(format!(
            r#"{{"type":"preferences_updated","data":{{{members}{separator}"lastUpdated":"{NOW}"}},"message":"Preferences updated successfully","timestamp":"{NOW}"}}"#
        ))
    });
}

#[test]
fn auth_with_every_token() {
    check_member("auth", "token", |value, _| match value.starts_with('"') {
        // Answered once the token has been checked.
        true => Nothing,
        false => fails("Authentication failed"),
    });
}

#[test]
fn a_rest_that_does_not_matter() {
    for (value, _) in VALUES {
        check(&format!(r#""x":{value},"type":"pong","timestamp":{value}"#), &Nothing);
        check(
            &format!(r#""type":"subscribe","data":{{"subscriptionTypes":{value},"bill_id":1}}"#),
            &Exactly(
                r#"{"type":"subscribed","data":{"bill_id":1,"message":"Subscribed to bill 1 updates"}}"#.to_owned(),
            ),
        );
    }
}
