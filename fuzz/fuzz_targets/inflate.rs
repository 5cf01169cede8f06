//! Any bytes as a compressed message: never more than the limit, the same however often it is read, and what our own
//! deflater made of any bytes comes back.
#![no_main]

use carillon::error::CloseReason;
use carillon::transport::deflate::{Deflaters, Inflater, Negotiated, DeflatePolicy, negotiate};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u16, &[u8])| {
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
