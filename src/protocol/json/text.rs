//! JSON values as text: `String(value)` as in a template string. Pure.

use super::characters::Characters;
use super::raw::{Kind, RawJson, value_end};

/// How much of a value's text goes into a reply, in characters (code points).
pub const MAX_TEXT: usize = 256;

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
