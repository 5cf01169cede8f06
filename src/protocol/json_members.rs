//! Members of an object in the text that `JSON.stringify` made of it: found and changed without parsing the rest.
//!
//! Pure. The text is trusted to be JSON without white space between tokens and without a name twice, as V8 writes it; any other
//! text gives a wrong answer at worst. The usual places are looked at first: a `type` at the beginning, a time at the end, and a
//! name that does not occur at all cost next to nothing, however long the text.

use std::ops::Range;

use memchr::{memchr2, memchr3, memmem};

/// Where the value of a member of the outermost object is.
pub fn find(json: &str, name: &str) -> Option<Range<usize>> {
    let bytes = json.as_bytes();
    let quoted = format!("\"{name}\":");
    let first = memmem::find(bytes, quoted.as_bytes())?;
    if first == 1 {
        let start = first + quoted.len();
        return Some(start..end_of_value(bytes, start)?);
    }
    // It may as well be a member of a member: go through the outermost ones.
    let mut at = 1;
    while bytes.get(at) == Some(&b'"') {
        let name_end = end_of_string(bytes, at)?;
        let start = name_end + 1;
        let end = end_of_value(bytes, start)?;
        if bytes.get(at..start) == Some(quoted.as_bytes()) {
            return Some(start..end);
        }
        at = end + 1;
    }
    None
}

/// Where the value of the last member is, if that is this one and its value a string of `length` bytes without an escape.
pub fn find_last_string(json: &str, name: &str, length: usize) -> Option<Range<usize>> {
    let end = json.len().checked_sub(1)?;
    let start = end.checked_sub(length + 2)?;
    let (head, value) = (json.get(..start)?, json.get(start..end)?);
    let content = value.strip_prefix('"')?.strip_suffix('"')?;
    // A quotation mark inside of a string has a backslash before it. So these are the ends of a name, and the closing brace
    // behind the value is the outermost object's.
    let is_it = head.strip_suffix("\":").and_then(|head| head.strip_suffix(name)).is_some_and(|head| {
        (head.ends_with(",\"") || head == "{\"") && !content.contains(['"', '\\']) && json.ends_with('}')
    });
    is_it.then_some(start..end)
}

/// Adds a member at the end.
pub fn push(json: &mut String, name: &str, value: &str) {
    json.pop();
    if json.len() > 1 {
        json.push(',');
    }
    for part in ["\"", name, "\":", value, "}"] {
        json.push_str(part);
    }
}

fn end_of_value(bytes: &[u8], start: usize) -> Option<usize> {
    match bytes.get(start)? {
        b'"' => end_of_string(bytes, start),
        open @ (b'{' | b'[') => end_of_nested(bytes, start, *open),
        _ => Some(start + memchr3(b',', b'}', b']', bytes.get(start..)?)?),
    }
}

/// Behind the closing quotation mark of the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Behind the object or array that begins at `start`. Brackets of the other kind come in pairs and need no counting.
fn end_of_nested(bytes: &[u8], start: usize, open: u8) -> Option<usize> {
    let close = open + 2;
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        at += memchr3(b'"', open, close, bytes.get(at..)?)?;
        let found = *bytes.get(at)?;
        if found == b'"' {
            at = end_of_string(bytes, at)?;
            continue;
        }
        at += 1;
        if found == open {
            depth += 1;
        } else {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn value_of<'a>(json: &'a str, name: &str) -> Option<&'a str> {
        find(json, name).map(|range| &json[range])
    }

    #[test]
    fn members_are_found_wherever_they_are() {
        let json =
            r#"{"type":"t","data":{"type":"no","list":[{"timestamp":1},"]}"]},"n":-1.5e3,"timestamp":"now","b":true}"#;
        assert_eq!(value_of(json, "type"), Some(r#""t""#));
        assert_eq!(value_of(json, "timestamp"), Some(r#""now""#));
        assert_eq!(value_of(json, "n"), Some("-1.5e3"));
        assert_eq!(value_of(json, "b"), Some("true"));
        assert_eq!(value_of(json, "list"), None);
        assert_eq!(value_of("{}", "type"), None);
        assert_eq!(value_of("[]", "type"), None);
        assert_eq!(value_of("", "type"), None);
    }

    #[test]
    fn text_that_looks_like_a_member_is_none() {
        for json in
            [r#"{"a":"\"type\":1","b":2}"#, r#"{"a":"x\\","b":"\"type\":"}"#, r#"{"a":["{\"type\":1}",{"type":2}]}"#]
        {
            assert_eq!(value_of(json, "type"), None, "{json}");
        }
    }

    #[test]
    fn the_last_member_is_found_from_the_end() {
        let json = r#"{"data":{"at":"12345"},"at":"12345"}"#;
        assert_eq!(find_last_string(json, "at", 5).map(|range| &json[range]), Some(r#""12345""#));
        for other in [
            r#"{"data":{"at":"12345"}}"#,
            r#"{"data":",\"at\":\"12345"}"#,
            r#"{"cat":"12345"}"#,
            r#"{"at":"1234\""}"#,
            r#"{"at":"123"}"#,
            r#"{"at":"12345","b":1}"#,
            "{}",
            "",
        ] {
            assert_eq!(find_last_string(other, "at", 5), None, "{other}");
        }
        assert!(find_last_string(r#"{"at":"12345"}"#, "at", 5).is_some());
    }

    #[test]
    fn members_are_added_at_the_end() {
        for (before, after) in [("{}", r#"{"p":1}"#), (r#"{"a":{}}"#, r#"{"a":{},"p":1}"#)] {
            let mut json = before.to_owned();
            push(&mut json, "p", "1");
            assert_eq!(json, after);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = "[a-c\"\\\\{}\\[\\],:t]{0,8}|type|timestamp";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(text, inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(value in any_value(), name in "type|timestamp|a|") {
            let json = value.to_string();
            let expected = value.as_object().and_then(|object| object.get(&name)).map(Value::to_string);
            prop_assert_eq!(value_of(&json, &name).filter(|_| value.is_object()).map(str::to_owned), expected.clone());
            if let Some(range) = find_last_string(&json, &name, 4) {
                prop_assert_eq!(Some(json[range].to_owned()), expected);
            }
        }
    }
}
