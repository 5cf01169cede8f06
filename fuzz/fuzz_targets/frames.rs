//! Any bytes as frames: in any portions the same messages and the same end, in bounded memory, and wherever
//! tungstenite reads a message without complaint, the same one.
#![no_main]

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use carillon::error::CloseReason;
use carillon::transport::assembler::{Assembler, Limits, Message};
use carillon::transport::deflate::Inflater;
use carillon_fuzz::frame;
use libfuzzer_sys::fuzz_target;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, WebSocket};

const LIMITS: Limits = Limits { max_message: 4096, max_fragments: 64 };

#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    Binary(Vec<u8>),
    Close(Option<(u16, String)>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Text(String),
}

fuzz_target!(init: every_kind_is_heard(), |input: (bool, u8, &[u8])| {
    let (deflate, portion, bytes) = input;
    let whole = hear(bytes, bytes.len().max(1), deflate);
    assert_eq!(whole, hear(bytes, usize::from(portion) + 1, deflate));
    assert_eq!(whole, hear(bytes, 1, deflate));
    if !deflate {
        compare(&whole.0, whole.1, bytes);
    }
});

/// What is heard before a close frame, a violation or the end.
fn hear(bytes: &[u8], portion: usize, deflate: bool) -> (Vec<Heard>, Option<CloseReason>) {
    let mut assembler = Assembler::new(deflate);
    let mut inflater = Inflater::default();
    let mut heard = Vec::new();
    for part in bytes.chunks(portion) {
        let mut is_over = false;
        let result = assembler.push(&mut part.to_vec(), &LIMITS, &mut inflater, &mut |message| {
            heard.push(match message {
                Message::Binary(bytes) => Heard::Binary(bytes.to_vec()),
                Message::Close(close) => Heard::Close(close.map(|close| (close.code, close.reason.to_owned()))),
                Message::Ping(bytes) => Heard::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Heard::Pong(bytes.to_vec()),
                Message::Text(text) => Heard::Text(text.to_owned()),
            });
            is_over = matches!(heard.last(), Some(Heard::Close(_)));
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(assembler.heap_bytes() <= 4 * LIMITS.max_message + 1024);
        if let Err(reason) = result {
            return (heard, Some(reason));
        }
        if is_over {
            break;
        }
    }
    (heard, None)
}

/// Tungstenite allows some things we refuse, and finds bad UTF-8 at another moment: only what it hears before our
/// end is compared.
fn compare(heard: &[Heard], reason: Option<CloseReason>, bytes: &[u8]) {
    let config =
        WebSocketConfig::default().max_message_size(Some(LIMITS.max_message)).max_frame_size(Some(LIMITS.max_message));
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Server, Some(config));
    for ours in heard {
        let theirs = match socket.read() {
            Ok(tungstenite::Message::Binary(bytes)) => Heard::Binary(bytes.to_vec()),
            Ok(tungstenite::Message::Close(close)) => {
                let close = close.map(|close| (u16::from(close.code), close.reason.to_string()));
                // What it has no word for it replaces; that a close frame came is what counts.
                match ours {
                    Heard::Close(_) => return,
                    other => panic!("{other:?} against {close:?}"),
                }
            }
            Ok(tungstenite::Message::Ping(bytes)) => Heard::Ping(bytes.to_vec()),
            Ok(tungstenite::Message::Pong(bytes)) => Heard::Pong(bytes.to_vec()),
            Ok(tungstenite::Message::Text(text)) => Heard::Text(text.to_string()),
            Ok(tungstenite::Message::Frame(_)) => unreachable!("never read"),
            Err(failure) => panic!("we heard {ours:?}, it {failure:?}"),
        };
        assert_eq!(*ours, theirs);
    }
    if reason.is_none() {
        // We are waiting for more, so it must be, too: any further message would have been lost on us.
        match socket.read() {
            Ok(message) => panic!("it heard {message:?}, we nothing"),
            Err(tungstenite::Error::Io(_) | tungstenite::Error::Protocol(_)) => {}
            Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => {}
            Err(tungstenite::Error::Capacity(_) | tungstenite::Error::Utf8(_)) => {}
            Err(failure) => panic!("{failure:?}"),
        }
    }
}

/// Reads the bytes; takes whatever is written.
struct Wire<'b>(Cursor<&'b [u8]>);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Each kind of message, in one frame and in several, compressed or not, and each end.
fn every_kind_is_heard() {
    let text = |content: &str| Heard::Text(content.to_owned());
    let fragmented = [frame(0x01, b"b"), frame(0x89, b"c"), frame(0x80, b"d")].concat();
    let close = frame(0x88, &[&1000_u16.to_be_bytes(), b"g".as_slice()].concat());
    let conversation =
        [frame(0x81, b"a"), fragmented, frame(0x82, &[7; 200]), frame(0x8a, b"f"), close, frame(0x81, b"h")].concat();
    let expected = vec![
        text("a"),
        Heard::Ping(b"c".to_vec()),
        text("bd"),
        Heard::Binary(vec![7; 200]),
        Heard::Pong(b"f".to_vec()),
        Heard::Close(Some((1000, "g".to_owned()))),
    ];
    assert_eq!(hear(&conversation, 1, false), (expected, None));
    // RFC 7692 §7.2.3.1, and the same in two frames (§7.2.3.2).
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let compressed = [frame(0xc1, &hello), frame(0x41, &hello[..3]), frame(0x80, &hello[3..])].concat();
    assert_eq!(hear(&compressed, 1, true), (vec![text("Hello"), text("Hello")], None));
    for (bytes, deflate, code) in [
        (frame(0xf1, b""), false, 1002),
        (frame(0xc1, &hello), false, 1002),
        (frame(0x80, b""), false, 1002),
        (frame(0x81, &[0xff]), false, 1007),
        (frame(0xc1, &[0x06, 0, 0, 0]), true, 1007),
        (frame(0x82, &[0; 4097]), false, 1009),
        (frame(0x02, b"").into_iter().chain(frame(0, b"").repeat(64)).collect(), false, 1008),
    ] {
        let (heard, end) = hear(&bytes, 1, deflate);
        assert!(heard.is_empty());
        assert_eq!(end.map(CloseReason::code), Some(code), "{bytes:?}");
    }
}
