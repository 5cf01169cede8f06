//! A client that can do everything wrong: it sends the bytes it is given and shows the frames it gets.

use std::io::{self, Write};
use std::net::SocketAddr;

use flate2::{Compression, Decompress, FlushDecompress, write::DeflateEncoder};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{patiently, token};

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
/// Marks a compressed message.
pub const RSV1: u8 = 0x40;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub struct Client<S = TcpStream> {
    pub stream: S,
    unread: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, RSV bits and opcode as they came.
    pub first: u8,
    pub payload: Vec<u8>,
}

/// A masked frame in its shortest form.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = match payload.len() {
        length @ 0..=125 => vec![first, 0x80 | length as u8],
        length @ 126..=0xffff => [&[first, 0xfe], (length as u16).to_be_bytes().as_slice()].concat(),
        length => [&[first, 0xff], (length as u64).to_be_bytes().as_slice()].concat(),
    };
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub fn text(payload: &str) -> Vec<u8> {
    frame(TEXT, payload.as_bytes())
}

pub fn binary(payload: &[u8]) -> Vec<u8> {
    frame(BINARY, payload)
}

pub fn ping(payload: &[u8]) -> Vec<u8> {
    frame(PING, payload)
}

pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The payload of a compressed message (RFC 7692 §7.2.1).
pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(payload).unwrap();
    encoder.flush().unwrap();
    let mut bytes = encoder.get_ref().clone();
    assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]));
    bytes.truncate(bytes.len() - 4);
    bytes
}

/// An upgrade request; `headers` are whole lines.
pub fn request(target: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// The request of this user.
pub fn request_of(user: &str, headers: &str) -> Vec<u8> {
    request(&format!("/ws?token={}", token(user)), headers)
}

impl Client {
    /// A connection that has said nothing yet.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = patiently(TcpStream::connect(address)).await.expect("the port is open");
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// A connection with a receive buffer so small that not reading soon shows.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = patiently(socket.connect(address)).await.expect("the port is open");
        Self { stream, unread: Vec::new() }
    }

    /// Through the handshake and the greeting.
    pub async fn join(address: SocketAddr, user: &str, headers: &str) -> Self {
        Self::connect(address).await.enter(user, headers).await
    }

    pub async fn enter(mut self, user: &str, headers: &str) -> Self {
        self.send(&request_of(user, headers)).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(self.json().await["type"], "connected");
        self
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        patiently(self.stream.write_all(bytes)).await.expect("the peer takes it");
    }

    /// Sends as much as the peer takes before it goes.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        patiently(self.stream.write_all(bytes)).await
    }

    pub async fn send_json(&mut self, message: &Value) {
        self.send(&text(&message.to_string())).await;
    }

    pub async fn subscribe(&mut self, bill: u64) {
        self.send_json(&json!({ "type": "subscribe", "data": { "bill_id": bill } })).await;
        assert_eq!(self.json().await["type"], "subscribed");
    }

    /// Asks for a sign of life and waits for it: everything sent before has been dealt with then.
    pub async fn is_served(&mut self) {
        self.send_json(&json!({ "type": "ping" })).await;
        assert_eq!(self.json().await["type"], "pong");
    }

    /// The status of the answer, and then the end.
    pub async fn refusal(&mut self) -> u16 {
        let head = self.head().await;
        self.stream.shutdown().await.unwrap();
        while self.fill().await {}
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Completes a close that the service began.
    pub async fn completes_close(&mut self, code: u16) {
        assert_eq!(self.closed().await.0, code);
        self.send(&close(code, "")).await;
        self.ends().await;
    }

    /// Apart what reads from what writes. The reader keeps the connection's buffers.
    pub fn split(self) -> (Client<OwnedReadHalf>, OwnedWriteHalf) {
        let (stream, writer) = self.stream.into_split();
        (Client { stream, unread: self.unread }, writer)
    }

    /// Ends the stream with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
}

impl<S: AsyncRead + Unpin> Client<S> {
    /// The head of the answer to the handshake.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                return String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
            }
            assert!(self.fill().await, "the stream ended within the head: {:?}", self.unread);
        }
    }

    pub async fn frame(&mut self) -> Frame {
        self.next().await.expect("a frame comes")
    }

    /// The next frame; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next message, which must be text; inflated if it came compressed.
    pub async fn json(&mut self) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame.first & !RSV1, TEXT, "{frame:?}");
        serde_json::from_slice(&frame.content()).expect("JSON")
    }

    /// Reads on until the close frame, and returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().await;
            if frame.first == CLOSE {
                return frame.close_reason();
            }
        }
    }

    /// The next byte, whatever it belongs to; `None` at the end of the stream.
    pub async fn next_byte(&mut self) -> Option<u8> {
        if self.unread.is_empty() {
            self.fill().await;
        }
        (!self.unread.is_empty()).then(|| self.unread.remove(0))
    }

    /// Nothing but the end of the stream comes.
    pub async fn ends(&mut self) {
        assert_eq!(self.next().await, None);
    }

    /// The peer ends the connection with this code, and with nothing after its close frame.
    pub async fn is_closed_with(&mut self, code: u16) {
        assert_eq!(self.closed().await.0, code);
        self.ends().await;
    }

    /// `false` at the end of the stream; a reset is an end, too.
    async fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match patiently(self.stream.read(&mut bytes)).await {
            Ok(count) => {
                self.unread.extend_from_slice(&bytes[..count]);
                count > 0
            }
            Err(_reset) => false,
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let [first, second, rest @ ..] = self.unread.as_slice() else { return None };
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length, head) = match second {
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).unwrap(), 10),
            short => (usize::from(*short), 2),
        };
        let payload = self.unread.get(head..head + length)?.to_vec();
        let frame = Frame { first: *first, payload };
        self.unread.drain(..head + length);
        Some(frame)
    }
}

impl Frame {
    /// The payload, inflated if need be.
    pub fn content(&self) -> Vec<u8> {
        if self.first & RSV1 == 0 {
            return self.payload.clone();
        }
        let mut content = Vec::with_capacity(16 * 1024 * 1024);
        let input = [self.payload.as_slice(), &[0, 0, 0xff, 0xff]].concat();
        Decompress::new(false).decompress_vec(&input, &mut content, FlushDecompress::Sync).expect("it inflates");
        content
    }

    pub fn close_reason(&self) -> (u16, String) {
        let (code, reason) = self.payload.split_first_chunk().expect("a code");
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
    }
}
