//! Any bytes as the head of a request: read whole and in two portions with the same outcome, then judged.
#![no_main]

use carillon::transport::deflate;
use carillon::transport::handshake::{self, Origins, Policy, TrustProxy};
use carillon::transport::head_reader::HeadReader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let whole = HeadReader::default().push(bytes);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut reader = HeadReader::default();
    let parts = match reader.push(first) {
        Ok(None) => reader.push(second),
        Ok(Some((head, leftover))) => Ok(Some((head, [&leftover, second].concat()))),
        Err(fault) => Err(fault),
    };
    match (&whole, &parts) {
        (Ok(Some((head, leftover))), Ok(Some((other, also)))) => {
            assert!(head == other && leftover == also);
            assert!(bytes.ends_with(leftover));
        }
        (Ok(None), Ok(None)) => {}
        (Err(one), Err(other)) => assert_eq!(one, other),
        _ => panic!("whole and cut at {cut} differ"),
    }
    let Ok(Some((head, _))) = whole else { return };
    for origins in [Origins::Any, Origins::SameHost, Origins::List(vec!["https://a.example".into()])] {
        let policy = Policy { path: "/ws".into(), deflate: Some(deflate::Policy::FULL_RANGE), origins };
        let response = match handshake::check(&head, &policy) {
            Ok(upgrade) => upgrade.response(),
            Err(rejection) => rejection.response(),
        };
        // Nothing a peer sends adds a line.
        let head_end = response.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let lines = response[..head_end].split(|byte| *byte == b'\n').count();
        assert!(lines <= 6, "{}", String::from_utf8_lossy(&response));
    }
    let _ = handshake::token(&head);
    let everywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|range| range.parse().ok()).collect();
    for trusted in [TrustProxy::Hops(0), TrustProxy::Hops(32), TrustProxy::Networks(everywhere)] {
        let _ = handshake::client_address(&head, std::net::IpAddr::from([127, 0, 0, 1]), &trusted);
    }
});
