//! What is published: arguments checked, serialised once by V8, made into the texts that go on the wire.
//!
//! Nothing is queued before the last argument has been read, so an exception leaves nothing half sent.

use napi::bindgen_prelude::{JsObjectValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::error::invalid_argument;
use crate::binding::values;
use crate::core::json::iso_timestamp;
use crate::monitoring::statistics_collector::UnixMillis;
use crate::types::BillId;

/// The furthest a `Date` reaches, in milliseconds from 1970 (ECMA-262 §21.4.1.1).
const MAX_DATE_MS: f64 = 8.64e15;

const PRIORITY: &str = r#""priority":"immediate""#;

pub struct BillUpdate {
    pub bill: BillId,
    /// JSON.
    pub update: String,
    /// ISO 8601.
    pub timestamp: String,
}

pub fn bill_update(env: &Env, bill_id: &Unknown<'_>, update: &Unknown<'_>) -> Result<BillUpdate> {
    let bill = values::as_number(bill_id)
        .and_then(BillId::from_f64)
        .ok_or_else(|| invalid_argument(*env, "billId", "a positive integer up to 2^53 − 1", values::kind(bill_id)))?;
    let object = object(env, "update", update)?;
    string_member(env, "update.type", &values::property(&object, "type")?)?;
    let given = values::property(&object, "timestamp")?;
    let millis = timestamp(env, "update.timestamp", &given)?;
    // A `Date` becomes the same text by itself; the other ways to give a time are made into one.
    let as_sent = if values::date_millis(&given).is_some() { object } else { with_timestamp(env, &object, millis)? };
    Ok(BillUpdate { bill, update: to_json(env, "update", &as_sent)?, timestamp: iso_timestamp(millis) })
}

pub fn notification(env: &Env, user_id: &Unknown<'_>, notification: &Unknown<'_>) -> Result<(String, String)> {
    let user = values::as_string(user_id)
        .ok_or_else(|| invalid_argument(*env, "userId", "a string", values::kind(user_id)))?;
    let object = object(env, "notification", notification)?;
    Ok((user, to_json(env, "notification", &object)?))
}

/// The whole message, with `priority` and a `timestamp`.
pub fn announcement(env: &Env, message: &Unknown<'_>) -> Result<String> {
    let given = object(env, "message", message)?;
    string_member(env, "message.type", &values::property(&given, "type")?)?;
    let time = values::property(&given, "timestamp")?;
    let millis =
        if values::is_absent(&time) { UnixMillis::now().as_f64() } else { timestamp(env, "message.timestamp", &time)? };
    let additions = match given.has_own_property("timestamp")? {
        false => Some(format!(r#""timestamp":"{}",{PRIORITY}"#, iso_timestamp(millis))),
        // A `Date` becomes the same text by itself.
        true => values::date_millis(&time).map(|_| PRIORITY.to_owned()),
    };
    if let Some(additions) = additions
        && is_as_written(&given)?
        && let Some(json) = with_members(to_json(env, "message", &given)?, &additions)
    {
        return Ok(json);
    }
    let mut additions = Object::new(env)?;
    additions.set("timestamp", iso_timestamp(millis))?;
    additions.set("priority", "immediate")?;
    to_json(env, "message", &values::merged(env, &given, &additions)?)
}

/// Whether `priority` can be added behind the object's own members, to their text: a copy of the object would cost as much as
/// everything else.
fn is_as_written(object: &Object<'_>) -> Result<bool> {
    Ok(!object.has_own_property("priority")? && values::is_absent(&values::property(object, "toJSON")?))
}

/// The object with further members at its end; `None` for what is no object.
fn with_members(mut json: String, members: &str) -> Option<String> {
    if !json.starts_with('{') || json.pop() != Some('}') {
        return None;
    }
    if json.len() > 1 {
        json.push(',');
    }
    json.push_str(members);
    json.push('}');
    Some(json)
}

fn object<'env>(env: &Env, name: &str, value: &Unknown<'env>) -> Result<Object<'env>> {
    values::as_object(value).ok_or_else(|| invalid_argument(*env, name, "an object", values::kind(value)))
}

fn string_member(env: &Env, name: &str, value: &Unknown<'_>) -> Result<()> {
    match values::kind(value) {
        "string" => Ok(()),
        kind => Err(invalid_argument(*env, name, "a string", kind)),
    }
}

/// Milliseconds of a `Date`, an ISO string or a number of milliseconds.
fn timestamp(env: &Env, name: &str, value: &Unknown<'_>) -> Result<f64> {
    let millis = match values::kind(value) {
        "number" => values::as_number(value),
        "string" => {
            let date: napi::bindgen_prelude::Function<'_, Unknown<'_>, Unknown<'_>> =
                env.get_global()?.get_named_property("Date")?;
            values::date_millis(&date.new_instance(*value)?)
        }
        _ => values::date_millis(value),
    };
    let valid = millis.filter(|millis| millis.abs() <= MAX_DATE_MS);
    valid.map(f64::trunc).ok_or_else(|| {
        invalid_argument(*env, name, "a valid Date, ISO 8601 string or number of milliseconds", values::kind(value))
    })
}

fn with_timestamp<'env>(env: &'env Env, object: &Object<'env>, millis: f64) -> Result<Object<'env>> {
    let mut additions = Object::new(env)?;
    additions.set("timestamp", iso_timestamp(millis))?;
    values::merged(env, object, &additions)
}

fn to_json(env: &Env, name: &str, object: &Object<'_>) -> Result<String> {
    use napi::bindgen_prelude::JsValue;

    values::to_json(env, &object.to_unknown())?
        .ok_or_else(|| invalid_argument(*env, name, "serialisable as JSON", "an object without a JSON form"))
}
