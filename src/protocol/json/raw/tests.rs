use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::text::MAX_TEXT;
use super::*;

fn raw(text: &str) -> RawJson<'_> {
    RawJson::parse(text).expect("JSON")
}

#[test]
fn only_json_is_parsed() {
    for text in
        ["", " ", "{", "nope", "\u{feff}{}", "{} x", "[1,]", "{\"a\":1,}", "NaN", "'x'", "01", "\"\u{1}\"", "\"\\u12\""]
    {
        assert_eq!(RawJson::parse(text), None, "{text:?}");
    }
    for text in
        [" {} ", "\t[1 , 2]\r\n", "1e400", "-1e-400", r#""\ud800""#, r#"{"\udc00":"\ud800\ud800"}"#, "\"\u{2028}\""]
    {
        assert_eq!(RawJson::parse(text).map(RawJson::as_str), Some(text.trim()), "{text:?}");
    }
}

#[test]
fn nesting_has_no_limit() {
    for depth in [200, 2000, 200_000] {
        let text = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(raw(&text).to_text(), "1");
        let text = format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert_eq!(raw(&text).to_text(), "[object Object]");
        assert_eq!(raw(&text).members().count(), 1);
        assert!(raw(&text).is_truthy());
    }
}

#[test]
fn the_last_of_equal_members_counts_and_proto_is_an_ordinary_name() {
    let object = raw(r#" { "a" : 1 , "\u0061":[2, {"a":3}],"b}":"]","__proto__":{"c":1} } "#);
    assert_eq!(object.member("a"), Some(RawJson(r#"[2, {"a":3}]"#)));
    assert_eq!(object.member("b}"), Some(RawJson(r#""]""#)));
    assert_eq!(object.member("c"), None);
    assert_eq!(object.members().count(), 4);
    for member in object.members() {
        assert_eq!(object.as_str().get(member.place), Some(member.value.as_str()));
    }
    assert_eq!(raw(r#"[{"a":1}]"#).member("a"), None);
    assert_eq!(raw("{}").elements().map(Iterator::count), None);
}

#[test]
fn truth_is_javascripts() {
    for text in ["null", "0", "-0", "0.0", "0e9", "1e-400", "\"\"", "false"] {
        assert!(!raw(text).is_truthy(), "{text}");
    }
    for text in ["\"0\"", "[]", "{}", "-1", "1e400", "5e-324", "true", "\"\\u0000\""] {
        assert!(raw(text).is_truthy(), "{text}");
    }
}

#[test]
fn decimal_text_is_a_number_and_names_of_numbers_are_not() {
    for (text, expected) in [
        ("1.5", Some(1.5)),
        (r#"" 12\n""#, Some(12.0)),
        (r#""\u0031""#, Some(1.0)),
        ("\"1e3\"", Some(1000.0)),
        ("\"inf\"", None),
        ("\"nan\"", None),
        ("\"1e999\"", None),
        ("1e999", None),
        ("\"12px\"", None),
        ("\"\"", None),
        ("{}", None),
        ("null", None),
    ] {
        assert_eq!(raw(text).to_number(), expected, "{text}");
    }
    let long = format!("\"{}1\"", "0".repeat(MAX_NUMBER_TEXT));
    assert_eq!(raw(&long).to_number(), None);
}

#[test]
fn values_become_text_as_in_a_template_string() {
    for (text, expected) in [
        ("null", "null"),
        ("true", "true"),
        ("\"x\"", "x"),
        (r#"{"a":1}"#, "[object Object]"),
        (r#"[ 1, null, ["a", {"x":[1,2]}], "", [[], []] ]"#, "1,,a,[object Object],,,"),
        ("[]", ""),
        ("[null]", ""),
        ("42.0", "42"),
        ("4.2e1", "42"),
        ("1e21", "1e+21"),
        ("1e-7", "1e-7"),
        ("-0", "0"),
        ("9007199254740993", "9007199254740992"),
        ("18446744073709551615", "18446744073709552000"),
        ("123456789012345680000", "123456789012345680000"),
        ("5e-324", "5e-324"),
        ("8.988465674311580e307", "8.98846567431158e+307"),
        ("0.000001", "0.000001"),
        ("1e400", "Infinity"),
        ("[-1e400]", "-Infinity"),
        (r#""\ud83d\ude00\n\"\\\/\u00e9""#, "😀\n\"\\/é"),
        (r#""\ud800\ud83d\ude00\udc00\ud800x\ud800\u0041""#, "\u{fffd}😀\u{fffd}\u{fffd}x\u{fffd}A"),
    ] {
        assert_eq!(raw(text).to_text(), expected, "{text}");
    }
}

#[test]
fn text_is_cut_after_256_characters_and_not_before() {
    for (unit, characters) in [("x", "x"), ("é", "é"), ("😀", "😀"), (r"\ud83d\ude00", "😀"), (r"\ud800", "\u{fffd}")]
    {
        for length in [255, 256, 257, 5000] {
            let text = format!("\"{}\"", unit.repeat(length));
            assert_eq!(raw(&text).to_text(), characters.repeat(length.min(MAX_TEXT)), "{length} times {unit}");
        }
    }
    let list = format!("[{}7]", "7,".repeat(127));
    assert_eq!(raw(&list).to_text().len(), 255);
    let list = format!("[{}7]", "7,".repeat(200));
    assert_eq!(raw(&list).to_text(), "7,".repeat(128));
}

/// `String(value)` by the book, without a cut.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(elements) => {
            let texts = elements.iter().map(|one| if one.is_null() { String::new() } else { text_of(one) });
            texts.collect::<Vec<_>>().join(",")
        }
        Value::Object(_) => "[object Object]".into(),
        Value::Number(number) => ryu_js::Buffer::new().format(number.as_f64().unwrap_or(f64::NAN)).to_owned(),
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

fn agrees(raw: RawJson<'_>, value: &Value) {
    assert_eq!(serde_json::from_str::<Value>(raw.as_str()).expect("JSON"), *value);
    assert_eq!(raw.to_text(), text_of(value).chars().take(MAX_TEXT).collect::<String>());
    let is_truthy =
        !matches!(value, Value::Null | Value::Bool(false)) && *value != json!("") && value.as_f64() != Some(0.0);
    assert_eq!(raw.is_truthy(), is_truthy);
    assert_eq!(raw.number(), value.as_f64());
    match value {
        Value::Array(elements) => {
            assert_eq!(raw.elements().expect("an array").count(), elements.len());
            raw.elements().expect("an array").zip(elements).for_each(|(one, other)| agrees(one, other));
        }
        Value::Object(members) => {
            assert_eq!(raw.members().count(), members.len());
            for (name, value) in members {
                agrees(raw.member(name).expect("the same members"), value);
            }
        }
        _ => assert_eq!((raw.members().count(), raw.elements().is_none()), (0, true)),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,3}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same value with white space and escapes wherever they may be.
fn loosely_written(value: &Value) -> String {
    let string = |text: &str| {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
        format!("\"{units}\"")
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(elements) => {
            let written: Vec<_> = elements.iter().map(loosely_written).collect();
            format!("[ \n{} ]", written.join(" \t,"))
        }
        Value::Object(members) => {
            let written = members.iter().map(|(name, value)| format!("{}\r: {}", string(name), loosely_written(value)));
            format!("{{ {} }}", written.collect::<Vec<_>>().join(" ,\n"))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn a_value_looked_at_in_place_is_the_value_that_a_tree_holds(value in any_value()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON"), loosely_written(&value)] {
            let value: Value = serde_json::from_str(&text).expect("JSON");
            agrees(raw(&text), &value);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in "[\\[\\]{}:,\"\\\\u0-9a-dtrue.eE+\\- \u{e9}]{0,40}") {
        if let Some(value) = RawJson::parse(&text) {
            value.to_text();
            value.to_number();
            for member in value.members() {
                prop_assert!(RawJson::parse(member.value.as_str()).is_some());
            }
            for element in value.elements().into_iter().flatten() {
                prop_assert!(RawJson::parse(element.as_str()).is_some());
            }
        }
        // What was not checked is not understood, but does no harm either.
        let unchecked = RawJson(&text);
        unchecked.to_text();
        unchecked.to_number();
        prop_assert!(unchecked.members().count() <= text.len());
        prop_assert!(unchecked.elements().into_iter().flatten().count() <= text.len());
    }
}
