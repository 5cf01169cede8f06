//! One outgoing message: encoded once, compressed once per window class, shared by all its receivers.
//!
//! Made by publishers, and for replies; shards write it to as many connections as they like. Compression happens
//! on the first shard that needs it, the others use its result.

use std::sync::{Arc, OnceLock};

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::transport::deflate::Deflaters;
use crate::transport::encoding::{Encoding, WindowClass};

#[derive(Debug)]
pub struct EncodedMessage {
    /// Head and payload.
    plain: Box<[u8]>,
    head_bytes: u8,
    content: Content,
    compressed: OnceLock<Box<Compressed>>,
}

type Compressed = [OnceLock<Box<[u8]>>; WindowClass::COUNT];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Binary,
    Control,
    /// Bytes that are no frame: the answer to the handshake.
    Raw,
    Text,
}

impl EncodedMessage {
    /// A text message. The caller vouches for UTF-8.
    pub fn text(payload: Vec<u8>) -> Arc<Self> {
        Self::single(Content::Text, OpCode::Data(Data::Text), &payload)
    }

    pub fn binary(payload: &[u8]) -> Arc<Self> {
        Self::single(Content::Binary, OpCode::Data(Data::Binary), payload)
    }

    pub fn ping() -> Arc<Self> {
        Self::single(Content::Control, OpCode::Control(Control::Ping), &[])
    }

    pub fn pong(payload: &[u8]) -> Arc<Self> {
        Self::single(Content::Control, OpCode::Control(Control::Pong), payload)
    }

    pub fn close(code: u16, reason: &str) -> Arc<Self> {
        let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
        Self::single(Content::Control, OpCode::Control(Control::Close), &payload)
    }

    pub fn close_empty() -> Arc<Self> {
        Self::single(Content::Control, OpCode::Control(Control::Close), &[])
    }

    /// Bytes that go on the wire as they are.
    pub fn raw(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            plain: bytes.into_boxed_slice(),
            head_bytes: 0,
            content: Content::Raw,
            compressed: OnceLock::new(),
        })
    }

    /// A text message of several parts, put together in one allocation.
    pub fn concat<'p>(
        prefix: &[u8],
        parts: impl Iterator<Item = &'p [u8]> + Clone,
        separator: u8,
        suffix: &[u8],
    ) -> Arc<Self> {
        let (count, total) = parts.clone().fold((0_usize, 0), |(count, total), part| (count + 1, total + part.len()));
        let length = prefix.len() + total + count.saturating_sub(1) + suffix.len();
        Self::build(Content::Text, OpCode::Data(Data::Text), length, |frame| {
            frame.extend_from_slice(prefix);
            for (index, part) in parts.enumerate() {
                if index > 0 {
                    frame.push(separator);
                }
                frame.extend_from_slice(part);
            }
            frame.extend_from_slice(suffix);
        })
    }

    pub fn payload(&self) -> &[u8] {
        self.plain.get(usize::from(self.head_bytes)..).unwrap_or_default()
    }

    /// Whether this is a message of the application, and not a control frame or a handshake.
    pub fn is_data(&self) -> bool {
        matches!(self.content, Content::Text | Content::Binary)
    }

    /// The bytes for the wire. Messages shorter than `threshold` are never compressed, nor is what is no data.
    pub fn frame(&self, encoding: Encoding, threshold: usize, deflaters: &mut Deflaters) -> &[u8] {
        let Encoding::Deflate(class) = encoding else { return &self.plain };
        if !self.is_data() || self.payload().len() < threshold {
            return &self.plain;
        }
        let compressed = self.compressed.get_or_init(Box::default);
        let Some(place) = compressed.get(class.index()) else { return &self.plain };
        place.get_or_init(|| self.compress(class, deflaters))
    }

    /// How long [`frame`](Self::frame) is, for a frame that has been made.
    pub fn encoded_len(&self, encoding: Encoding) -> usize {
        let made = match encoding {
            Encoding::Plain => None,
            Encoding::Deflate(class) => {
                self.compressed.get().and_then(|compressed| compressed.get(class.index())).and_then(OnceLock::get)
            }
        };
        made.unwrap_or(&self.plain).len()
    }

    pub fn heap_bytes(&self) -> usize {
        let compressed = self.compressed.get().map_or(0, |compressed| {
            let frames = compressed.iter().filter_map(OnceLock::get);
            size_of::<Compressed>() + frames.map(|frame| frame.len()).sum::<usize>()
        });
        self.plain.len() + compressed
    }

    fn compress(&self, class: WindowClass, deflaters: &mut Deflaters) -> Box<[u8]> {
        let Some(payload) = deflaters.deflate(class, self.payload()) else { return self.plain.clone() };
        let opcode = if self.content == Content::Binary { Data::Binary } else { Data::Text };
        let header = FrameHeader { opcode: OpCode::Data(opcode), rsv1: true, ..FrameHeader::default() };
        let mut frame = Vec::with_capacity(header.len(payload.len() as u64) + payload.len());
        // Writing into memory cannot fail.
        let _ = header.format(payload.len() as u64, &mut frame);
        frame.extend_from_slice(&payload);
        frame.into_boxed_slice()
    }

    fn single(content: Content, opcode: OpCode, payload: &[u8]) -> Arc<Self> {
        Self::build(content, opcode, payload.len(), |frame| frame.extend_from_slice(payload))
    }

    fn build(content: Content, opcode: OpCode, length: usize, write: impl FnOnce(&mut Vec<u8>)) -> Arc<Self> {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let head_bytes = header.len(length as u64);
        let mut frame = Vec::with_capacity(head_bytes + length);
        // Writing into memory cannot fail.
        let _ = header.format(length as u64, &mut frame);
        write(&mut frame);
        Arc::new(Self {
            plain: frame.into_boxed_slice(),
            // At most 10: a frame from a server is not masked.
            head_bytes: head_bytes as u8,
            content,
            compressed: OnceLock::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::deflate::{DeflatePolicy, Inflater, Negotiated, negotiate};

    fn encoding(bits: u8) -> Encoding {
        let offer = format!("permessage-deflate; server_max_window_bits={bits}");
        negotiate(&offer, &DeflatePolicy::FULL_RANGE)
            .ok()
            .flatten()
            .as_ref()
            .map_or(Encoding::Plain, Negotiated::encoding)
    }

    #[test]
    fn heads_are_of_the_shortest_form() {
        let mut deflaters = Deflaters::default();
        for (length, head) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xff, 0xff]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let message = EncodedMessage::text(vec![b'x'; length]);
            assert_eq!(message.frame(Encoding::Plain, 0, &mut deflaters), [head, vec![b'x'; length]].concat());
            assert_eq!(message.payload().len(), length);
        }
    }

    #[test]
    fn a_message_is_compressed_once_per_class_and_only_from_the_threshold_on() {
        let (mut one, mut other) = (Deflaters::default(), Deflaters::default());
        let message = EncodedMessage::text("abc".repeat(1000).into_bytes());
        let first = message.frame(encoding(10), 1024, &mut one).as_ptr();
        assert_eq!(message.frame(encoding(10), 1024, &mut other).as_ptr(), first);
        assert_ne!(message.frame(encoding(12), 1024, &mut other).as_ptr(), first);
        assert_eq!(message.frame(encoding(10), 3001, &mut one).len(), 3004);
        assert_eq!(message.encoded_len(encoding(10)), message.frame(encoding(10), 0, &mut one).len());
        assert_eq!(EncodedMessage::ping().frame(encoding(10), 0, &mut one), [0x89, 0]);
    }

    #[test]
    fn every_window_inflates_by_itself() {
        let mut deflaters = Deflaters::default();
        let mut inflater = Inflater::default();
        let text: String = (0..2000).map(|number| format!("{{\"n\":{number}}}")).collect();
        for bits in 9..=15 {
            for _ in 0..2 {
                let message = EncodedMessage::text(text.clone().into_bytes());
                let frame = message.frame(encoding(bits), 0, &mut deflaters);
                assert_eq!(frame.first(), Some(&0xc1));
                let head = if frame.len() > 4 + 65_535 { 10 } else { 4 };
                let payload = frame.get(head..).expect("a payload");
                assert_eq!(inflater.inflate(payload, 1 << 20), Ok(text.as_bytes()), "{bits}");
            }
        }
    }

    #[test]
    fn parts_are_put_together_exactly() {
        let parts: [&[u8]; 3] = [b"1", b"", b"33"];
        let message = EncodedMessage::concat(b"[", parts.iter().copied(), b',', b"]");
        assert_eq!(message.payload(), b"[1,,33]");
        assert_eq!(EncodedMessage::concat(b"[", std::iter::empty(), b',', b"]").payload(), b"[]");
    }

    #[test]
    fn a_message_is_one_buffer_of_its_exact_size_until_it_is_compressed() {
        assert!(size_of::<EncodedMessage>() <= 40 && size_of::<Encoding>() <= 2);
        let part = vec![b'x'; 1000];
        let message = EncodedMessage::concat(b"[", [part.as_slice(); 3].into_iter(), b',', b"]");
        assert_eq!(message.heap_bytes(), 4 + 3004);
        let mut deflaters = Deflaters::default();
        let compressed = message.frame(encoding(10), 0, &mut deflaters).len();
        assert_eq!(message.encoded_len(encoding(10)), compressed);
        assert_eq!(message.encoded_len(encoding(11)), 3008, "not made yet");
        assert_eq!(message.heap_bytes(), 3008 + compressed + size_of::<Compressed>());
    }

    #[test]
    fn the_threshold_is_the_first_length_to_be_compressed() {
        let mut deflaters = Deflaters::default();
        for (length, first) in [(1023, 0x81), (1024, 0xc1)] {
            let message = EncodedMessage::text(vec![b'x'; length]);
            assert_eq!(message.frame(encoding(10), 1024, &mut deflaters).first(), Some(&first), "{length}");
            assert_eq!(message.frame(Encoding::Plain, 1024, &mut deflaters).first(), Some(&0x81));
        }
        let message = EncodedMessage::binary(&[0; 1024]);
        assert_eq!(message.frame(encoding(10), 1024, &mut deflaters).first(), Some(&0xc2));
        for message in [
            EncodedMessage::pong(&[0; 125]),
            EncodedMessage::close(1000, &"x".repeat(123)),
            EncodedMessage::raw(vec![0; 2000]),
        ] {
            let plain = message.frame(Encoding::Plain, 0, &mut deflaters).to_vec();
            assert_eq!(message.frame(encoding(10), 0, &mut deflaters), plain);
        }
    }

    #[test]
    fn shards_that_need_a_message_at_once_share_one_compression() {
        let message = EncodedMessage::text(b"{\"n\":1},".repeat(5000));
        let frames: Vec<usize> = std::thread::scope(|scope| {
            let shard = || message.frame(encoding(10), 1024, &mut Deflaters::default()).as_ptr().addr();
            let shards: Vec<_> = (0..4).map(|_| scope.spawn(shard)).collect();
            shards.into_iter().map(|shard| shard.join().expect("no panic")).collect()
        });
        assert!(frames.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn close_frames_carry_code_and_reason() {
        let mut deflaters = Deflaters::default();
        assert_eq!(
            EncodedMessage::close(1001, "bye").frame(Encoding::Plain, 0, &mut deflaters),
            b"\x88\x05\x03\xe9bye"
        );
        assert_eq!(EncodedMessage::close_empty().frame(Encoding::Plain, 0, &mut deflaters), b"\x88\x00");
    }
}
