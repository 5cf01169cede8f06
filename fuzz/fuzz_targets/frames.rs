//! Any bytes as frames: in any portions the same messages and the same end, in bounded memory, and wherever
//! tungstenite reads a message without complaint, the same one.
#![no_main]

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use carillon::error::CloseReason;
use carillon::transport::assembler::{Assembler, Limits, Message};
use carillon::transport::deflate::Inflater;
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

fuzz_target!(|input: (bool, u8, &[u8])| {
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
