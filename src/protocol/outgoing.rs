//! The messages that the service sends, in the words and the member order that clients know; texts of errors are in `outcome`. Pure.
//!
//! Times are milliseconds since 1970. Values of a peer are written as its own bytes.

use crate::protocol::bills::GivenBill;
use crate::protocol::json::{RawJson, iso_timestamp, write_string};
use crate::types::{BillId, ConnectionId};

/// Around the messages of a batch.
pub const BATCH_PREFIX: &[u8] = br#"{"type":"batch","messages":["#;
pub const BATCH_SUFFIX: &[u8] = b"]}";

/// The answer to `ping`.
pub const PONG: &[u8] = br#"{"type":"pong","priority":"immediate"}"#;

/// The preferences of every user while the application keeps none.
const DEFAULT_PREFERENCES: &str = r#"{"updateFrequency":"immediate","notificationTypes":["status_change","new_comment","amendment","voting_scheduled"]}"#;

/// The greeting of an open connection.
pub fn connected(id: &ConnectionId, now: f64, heartbeat_interval: f64, max_payload: f64) -> Vec<u8> {
    let mut out = br#"{"type":"connected","message":"WebSocket connection established","data":{"user_id":"#.to_vec();
    write_string(&mut out, id.user.as_str());
    out.extend_from_slice(br#","connectionId":"#);
    write_string(&mut out, &id.to_string());
    let rest = format!(
        r#","timestamp":"{}","config":{{"heartbeatInterval":{heartbeat_interval},"maxMessageSize":{max_payload},"supportsBatching":true,"compressionEnabled":true}}}}}}"#,
        iso_timestamp(now)
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

pub fn ack(message_id: RawJson<'_>) -> Vec<u8> {
    let mut out = br#"{"type":"ack","messageId":"#.to_vec();
    out.extend_from_slice(message_id.as_str().as_bytes());
    out.push(b'}');
    out
}

/// An error names the message it is about, if that has an id.
pub fn error(message: &str, message_id: Option<RawJson<'_>>) -> Vec<u8> {
    let mut out = br#"{"type":"error","message":"#.to_vec();
    write_string(&mut out, message);
    if let Some(message_id) = message_id {
        out.extend_from_slice(br#","messageId":"#);
        out.extend_from_slice(message_id.as_str().as_bytes());
    }
    out.push(b'}');
    out
}

pub fn subscribed(bill: GivenBill<'_>) -> Vec<u8> {
    about_bill(br#"{"type":"subscribed","data":{"bill_id":"#, bill, "Subscribed to bill ")
}

pub fn unsubscribed(bill: GivenBill<'_>) -> Vec<u8> {
    about_bill(br#"{"type":"unsubscribed","data":{"bill_id":"#, bill, "Unsubscribed from bill ")
}

/// `bills` is an array, `verdicts` says of each element whether it is followed now.
pub fn batch_subscribed(bills: RawJson<'_>, verdicts: &[bool]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bills.as_str().len() + 128);
    out.extend_from_slice(br#"{"type":"batch_subscribed","data":{"subscribed":"#);
    let subscribed = write_elements(&mut out, bills, |index| verdicts.get(index) == Some(&true));
    out.extend_from_slice(br#","failed":"#);
    let failed = write_elements(&mut out, bills, |index| verdicts.get(index) != Some(&true));
    let failures = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    out.extend_from_slice(format!(r#","message":"Subscribed to {subscribed} bills{failures}"}}}}"#).as_bytes());
    out
}

/// `bills` is an array.
pub fn batch_unsubscribed(bills: RawJson<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(bills.as_str().len() + 128);
    out.extend_from_slice(br#"{"type":"batch_unsubscribed","data":{"unsubscribed":"#);
    let count = write_elements(&mut out, bills, |_| true);
    out.extend_from_slice(format!(r#","message":"Unsubscribed from {count} bills"}}}}"#).as_bytes());
    out
}

/// The constant preferences.
pub fn default_preferences(now: f64) -> Vec<u8> {
    format!(r#"{{"type":"preferences","data":{DEFAULT_PREFERENCES},"timestamp":"{}"}}"#, iso_timestamp(now))
        .into_bytes()
}

/// Preferences the application has loaded: `preferences` is JSON.
pub fn preferences_loaded(preferences: &str, now: f64) -> Vec<u8> {
    format!(r#"{{"type":"preferences","data":{preferences},"timestamp":"{}"}}"#, iso_timestamp(now)).into_bytes()
}

/// `preferences` is an object. Its `lastUpdated` is the service's word, whatever the client sent under that name.
pub fn preferences_saved(preferences: RawJson<'_>, now: f64) -> Vec<u8> {
    let time = format!(r#""{}""#, iso_timestamp(now));
    let text = preferences.as_str();
    let mut out = Vec::with_capacity(text.len() + 192);
    out.extend_from_slice(br#"{"type":"preferences_updated","data":"#);
    let (mut copied, mut has_time, mut is_empty) = (0, false, true);
    for member in preferences.members() {
        is_empty = false;
        if member.is("lastUpdated") {
            out.extend_from_slice(text.get(copied..member.place.start).unwrap_or_default().as_bytes());
            out.extend_from_slice(time.as_bytes());
            copied = member.place.end;
            has_time = true;
        }
    }
    let rest = text.get(copied..).unwrap_or_default();
    if has_time {
        out.extend_from_slice(rest.as_bytes());
    } else {
        out.extend_from_slice(rest.strip_suffix('}').unwrap_or(rest).as_bytes());
        let separator = if is_empty { "" } else { "," };
        out.extend_from_slice(format!(r#"{separator}"lastUpdated":{time}}}"#).as_bytes());
    }
    out.extend_from_slice(format!(r#","message":"Preferences updated successfully","timestamp":{time}}}"#).as_bytes());
    out
}

/// `expires` is when the new claims end, if they do.
pub fn auth_success(user: &str, expires: Option<f64>) -> Vec<u8> {
    let mut out = br#"{"type":"auth_success","data":{"user_id":"#.to_vec();
    write_string(&mut out, user);
    // A token may name a time that no `Date` can hold.
    let expires = expires.filter(|millis| millis.abs() <= 8.64e15);
    let expires = expires.map_or("null".to_owned(), |millis| format!(r#""{}""#, iso_timestamp(millis)));
    out.extend_from_slice(format!(r#","expiresAt":{expires}}}}}"#).as_bytes());
    out
}

/// `update` is JSON, `timestamp` ISO 8601.
pub fn bill_update(bill: BillId, update: &str, timestamp: &str) -> Vec<u8> {
    format!(r#"{{"type":"bill_update","bill_id":{bill},"update":{update},"timestamp":"{timestamp}"}}"#).into_bytes()
}

/// `notification` is JSON.
pub fn notification(notification: &str, now: f64) -> Vec<u8> {
    let time = iso_timestamp(now);
    format!(r#"{{"type":"notification","notification":{notification},"timestamp":"{time}","priority":"immediate"}}"#)
        .into_bytes()
}

/// `reconnect_delay` in milliseconds.
pub fn server_shutdown(now: f64, reconnect_delay: f64) -> Vec<u8> {
    let time = iso_timestamp(now);
    format!(
        r#"{{"type":"server_shutdown","data":{{"message":"Server is shutting down for maintenance","reconnectDelay":{reconnect_delay}}},"timestamp":"{time}","priority":"immediate"}}"#
    )
    .into_bytes()
}

/// `level` counts from 0, normal operation.
pub fn system_status(level: u8, now: f64) -> Vec<u8> {
    let message = match level {
        0 => "Server optimization reset - normal operation restored".to_owned(),
        level => format!("Server optimization level {level} active due to memory pressure"),
    };
    let time = iso_timestamp(now);
    format!(
        r#"{{"type":"system_status","data":{{"degradationLevel":{level},"message":"{message}"}},"timestamp":"{time}","priority":"immediate"}}"#
    )
    .into_bytes()
}

/// `severity` as it was reported: low, medium, high or critical.
pub fn system_warning(severity: &str, now: f64) -> Vec<u8> {
    let mut out = br#"{"type":"system_warning","data":{"type":"memory_pressure","severity":"#.to_vec();
    write_string(&mut out, severity);
    let rest = format!(
        r#","message":"Server experiencing memory pressure. Some features may be degraded."}},"timestamp":"{}","priority":"immediate"}}"#,
        iso_timestamp(now)
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

fn about_bill(head: &[u8], bill: GivenBill<'_>, words: &str) -> Vec<u8> {
    let mut out = head.to_vec();
    bill.write(&mut out);
    out.extend_from_slice(br#","message":"#);
    bill.write_sentence(&mut out, words, " updates");
    out.extend_from_slice(b"}}");
    out
}

/// Appends an array of those elements whose index is wanted, and returns how many these are.
fn write_elements(out: &mut Vec<u8>, bills: RawJson<'_>, is_wanted: impl Fn(usize) -> bool) -> usize {
    let mut count = 0;
    out.push(b'[');
    for (index, bill) in bills.elements().into_iter().flatten().enumerate() {
        if is_wanted(index) {
            if count > 0 {
                out.push(b',');
            }
            GivenBill(bill).write(out);
            count += 1;
        }
    }
    out.push(b']');
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConnectionNumber, UserId};

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn messages_read_as_the_contract_says() {
        let id = ConnectionId { user: UserId::new("an\"n"), number: ConnectionNumber(7) };
        assert_eq!(
            text(connected(&id, 0.0, 30_000.0, 102_400.0)),
            r#"{"type":"connected","message":"WebSocket connection established","data":{"user_id":"an\"n","connectionId":"an\"n-7","timestamp":"1970-01-01T00:00:00.000Z","config":{"heartbeatInterval":30000,"maxMessageSize":102400,"supportsBatching":true,"compressionEnabled":true}}}"#
        );
        assert_eq!(
            text(server_shutdown(0.0, 1000.0)),
            r#"{"type":"server_shutdown","data":{"message":"Server is shutting down for maintenance","reconnectDelay":1000},"timestamp":"1970-01-01T00:00:00.000Z","priority":"immediate"}"#
        );
        assert_eq!(
            text(notification(r#"{"title":"t"}"#, 0.0)),
            r#"{"type":"notification","notification":{"title":"t"},"timestamp":"1970-01-01T00:00:00.000Z","priority":"immediate"}"#
        );
        assert_eq!(
            text(bill_update(BillId::new(7).expect("positive"), r#"{"type":"amendment"}"#, "1970-01-01T00:00:00.000Z")),
            r#"{"type":"bill_update","bill_id":7,"update":{"type":"amendment"},"timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(
            text(system_status(2, 0.0)),
            r#"{"type":"system_status","data":{"degradationLevel":2,"message":"Server optimization level 2 active due to memory pressure"},"timestamp":"1970-01-01T00:00:00.000Z","priority":"immediate"}"#
        );
        assert_eq!(
            text(system_status(0, 0.0)),
            r#"{"type":"system_status","data":{"degradationLevel":0,"message":"Server optimization reset - normal operation restored"},"timestamp":"1970-01-01T00:00:00.000Z","priority":"immediate"}"#
        );
        assert_eq!(
            text(system_warning("high", 0.0)),
            r#"{"type":"system_warning","data":{"type":"memory_pressure","severity":"high","message":"Server experiencing memory pressure. Some features may be degraded."},"timestamp":"1970-01-01T00:00:00.000Z","priority":"immediate"}"#
        );
        assert_eq!(
            text(auth_success("ann", Some(1000.0))),
            r#"{"type":"auth_success","data":{"user_id":"ann","expiresAt":"1970-01-01T00:00:01.000Z"}}"#
        );
        assert_eq!(
            text(auth_success("ann", None)),
            r#"{"type":"auth_success","data":{"user_id":"ann","expiresAt":null}}"#
        );
    }

    fn raw(text: &str) -> RawJson<'_> {
        RawJson::parse(text).expect("JSON")
    }

    #[test]
    fn last_updated_is_overwritten_where_it_stands_or_added() {
        const TIME: &str = r#""1970-01-01T00:00:00.000Z""#;
        for (preferences, expected) in [
            (r#"{"lastUpdated":"never","a":1.0}"#, format!(r#"{{"lastUpdated":{TIME},"a":1.0}}"#)),
            (r#"{"a":{"lastUpdated":1}}"#, format!(r#"{{"a":{{"lastUpdated":1}},"lastUpdated":{TIME}}}"#)),
            (r#"{ "last\u0055pdated" : [1] }"#, format!(r#"{{ "last\u0055pdated" : {TIME} }}"#)),
            (r#"{"lastUpdated":1,"lastUpdated":{}}"#, format!(r#"{{"lastUpdated":{TIME},"lastUpdated":{TIME}}}"#)),
            ("{}", format!(r#"{{"lastUpdated":{TIME}}}"#)),
            ("{ }", format!(r#"{{ "lastUpdated":{TIME}}}"#)),
        ] {
            assert_eq!(
                text(preferences_saved(raw(preferences), 0.0)),
                format!(
                    r#"{{"type":"preferences_updated","data":{expected},"message":"Preferences updated successfully","timestamp":{TIME}}}"#
                )
            );
        }
    }

    #[test]
    fn every_message_is_json() {
        for message in [
            default_preferences(0.0),
            preferences_loaded("null", 0.0),
            ack(raw(r#"{"a": [1]}"#)),
            error("\u{2028}\"\\", None),
            error("x", Some(raw(" 0 "))),
            batch_unsubscribed(raw("[]")),
            PONG.to_vec(),
            [BATCH_PREFIX, PONG, BATCH_SUFFIX].concat(),
        ] {
            serde_json::from_slice::<serde_json::Value>(&message).expect("JSON");
        }
    }
}
