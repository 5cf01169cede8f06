//! Collects the head of an HTTP/1.1 request from bytes that come in any portions.
//!
//! Owns the bytes of one unfinished head. Pure. Called for pending handshakes on the own port; an attached
//! server has Node's parser.

use std::mem::MaybeUninit;

use super::authority::Authority;
use super::request_head::RequestHead;

/// Node's limit.
const MAX_HEAD_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// The head so far. Holds at most [`MAX_HEAD_BYTES`], and is parsed once, when it is complete.
#[derive(Default)]
pub struct HeadReader {
    bytes: Vec<u8>,
    /// Whether a line ends without a CR. Only CR LF ends a line, so that no proxy before us sees other lines than we do.
    has_bare_line_feed: bool,
}

/// Why a head cannot be read. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadError {
    Malformed,
    TooLarge,
    /// The listener's patience ended.
    TooSlow,
}

impl HeadReader {
    /// The head once it is complete, and the bytes after it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(RequestHead, Vec<u8>)>, HeadError> {
        let room = MAX_HEAD_BYTES - self.bytes.len();
        let (taken, refused) = bytes.split_at(bytes.len().min(room));
        let before = self.bytes.len();
        self.bytes.extend_from_slice(taken);
        let Some(length) = self.find_end(before, taken) else {
            return if self.bytes.len() < MAX_HEAD_BYTES { Ok(None) } else { Err(HeadError::TooLarge) };
        };
        let mut head = std::mem::take(&mut self.bytes);
        let mut leftover = head.split_off(length);
        leftover.extend_from_slice(refused);
        if std::mem::take(&mut self.has_bare_line_feed) {
            return Err(HeadError::Malformed);
        }
        Ok(Some((parse(&head)?, leftover)))
    }

    /// Looks through the lines that end in `taken`, which follows `before` earlier bytes. The length of the head, if it is complete.
    fn find_end(&mut self, before: usize, taken: &[u8]) -> Option<usize> {
        for line_feed in memchr::memchr_iter(b'\n', taken) {
            let length = before + line_feed + 1;
            let lines = self.bytes.get(..length).unwrap_or_default();
            if lines.ends_with(HEAD_END) {
                return Some(length);
            }
            self.has_bare_line_feed |= !lines.ends_with(b"\r\n");
        }
        None
    }
}

impl HeadError {
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooSlow => 408,
            Self::TooLarge => 431,
        }
    }

    /// One of a fixed set, for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_head",
            Self::TooLarge => "head_too_large",
            Self::TooSlow => "head_too_slow",
        }
    }

    /// As Node answers; the connection is to be closed after it.
    pub fn response(self) -> Vec<u8> {
        let text = match self {
            Self::Malformed => "Bad Request",
            Self::TooLarge => "Request Header Fields Too Large",
            Self::TooSlow => "Request Timeout",
        };
        format!("HTTP/1.1 {} {text}\r\nConnection: close\r\n\r\n", self.status()).into_bytes()
    }
}

/// Expects exactly one head, up to and including the empty line.
fn parse(head: &[u8]) -> Result<RequestHead, HeadError> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        _ => return Err(HeadError::Malformed),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed);
    };
    let Headers { joined, hosts, has_body } = Headers::join(request.headers);
    // RFC 9112 §3.2: one host, which HTTP/1.0 may leave out.
    if hosts > 1 || (version > 0 && hosts == 0) {
        return Err(HeadError::Malformed);
    }
    let mut head = RequestHead { method: method.to_owned(), target: target.to_owned(), headers: joined };
    if !target.starts_with('/') && target != "*" {
        take_absolute_form(&mut head)?;
    }
    if head.header("host").is_some_and(|host| !host.is_empty() && !Authority::is_valid(host)) {
        return Err(HeadError::Malformed);
    }
    if version == 0 {
        // RFC 9110 §7.8: HTTP/1.0 knows no upgrades.
        head.headers.retain(|(name, _)| name != "upgrade");
    }
    // What follows the head of an upgrade are frames: they must not be taken for a body, nor a body for them.
    if has_body && head.asks_for_websocket() {
        return Err(HeadError::Malformed);
    }
    Ok(head)
}

/// `http://host/path` means the path at that host, whatever the header says (RFC 9112 §3.2.2).
fn take_absolute_form(head: &mut RequestHead) -> Result<(), HeadError> {
    let (scheme, rest) = head.target.split_once("://").ok_or(HeadError::Malformed)?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(HeadError::Malformed);
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.is_empty() {
        return Err(HeadError::Malformed);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let (host, target) = (host.to_owned(), format!("{slash}{path}"));
    head.target = target;
    match head.headers.iter_mut().find(|(name, _)| name == "host") {
        Some((_, value)) => *value = host,
        None => head.headers.push(("host".to_owned(), host)),
    }
    Ok(())
}

struct Headers {
    /// Names in lower case. Repeated headers are one, as in Node's `IncomingMessage.headers`.
    joined: Vec<(String, String)>,
    /// How many `Host` headers there were.
    hosts: usize,
    /// Whether a body follows the head.
    has_body: bool,
}

impl Headers {
    fn join(raw: &[httparse::Header<'_>]) -> Self {
        let mut headers = Self { joined: Vec::with_capacity(raw.len()), hosts: 0, has_body: false };
        for header in raw {
            let name = header.name.to_ascii_lowercase();
            match name.as_str() {
                "content-length" => headers.has_body |= header.value != b"0",
                "host" => headers.hosts += 1,
                "transfer-encoding" => headers.has_body = true,
                _ => {}
            }
            headers.add(name, latin1(header.value.trim_ascii()));
        }
        headers
    }

    fn add(&mut self, name: String, value: String) {
        match self.joined.iter_mut().find(|(known, _)| *known == name) {
            None => self.joined.push((name, value)),
            Some(_) if SINGLE_HEADERS.contains(&name.as_str()) => {}
            Some((_, values)) => {
                values.push_str(if name == "cookie" { "; " } else { ", " });
                values.push_str(&value);
            }
        }
    }
}

/// Where a second header is ignored.
const SINGLE_HEADERS: &[&str] = &[
    "age",
    "authorization",
    "content-length",
    "content-type",
    "etag",
    "expires",
    "from",
    "host",
    "if-modified-since",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "proxy-authorization",
    "referer",
    "retry-after",
    "server",
    "user-agent",
];

fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => bytes.iter().copied().map(char::from).collect(),
    }
}

#[cfg(test)]
mod tests;
