//! Tests of `head_reader`.

use proptest::prelude::*;

use super::*;

const HEAD: &[u8] = b"GET /ws?token=abc HTTP/1.1\r\nHost: example.com\r\nUPGRADE: websocket\r\nX-Empty:\r\n\r\n";

type Outcome = Result<Option<(RequestHead, Vec<u8>)>, HeadError>;

fn read(bytes: &[u8]) -> Outcome {
    HeadReader::default().push(bytes)
}

fn read_bytewise(bytes: &[u8]) -> Outcome {
    let mut reader = HeadReader::default();
    for (at, byte) in bytes.iter().enumerate() {
        match reader.push(&[*byte])? {
            Some((head, leftover)) => {
                assert_eq!(leftover, b"");
                return Ok(Some((head, bytes[at + 1..].to_vec())));
            }
            None => continue,
        }
    }
    Ok(None)
}

fn head_with(headers: &str) -> Result<RequestHead, HeadError> {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    read(request.as_bytes()).map(|complete| complete.expect("the head is complete").0)
}

#[test]
fn reads_a_head_cut_anywhere_and_keeps_what_follows() {
    let expected = RequestHead {
        method: "GET".into(),
        target: "/ws?token=abc".into(),
        headers: vec![
            ("host".into(), "example.com".into()),
            ("upgrade".into(), "websocket".into()),
            ("x-empty".into(), String::new()),
        ],
    };
    let follows = b"\x81\x80\r\n\r\nframes\r\n\r\n";
    let bytes = [HEAD, follows].concat();
    for cut in 0..=bytes.len() {
        let mut reader = HeadReader::default();
        let (first, second) = bytes.split_at(cut);
        let (head, leftover) = match reader.push(first).unwrap() {
            Some((head, leftover)) => {
                assert!(cut >= HEAD.len());
                (head, [&leftover, second].concat())
            }
            None => {
                assert!(cut < HEAD.len());
                reader.push(second).unwrap().unwrap()
            }
        };
        assert!(head == expected, "{:?}", head.headers);
        assert_eq!(leftover, follows, "cut at {cut}");
    }
    assert!(read_bytewise(&bytes).unwrap().unwrap() == (expected, follows.to_vec()));
}

#[test]
fn repeated_headers_are_joined_as_node_joins_them() {
    let head = head_with(
        "Authorization: x\r\nAuthorization: y\r\nUser-Agent: 1\r\nuser-agent: 2\r\n\
             Origin: o\r\nOrigin: p\r\nSec-WebSocket-Protocol: v1\r\nsec-websocket-protocol: v2,v3\r\n\
             X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nCookie: a=1\r\nCookie: b=2\r\n",
    )
    .unwrap();
    for (name, expected) in [
        ("host", "a"),
        ("authorization", "x"),
        ("user-agent", "1"),
        ("origin", "o, p"),
        ("sec-websocket-protocol", "v1, v2,v3"),
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("cookie", "a=1; b=2"),
    ] {
        assert_eq!(head.header(name), Some(expected), "{name}");
    }
    assert_eq!(head.headers.len(), 7);
}

#[test]
fn values_are_trimmed_and_their_bytes_kept() {
    let head = read(b"GET / HTTP/1.1\r\nHost:\r\nA: \t x y \t\r\nB:\xe9\xff\r\n\r\n").unwrap().unwrap().0;
    assert_eq!(head.header("a"), Some("x y"));
    assert_eq!(head.header("b"), Some("\u{e9}\u{ff}"));
}

#[test]
fn refuses_what_is_no_request() {
    for bytes in [
        &b"\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / x HTTP/1.1\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET / HTTP/1.1\r\nA b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"GET / HTTP/1.1\nA: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\n\nC: d\r\n\r\n",
        b"\n\nGET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    ] {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(read(bytes).err(), Some(HeadError::Malformed), "{shown:?}");
        assert_eq!(read_bytewise(bytes).err(), Some(HeadError::Malformed), "{shown:?}");
    }
}

#[test]
fn a_request_names_one_host() {
    let reads = |version: &str, headers: &str| {
        let request = format!("GET /ws HTTP/{version}\r\n{headers}\r\n");
        read(request.as_bytes()).map(|complete| complete.unwrap().0.header("host").map(str::to_owned))
    };
    for (headers, of_1_1, of_1_0) in [
        ("", Err(HeadError::Malformed), Ok(None)),
        ("Host: a\r\n", Ok(Some("a")), Ok(Some("a"))),
        ("Host:\r\n", Ok(Some("")), Ok(Some(""))),
        ("Host: [::1]:80\r\n", Ok(Some("[::1]:80")), Ok(Some("[::1]:80"))),
        ("Host: a\r\nhost: a\r\n", Err(HeadError::Malformed), Err(HeadError::Malformed)),
        ("HOST: a\r\nX: y\r\nHost: b\r\n", Err(HeadError::Malformed), Err(HeadError::Malformed)),
        ("Host: a b\r\n", Err(HeadError::Malformed), Err(HeadError::Malformed)),
        ("Host: a/b\r\n", Err(HeadError::Malformed), Err(HeadError::Malformed)),
        ("Host: u@a\r\n", Err(HeadError::Malformed), Err(HeadError::Malformed)),
    ] {
        assert_eq!(reads("1.1", headers), of_1_1.map(|host| host.map(str::to_owned)), "{headers:?}");
        assert_eq!(reads("1.0", headers), of_1_0.map(|host| host.map(str::to_owned)), "{headers:?}");
    }
}

#[test]
fn a_target_in_absolute_form_names_the_host_itself() {
    for (target, expected) in [
        ("http://example.com/ws?token=a", Some(("/ws?token=a", "example.com"))),
        ("HTTPS://example.com:8443/ws", Some(("/ws", "example.com:8443"))),
        ("http://[::1]:80/", Some(("/", "[::1]:80"))),
        ("http://example.com", Some(("/", "example.com"))),
        ("http://example.com?a=/b", Some(("/?a=/b", "example.com"))),
        ("http://", None),
        ("http:///ws", None),
        ("http://user@example.com/ws", None),
        ("http://a b/ws", None),
        ("ftp://example.com/ws", None),
        ("ws", None),
        ("example.com:80", None),
        ("?token=a", None),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: other.example\r\n\r\n");
        let read = read(request.as_bytes()).map(|complete| complete.unwrap().0);
        match (read, expected) {
            (Ok(head), Some((path, host))) => {
                assert_eq!((head.target.as_str(), head.header("host")), (path, Some(host)), "{target}");
            }
            (read, expected) => assert_eq!((read.err(), expected), (Some(HeadError::Malformed), None), "{target}"),
        }
    }
    // A host that is named twice, or not at all, is no better for it.
    assert!(read(b"GET http://a/ws HTTP/1.1\r\n\r\n").is_err());
    let asterisk = read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap().0;
    assert_eq!(asterisk.target, "*");
}

#[test]
fn an_upgrade_has_no_body() {
    let asks = |version: &str, upgrade: &str, headers: &str| {
        let request =
            format!("GET /ws HTTP/{version}\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n{headers}\r\n");
        read(request.as_bytes()).map(|complete| complete.unwrap().0.asks_for_websocket())
    };
    for (headers, expected) in [
        ("", Ok(true)),
        ("Content-Length: 0\r\n", Ok(true)),
        ("Content-Length: 4\r\n", Err(HeadError::Malformed)),
        ("content-length: 0\r\nContent-Length: 4\r\n", Err(HeadError::Malformed)),
        ("Content-Length: x\r\n", Err(HeadError::Malformed)),
        ("Content-Length: 0, 0\r\n", Err(HeadError::Malformed)),
        ("Transfer-Encoding: chunked\r\n", Err(HeadError::Malformed)),
    ] {
        assert_eq!(asks("1.1", "websocket", headers), expected, "{headers:?}");
        // Neither another protocol nor an older HTTP asks for one: then it is a request like others.
        assert_eq!(asks("1.1", "h2c", headers), Ok(false), "{headers:?}");
        assert_eq!(asks("1.0", "websocket", headers), Ok(false), "{headers:?}");
    }
}

#[test]
fn a_head_has_at_most_16_kibibytes() {
    let fixed = b"GET / HTTP/1.0\r\nA: \r\n\r\n".len();
    let of_length = |length: usize| format!("GET / HTTP/1.0\r\nA: {}\r\n\r\n", "x".repeat(length - fixed));
    let largest = of_length(MAX_HEAD_BYTES);
    let too_large = of_length(MAX_HEAD_BYTES + 1);
    assert!(read(largest.as_bytes()).unwrap().is_some());
    assert!(read_bytewise(largest.as_bytes()).unwrap().is_some());
    assert_eq!(read(too_large.as_bytes()).err(), Some(HeadError::TooLarge));
    assert_eq!(read_bytewise(too_large.as_bytes()).err(), Some(HeadError::TooLarge));
    assert_eq!(read(&[b'x'; 1_000_000]).err(), Some(HeadError::TooLarge));

    // What follows the head does not count, and comes back whole.
    let follows = vec![7; 200_000];
    let (_, leftover) = read(&[largest.as_bytes(), &follows].concat()).unwrap().unwrap();
    assert!(leftover == follows);
    let (_, leftover) = read(&[HEAD, &follows].concat()).unwrap().unwrap();
    assert!(leftover == follows);
}

#[test]
fn a_head_has_at_most_100_headers() {
    assert_eq!(head_with(&"A: b\r\n".repeat(99)).unwrap().header("a").map(str::len), Some(99 + 98 * 2));
    assert_eq!(head_with(&"A: b\r\n".repeat(100)).err(), Some(HeadError::TooLarge));
}

#[test]
fn dribbled_bytes_are_looked_at_once() {
    let mut reader = HeadReader::default();
    let mut pushed = 0;
    while reader.push(b"\r").is_ok() {
        pushed += 1;
        // Each push looks at its own byte and the three before it, whatever was collected.
        assert!(reader.bytes.len() == pushed && reader.bytes.capacity() <= 2 * MAX_HEAD_BYTES);
    }
    assert_eq!(pushed, MAX_HEAD_BYTES - 1);
}

#[test]
fn faults_are_answered_as_node_answers_them() {
    for (fault, response) in [
        (HeadError::Malformed, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
        (HeadError::TooSlow, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"),
        (HeadError::TooLarge, "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"),
    ] {
        assert_eq!(fault.response(), response.as_bytes());
    }
}

proptest! {
    #[test]
    fn portions_make_no_difference(
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
        headers in "([A-Za-z-]{1,8}: ?[ -~]{0,12}\r\n|[ -~\r\n]{0,20}){0,6}",
        cuts in proptest::collection::vec(1_usize..20, 1..20),
    ) {
        let bytes = [b"GET /ws HTTP/1.1\r\n", headers.as_bytes(), b"\r\n", &garbage].concat();
        for bytes in [&bytes, &garbage] {
            let mut reader = HeadReader::default();
            let mut rest = &bytes[..];
            let mut portions = cuts.iter().cycle();
            let mut outcome = Ok(None);
            while !rest.is_empty() && outcome == Ok(None) {
                let (portion, next) = rest.split_at(rest.len().min(*portions.next().unwrap()));
                outcome = reader.push(portion);
                rest = next;
            }
            if let Ok(Some((_, leftover))) = &mut outcome {
                leftover.extend_from_slice(rest);
            }
            prop_assert!(outcome == read(bytes));
        }
    }
}
