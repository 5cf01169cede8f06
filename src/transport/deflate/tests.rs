use proptest::prelude::*;

use super::*;

const FIXED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10";

fn answer(header: &str) -> Result<Option<String>, Unacceptable> {
    negotiate(header, &DeflatePolicy::SERVICE).map(|accepted| accepted.map(|accepted| accepted.response()))
}

#[test]
fn offers_are_answered_as_the_table_says() {
    let plain = Ok(Some(FIXED.to_owned()));
    let echoed = |bits: u8| Ok(Some(format!("{FIXED}; client_max_window_bits={bits}")));
    for (offer, expected) in [
        ("permessage-deflate", plain.clone()),
        ("permessage-deflate; client_max_window_bits", plain.clone()),
        ("permessage-deflate;client_max_window_bits=12", echoed(12)),
        ("permessage-deflate; client_max_window_bits=\"9\"", echoed(9)),
        ("permessage-deflate; server_max_window_bits=10", plain.clone()),
        ("permessage-deflate; server_max_window_bits=15", plain.clone()),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", plain.clone()),
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate", plain.clone()),
        ("x-unknown; a=1, permessage-deflate", plain.clone()),
        ("x-unknown", Ok(None)),
        ("x-unknown; a; b=\"c\", y", Ok(None)),
        ("permessage-deflate; server_max_window_bits=8", Err(Unacceptable)),
        ("permessage-deflate; server_max_window_bits=9", Err(Unacceptable)),
    ] {
        assert_eq!(answer(offer), expected, "{offer}");
    }
}

#[test]
fn what_is_malformed_or_unknown_is_refused() {
    for offer in [
        "",
        ",",
        "permessage-deflate,",
        "permessage-deflate;",
        "permessage-deflate; ",
        " permessage-deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; server_max_window_bits=\"\"",
        "permessage-deflate; server_max_window_bits=\"10",
        "permessage-deflate; server_max_window_bits =10",
        "permessage-deflate; server_max_window_bits= 10",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=1e1",
        "permessage-deflate; client_max_window_bits=99999999999999999999",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate; a=b, \u{e9}",
        "permessage-deflate, permessage-deflate; unknown",
    ] {
        assert_eq!(answer(offer), Err(Unacceptable), "{offer:?}");
    }
}

#[test]
fn the_full_range_gives_what_is_asked_for() {
    for bits in 9..=15_u8 {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        let accepted = negotiate(&offer, &DeflatePolicy::FULL_RANGE).expect("acceptable").expect("offered");
        assert_eq!(accepted.encoding(), Encoding::Deflate(WindowClass::new(bits)));
        assert!(accepted.response().contains(&format!("server_max_window_bits={bits}")));
    }
    assert_eq!(
        negotiate("permessage-deflate; server_max_window_bits=8", &DeflatePolicy::FULL_RANGE),
        Err(Unacceptable)
    );
}

#[test]
fn huge_headers_take_linear_time() {
    let offer = format!("{}permessage-deflate", "a;b=\"c\", ".repeat(200_000));
    assert_eq!(answer(&offer), Ok(Some(FIXED.to_owned())));
    assert_eq!(answer(&"a".repeat(1 << 20)), Ok(None));
    assert_eq!(answer(&format!("a{}", "; \t".repeat(1 << 20))), Err(Unacceptable));
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    deflated_in(15, payload)
}

fn deflated_in(bits: u8, payload: &[u8]) -> Vec<u8> {
    Deflaters::default().deflate(WindowClass::new(bits), payload).expect("room to write")
}

/// Bytes that cannot be compressed.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn words(bytes: usize) -> Vec<u8> {
    noise(bytes).iter().flat_map(|number| format!("\"word{number}\",").into_bytes()).take(bytes).collect()
}

#[test]
fn a_bomb_stops_at_the_limit_and_costs_no_more_than_it() {
    let bomb = deflated(&vec![0; 10_000_000]);
    assert!(bomb.len() < 200_000);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&bomb, 102_400), Err(CloseReason::MessageTooBig));
    assert_eq!(inflater.heap_bytes(), 0, "a refused message keeps nothing");
    // Flat: as many as one likes, and never more than the limit and what is kept anyway.
    for max in [0, 1, 1000, KEPT_BYTES, 102_400] {
        assert_eq!(inflater.inflate(&bomb, max), Err(CloseReason::MessageTooBig));
        assert!(inflater.heap_bytes() <= KEPT_BYTES);
        let whole = deflated(&vec![0; max]);
        assert_eq!(inflater.inflate(&whole, max).map(<[u8]>::len), Ok(max));
        assert!(inflater.heap_bytes() <= (max + 1).max(KEPT_BYTES), "{} for {max}", inflater.heap_bytes());
        inflater.forget_room();
        assert!(inflater.heap_bytes() <= KEPT_BYTES);
    }
}

#[test]
fn a_limit_that_is_none_overflows_nothing() {
    let mut inflater = Inflater::default();
    let payload = words(100_000);
    assert_eq!(inflater.inflate(&deflated(&payload), usize::MAX), Ok(payload.as_slice()));
}

#[test]
fn a_message_that_breaks_off_is_invalid_wherever_it_does() {
    let mut inflater = Inflater::default();
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    for whole in [deflated(&words(2000)), deflated(&noise(600)), deflated(b"Hello"), stored.to_vec()] {
        assert!(inflater.inflate(&whole, 10_000).is_ok());
        // The head of a stored block alone is an empty message.
        for length in if whole[0] == 0 { 2 } else { 1 }..whole.len() {
            assert_eq!(inflater.inflate(&whole[..length], 10_000), Err(CloseReason::InvalidData), "{length}");
        }
    }
}

#[test]
fn windows_are_as_large_as_agreed_and_no_larger() {
    // Noise that comes twice is worth a reference, if the window reaches from one to the other.
    let noise = noise(1 << 16);
    let is_found = |bits: u8, distance: usize| {
        let payload = [&noise[..distance], &noise[..200]].concat();
        let alone = deflated_in(bits, &noise[..distance]).len();
        deflated_in(bits, &payload).len() < alone + 100
    };
    for bits in 9..=15_u8 {
        let window = 1_usize << bits;
        // zlib keeps 262 bytes of its window for itself.
        for distance in [200, window - 262] {
            assert!(is_found(bits, distance), "{distance} bytes with {bits} bits");
        }
        for distance in [window + 1, window + 100, 2 * window] {
            assert!(!is_found(bits, distance), "{distance} bytes with {bits} bits");
        }
    }
}

#[test]
fn every_length_is_deflated_whole() {
    // What cannot be compressed fills the first guess of the output exactly for some of these.
    let noise = noise(700);
    let (mut deflaters, mut inflater) = (Deflaters::default(), Inflater::default());
    for length in 0..noise.len() {
        let payload = &noise[..length];
        let bytes = deflaters.deflate(WindowClass::new(10), payload).expect("room to write");
        assert_eq!(inflater.inflate(&bytes, 1000), Ok(payload), "{length}");
    }
}

#[test]
fn the_limit_itself_is_fine() {
    let mut inflater = Inflater::default();
    for (length, max, fits) in [(1000, 1000, true), (1001, 1000, false), (0, 0, true), (1, 0, false)] {
        let payload = vec![b'x'; length];
        assert_eq!(inflater.inflate(&deflated(&payload), max).is_ok(), fits, "{length} of {max}");
    }
}

#[test]
fn final_blocks_stored_blocks_and_nothing_inflate() {
    let mut inflater = Inflater::default();
    // RFC 7692 §7.2.3.1 to §7.2.3.5.
    for (payload, expected) in [
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "Hello"),
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], "Hello"),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "Hello"),
        (&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], "Hello"),
        (&[0x00], ""),
        (&[0x01], ""),
        (&[], ""),
    ] {
        assert_eq!(inflater.inflate(payload, 100), Ok(expected.as_bytes()));
    }
}

#[test]
fn a_wrong_byte_anywhere_costs_the_message_at_most() {
    let payload: String = (0..300).map(|number| format!("{{\"n\":{number}}},")).collect();
    let whole = deflated(payload.as_bytes());
    let mut inflater = Inflater::default();
    for position in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[position] ^= flip;
            if let Ok(bytes) = inflater.inflate(&broken, 10_000) {
                assert!(bytes.len() <= 10_000);
            }
        }
        assert_eq!(inflater.inflate(&whole, 10_000), Ok(payload.as_bytes()), "what came before leaves nothing behind");
    }
}

proptest! {
    #[test]
    fn no_header_is_too_strange(header in "[a-z;,= \t\"\\\\0-9_-]{0,80}") {
        let _ = answer(&header);
        let _ = answer(&format!("permessage-deflate; {header}"));
    }

    #[test]
    fn what_is_deflated_inflates(payload in prop::collection::vec(any::<u8>(), 0..5000), bits in 9..=15_u8) {
        let bytes = deflated_in(bits, &payload);
        let mut inflater = Inflater::default();
        prop_assert_eq!(inflater.inflate(&bytes, 5000), Ok(payload.as_slice()));
    }

    #[test]
    fn no_bytes_inflate_beyond_the_limit(payload in prop::collection::vec(any::<u8>(), 0..500)) {
        let mut inflater = Inflater::default();
        if let Ok(bytes) = inflater.inflate(&payload, 1000) {
            prop_assert!(bytes.len() <= 1000);
        }
    }
}
