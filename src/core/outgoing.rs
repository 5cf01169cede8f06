//! Every message the service sends, in the words and the member order that clients know. Pure.
//!
//! Times are milliseconds since 1970.

use serde_json::{Map, Value};

use crate::core::json::{iso_timestamp, write_list, write_string, write_value};
use crate::types::{BillId, ConnectionId};

/// Around the messages of a batch.
pub const BATCH_PREFIX: &[u8] = br#"{"type":"batch","messages":["#;
pub const BATCH_SUFFIX: &[u8] = b"]}";

/// The answer to `ping`.
pub const PONG: &[u8] = br#"{"type":"pong","priority":"immediate"}"#;

/// What everybody's preferences are while the application keeps none.
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

pub fn ack(message_id: &Value) -> Vec<u8> {
    let mut out = br#"{"type":"ack","messageId":"#.to_vec();
    write_value(&mut out, message_id);
    out.push(b'}');
    out
}

pub fn error(message: &str) -> Vec<u8> {
    let mut out = br#"{"type":"error","message":"#.to_vec();
    write_string(&mut out, message);
    out.push(b'}');
    out
}

/// The one error that names the message it is about.
pub fn structure_error(message_id: Option<&Value>) -> Vec<u8> {
    let mut out = br#"{"type":"error","message":"Invalid message structure""#.to_vec();
    if let Some(message_id) = message_id {
        out.extend_from_slice(br#","messageId":"#);
        write_value(&mut out, message_id);
    }
    out.push(b'}');
    out
}

/// `bill` as the client sent it, `text` as JavaScript converts it.
pub fn subscribed(bill: &Value, text: &str) -> Vec<u8> {
    about_bill(br#"{"type":"subscribed","data":{"bill_id":"#, bill, &format!("Subscribed to bill {text} updates"))
}

pub fn unsubscribed(bill: &Value, text: &str) -> Vec<u8> {
    about_bill(br#"{"type":"unsubscribed","data":{"bill_id":"#, bill, &format!("Unsubscribed from bill {text} updates"))
}

pub fn batch_subscribed(subscribed: &[&Value], failed: &[&Value]) -> Vec<u8> {
    let mut out = br#"{"type":"batch_subscribed","data":{"subscribed":"#.to_vec();
    write_list(&mut out, subscribed.iter().copied());
    out.extend_from_slice(br#","failed":"#);
    write_list(&mut out, failed.iter().copied());
    let failures = if failed.is_empty() { String::new() } else { format!(", {} failed", failed.len()) };
    let rest = format!(r#","message":"Subscribed to {} bills{failures}"}}}}"#, subscribed.len());
    out.extend_from_slice(rest.as_bytes());
    out
}

pub fn batch_unsubscribed(bills: &[Value]) -> Vec<u8> {
    let mut out = br#"{"type":"batch_unsubscribed","data":{"unsubscribed":"#.to_vec();
    write_list(&mut out, bills);
    out.extend_from_slice(format!(r#","message":"Unsubscribed from {} bills"}}}}"#, bills.len()).as_bytes());
    out
}

/// The constant preferences.
pub fn default_preferences(now: f64) -> Vec<u8> {
    format!(r#"{{"type":"preferences","data":{DEFAULT_PREFERENCES},"timestamp":"{}"}}"#, iso_timestamp(now))
        .into_bytes()
}

/// Preferences the application has loaded.
pub fn preferences_loaded(preferences: &Value, now: f64) -> Vec<u8> {
    let mut out = br#"{"type":"preferences","data":"#.to_vec();
    write_value(&mut out, preferences);
    out.extend_from_slice(format!(r#","timestamp":"{}"}}"#, iso_timestamp(now)).as_bytes());
    out
}

/// `lastUpdated` is the service's word, whatever the client sent under that name.
pub fn preferences_saved(mut preferences: Map<String, Value>, now: f64) -> Vec<u8> {
    let time = iso_timestamp(now);
    preferences.insert("lastUpdated".into(), Value::String(time.clone()));
    let mut out = br#"{"type":"preferences_updated","data":"#.to_vec();
    write_value(&mut out, &Value::Object(preferences));
    let rest = format!(r#","message":"Preferences updated successfully","timestamp":"{time}"}}"#);
    out.extend_from_slice(rest.as_bytes());
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

fn about_bill(head: &[u8], bill: &Value, message: &str) -> Vec<u8> {
    let mut out = head.to_vec();
    write_value(&mut out, bill);
    out.extend_from_slice(br#","message":"#);
    write_string(&mut out, message);
    out.extend_from_slice(b"}}");
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    #[test]
    fn a_clients_last_updated_is_overwritten_in_place() {
        let Value::Object(preferences) = json!({"lastUpdated": "never", "a": 1.0}) else { unreachable!() };
        assert_eq!(
            text(preferences_saved(preferences, 0.0)),
            r#"{"type":"preferences_updated","data":{"lastUpdated":"1970-01-01T00:00:00.000Z","a":1},"message":"Preferences updated successfully","timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
    }

    #[test]
    fn every_message_is_json() {
        for message in [
            default_preferences(0.0),
            preferences_loaded(&json!(null), 0.0),
            ack(&json!({"a": [1]})),
            error("\u{2028}\"\\"),
            structure_error(None),
            structure_error(Some(&json!(0))),
            batch_unsubscribed(&[]),
            PONG.to_vec(),
            [BATCH_PREFIX, PONG, BATCH_SUFFIX].concat(),
        ] {
            serde_json::from_slice::<Value>(&message).expect("JSON");
        }
    }
}
