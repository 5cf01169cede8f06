//! Requests good and bad, and the exact answers.

use proptest::prelude::*;

use super::*;
use crate::transport::forwarded::client_address;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// RFC 6455 §1.3.
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn policy() -> HandshakePolicy {
    HandshakePolicy { path: "/ws".into(), deflate: None, origins: Origins::Any }
}

fn with_origins(origins: Origins) -> HandshakePolicy {
    HandshakePolicy { origins, ..policy() }
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
        (
            Rejection::Unauthorized,
            "401 Unauthorized",
            "WWW-Authenticate: Bearer realm=\"websocket\"\r\n",
            "Unauthorized",
            "unauthorized",
        ),
        (Rejection::WrongPath, "400 Bad Request", "", "Bad Request", "wrong_path"),
        (
            Rejection::MethodNotAllowed,
            "405 Method Not Allowed",
            "Allow: GET\r\n",
            "Invalid HTTP method",
            "method_not_allowed",
        ),
        (Rejection::InvalidUpgrade, "400 Bad Request", "", "Invalid Upgrade header", "invalid_upgrade"),
        (Rejection::InvalidKey, "400 Bad Request", "", "Missing or invalid Sec-WebSocket-Key header", "invalid_key"),
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
        (
            Rejection::ConnectionLimit,
            "401 Unauthorized",
            "WWW-Authenticate: Bearer realm=\"websocket\"\r\n",
            "Unauthorized",
            "connection_limit",
        ),
        (
            Rejection::Unavailable { why: Unavailability::TooManyConnections, retry_after: None },
            "503 Service Unavailable",
            "",
            "Service Unavailable",
            "too_many_connections",
        ),
        (Rejection::ForbiddenOrigin, "403 Forbidden", "", "Forbidden", "forbidden_origin"),
        (Rejection::STOPPING, "503 Service Unavailable", "", "Service Unavailable", "stopping"),
        (
            Rejection::Unavailable { why: Unavailability::MemoryPressure, retry_after: Some(7) },
            "503 Service Unavailable",
            "Retry-After: 7\r\n",
            "Service Unavailable",
            "memory_pressure",
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
        b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\
          WWW-Authenticate: Bearer realm=\"websocket\"\r\n\r\nUnauthorized"
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
        (valid().with("upgrade", "websockets"), Some(Rejection::InvalidUpgrade)),
        (valid().with("upgrade", "websocket, h2c"), None),
        (valid().with("upgrade", "h2c , WEBSOCKET"), None),
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
        (valid().with("content-length", "5"), Some(Rejection::UnexpectedBody)),
        (valid().with("content-length", "0"), None),
        (valid().with("transfer-encoding", "chunked"), Some(Rejection::UnexpectedBody)),
        (valid().with("sec-websocket-version", "7"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "14"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "13, 13"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "nan"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "8"), None),
        (valid().with("sec-websocket-version", "013"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "13.0"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "1.3e1"), Some(Rejection::InvalidVersion)),
        (valid().with("sec-websocket-version", "+13"), Some(Rejection::InvalidVersion)),
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
fn a_refusal_may_be_a_connection_that_is_closed_at_once() {
    let head = valid().with("sec-websocket-protocol", "civic-engagement-v1");
    let upgrade = check(&head, &policy()).unwrap();
    for (rejection, code, text) in [
        (Rejection::Unauthorized, 4401_u16, "Unauthorized"),
        (Rejection::ForbiddenOrigin, 4403, "Forbidden"),
        (Rejection::ConnectionLimit, 4409, "Connection limit reached"),
        (Rejection::STOPPING, 4503, "Service unavailable"),
    ] {
        let payload = [&code.to_be_bytes(), text.as_bytes()].concat();
        let expected = [
            ACCEPTED.as_bytes(),
            b"Sec-WebSocket-Protocol: civic-engagement-v1\r\n\r\n",
            &[0x88, payload.len() as u8],
            &payload,
        ];
        assert_eq!(RejectionMode::Close.answer(&rejection, Some(&upgrade)), expected.concat(), "{rejection:?}");
        assert_eq!(RejectionMode::Close.answer(&rejection, None), rejection.response());
        assert_eq!(RejectionMode::Status.answer(&rejection, Some(&upgrade)), rejection.response());
    }
    for rejection in [
        Rejection::InvalidExtensions,
        Rejection::InvalidKey,
        Rejection::InvalidSubprotocol,
        Rejection::InvalidUpgrade,
        Rejection::InvalidVersion,
        Rejection::MethodNotAllowed,
        Rejection::WrongPath,
    ] {
        assert_eq!(RejectionMode::Close.answer(&rejection, Some(&upgrade)), rejection.response(), "{rejection:?}");
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
        ("/ws", "bearer abc", Some("abc")),
        ("/ws", "BEARER   abc", Some("abc")),
        ("/ws", "beareR \t abc\t", Some("abc")),
        ("/ws", "Bearerabc", Some("Bearerabc")),
        ("/ws", "Bearé abc", Some("Bearé abc")),
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
        assert_eq!(valid().with("connection", connection).asks_for_websocket(), expected, "{connection:?}");
    }
    for (upgrade, expected) in [
        ("websocket", true),
        ("WebSocket", true),
        ("h2c", false),
        ("h2c, websocket", true),
        ("websockets", false),
        ("", false),
    ] {
        assert_eq!(valid().with("upgrade", upgrade).asks_for_websocket(), expected, "{upgrade:?}");
    }
    assert!(!valid().without("upgrade").asks_for_websocket());
    assert!(!valid().without("connection").asks_for_websocket());
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
