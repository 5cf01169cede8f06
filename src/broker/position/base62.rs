//! Numbers in base 62: digits `0-9A-Za-z`, most significant first, no leading zero. Pure.

use std::fmt;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many numbers have at most eight digits.
pub const EIGHT_DIGITS: u64 = 62_u64.pow(8);

/// `u64::MAX` has this many digits.
const MAX_DIGITS: usize = 11;

/// `None` for an empty text, another character, a leading zero and a number above 64 bits.
pub fn parse(text: &str) -> Option<u64> {
    let is_canonical = text == "0" || !text.starts_with('0');
    if text.is_empty() || text.len() > MAX_DIGITS || !is_canonical {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| number.checked_mul(62)?.checked_add(u64::from(value(byte)?)))
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}

/// Writes the digits without allocating.
pub fn write(mut number: u64, into: &mut impl fmt::Write) -> fmt::Result {
    let mut digits = [0; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    loop {
        start -= 1;
        digits[start] = DIGITS[(number % 62) as usize];
        number /= 62;
        if number == 0 {
            break;
        }
    }
    digits[start..].iter().try_for_each(|digit| into.write_char(char::from(*digit)))
}
