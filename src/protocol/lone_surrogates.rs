//! Half characters in JSON: an escape such as `\ud800` that no second one completes.
//!
//! JavaScript strings may hold them, texts in UTF-8 cannot, and `serde_json` refuses them. Pure; called only for JSON that could not
//! be read as it is.

/// The same JSON with another character instead of each lone surrogate. `None` if there is none.
pub fn replaced(json: &[u8], with: char) -> Option<Vec<u8>> {
    let escape = format!("\\u{:04x}", u32::from(with));
    let mut text = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    // Backslashes stand within strings alone, so nothing else has to be told apart.
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += found;
        match (code_unit(json, at), code_unit(json, at + ESCAPE_BYTES)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE_BYTES,
            (Some(0xd800..=0xdfff), _) => {
                text.extend_from_slice(json.get(copied..at)?);
                text.extend_from_slice(escape.as_bytes());
                at += ESCAPE_BYTES;
                copied = at;
            }
            (Some(_), _) => at += ESCAPE_BYTES,
            // Another escape: of a backslash, for example.
            (None, _) => at += 2,
        }
    }
    if copied == 0 {
        return None;
    }
    text.extend_from_slice(json.get(copied..)?);
    Some(text)
}

/// `\uXXXX`
const ESCAPE_BYTES: usize = 6;

fn code_unit(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(json: &str) -> Option<Value> {
        replaced(json.as_bytes(), '\u{fffd}').map(|text| serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn replaces_lone_surrogates_alone() {
        for (json, expected) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""\uDFFF\uD800""#, "\u{fffd}\u{fffd}"),
            (r#""a\udc00b\ud83d\ude00\ud83d""#, "a\u{fffd}b😀\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\\ud800\ud800""#, "\\ud800\u{fffd}"),
            (r#""\\\ud800\n""#, "\\\u{fffd}\n"),
            (r#""\ud800\u0041""#, "\u{fffd}A"),
        ] {
            assert_eq!(read(json), Some(Value::from(expected)), "{json}");
        }
    }

    #[test]
    fn leaves_what_has_none() {
        for json in
            ["", "\\", r#""\u""#, r#""\ud8""#, r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u00e9""#, r#""\u+800""#]
        {
            assert_eq!(replaced(json.as_bytes(), '\u{fffd}'), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_is_replaced_can_be_read(units in proptest::collection::vec(any::<u16>(), 0..20)) {
            let json: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let json = format!("\"{json}\"");
            let expected = String::from_utf16_lossy(&units);
            let text = replaced(json.as_bytes(), '\u{fffd}').unwrap_or_else(|| json.clone().into_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&text).unwrap(), expected);
        }
    }
}
