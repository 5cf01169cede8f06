//! The little of RFC 6455 that a load generator and a floor need: frame headers, masking, the opening handshake.
//!
//! Pure functions over bytes; called by the generator for its connections and by the peers for theirs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;
/// Any key satisfies the protocol; a fixed one costs no random numbers.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub opcode: u8,
    pub compressed: bool,
    pub mask: Option<[u8; 4]>,
    /// Of the header itself, in bytes.
    pub length: usize,
    pub payload: usize,
}

/// The header at the beginning of `bytes`, once all of it is there.
pub fn header(bytes: &[u8]) -> Option<Header> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (mut length, payload) = match second & 0x7f {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    let mask = if second & MASKED == 0 {
        None
    } else {
        let key = bytes.get(length..length + 4)?.try_into().ok()?;
        length += 4;
        Some(key)
    };
    Some(Header { opcode: first & 0x0f, compressed: first & RSV1 != 0, mask, length, payload })
}

/// A frame as servers send it.
pub fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = begin(opcode, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// A frame as clients send it.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = begin(opcode, MASKED, payload.len());
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// The request that opens a connection.
pub fn request(target: &str, deflate: bool) -> String {
    let extensions = if deflate {
        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
    } else {
        ""
    };
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{extensions}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// The answer to `request`, as a peer gives it.
pub fn acceptance(request: &str) -> Option<String> {
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    })?;
    let accept = STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize());
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ))
}

fn begin(opcode: u8, masked: u8, length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length + 14);
    frame.push(FIN | opcode);
    match length {
        0..126 => frame.push(masked | length as u8),
        126..65_536 => {
            frame.push(masked | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_read_back() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let text = vec![b'a'; length];
            let mut frame = client_frame(TEXT, &text);
            let head = header(&frame).unwrap();
            assert_eq!((head.opcode, head.payload, frame.len()), (TEXT, length, head.length + length));
            unmask(&mut frame[head.length..], head.mask.unwrap());
            assert_eq!(&frame[head.length..], &text);
        }
    }

    #[test]
    fn a_header_is_not_read_before_it_is_whole() {
        let frame = server_frame(TEXT, &[b'a'; 70_000]);
        for end in 0..10 {
            assert_eq!(header(&frame[..end]), None);
        }
        assert_eq!(header(&frame[..10]).unwrap().payload, 70_000);
    }

    #[test]
    fn the_key_of_the_rfc_is_accepted_as_in_the_rfc() {
        assert!(acceptance(&request("/ws", false)).unwrap().contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }
}
