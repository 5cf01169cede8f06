//! Any bytes as a compressed message: never more than the limit, the same however often it is read, and what our own
//! deflater made of any bytes comes back.
#![no_main]

use carillon::error::CloseReason;
use carillon::transport::deflate::{DeflatePolicy, Deflaters, Inflater, Negotiated, negotiate};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: every_end_is_reached(), |input: (u8, u16, &[u8])| {
    let (bits, max, bytes) = input;
    let max = usize::from(max);
    let mut inflater = Inflater::default();
    let first = inflater.inflate(bytes, max).map(<[u8]>::to_vec);
    match &first {
        Ok(message) => assert!(message.len() <= max),
        Err(reason) => assert!(matches!(reason, CloseReason::InvalidData | CloseReason::MessageTooBig)),
    }
    assert!(inflater.heap_bytes() <= 4 * max + 64 * 1024);
    // No message leaves anything for the next.
    assert_eq!(inflater.inflate(bytes, max).map(<[u8]>::to_vec), first);

    let offer = format!("permessage-deflate; server_max_window_bits={}", 9 + bits % 7);
    let negotiated = negotiate(&offer, &DeflatePolicy::FULL_RANGE).ok().flatten();
    let encoding = negotiated.as_ref().map_or(Encoding::Plain, Negotiated::encoding);
    let message = EncodedMessage::binary(bytes);
    let mut deflaters = Deflaters::default();
    let frame = message.frame(encoding, 0, &mut deflaters);
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    assert_eq!(inflater.inflate(&frame[head..], bytes.len()), Ok(bytes));
    if !bytes.is_empty() {
        assert_eq!(inflater.inflate(&frame[head..], bytes.len() - 1), Err(CloseReason::MessageTooBig));
    }
});

/// Blocks of each kind (RFC 1951 §3.2.3), and each fault.
fn every_end_is_reached() {
    let mut inflater = Inflater::default();
    // RFC 7692 §7.2.3: fixed codes, a block that is stored, a block that is marked as the last one.
    let fixed: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored: &[u8] = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    for message in [fixed, stored, last] {
        assert_eq!(inflater.inflate(message, 5), Ok(b"Hello".as_slice()));
        assert_eq!(inflater.inflate(message, 4), Err(CloseReason::MessageTooBig));
    }
    // Codes of its own: what our deflater makes of a text with few different bytes.
    let negotiated = negotiate("permessage-deflate", &DeflatePolicy::FULL_RANGE).ok().flatten().expect("accepted");
    let text: Vec<u8> = (0..4000_usize).map(|index| b'a' + (index * index % 7) as u8).collect();
    let message = EncodedMessage::binary(&text);
    let mut deflaters = Deflaters::default();
    let frame = message.frame(negotiated.encoding(), 0, &mut deflaters);
    assert_ne!(frame[0] & 0x40, 0, "compressed");
    assert!(frame.len() < text.len() / 2, "{}", frame.len());
    // A kind of block that there is not, and one that ends too early.
    assert_eq!(inflater.inflate(&[0x06, 0, 0, 0], 100), Err(CloseReason::InvalidData));
    assert_eq!(inflater.inflate(&[0x00, 0x05, 0x00, 0x00, 0x00], 100), Err(CloseReason::InvalidData));
}
