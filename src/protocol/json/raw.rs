//! A JSON value looked at where it stands: its members, elements, truth and number, without a tree of values. Pure.
//!
//! [`RawJson::parse`] checks a whole text once; everything after it walks over text that is known to be JSON. Each walk
//! is linear in the bytes it passes, needs no stack and no heap, and ends early at text it does not expect.

use std::ops::Range;
use std::sync::Arc;

use memchr::memchr2;
use serde::de::IgnoredAny;

use super::characters::Characters;

/// A string longer than this between its quotes is not read as a number.
const MAX_NUMBER_TEXT: usize = 64;

/// One value, as the peer wrote it. Without white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawJson<'m>(&'m str);

/// A value that outlives its message: for requests that are answered later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedJson(Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'m> {
    /// As it was written, without its quotes.
    name: &'m str,
    pub value: RawJson<'m>,
    /// Where the value stands in the object's text.
    pub place: Range<usize>,
}

impl<'m> RawJson<'m> {
    /// The value that the text is. `None` if the text is not JSON (RFC 8259). A lone surrogate in an escape and a number
    /// beyond the range of a double are, as for JavaScript; the depth of nesting has no limit.
    pub fn parse(text: &'m str) -> Option<Self> {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(Self(text.trim_matches([' ', '\t', '\n', '\r'])))
    }

    pub fn as_str(self) -> &'m str {
        self.0
    }

    pub fn kind(self) -> Kind {
        match self.0.as_bytes().first() {
            Some(b'"') => Kind::String,
            Some(b'[') => Kind::Array,
            Some(b'{') => Kind::Object,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            _ => Kind::Null,
        }
    }

    /// Whether `if (value)` is taken.
    pub fn is_truthy(self) -> bool {
        match self.kind() {
            Kind::Null => false,
            Kind::Bool => self.0 == "true",
            Kind::Number => self.number() != Some(0.0),
            Kind::String => self.0 != r#""""#,
            Kind::Array | Kind::Object => true,
        }
    }

    /// The value of a number, rounded as JavaScript rounds; infinite beyond the range of a double.
    pub fn number(self) -> Option<f64> {
        if self.kind() == Kind::Number { self.0.parse().ok() } else { None }
    }

    /// `Number(value)` of a number or of decimal text, if it is finite.
    pub fn to_number(self) -> Option<f64> {
        let number = match self.string() {
            Some(written) if written.len() <= MAX_NUMBER_TEXT => {
                Characters::of(written).collect::<String>().trim().parse().ok()
            }
            Some(_) => None,
            None => self.number(),
        };
        number.filter(|number: &f64| number.is_finite())
    }

    /// What stands between the quotes of a string, escapes as they were written.
    pub fn string(self) -> Option<&'m str> {
        self.0.strip_prefix('"')?.strip_suffix('"')
    }

    /// Whether it is a string of this text.
    pub fn is_text(self, text: &str) -> bool {
        self.string().is_some_and(|written| reads(written, text))
    }

    /// The members of an object as they come, of equal names each; none of anything else.
    pub fn members(self) -> Members<'m> {
        Members(Items::within(self, '{'))
    }

    /// The last member of this name, as JavaScript reads an object.
    pub fn member(self, name: &str) -> Option<Self> {
        self.members().filter(|member| member.is(name)).last().map(|member| member.value)
    }

    /// The elements of an array; `None` of anything else.
    pub fn elements(self) -> Option<Elements<'m>> {
        (self.kind() == Kind::Array).then(|| Elements(Items::within(self, '[')))
    }
}

impl From<RawJson<'_>> for SharedJson {
    fn from(value: RawJson<'_>) -> Self {
        Self(value.0.into())
    }
}

impl SharedJson {
    pub fn get(&self) -> RawJson<'_> {
        RawJson(&self.0)
    }

    pub fn text(&self) -> &Arc<str> {
        &self.0
    }
}

impl Member<'_> {
    pub fn is(&self, name: &str) -> bool {
        reads(self.name, name)
    }
}

#[derive(Clone, Debug)]
pub struct Members<'m>(Items<'m>);

#[derive(Clone, Debug)]
pub struct Elements<'m>(Items<'m>);

impl<'m> Iterator for Members<'m> {
    type Item = Member<'m>;

    fn next(&mut self) -> Option<Member<'m>> {
        let quoted = self.0.take()?;
        let (value, place) = self.0.take()?;
        Some(Member { name: quoted.0.string()?, value, place })
    }
}

impl<'m> Iterator for Elements<'m> {
    type Item = RawJson<'m>;

    fn next(&mut self) -> Option<RawJson<'m>> {
        self.0.take().map(|(value, _)| value)
    }
}

/// The values directly within a container, names of members included.
#[derive(Clone, Debug)]
struct Items<'m> {
    text: &'m str,
    at: usize,
}

impl<'m> Items<'m> {
    fn within(value: RawJson<'m>, open: char) -> Self {
        let text = if value.0.starts_with(open) { value.0 } else { "" };
        Self { text, at: 1 }
    }

    fn take(&mut self) -> Option<(RawJson<'m>, Range<usize>)> {
        let bytes = self.text.as_bytes();
        // What separates two values tells nothing more: the text was checked.
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = bytes.get(self.at) {
            self.at += 1;
        }
        if let None | Some(b']' | b'}') = bytes.get(self.at) {
            return None;
        }
        let place = self.at..value_end(bytes, self.at);
        self.at = place.end;
        Some((RawJson(self.text.get(place.clone())?), place))
    }
}

/// Where the value that begins at `start` ends.
pub(super) fn value_end(text: &[u8], start: usize) -> usize {
    match text.get(start) {
        Some(b'"') => string_end(text, start),
        Some(b'{' | b'[') => container_end(text, start),
        _ => {
            let is_over = |byte: &u8| matches!(byte, b',' | b':' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
            let rest = text.get(start..).unwrap_or_default();
            // At least one byte, so that every walk goes on.
            start + rest.iter().skip(1).position(is_over).map_or(rest.len(), |length| length + 1)
        }
    }
}

fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(rest) = text.get(at..) {
        match memchr2(b'"', b'\\', rest) {
            Some(length) if rest.get(length) == Some(&b'"') => return at + length + 1,
            // A backslash and what it escapes.
            Some(length) => at += length + 2,
            None => break,
        }
    }
    text.len()
}

fn container_end(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = string_end(text, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Whether a string that was written so reads as this text.
fn reads(written: &str, text: &str) -> bool {
    written == text || (written.contains('\\') && Characters::of(written).eq(text.chars()))
}

#[cfg(test)]
mod tests;
