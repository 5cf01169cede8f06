//! JSON as JavaScript prints it: numbers, text conversion, truthiness, timestamps. Pure.
//!
//! What clients get back of their own values must look as if `JSON.stringify` had written it.

use serde::Serialize;
use serde_json::ser::Serializer;
use serde_json::{Map, Value};

/// Milliseconds of one day.
const DAY_MS: f64 = 86_400_000.0;

/// The furthest a `Date` reaches from 1970 either way (ECMA-262 §21.4.1.1).
const MAX_DATE_MS: f64 = 8.64e15;

/// Appends the value as `JSON.stringify` prints it.
///
/// Nested as deep as the value is: 128 levels at most when it was parsed.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(_) => out.extend_from_slice(to_text(value).as_bytes()),
        Value::String(text) => write_string(out, text),
        Value::Array(elements) => write_list(out, elements),
        Value::Object(members) => {
            write_separated(out, b"{}", in_property_order(members), |out, (name, value)| {
                write_string(out, name);
                out.push(b':');
                write_value(out, value);
            });
        }
    }
}

/// Appends the elements of an array.
pub fn write_list<'a>(out: &mut Vec<u8>, values: impl IntoIterator<Item = &'a Value>) {
    write_separated(out, b"[]", values, write_value);
}

/// Appends a string in quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = text.serialize(&mut Serializer::new(out));
}

/// `String(value)`.
pub fn to_text(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        // JavaScript has one kind of number, so what is beyond 2^53 has been rounded; -0 prints as 0.
        Value::Number(number) if is_small_integer(number) => number.to_string(),
        Value::Number(number) => ryu_js::Buffer::new().format(number.as_f64().unwrap_or(f64::NAN)).to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let texts = elements.iter().map(|element| if element.is_null() { String::new() } else { to_text(element) });
            texts.collect::<Vec<_>>().join(",")
        }
        Value::Object(_) => "[object Object]".into(),
    }
}

/// Whether it is an integer that JavaScript writes as it stands, without any rounding.
fn is_small_integer(number: &serde_json::Number) -> bool {
    number.as_i64().is_some_and(|integer| integer.unsigned_abs() < 1 << 53)
}

/// Whether `if (value)` is taken.
pub fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// `Number(value)` of a number or of decimal text; `None` for what is neither.
pub fn to_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `new Date(millis).toISOString()` (ECMA-262 §21.4.1.32). What no `Date` can hold becomes the nearest it can.
pub fn iso_timestamp(millis: f64) -> String {
    let millis = millis.clamp(-MAX_DATE_MS, MAX_DATE_MS).trunc();
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

fn write_separated<T>(
    out: &mut Vec<u8>,
    brackets: &[u8; 2],
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    let [open, close] = *brackets;
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(close);
}

/// Members as JavaScript lists them: array indices in ascending order, then the others as they came
/// (ECMA-262 §10.1.11.1).
fn in_property_order(members: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut indices: Vec<_> = members.iter().filter(|(name, _)| array_index(name).is_some()).collect();
    indices.sort_unstable_by_key(|(name, _)| array_index(name));
    indices.into_iter().chain(members.iter().filter(|(name, _)| array_index(name).is_none()))
}

/// The number that a name is the decimal text of, if an array can have that index (ECMA-262 §6.1.7).
fn array_index(name: &str) -> Option<u32> {
    let is_canonical = name == "0" || name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    name.parse().ok().filter(|index| is_canonical && *index < u32::MAX)
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
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            // Correctly rounded, not merely nearly.
            ("8.988465674311580e307", "8.98846567431158e+307"),
            ("0.000001", "0.000001"),
            ("100000000000000000000000", "1e+23"),
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
    fn array_indices_come_first() {
        assert_eq!(
            reprinted(
                r#"{"b":1,"2":1,"10":1,"1":{"x":0,"0":1},"01":1,"-1":1,"+3":1,"4294967295":1,"4294967294":1,"0":1}"#
            ),
            r#"{"0":1,"1":{"0":1,"x":0},"2":1,"10":1,"4294967294":1,"b":1,"01":1,"-1":1,"+3":1,"4294967295":1}"#
        );
    }

    #[test]
    fn decimal_text_is_a_number_and_names_of_numbers_are_not() {
        for (value, expected) in [
            (json!(1.5), Some(1.5)),
            (json!(" 12\n"), Some(12.0)),
            (json!("1e3"), Some(1000.0)),
            (json!("inf"), None),
            (json!("nan"), None),
            (json!("1e999"), None),
            (json!("12px"), None),
            (json!(""), None),
            (json!({}), None),
        ] {
            assert_eq!(to_number(&value), expected, "{value}");
        }
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
            (-0.5, "1970-01-01T00:00:00.000Z"),
            (1.999, "1970-01-01T00:00:00.001Z"),
            (f64::INFINITY, "+275760-09-13T00:00:00.000Z"),
            (f64::MIN, "-271821-04-20T00:00:00.000Z"),
            (f64::NAN, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso_timestamp(millis), expected);
        }
    }
}
