//! JSON as JavaScript prints it: numbers, text conversion, truthiness, timestamps. Pure.
//!
//! What clients get back of their own values must look as if `JSON.stringify` had written it.

use std::io;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Milliseconds of one day.
const DAY_MS: f64 = 86_400_000.0;

/// Writes numbers as ECMA-262 `Number::toString` does.
struct JsFormatter;

impl Formatter for JsFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // JSON knows neither of them, and -0 prints as 0.
        if !value.is_finite() {
            return writer.write_all(b"null");
        }
        writer.write_all(ryu_js::Buffer::new().format_finite(value).as_bytes())
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        if value <= crate::types::BillId::MAX {
            return CompactFormatter.write_u64(writer, value);
        }
        // Beyond 2^53 JavaScript has rounded it.
        self.write_f64(writer, value as f64)
    }

    fn write_i64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: i64) -> io::Result<()> {
        if value.unsigned_abs() <= crate::types::BillId::MAX {
            return CompactFormatter.write_i64(writer, value);
        }
        self.write_f64(writer, value as f64)
    }
}

/// Appends the value as `JSON.stringify` prints it.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    // Writing to memory cannot fail, and a `Value` has only string keys.
    let _ = value.serialize(&mut Serializer::with_formatter(out, JsFormatter));
}

/// Appends a string in quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    let _ = text.serialize(&mut Serializer::new(out));
}

/// `String(value)`.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(_) => {
            let mut text = Vec::new();
            write_value(&mut text, value);
            String::from_utf8_lossy(&text).into_owned()
        }
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let texts = elements.iter().map(|element| if element.is_null() { String::new() } else { to_text(element) });
            texts.collect::<Vec<_>>().join(",")
        }
        Value::Object(_) => "[object Object]".into(),
    }
}

/// Whether `if (value)` is taken.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0 && !number.is_nan()),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// `Number(value)` for what can be a time; `None` where it is `NaN`.
pub fn to_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `new Date(millis).toISOString()` (ECMA-262 §21.4.1.32), for any time a `Date` can hold.
pub fn iso_timestamp(millis: f64) -> String {
    let days = (millis / DAY_MS).floor();
    let of_day = (millis - days * DAY_MS) as u32;
    let (year, month, day) = civil_date(days as i64);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        year if year < 0 => format!("-{:06}", -year),
        year => format!("+{year:06}"),
    };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970. Counts in eras of 400 years that
/// begin on 1 March, so that the leap day is the last of its year.
fn civil_date(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reprinted(text: &str) -> String {
        let mut out = Vec::new();
        write_value(&mut out, &serde_json::from_str(text).expect("valid JSON"));
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn numbers_print_as_javascript_prints_them() {
        for (text, expected) in [
            ("42.0", "42"),
            ("4.2e1", "42"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("0.1", "0.1"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("9007199254740991", "9007199254740991"),
            ("9007199254740993", "9007199254740992"),
            ("18446744073709551615", "18446744073709552000"),
            ("-9007199254740993", "-9007199254740992"),
            ("123456789012345680000", "123456789012345680000"),
        ] {
            assert_eq!(reprinted(text), expected, "{text}");
        }
    }

    #[test]
    fn member_order_and_escapes_stay() {
        assert_eq!(
            reprinted(r#"{"b":1, "a":[null,true,"\u00e9\n"], "__proto__":{}}"#),
            "{\"b\":1,\"a\":[null,true,\"é\\n\"],\"__proto__\":{}}"
        );
    }

    #[test]
    fn values_become_text_as_in_a_template_string() {
        for (value, expected) in [
            (json!(null), "null"),
            (json!(123), "123"),
            (json!(1.5), "1.5"),
            (json!(true), "true"),
            (json!("x"), "x"),
            (json!({"a": 1}), "[object Object]"),
            (json!([1, null, ["a", {}], ""]), "1,,a,[object Object],"),
            (json!([]), ""),
        ] {
            assert_eq!(to_text(&value), expected);
        }
    }

    #[test]
    fn truth_is_javascripts() {
        for (value, expected) in [
            (json!(null), false),
            (json!(0), false),
            (json!(-0.0), false),
            (json!(""), false),
            (json!(false), false),
            (json!("0"), true),
            (json!([]), true),
            (json!({}), true),
            (json!(-1), true),
        ] {
            assert_eq!(is_truthy(&value), expected, "{value}");
        }
    }

    #[test]
    fn timestamps_are_those_of_a_date() {
        for (millis, expected) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (-1.0, "1969-12-31T23:59:59.999Z"),
            (1_709_164_800_123.0, "2024-02-29T00:00:00.123Z"),
            (951_782_400_000.0, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000.0, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999.0, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000.0, "+010000-01-01T00:00:00.000Z"),
            (8.64e15, "+275760-09-13T00:00:00.000Z"),
            (-8.64e15, "-271821-04-20T00:00:00.000Z"),
            (-62_198_755_200_000.0, "-000001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso_timestamp(millis), expected);
        }
    }
}
