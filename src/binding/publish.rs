//! What is published: serialised once by V8, checked, and made into the texts that go on the wire.
//!
//! The text of `JSON.stringify` is what counts: `toJSON`, getters and proxies are evaluated once, and only what that text says is
//! sent. Nothing is queued before the last check, so an exception leaves nothing half sent.

use std::ops::Range;

use napi::bindgen_prelude::{Function, JsObjectValue, Unknown};
use napi::{Env, Result};

use crate::binding::error::invalid_argument;
use crate::binding::values;
use crate::protocol::json::iso_timestamp;
use crate::protocol::json_members;
use crate::types::{BillId, UnixMillis};

/// The furthest a `Date` reaches, in milliseconds from 1970 (ECMA-262 §21.4.1.1).
const MAX_DATE_MS: f64 = 8.64e15;

/// Bytes of `YYYY-MM-DDTHH:mm:ss.sssZ`.
const ISO_LENGTH: usize = 24;

const IMMEDIATE: &str = r#""immediate""#;

pub struct BillUpdate {
    pub bill: BillId,
    /// JSON.
    pub update: String,
    /// ISO 8601.
    pub timestamp: String,
}

/// When something happened, as its text says.
enum Time {
    /// There is no such member, or it is `null`.
    Absent(Option<Range<usize>>),
    /// As it is to be sent.
    Iso(Range<usize>),
    /// To be replaced by this.
    Other(Range<usize>, String),
}

pub fn bill_update(env: &Env, bill_id: &Unknown<'_>, update: &Unknown<'_>) -> Result<BillUpdate> {
    let bill = values::as_number(bill_id)
        .and_then(BillId::from_f64)
        .ok_or_else(|| invalid_argument(*env, "billId", "a positive integer up to 2^53 − 1", values::kind(bill_id)))?;
    let mut json = to_json(env, "update", update)?;
    check_type(env, "update.type", &json)?;
    let timestamp = match time(env, "update.timestamp", update, &json)? {
        Time::Absent(_) => return Err(wrong_time(env, "update.timestamp", "undefined")),
        Time::Iso(range) => content(&json, &range).to_owned(),
        Time::Other(range, iso) => {
            json.replace_range(range, &format!("\"{iso}\""));
            iso
        }
    };
    Ok(BillUpdate { bill, update: json, timestamp })
}

pub fn notification(env: &Env, user_id: &Unknown<'_>, notification: &Unknown<'_>) -> Result<(String, String)> {
    let user = values::as_string(user_id)
        .ok_or_else(|| invalid_argument(*env, "userId", "a string", values::kind(user_id)))?;
    Ok((user, to_json(env, "notification", notification)?))
}

/// The whole message, with `priority` and a `timestamp`.
pub fn announcement(env: &Env, message: &Unknown<'_>) -> Result<String> {
    let mut json = to_json(env, "message", message)?;
    check_type(env, "message.type", &json)?;
    match time(env, "message.timestamp", message, &json)? {
        Time::Iso(_) => {}
        Time::Other(range, iso) => json.replace_range(range, &format!("\"{iso}\"")),
        Time::Absent(place) => {
            let now = format!("\"{}\"", iso_timestamp(UnixMillis::now().as_f64()));
            match place {
                Some(range) => json.replace_range(range, &now),
                None => json_members::push(&mut json, "timestamp", &now),
            }
        }
    }
    match json_members::find(&json, "priority") {
        Some(range) => json.replace_range(range, IMMEDIATE),
        None => json_members::push(&mut json, "priority", IMMEDIATE),
    }
    Ok(json)
}

/// What `JSON.stringify` makes of an object, which must be an object again.
fn to_json(env: &Env, name: &str, object: &Unknown<'_>) -> Result<String> {
    match values::kind(object) {
        "object" => {}
        kind => return Err(invalid_argument(*env, name, "an object", kind)),
    }
    values::to_json(env, object)
        .map_err(|failure| values::instead_of_exception(env, failure, || bigint_member(env, name, object)))?
        .filter(|json| json.starts_with('{'))
        .ok_or_else(|| invalid_argument(*env, name, "serialisable as a JSON object", "an object with another form"))
}

/// JSON has no bigints. Where one is in the place of a member that is checked, the error names it.
fn bigint_member(env: &Env, name: &str, object: &Unknown<'_>) -> Option<napi::Error> {
    let object = values::as_object(object)?;
    let expected = [("type", "a string"), ("timestamp", "a valid Date, ISO 8601 string or number of milliseconds")];
    expected.into_iter().find_map(|(member, expected)| {
        let value = values::property(&object, member).ok()?;
        let is_bigint = values::kind(&value) == "bigint";
        is_bigint.then(|| invalid_argument(*env, &format!("{name}.{member}"), expected, "bigint"))
    })
}

fn check_type(env: &Env, name: &str, json: &str) -> Result<()> {
    let value = json_members::find(json, "type").and_then(|range| json.get(range));
    match value.map_or("undefined", kind) {
        "string" => Ok(()),
        kind => Err(invalid_argument(*env, name, "a string", kind)),
    }
}

/// Reads the member `timestamp`: what a `Date` became, an ISO string or a number of milliseconds.
fn time(env: &Env, name: &str, object: &Unknown<'_>, json: &str) -> Result<Time> {
    let place =
        json_members::find_last_string(json, "timestamp", ISO_LENGTH).or_else(|| json_members::find(json, "timestamp"));
    let Some(range) = place else { return Ok(Time::Absent(None)) };
    if is_iso(content(json, &range)) {
        return Ok(Time::Iso(range));
    }
    let text = json.get(range.clone()).unwrap_or_default();
    let millis = match kind(text) {
        "null" => {
            // So do an invalid `Date` and `NaN` look in JSON; only `null` itself means that there is no time.
            let given = values::as_object(object).map(|object| values::property(&object, "timestamp")).transpose()?;
            return match given.filter(|given| !values::is_absent(given)) {
                None => Ok(Time::Absent(Some(range))),
                Some(given) => Err(wrong_time(env, name, values::kind(&given))),
            };
        }
        "number" => text.parse().ok(),
        "string" => {
            let text: String = serde_json::from_str(text).unwrap_or_default();
            let date: Function<'_, &str, Unknown<'_>> = env.get_global()?.get_named_property("Date")?;
            values::date_millis(&date.new_instance(text.as_str())?)
        }
        kind => return Err(wrong_time(env, name, kind)),
    };
    let valid = millis.filter(|millis: &f64| millis.abs() <= MAX_DATE_MS);
    let millis = valid.ok_or_else(|| wrong_time(env, name, kind(text)))?;
    Ok(Time::Other(range, iso_timestamp(millis.trunc())))
}

fn wrong_time(env: &Env, name: &str, received: &str) -> napi::Error {
    invalid_argument(*env, name, "a valid Date, ISO 8601 string or number of milliseconds", received)
}

/// A string's text without its quotation marks.
fn content<'a>(json: &'a str, range: &Range<usize>) -> &'a str {
    json.get(range.start + 1..range.end.saturating_sub(1)).unwrap_or_default()
}

/// What a JSON text was in JavaScript.
fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// Whether this is a time as `Date.prototype.toISOString` writes it, of a day that exists. Years of more digits are not: they take the
/// long way.
fn is_iso(text: &str) -> bool {
    const FORM: &[u8; ISO_LENGTH] = b"0000-00-00T00:00:00.000Z";
    let bytes = text.as_bytes();
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if bytes.len() != ISO_LENGTH || !bytes.iter().zip(FORM).all(fits) {
        return false;
    }
    let number =
        |at: usize| bytes.get(at..at + 2).map_or(0, |pair| u32::from(pair[0] - b'0') * 10 + u32::from(pair[1] - b'0'));
    let year = number(0) * 100 + number(2);
    let (month, day, hour, minute, second) = (number(5), number(8), number(11), number(14), number(17));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day) && hour < 24 && minute < 60 && second < 60
}
