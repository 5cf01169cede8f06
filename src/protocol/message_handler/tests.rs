//! The exact bytes of every reply, and what decoding makes of messages that are not in order.

use std::collections::BTreeSet;

use super::*;

mod every_request;
mod properties;

const NOW_MS: f64 = 1000.0;
const NOW: &str = "1970-01-01T00:00:01.000Z";

/// Executes commands as a shard does, on a set of bills.
struct Model {
    is_authenticated: bool,
    max_subscriptions: usize,
    followed: BTreeSet<BillId>,
}

impl Default for Model {
    fn default() -> Self {
        Self { is_authenticated: true, max_subscriptions: 100, followed: BTreeSet::new() }
    }
}

impl Model {
    /// Everything that is sent for one message, in its order.
    fn answer(&mut self, message: &str) -> Vec<String> {
        let request = decode(message, self.is_authenticated);
        let outcome = match request.command.clone() {
            Ok(command) => self.execute(command),
            Err(error) => Outcome::Failed(error),
        };
        let replies = [request.ack(), encode(&outcome, request.message_id, NOW_MS)];
        replies.into_iter().flatten().map(|reply| String::from_utf8(reply.json.to_vec()).expect("UTF-8")).collect()
    }

    fn execute<'m>(&mut self, command: Command<'m>) -> Outcome<'m> {
        match command {
            // Answered by hooks.
            Command::Authenticate { .. } | Command::Nothing => Outcome::Silent,
            Command::Ping => Outcome::Pong,
            Command::LoadPreferences => Outcome::DefaultPreferences,
            Command::SavePreferences { preferences } => Outcome::PreferencesSaved { preferences },
            Command::Subscribe { bill, given } => {
                if self.follow(bill) {
                    Outcome::Subscribed { bill: given }
                } else {
                    Outcome::Failed(RequestError::SubscriptionLimit)
                }
            }
            Command::BatchSubscribe { bills } => {
                let elements = bills.elements().expect("an array");
                let verdicts = elements.map(|one| bill_number(one).is_some_and(|bill| self.follow(bill))).collect();
                Outcome::BatchSubscribed { bills, verdicts }
            }
            Command::Unsubscribe { bill, given } => {
                bill.map(|bill| self.followed.remove(&bill));
                Outcome::Unsubscribed { bill: given }
            }
            Command::BatchUnsubscribe { bills } => {
                bills.elements().expect("an array").filter_map(bill_id).for_each(|bill| {
                    self.followed.remove(&bill);
                });
                Outcome::BatchUnsubscribed { bills }
            }
        }
    }

    fn follow(&mut self, bill: BillId) -> bool {
        let has_room = self.followed.contains(&bill) || self.followed.len() < self.max_subscriptions;
        if has_room {
            self.followed.insert(bill);
        }
        has_room
    }
}

fn answer(message: &str) -> Vec<String> {
    Model::default().answer(message)
}

fn error(text: &str) -> String {
    format!(r#"{{"type":"error","message":"{text}"}}"#)
}

fn error_about(text: &str, message_id: &str) -> String {
    format!(r#"{{"type":"error","message":"{text}","messageId":{message_id}}}"#)
}

fn bill(number: u64) -> BillId {
    BillId::new(number).expect("a bill")
}

fn command(message: &str) -> Result<Command<'_>, RequestError<'_>> {
    decode(message, true).command
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
            r#"{"type":"subscribe","data":{"bill_id":"\u0034\u0032"}}"#,
            vec![r#"{"type":"subscribed","data":{"bill_id":"\u0034\u0032","message":"Subscribed to bill 42 updates"}}"#.into()],
        ),
        (
            r#"{"type":"batch_subscribe","data":{"bill_ids":[1,2,2.0,-1,0,1.5,"3",null,{}]}}"#,
            vec![r#"{"type":"batch_subscribed","data":{"subscribed":[1,2,2],"failed":[-1,0,1.5,"3",null,{}],"message":"Subscribed to 3 bills, 6 failed"}}"#.into()],
        ),
        (
            r#"{"type":"batch_subscribe","data":{"bill_ids":[]}}"#,
            vec![r#"{"type":"batch_subscribed","data":{"subscribed":[],"failed":[],"message":"Subscribed to 0 bills"}}"#.into()],
        ),
        (r#"{"type":"batch_subscribe","data":{"bill_ids":5}}"#, vec![error("Invalid batch subscription request")]),
        (
            r#"{"type":"unsubscribe","data":{"bill_id":7}}"#,
            vec![r#"{"type":"unsubscribed","data":{"bill_id":7,"message":"Unsubscribed from bill 7 updates"}}"#.into()],
        ),
        (
            r#"{"type":"unsubscribe","data":{"bill_id":[1,2]}}"#,
            vec![r#"{"type":"unsubscribed","data":{"bill_id":[1,2],"message":"Unsubscribed from bill 1,2 updates"}}"#.into()],
        ),
        (
            r#"{"type":"unsubscribe","data":{"bill_id":-0.50}}"#,
            vec![r#"{"type":"unsubscribed","data":{"bill_id":-0.50,"message":"Unsubscribed from bill -0.5 updates"}}"#.into()],
        ),
        (r#"{"type":"unsubscribe"}"#, vec![]),
        (r#"{"type":"unsubscribe","data":{"bill_id":0},"messageId":"m"}"#, vec![r#"{"type":"ack","messageId":"m"}"#.into()]),
        (
            r#"{"type":"batch_unsubscribe","data":{"bill_ids":[1,"x",null]}}"#,
            vec![r#"{"type":"batch_unsubscribed","data":{"unsubscribed":[1,"x",null],"message":"Unsubscribed from 3 bills"}}"#.into()],
        ),
        (r#"{"type":"batch_unsubscribe"}"#, vec![error("Invalid batch unsubscription request")]),
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
        (r#"{"type":"ping"}"#, vec![r#"{"type":"pong","priority":"immediate"}"#.into()]),
        (r#"{"type":"pong"}"#, vec![]),
        (r#"{"type":"batch"}"#, vec![error("Unknown message type: batch")]),
        (r#"{"type":null}"#, vec![error("Unknown message type: null")]),
        (r#"{"type":123}"#, vec![error("Unknown message type: 123")]),
        (
            r#"{"type":{},"messageId":[ 1.0 ]}"#,
            vec![
                r#"{"type":"ack","messageId":[ 1.0 ]}"#.into(),
                error_about("Unknown message type: [object Object]", "[ 1.0 ]"),
            ],
        ),
    ];
    for (message, expected) in table {
        assert_eq!(answer(message), expected, "{message}");
    }
}

#[test]
fn bill_ids_that_are_missing_or_false_are_required_and_others_that_are_none_invalid() {
    for given in ["0", "null", "\"\"", "false", "-0", "1e-400"] {
        let message = format!(r#"{{"type":"subscribe","data":{{"bill_id":{given}}}}}"#);
        assert_eq!(answer(&message), [error("Bill ID required")], "{given}");
    }
    for given in ["-1", "1.5", "true", "{}", "[1]", "\"x\"", "\"0\"", "9007199254740992", "1e400", "\"1e3\""] {
        let mut model = Model::default();
        let message = format!(r#"{{"type":"subscribe","data":{{"bill_id":{given}}}}}"#);
        assert_eq!(model.answer(&message), [error("Invalid bill ID")], "{given}");
        assert!(model.followed.is_empty());
    }
    for data in ["null", "5", "[]", "\"x\"", "{}"] {
        let message = format!(r#"{{"type":"subscribe","data":{data}}}"#);
        assert_eq!(answer(&message), [error("Bill ID required")], "{data}");
    }
}

#[test]
fn what_is_no_json_or_no_message_is_answered_and_nothing_more() {
    for text in ["", "{", "nope", "\u{feff}{}", "{} x", "{\"type\":\"ping\"}]", "NaN", "'x'"] {
        assert_eq!(answer(text), [error("Invalid message format")], "{text:?}");
    }
    for text in ["null", "1", "\"x\"", "true", "[]", "[{\"type\":\"ping\"}]", "{}"] {
        assert_eq!(answer(text), [error("Invalid message structure")], "{text:?}");
    }
    for id in ["0", "\"m\""] {
        let expected = [error_about("Invalid message structure", id)];
        assert_eq!(answer(&format!(r#"{{"messageId":{id}}}"#)), expected, "without an ack");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(answer(&deep), [error("Invalid message structure")]);
}

#[test]
fn acks_come_first_and_only_for_truthy_ids() {
    let message = |id: &str| format!(r#"{{"type":"subscribe","data":{{"bill_id":1}},"messageId":{id}}}"#);
    for id in ["\"\"", "0", "false", "null"] {
        assert_eq!(answer(&message(id)).len(), 1, "{id}");
    }
    for id in ["\"a\"", "1", "true", "{}", "[]", "1e400", r#""\ud800""#] {
        assert_eq!(answer(&message(id)).first(), Some(&format!(r#"{{"type":"ack","messageId":{id}}}"#)));
    }
}

#[test]
fn no_connection_follows_more_bills_than_it_may() {
    let mut full = Model { max_subscriptions: 0, ..Model::default() };
    let message = r#"{"type":"subscribe","data":{"bill_id":1},"messageId":7}"#;
    let expected = [r#"{"type":"ack","messageId":7}"#.into(), error_about("Subscription limit reached", "7")];
    assert_eq!(full.answer(message), expected);
    let mut nearly = Model { max_subscriptions: 2, ..Model::default() };
    let replies = nearly.answer(r#"{"type":"batch_subscribe","data":{"bill_ids":[1,2,3,1]}}"#);
    assert!(replies.concat().contains(r#""subscribed":[1,2,1],"failed":[3]"#), "{replies:?}");
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
        ("1e400", None),
        ("-59000", None),
    ] {
        let message = format!(r#"{{"timestamp":{timestamp}}}"#);
        assert_eq!(decode(&message, true).latency(NOW_MS), expected, "{timestamp}");
    }
}

#[test]
fn before_authentication_only_auth_is_heard() {
    let mut anonymous = Model { is_authenticated: false, ..Model::default() };
    for kind in ["\"subscribe\"", "\"ping\"", "\"update_preferences\"", "\"nonsense\"", "null", "{}"] {
        let message = format!(r#"{{"type":{kind},"data":{{"bill_id":1}},"messageId":1}}"#);
        let expected = [r#"{"type":"ack","messageId":1}"#.into(), error_about("Authentication required", "1")];
        assert_eq!(anonymous.answer(&message), expected, "{kind}");
    }
    assert!(anonymous.followed.is_empty());
    for (message, expected) in [("{", "Invalid message format"), ("[]", "Invalid message structure")] {
        assert_eq!(anonymous.answer(message), [error(expected)], "{message}");
    }
    for is_authenticated in [false, true] {
        for (written, token) in [("t", "t"), (r"\u0074", "t"), (r"\ud800", "\u{fffd}"), ("", "")] {
            let message = format!(r#"{{"type":"auth","data":{{"token":"{written}"}}}}"#);
            let expected = Ok(Command::Authenticate { token: token.into() });
            assert_eq!(decode(&message, is_authenticated).command, expected);
        }
        for data in ["{}", "null", r#"{"token":1}"#] {
            let message = format!(r#"{{"type":"auth","data":{data}}}"#);
            let expected = Err(RequestError::AuthenticationFailed);
            assert_eq!(decode(&message, is_authenticated).command, expected);
        }
    }
}

#[test]
fn the_last_of_equal_members_wins_and_proto_is_an_ordinary_one() {
    assert_eq!(answer(r#"{"type":"x","\u0074ype":"ping"}"#), [r#"{"type":"pong","priority":"immediate"}"#]);
    assert_eq!(answer(r#"{"__proto__":{"type":"ping"}}"#), [error("Invalid message structure")]);
    let subscribe = r#"{"type":"subscribe","data":{"bill_id":1},"data":{"bill_id":2,"bill_id":3}}"#;
    assert_eq!(
        command(subscribe).map(|command| matches!(command, Command::Subscribe { bill: three, .. } if three == bill(3))),
        Ok(true)
    );
    let echoed = answer(r#"{"type":"update_preferences","data":{"preferences":{"__proto__":{"a":1},"b":1,"b":2}}}"#);
    assert!(echoed.concat().contains(r#""data":{"__proto__":{"a":1},"b":1,"b":2,"lastUpdated":"#), "{echoed:?}");
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
        let expected: Vec<_> = expected.iter().map(|text| error(text)).collect();
        assert_eq!(answer(message), expected, "{message}");
    }
}

#[test]
fn a_pong_needs_no_answer_and_a_ping_looks_the_same_however_it_is_written() {
    assert_eq!(answer(r#"{"type":"pong","messageId":"m"}"#), [r#"{"type":"ack","messageId":"m"}"#]);
    for ping in [r#"{"type":"ping"}"#, r#" {"type" : "ping"} "#, r#"{"type":"\u0070ing","data":null}"#] {
        assert_eq!(command(ping), Ok(Command::Ping), "{ping}");
        let pong = encode(&Outcome::Pong, None, NOW_MS);
        assert_eq!(pong, Some(Reply { json: outgoing::PONG.into(), priority: Priority::Immediate }));
        assert_eq!(decode(ping, false).command, Err(RequestError::AuthenticationRequired), "{ping}");
    }
}

#[test]
fn texts_in_replies_are_exact_up_to_256_characters_and_cut_there() {
    for (length, kept) in [(255, 255), (256, 256), (257, 256), (100_000, 256)] {
        let (long, cut) = ("é".repeat(length), "é".repeat(kept));
        let message = format!(r#"{{"type":"{long}"}}"#);
        assert_eq!(answer(&message), [error(&format!("Unknown message type: {cut}"))]);
        let message = format!(r#"{{"type":"unsubscribe","data":{{"bill_id":"{long}"}}}}"#);
        let expected = format!(
            r#"{{"type":"unsubscribed","data":{{"bill_id":"{long}","message":"Unsubscribed from bill {cut} updates"}}}}"#
        );
        assert_eq!(answer(&message), [expected]);
    }
    let message = format!(r#"{{"type":"subscribe","data":{{"bill_id":"{}42"}}}}"#, "0".repeat(300));
    assert!(answer(&message).concat().contains(&format!(r#""Subscribed to bill {} updates""#, "0".repeat(256))));
}
