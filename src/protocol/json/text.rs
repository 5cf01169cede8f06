//! JSON values as text: what an escape stands for, and `String(value)` as in a template string. Pure.

use std::str::Chars;

use super::raw::{Kind, RawJson, value_end};

/// How much of a value's text goes into a reply, in characters (code points).
pub const MAX_TEXT: usize = 256;

/// The characters of a string's inside. A surrogate without its partner reads as U+FFFD.
#[derive(Clone, Debug)]
pub struct Characters<'m>(Chars<'m>);

impl<'m> Characters<'m> {
    /// `written` stands between the quotes of a string that was checked.
    pub fn of(written: &'m str) -> Self {
        Self(written.chars())
    }

    fn escape(&mut self) -> char {
        match self.0.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => self.unicode_escape(),
            Some(itself) => itself,
            None => char::REPLACEMENT_CHARACTER,
        }
    }

    fn unicode_escape(&mut self) -> char {
        let unit = self.code_unit();
        if !(0xd800..0xdc00).contains(&unit) {
            // `None` for a low surrogate that no high one precedes.
            return char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        let mut ahead = self.clone();
        if ahead.0.next() == Some('\\') && ahead.0.next() == Some('u') {
            let low = ahead.code_unit();
            if (0xdc00..0xe000).contains(&low) {
                *self = ahead;
                let point = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
            }
        }
        char::REPLACEMENT_CHARACTER
    }

    fn code_unit(&mut self) -> u32 {
        let mut unit = 0;
        for digit in self.0.by_ref().take(4) {
            unit = unit << 4 | digit.to_digit(16).unwrap_or(0);
        }
        unit
    }
}

impl Iterator for Characters<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.0.next()? {
            '\\' => Some(self.escape()),
            character => Some(character),
        }
    }
}

impl RawJson<'_> {
    /// `String(value)`, cut after its first [`MAX_TEXT`] characters. Linear in what is looked at: nested lists are one list
    /// of their leaves, so the walk needs no stack.
    pub fn to_text(self) -> String {
        let bytes = self.as_str().as_bytes();
        let is_list = self.kind() == Kind::Array;
        let mut text = Text { text: String::new(), room: MAX_TEXT };
        let mut at = 0;
        while text.room > 0 {
            match bytes.get(at) {
                None => break,
                Some(b'[' | b']' | b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                Some(b',') => {
                    text.push(",".chars());
                    at += 1;
                }
                Some(_) => {
                    let end = value_end(bytes, at);
                    text.push_leaf(self.as_str().get(at..end).unwrap_or_default(), is_list);
                    at = end;
                }
            }
        }
        text.text
    }
}

struct Text {
    text: String,
    /// Characters that still fit.
    room: usize,
}

impl Text {
    fn push_leaf(&mut self, written: &str, is_in_list: bool) {
        match written.as_bytes().first() {
            Some(b'"') => {
                let inside = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                self.push(Characters::of(inside.unwrap_or_default()));
            }
            Some(b'{') => self.push("[object Object]".chars()),
            Some(b'n') if is_in_list => {}
            Some(b'-' | b'0'..=b'9') => {
                // Infinite beyond the range of a double, as in JavaScript.
                self.push(ryu_js::Buffer::new().format(written.parse().unwrap_or(f64::NAN)).chars());
            }
            _ => self.push(written.chars()),
        }
    }

    fn push(&mut self, characters: impl Iterator<Item = char>) {
        for character in characters.take(self.room) {
            self.text.push(character);
            self.room -= 1;
        }
    }
}
