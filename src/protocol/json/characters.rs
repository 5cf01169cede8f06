//! The characters of a JSON string, escapes replaced by what they stand for. Pure.

use std::str::Chars;

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
