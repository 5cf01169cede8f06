//! Reads a `host[:port]`, as it stands in a `Host` header or after the scheme of an `Origin`.
//!
//! Owns nothing. Called by the handshake, on whichever thread holds the request.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host in lower case and the port, if one was given.
#[derive(Debug, PartialEq, Eq)]
pub struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// `None` for what a URL parser refuses behind `http://`, and besides for everything that RFC 9110 §7.2 does
    /// not allow in a `Host`: user information, a path, percent escapes, an address in shorthand.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = read(text)?;
        Some(Self { host: host.to_ascii_lowercase(), port })
    }

    /// Whether [`parse`](Self::parse) takes the text.
    pub fn is_valid(text: &str) -> bool {
        read(text).is_some()
    }

    /// Whether both name the same host and port, where a port that was not given is `default_port`.
    pub fn equals(&self, other: &Self, default_port: u16) -> bool {
        self.host == other.host && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

/// The host as it stands, and the port.
fn read(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = split_port(text)?;
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().is_ok(),
        None => is_name_or_ipv4(host),
    };
    if is_host { Some((host, parse_port(port)?)) } else { None }
}

/// The host, and what follows its colon: nothing if there is none.
fn split_port(text: &str) -> Option<(&str, &str)> {
    // The colons of an IPv6 address stand within brackets.
    let address_end = if text.starts_with('[') { text.find(']')? + 1 } else { 0 };
    let rest = text.get(address_end..)?;
    match rest.find(':') {
        Some(colon) => Some((text.get(..address_end + colon)?, rest.get(colon + 1..)?)),
        None => Some((text, "")),
    }
}

/// `Some(None)` for an empty port, `None` for an invalid one.
fn parse_port(digits: &str) -> Option<Option<u16>> {
    if digits.is_empty() {
        return Some(None);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match digits.trim_start_matches('0') {
        "" => Some(Some(0)),
        significant => significant.parse().ok().map(Some),
    }
}

fn is_name_or_ipv4(host: &str) -> bool {
    if host.is_empty() || !host.bytes().all(is_name_byte) {
        return false;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let last_label = host.rsplit('.').next().unwrap_or(host);
    // A name that ends in a number is an address, or nothing (WHATWG URL, "ends in a number").
    !is_number(last_label) || host.parse::<Ipv4Addr>().is_ok()
}

/// ASCII without the "forbidden domain code points" of the WHATWG URL standard.
fn is_name_byte(byte: u8) -> bool {
    // A look-up instead of a search: a handshake asks for each byte of a host, several times.
    const NAME_BYTES: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = b'!';
        while byte <= b'~' {
            table[byte as usize] =
                !matches!(byte, b'#' | b'%' | b'/' | b':' | b'<' | b'>' | b'?' | b'@' | b'['..=b'^' | b'|');
            byte += 1;
        }
        table
    };
    NAME_BYTES.get(usize::from(byte)).copied().unwrap_or_default()
}

fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_a_client_may_send() {
        for text in [
            "localhost",
            "localhost:3000",
            "EXAMPLE.com",
            "example.com:",
            "example.com:0",
            "example.com:65535",
            "example.com:00080",
            "1.2.3.4",
            "1.2.3.4:80",
            "1.2.3.4.",
            "[::1]",
            "[::1]:",
            "[::1]:80",
            "[::ffff:1.2.3.4]",
            "a.",
            "a..b",
            ".a",
            "a_b",
            "-a-",
            "a,b",
            "a\"b",
            "a.0xg",
            "undefined",
        ] {
            assert!(Authority::parse(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn refuses_what_a_url_parser_refuses() {
        for text in [
            "",
            ":",
            ":80",
            "@",
            "a@",
            "example.com:65536",
            "example.com:99999999999999999999",
            "example.com:8a",
            "example.com:-1",
            "example.com:+1",
            "a:80:90",
            "a:b:c",
            "a b",
            "a<b",
            "a>b",
            "a^b",
            "a|b",
            "a%b",
            "a\x01b",
            "a\x7fb",
            "a]",
            "::1",
            "[]",
            "[::1",
            "[::g]",
            "[::1%eth0]",
            "[1.2.3.4]",
            "[::1]x",
            "[::1]:99999",
            "1.2.3.4.5",
            "256.1.1.1",
            "999999999999",
            "foo.123",
            "foo.0x1",
            "a.0x",
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_only_a_lenient_url_parser_accepts() {
        for text in ["user:pw@b", "a@b", "a/b", "a?b", "a#b", "a\\b", "a%41", "a\tb", "\u{e9}.com", "1.2.3", "0x7f.1"] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn compares_without_case_and_with_the_default_port() {
        let parse = |text| Authority::parse(text).unwrap();
        assert!(parse("Example.com").equals(&parse("eXample.com:443"), 443));
        assert!(parse("[::1]:080").equals(&parse("[::1]"), 80));
        assert!(!parse("example.com").equals(&parse("example.com:443"), 80));
        assert!(!parse("example.com").equals(&parse("example.com."), 80));
        assert!(!parse("example.com").equals(&parse("a.example.com"), 80));
    }
}
