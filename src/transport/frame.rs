//! Heads of frames (RFC 6455 §5.2): tungstenite's codec, and every check it leaves to its caller. Pure.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::error::CloseReason;

/// The largest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL_PAYLOAD: u64 = 125;

/// The longest head of a masked frame.
pub const MAX_HEAD_BYTES: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Binary,
    Close,
    Continuation,
    Ping,
    Pong,
    Text,
}

impl Kind {
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The head of a frame from a client, found to be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub is_final: bool,
    /// RSV1: the first frame of a compressed message (RFC 7692 §6).
    pub is_compressed: bool,
    pub mask: [u8; 4],
    /// What the peer claims follows. Nothing is allocated by it.
    pub length: u64,
    /// Bytes the head itself takes.
    pub size: usize,
}

/// Reads a head from the beginning of `bytes`; `None` if it is not all there.
pub fn decode(bytes: &[u8], deflate: bool) -> Result<Option<Head>, CloseReason> {
    let mut cursor = Cursor::new(bytes);
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_reserved| CloseReason::ProtocolError)?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let kind = match header.opcode {
        OpCode::Control(Control::Close) => Kind::Close,
        OpCode::Control(Control::Ping) => Kind::Ping,
        OpCode::Control(Control::Pong) => Kind::Pong,
        OpCode::Data(Data::Binary) => Kind::Binary,
        OpCode::Data(Data::Continue) => Kind::Continuation,
        OpCode::Data(Data::Text) => Kind::Text,
        OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
            return Err(CloseReason::ProtocolError);
        }
    };
    let may_be_compressed = deflate && matches!(kind, Kind::Binary | Kind::Text);
    let is_control_in_order = !kind.is_control() || (header.is_final && length <= MAX_CONTROL_PAYLOAD);
    let is_in_order = !header.rsv2
        && !header.rsv3
        && (!header.rsv1 || may_be_compressed)
        && is_control_in_order
        && has_shortest_form(bytes, length);
    match header.mask {
        Some(mask) if is_in_order => Ok(Some(Head {
            kind,
            is_final: header.is_final,
            is_compressed: header.rsv1,
            mask,
            length,
            size: header.len(length),
        })),
        _ => Err(CloseReason::ProtocolError),
    }
}

/// The minimal number of bytes encodes the length, and its top bit is 0 (RFC 6455 §5.2).
fn has_shortest_form(bytes: &[u8], length: u64) -> bool {
    match bytes.get(1).map(|byte| byte & 0x7f) {
        Some(126) => length > 125,
        Some(127) => length > u64::from(u16::MAX) && length >> 63 == 0,
        _ => true,
    }
}

/// Undoes the masking (RFC 6455 §5.3) of bytes that begin `offset` bytes into their payload.
pub fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: u64) {
    let turn = (offset % 4) as u32;
    let word = u32::from_le_bytes(mask).rotate_right(8 * turn);
    let wide = u64::from(word) | (u64::from(word) << 32);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_le_bytes(*chunk) ^ wide).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> bool {
        decode(bytes, true) == Err(CloseReason::ProtocolError)
    }

    #[test]
    fn a_head_is_read_once_it_is_all_there() {
        let bytes = [0x81, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut], false), Ok(None), "{cut}");
        }
        let head =
            Head { kind: Kind::Text, is_final: true, is_compressed: false, mask: [1, 2, 3, 4], length: 256, size: 8 };
        assert_eq!(decode(&bytes, false), Ok(Some(head)));
    }

    #[test]
    fn violations_are_found() {
        assert!(fault(&[0x81, 0x00]), "unmasked");
        assert!(fault(&[0x83, 0x80, 0, 0, 0, 0]), "reserved opcode");
        assert!(fault(&[0x8b, 0x80, 0, 0, 0, 0]), "reserved control opcode");
        assert!(fault(&[0xa1, 0x80, 0, 0, 0, 0]), "RSV2");
        assert!(fault(&[0x91, 0x80, 0, 0, 0, 0]), "RSV3");
        assert!(fault(&[0x09, 0x80, 0, 0, 0, 0]), "fragmented control frame");
        assert!(fault(&[0x89, 0xfe, 0, 126, 0, 0, 0, 0]), "long control frame");
        assert!(fault(&[0x81, 0xfe, 0, 125, 0, 0, 0, 0]), "16 bits for what fits in 7");
        assert!(fault(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]), "64 bits for what fits in 16");
        assert!(fault(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), "top bit");
    }

    #[test]
    fn rsv1_marks_the_first_frame_of_a_message_and_nothing_else() {
        let with_rsv1 = |opcode: u8| [0xc0 | opcode, 0x80, 0, 0, 0, 0];
        for (opcode, allowed) in [(1, true), (2, true), (0, false), (8, false), (9, false), (10, false)] {
            assert_eq!(decode(&with_rsv1(opcode), true).is_ok(), allowed, "{opcode}");
            assert!(decode(&with_rsv1(opcode), false).is_err(), "{opcode}");
        }
    }

    #[test]
    fn lengths_at_their_boundaries_are_read() {
        for (length, encoded) in [
            (125_u64, vec![0xfd]),
            (126, vec![0xfe, 0, 126]),
            (65_535, vec![0xfe, 0xff, 0xff]),
            (65_536, vec![0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
            (1 << 31, vec![0xff, 0, 0, 0, 0, 0x80, 0, 0, 0]),
            (1 << 32, vec![0xff, 0, 0, 0, 1, 0, 0, 0, 0]),
            (u64::MAX >> 1, vec![0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let bytes = [&[0x82], encoded.as_slice(), &[9, 9, 9, 9]].concat();
            let head = decode(&bytes, false).expect("in order").expect("all there");
            assert_eq!((head.length, head.size), (length, bytes.len()));
        }
    }

    #[test]
    fn unmasking_does_not_depend_on_where_the_bytes_are_cut() {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let plain: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> = plain.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        for cut in 0..masked.len() {
            let mut bytes = masked.clone();
            let (first, second) = bytes.split_at_mut(cut);
            unmask(first, mask, 0);
            unmask(second, mask, cut as u64);
            assert_eq!(bytes, plain, "{cut}");
        }
    }
}
