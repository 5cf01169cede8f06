//! Decides from the head of an upgrade request whether it may become a connection, and writes the answer.
//!
//! Pure. Called once per request by whoever holds it: the binding on Node's main thread for an attached server,
//! the listener on its own thread for an own port. The token is only found here, never judged.

use std::collections::HashSet;
use std::fmt;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::deflate;
pub use super::forwarded::{Network, TrustProxy, client_address};
use super::host::Authority;

/// Method, target and headers of a request. Names are in lower case, repeated headers joined as Node joins them.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

/// What a service demands of a request.
#[derive(Clone, Debug)]
pub struct Policy {
    pub path: String,
    /// `None`: permessage-deflate is off, and its header is not even read.
    pub deflate: Option<deflate::Policy>,
    pub origins: Origins,
}

/// Which pages may connect. A request without an origin does not come from a page and passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    /// The origin's host and port are those of the `Host` header.
    SameHost,
    /// Exactly one of these.
    List(Vec<String>),
}

/// A request that passed every check which needs no user.
#[derive(Clone, Debug)]
pub struct Upgrade {
    accept_key: String,
    subprotocol: Option<String>,
    deflate: Option<deflate::Negotiated>,
}

/// Why a request does not become a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    ForbiddenOrigin,
    InvalidExtensions,
    InvalidKey,
    InvalidSubprotocol,
    InvalidUpgrade,
    InvalidVersion,
    MethodNotAllowed,
    /// One answer for everything about tokens and users, so that it tells nothing.
    Unauthorized,
    /// The service takes no connections now.
    Unavailable {
        /// Seconds.
        retry_after: Option<u32>,
    },
    WrongPath,
}

/// Everything before the token, in the order of the contract: the first fault is the one answered.
pub fn check(head: &RequestHead, policy: &Policy) -> Result<Upgrade, Rejection> {
    if head.method != "GET" {
        return Err(Rejection::MethodNotAllowed);
    }
    if !head.header("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket")) {
        return Err(Rejection::InvalidUpgrade);
    }
    let key = head.header("sec-websocket-key").filter(|key| is_key(key)).ok_or(Rejection::InvalidKey)?;
    let version = head.header("sec-websocket-version").and_then(Version::parse).ok_or(Rejection::InvalidVersion)?;
    if !path_matches(&head.target, &policy.path) {
        return Err(Rejection::WrongPath);
    }
    let subprotocol = match head.header("sec-websocket-protocol") {
        Some(offers) => Some(first_subprotocol(offers).ok_or(Rejection::InvalidSubprotocol)?.to_owned()),
        None => None,
    };
    let deflate = match (&policy.deflate, head.header("sec-websocket-extensions")) {
        (Some(policy), Some(offers)) => {
            deflate::negotiate(offers, policy).map_err(|_unacceptable| Rejection::InvalidExtensions)?
        }
        _ => None,
    };
    if !version.origin_headers().iter().all(|name| policy.origins.allow(head.header(name), head.header("host"))) {
        return Err(Rejection::ForbiddenOrigin);
    }
    Ok(Upgrade { accept_key: derive_accept_key(key.as_bytes()), subprotocol, deflate })
}

/// Byte by byte up to the `?`. A target in absolute form never matches.
pub fn path_matches(target: &str, path: &str) -> bool {
    target.split('?').next() == Some(path)
}

/// The token as it was sent: the query parameter `token`, or what `Authorization` holds besides `Bearer `.
///
/// A `Host` that makes no URL is answered like a bad token.
pub fn token(head: &RequestHead) -> Result<Option<String>, Rejection> {
    head.header("host").and_then(Authority::parse).ok_or(Rejection::Unauthorized)?;
    let without_fragment = head.target.split('#').next().unwrap_or_default();
    let query = without_fragment.split_once('?').map_or("", |(_, query)| query);
    let from_query = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    let token = match from_query {
        Some((_, token)) if !token.is_empty() => token.into_owned(),
        _ => head.header("authorization").unwrap_or_default().replacen("Bearer ", "", 1),
    };
    Ok(Some(token).filter(|token| !token.is_empty()))
}

impl RequestHead {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// RFC 9110 §7.8: `Upgrade` counts only if `Connection` names it. Node has seen to that already.
    pub fn asks_for_upgrade(&self) -> bool {
        let mut options = self.header("connection").unwrap_or_default().split(',');
        options.any(|option| option.trim().eq_ignore_ascii_case("upgrade")) && self.header("upgrade").is_some()
    }
}

/// Shows no header and no query: both may hold a token.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.target.split('?').next())
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

impl Upgrade {
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    pub fn deflate(&self) -> Option<deflate::Negotiated> {
        self.deflate
    }

    /// Nothing of it can break a line: the key is base64, a subprotocol is a token, the rest is ours.
    pub fn response(&self) -> Vec<u8> {
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            self.accept_key
        );
        if let Some(subprotocol) = &self.subprotocol {
            response += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
        }
        if let Some(deflate) = &self.deflate {
            response += &format!("Sec-WebSocket-Extensions: {}\r\n", deflate.response());
        }
        response += "\r\n";
        response.into_bytes()
    }
}

impl Rejection {
    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidExtensions
            | Self::InvalidKey
            | Self::InvalidSubprotocol
            | Self::InvalidUpgrade
            | Self::InvalidVersion
            | Self::WrongPath => 400,
            Self::Unauthorized => 401,
            Self::ForbiddenOrigin => 403,
            Self::MethodNotAllowed => 405,
            Self::Unavailable { .. } => 503,
        }
    }

    /// One of a fixed set, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::InvalidExtensions => "invalid_extensions",
            Self::InvalidKey => "invalid_key",
            Self::InvalidSubprotocol => "invalid_subprotocol",
            Self::InvalidUpgrade => "invalid_upgrade",
            Self::InvalidVersion => "invalid_version",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable { .. } => "unavailable",
            Self::WrongPath => "wrong_path",
        }
    }

    /// The connection is to be closed after it.
    pub fn response(&self) -> Vec<u8> {
        let extra_header = match self {
            Self::InvalidVersion => "Sec-WebSocket-Version: 13, 8\r\n".to_owned(),
            Self::Unavailable { retry_after: Some(seconds) } => format!("Retry-After: {seconds}\r\n"),
            _ => String::new(),
        };
        let body = self.body();
        format!(
            "HTTP/1.1 {} {}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n{extra_header}\r\n{body}",
            self.status(),
            self.status_text(),
            body.len(),
        )
        .into_bytes()
    }

    fn status_text(&self) -> &'static str {
        match self.status() {
            401 => "Unauthorized",
            403 => "Forbidden",
            405 => "Method Not Allowed",
            503 => "Service Unavailable",
            _ => "Bad Request",
        }
    }

    fn body(&self) -> &'static str {
        match self {
            Self::InvalidExtensions => "Invalid or unacceptable Sec-WebSocket-Extensions header",
            Self::InvalidKey => "Missing or invalid Sec-WebSocket-Key header",
            Self::InvalidSubprotocol => "Invalid Sec-WebSocket-Protocol header",
            Self::InvalidUpgrade => "Invalid Upgrade header",
            Self::InvalidVersion => "Missing or invalid Sec-WebSocket-Version header",
            Self::MethodNotAllowed => "Invalid HTTP method",
            Self::ForbiddenOrigin | Self::Unauthorized | Self::Unavailable { .. } | Self::WrongPath => {
                self.status_text()
            }
        }
    }
}

impl Origins {
    fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Any => true,
            Self::SameHost => host.is_some_and(|host| is_same_host(origin, host)),
            Self::List(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

/// The protocol versions that are spoken; they differ in nothing but one header.
#[derive(Clone, Copy)]
enum Version {
    Hybi8,
    Rfc6455,
}

impl Version {
    /// The value counts as a number: `13.0` is 13.
    fn parse(text: &str) -> Option<Self> {
        match text.trim().parse::<f64>().ok()? {
            8.0 => Some(Self::Hybi8),
            13.0 => Some(Self::Rfc6455),
            _ => None,
        }
    }

    /// Version 8 called it `Sec-WebSocket-Origin`; if both are sent, both must be allowed.
    fn origin_headers(self) -> &'static [&'static str] {
        match self {
            Self::Hybi8 => &["sec-websocket-origin", "origin"],
            Self::Rfc6455 => &["origin"],
        }
    }
}

/// 16 bytes in base64, by their looks.
fn is_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|digits| {
        digits.len() == 22 && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    })
}

/// The first of a list of distinct tokens; `None` if it is not such a list. Takes time linear in its length.
fn first_subprotocol(offers: &str) -> Option<&str> {
    let is_blank = |c| c == ' ' || c == '\t';
    if offers.starts_with(is_blank) || offers.ends_with(is_blank) {
        return None;
    }
    let mut seen = HashSet::new();
    let mut names = offers.split(',').map(|name| name.trim_matches(is_blank));
    let valid = names.all(|name| !name.is_empty() && name.bytes().all(is_token_byte) && seen.insert(name));
    if valid { offers.split(',').next().map(|name| name.trim_matches(is_blank)) } else { None }
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return false,
    };
    match (Authority::parse(authority), Authority::parse(host)) {
        (Some(authority), Some(host)) => authority.equals(&host, default_port),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    /// RFC 6455 §1.3.
    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn policy() -> Policy {
        Policy { path: "/ws".into(), deflate: None, origins: Origins::Any }
    }

    fn with_origins(origins: Origins) -> Policy {
        Policy { origins, ..policy() }
    }

    fn valid() -> RequestHead {
        let headers = [
            ("host", "example.com"),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", KEY),
            ("sec-websocket-version", "13"),
        ];
        RequestHead {
            method: "GET".into(),
            target: "/ws?token=abc".into(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).into(),
        }
    }

    impl RequestHead {
        fn with(mut self, name: &str, value: &str) -> Self {
            self = self.without(name);
            self.headers.push((name.into(), value.into()));
            self
        }

        fn without(mut self, name: &str) -> Self {
            self.headers.retain(|(known, _)| known != name);
            self
        }

        fn with_method(self, method: &str) -> Self {
            Self { method: method.into(), ..self }
        }

        fn with_target(self, target: &str) -> Self {
            Self { target: target.into(), ..self }
        }
    }

    fn rejected(status_line: &str, extra_header: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status_line}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
             {extra_header}\r\n{body}",
            body.len()
        )
    }

    fn rejection(head: &RequestHead) -> Option<Rejection> {
        check(head, &policy()).err()
    }

    #[test]
    fn every_rejection_is_written_as_the_contract_says() {
        for (rejection, status_line, extra_header, body, reason) in [
            (Rejection::Unauthorized, "401 Unauthorized", "", "Unauthorized", "unauthorized"),
            (Rejection::WrongPath, "400 Bad Request", "", "Bad Request", "wrong_path"),
            (Rejection::MethodNotAllowed, "405 Method Not Allowed", "", "Invalid HTTP method", "method_not_allowed"),
            (Rejection::InvalidUpgrade, "400 Bad Request", "", "Invalid Upgrade header", "invalid_upgrade"),
            (
                Rejection::InvalidKey,
                "400 Bad Request",
                "",
                "Missing or invalid Sec-WebSocket-Key header",
                "invalid_key",
            ),
            (
                Rejection::InvalidVersion,
                "400 Bad Request",
                "Sec-WebSocket-Version: 13, 8\r\n",
                "Missing or invalid Sec-WebSocket-Version header",
                "invalid_version",
            ),
            (
                Rejection::InvalidSubprotocol,
                "400 Bad Request",
                "",
                "Invalid Sec-WebSocket-Protocol header",
                "invalid_subprotocol",
            ),
            (
                Rejection::InvalidExtensions,
                "400 Bad Request",
                "",
                "Invalid or unacceptable Sec-WebSocket-Extensions header",
                "invalid_extensions",
            ),
            (Rejection::ForbiddenOrigin, "403 Forbidden", "", "Forbidden", "forbidden_origin"),
            (
                Rejection::Unavailable { retry_after: None },
                "503 Service Unavailable",
                "",
                "Service Unavailable",
                "unavailable",
            ),
            (
                Rejection::Unavailable { retry_after: Some(7) },
                "503 Service Unavailable",
                "Retry-After: 7\r\n",
                "Service Unavailable",
                "unavailable",
            ),
        ] {
            let response = String::from_utf8(rejection.response()).unwrap();
            assert_eq!(response, rejected(status_line, extra_header, body), "{rejection:?}");
            assert_eq!(rejection.status().to_string(), status_line[..3], "{rejection:?}");
            assert_eq!(rejection.reason(), reason);
        }
    }

    #[test]
    fn a_literal_rejection_byte_by_byte() {
        assert_eq!(
            Rejection::Unauthorized.response(),
            b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\nUnauthorized"
        );
    }

    #[test]
    fn accepts_with_the_derived_key() {
        let response = check(&valid(), &policy()).unwrap().response();
        assert_eq!(String::from_utf8(response).unwrap(), format!("{ACCEPTED}\r\n"));
    }

    #[test]
    fn refuses_what_is_missing_or_wrong() {
        for (head, expected) in [
            (valid().with_method("POST"), Some(Rejection::MethodNotAllowed)),
            (valid().with_method("get"), Some(Rejection::MethodNotAllowed)),
            (valid().with_method(""), Some(Rejection::MethodNotAllowed)),
            (valid().without("upgrade"), Some(Rejection::InvalidUpgrade)),
            (valid().with("upgrade", "h2c"), Some(Rejection::InvalidUpgrade)),
            (valid().with("upgrade", "websocket, h2c"), Some(Rejection::InvalidUpgrade)),
            (valid().with("upgrade", "WebSocket"), None),
            (valid().without("sec-websocket-key"), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", ""), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", "=="), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", &KEY[1..]), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", &format!("A{KEY}")), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", &KEY.replace('G', "-")), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", &KEY.replace("==", "A=")), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", &format!("{KEY}, {KEY}")), Some(Rejection::InvalidKey)),
            (valid().with("sec-websocket-key", "+/+/+/+/+/+/+/+/+/+/+/=="), None),
            (valid().without("sec-websocket-version"), Some(Rejection::InvalidVersion)),
            (valid().with("sec-websocket-version", ""), Some(Rejection::InvalidVersion)),
            (valid().with("sec-websocket-version", "7"), Some(Rejection::InvalidVersion)),
            (valid().with("sec-websocket-version", "14"), Some(Rejection::InvalidVersion)),
            (valid().with("sec-websocket-version", "13, 13"), Some(Rejection::InvalidVersion)),
            (valid().with("sec-websocket-version", "nan"), Some(Rejection::InvalidVersion)),
            (valid().with("sec-websocket-version", "8"), None),
            (valid().with("sec-websocket-version", "013"), None),
        ] {
            assert_eq!(rejection(&head), expected, "{} {:?}", head.method, head.headers);
        }
    }

    #[test]
    fn compares_the_path_byte_by_byte_up_to_the_query() {
        for (target, matches) in [
            ("/ws", true),
            ("/ws?", true),
            ("/ws?token=a?b", true),
            ("/ws/", false),
            ("/WS", false),
            ("/%77s", false),
            ("/ws/x", false),
            ("/wsx", false),
            ("/w", false),
            ("", false),
            ("/", false),
            ("//ws", false),
            ("/ws#", false),
            ("/./ws", false),
            ("*", false),
            ("http://example.com/ws", false),
            ("http://example.com/ws?token=a", false),
        ] {
            assert_eq!(path_matches(target, "/ws"), matches, "{target:?}");
            let expected = (!matches).then_some(Rejection::WrongPath);
            assert_eq!(rejection(&valid().with_target(target)), expected, "{target:?}");
        }
    }

    #[test]
    fn answers_the_first_subprotocol() {
        for (offers, expected) in [
            ("civic-engagement-v1", Some("civic-engagement-v1")),
            ("a,b", Some("a")),
            ("a, b", Some("a")),
            ("a \t,\t b", Some("a")),
            ("A, a", Some("A")),
            ("!#$%&'*+-.^_`|~09AZaz", Some("!#$%&'*+-.^_`|~09AZaz")),
            ("", None),
            (" a", None),
            ("a ", None),
            ("a b", None),
            (",", None),
            (",a", None),
            ("a,", None),
            ("a,,b", None),
            ("a, ,b", None),
            ("a,a", None),
            ("a, b, a", None),
            ("a;b", None),
            ("\"a\"", None),
            ("a/b", None),
            ("\u{e9}", None),
            ("a\r\nX: y", None),
            ("a,b\r\nX: y", None),
        ] {
            let head = valid().with("sec-websocket-protocol", offers);
            match (check(&head, &policy()), expected) {
                (Ok(upgrade), Some(name)) => {
                    assert_eq!(upgrade.subprotocol(), Some(name), "{offers:?}");
                    let response = String::from_utf8(upgrade.response()).unwrap();
                    assert_eq!(response, format!("{ACCEPTED}Sec-WebSocket-Protocol: {name}\r\n\r\n"));
                }
                (result, expected) => {
                    assert_eq!(result.err(), Some(Rejection::InvalidSubprotocol), "{offers:?} {expected:?}");
                }
            }
        }
    }

    #[test]
    fn without_compression_the_extension_header_is_not_read() {
        let head = valid().with("sec-websocket-extensions", "permessage-deflate; ;=,");
        let upgrade = check(&head, &policy()).unwrap();
        assert!(upgrade.deflate().is_none());
        assert_eq!(upgrade.response(), format!("{ACCEPTED}\r\n").into_bytes());
    }

    #[test]
    fn of_two_faults_the_first_in_order_is_answered() {
        type Spoil = fn(RequestHead) -> RequestHead;
        let faults: [(Rejection, Spoil); 7] = [
            (Rejection::MethodNotAllowed, |head| head.with_method("PUT")),
            (Rejection::InvalidUpgrade, |head| head.with("upgrade", "h2c")),
            (Rejection::InvalidKey, |head| head.with("sec-websocket-key", "x")),
            (Rejection::InvalidVersion, |head| head.with("sec-websocket-version", "12")),
            (Rejection::WrongPath, |head| head.with_target("/other")),
            (Rejection::InvalidSubprotocol, |head| head.with("sec-websocket-protocol", "a,a")),
            (Rejection::ForbiddenOrigin, |head| head.with("origin", "https://evil.example")),
        ];
        let policy = with_origins(Origins::SameHost);
        for (earlier, (expected, spoil)) in faults.iter().enumerate() {
            assert_eq!(check(&spoil(valid()), &policy).err(), Some(*expected));
            for (_, spoil_too) in &faults[earlier + 1..] {
                assert_eq!(check(&spoil_too(spoil(valid())), &policy).err(), Some(*expected));
            }
        }
    }

    #[test]
    fn finds_the_token_as_a_url_parser_would() {
        for (target, expected) in [
            ("/ws", None),
            ("/ws?", None),
            ("/ws?token", None),
            ("/ws?token=", None),
            ("/ws?token=a", Some("a")),
            ("/ws?a=1&token=b", Some("b")),
            ("/ws?token=a&token=b", Some("a")),
            ("/ws?token=&token=b", None),
            ("/ws?token=a+b", Some("a b")),
            ("/ws?token=a%2Bb", Some("a+b")),
            ("/ws?token=%41%4a", Some("AJ")),
            ("/ws?token=%zz%4", Some("%zz%4")),
            ("/ws?token=%ff", Some("\u{fffd}")),
            ("/ws?token=%C3%A9", Some("\u{e9}")),
            ("/ws?t%6Fken=a", Some("a")),
            ("/ws?Token=a", None),
            ("/ws?token=a=b", Some("a=b")),
            ("/ws?token=a#b", Some("a")),
            ("/ws?token=a;x=1", Some("a;x=1")),
            ("/ws?&&token=a&", Some("a")),
            ("/ws??token=a", None),
            ("/ws?x=?&token=a", Some("a")),
            ("/ws?token=a%26b", Some("a&b")),
            ("/ws?+token=a", None),
        ] {
            let head = valid().with_target(target);
            assert_eq!(token(&head), Ok(expected.map(str::to_owned)), "{target:?}");
        }
    }

    #[test]
    fn takes_the_token_from_authorization_if_the_query_has_none() {
        for (target, authorization, expected) in [
            ("/ws", "Bearer abc", Some("abc")),
            ("/ws?token=", "Bearer abc", Some("abc")),
            ("/ws", "abc", Some("abc")),
            ("/ws", "Bearer Bearer abc", Some("Bearer abc")),
            ("/ws", "abcBearer def", Some("abcdef")),
            ("/ws", "bearer abc", Some("bearer abc")),
            ("/ws", "Basic abc", Some("Basic abc")),
            ("/ws", "Bearer", Some("Bearer")),
            ("/ws", "Bearer ", None),
            ("/ws", "", None),
            // A bad token in the query is not rescued by a good header.
            ("/ws?token=bad", "Bearer abc", Some("bad")),
        ] {
            let head = valid().with_target(target).with("authorization", authorization);
            assert_eq!(token(&head), Ok(expected.map(str::to_owned)), "{target:?} {authorization:?}");
        }
    }

    #[test]
    fn a_host_that_makes_no_url_is_unauthorized() {
        for host in ["", "a b", "example.com:port", "[::1", "example.com:65536", "user@example.com"] {
            assert_eq!(token(&valid().with("host", host)), Err(Rejection::Unauthorized), "{host:?}");
        }
        assert_eq!(token(&valid().without("host")), Err(Rejection::Unauthorized));
        assert_eq!(token(&valid().with("host", "[::1]:8080")), Ok(Some("abc".into())));
    }

    #[test]
    fn lets_in_only_allowed_origins() {
        let list = || Origins::List(vec!["https://example.com".into(), "http://localhost:3000".into()]);
        for (origins, host, origin, allowed) in [
            (Origins::Any, "example.com", "https://evil.example", true),
            (Origins::Any, "example.com", "null", true),
            (Origins::SameHost, "example.com", "https://example.com", true),
            (Origins::SameHost, "example.com", "http://example.com", true),
            (Origins::SameHost, "EXAMPLE.com", "https://example.com", true),
            (Origins::SameHost, "example.com:443", "https://example.com", true),
            (Origins::SameHost, "example.com:80", "http://example.com", true),
            (Origins::SameHost, "localhost:3000", "http://localhost:3000", true),
            (Origins::SameHost, "[::1]:3000", "http://[::1]:3000", true),
            (Origins::SameHost, "example.com:80", "https://example.com", false),
            (Origins::SameHost, "localhost:3000", "http://localhost:3001", false),
            (Origins::SameHost, "localhost:3000", "http://localhost", false),
            (Origins::SameHost, "example.com", "null", false),
            (Origins::SameHost, "example.com", "", false),
            (Origins::SameHost, "example.com", "example.com", false),
            (Origins::SameHost, "example.com", "file://", false),
            (Origins::SameHost, "example.com", "ftp://example.com", false),
            (Origins::SameHost, "example.com", "https://example.com.evil.example", false),
            (Origins::SameHost, "example.com", "https://evilexample.com", false),
            (Origins::SameHost, "example.com", "https://evil.example.com", false),
            (Origins::SameHost, "example.com", "https://example.com@evil.example", false),
            (Origins::SameHost, "example.com", "https://evil.example#example.com", false),
            (Origins::SameHost, "example.com", "https://example.com/", false),
            (Origins::SameHost, "example.com", "https://example.com, https://evil.example", false),
            (Origins::SameHost, "null", "null", false),
            (Origins::SameHost, "", "https://", false),
            (list(), "other.example", "https://example.com", true),
            (list(), "other.example", "http://localhost:3000", true),
            (list(), "example.com", "http://example.com", false),
            (list(), "example.com", "https://example.com:443", false),
            (list(), "example.com", "https://example.com/", false),
            (list(), "example.com", "https://EXAMPLE.com", false),
            (list(), "example.com", "https://example.com.evil.example", false),
            (list(), "example.com", "https://sub.example.com", false),
            (list(), "example.com", "null", false),
            (list(), "example.com", "", false),
            (Origins::List(vec!["null".into()]), "example.com", "null", true),
            (Origins::List(vec![]), "example.com", "https://example.com", false),
        ] {
            let head = valid().with("host", host).with("origin", origin);
            let expected = (!allowed).then_some(Rejection::ForbiddenOrigin);
            assert_eq!(check(&head, &with_origins(origins.clone())).err(), expected, "{origins:?} {host} {origin}");
        }
    }

    #[test]
    fn a_request_without_origin_passes_whatever_is_allowed() {
        for origins in [Origins::Any, Origins::SameHost, Origins::List(vec![])] {
            assert!(check(&valid(), &with_origins(origins)).is_ok());
        }
    }

    #[test]
    fn version_8_has_two_origin_headers_and_both_count() {
        let policy = with_origins(Origins::SameHost);
        let old = || valid().with("sec-websocket-version", "8");
        for (head, allowed) in [
            (old(), true),
            (old().with("sec-websocket-origin", "http://example.com"), true),
            (old().with("sec-websocket-origin", "http://evil.example"), false),
            (old().with("origin", "http://evil.example"), false),
            (old().with("sec-websocket-origin", "http://example.com").with("origin", "http://evil.example"), false),
            (valid().with("sec-websocket-origin", "http://evil.example"), true),
        ] {
            assert_eq!(check(&head, &policy).is_ok(), allowed, "{:?}", head.headers);
        }
    }

    #[test]
    fn an_upgrade_must_be_named_by_the_connection_header() {
        for (connection, expected) in [
            ("Upgrade", true),
            ("keep-alive, upgrade", true),
            ("keep-alive,UPGRADE ,x", true),
            ("keep-alive", false),
            ("upgraded", false),
            ("", false),
        ] {
            assert_eq!(valid().with("connection", connection).asks_for_upgrade(), expected, "{connection:?}");
        }
        assert!(!valid().without("upgrade").asks_for_upgrade());
        assert!(!valid().without("connection").asks_for_upgrade());
    }

    #[test]
    fn debug_output_holds_no_token() {
        let head = valid().with_target("/ws?token=s3cret").with("authorization", "Bearer s3cret");
        let shown = format!("{head:?}");
        assert!(shown.contains("/ws") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_huge_list_of_subprotocols_is_checked_in_linear_time() {
        let offers = (0..200_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(first_subprotocol(&offers), Some("0"));
        assert_eq!(first_subprotocol(&format!("{offers},0")), None);
    }

    proptest! {
        #[test]
        fn no_head_panics_and_no_answer_can_be_split(
            target in "(/ws\\?)?(token=)?.{0,40}",
            values in proptest::collection::vec("([ -~]{0,30}|.{0,20}|[a-z,; =\"\\\\0-9:\\[\\].%@\r\n-]{0,40})", 8),
        ) {
            let names = [
                "host", "origin", "authorization", "upgrade", "sec-websocket-protocol",
                "sec-websocket-extensions", "x-forwarded-for", "sec-websocket-version",
            ];
            let mut random = valid().with_target(&target);
            let mut nearly_valid = valid();
            for (name, value) in names.into_iter().zip(&values) {
                random = random.with(name, value);
                if matches!(name, "host" | "origin" | "sec-websocket-protocol" | "sec-websocket-extensions") {
                    nearly_valid = nearly_valid.with(name, value);
                }
            }
            for head in [random, nearly_valid] {
                let _ = token(&head);
                let _ = client_address(&head, [127, 0, 0, 1].into(), &TrustProxy::Hops(3));
                for origins in [Origins::Any, Origins::SameHost, Origins::List(vec![values[1].clone()])] {
                    let response = match check(&head, &with_origins(origins)) {
                        Ok(upgrade) => upgrade.response(),
                        Err(rejection) => rejection.response(),
                    };
                    let response = String::from_utf8(response).unwrap();
                    let (lines, _) = response.split_once("\r\n\r\n").unwrap();
                    for line in lines.split("\r\n") {
                        prop_assert!(!line.contains(['\r', '\n']), "{line:?}");
                    }
                    prop_assert!(lines.split("\r\n").count() <= 6);
                }
            }
        }
    }
}
