//! A client's end of one connection: opens it, writes, records what comes, closes it.
//!
//! Blocking. Owned by the thread that runs its case. Everything that arrives after the handshake is recorded in its
//! order until the stream ends, so that a frame too many shows as much as one that is missing.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::case::Target;
use crate::wire::{BINARY, CLOSE, CONTINUATION, Deflate, Frame, Offer, PING, PONG, TEXT, read_head};

/// The key of RFC 6455 §1.3, and what it has to be answered with.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const MAX_HEAD: usize = 64 * 1024;

#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    Message {
        is_text: bool,
        payload: Vec<u8>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Time in which the connection had to stay open, and did.
    Pause(char),
}

impl Event {
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::Message { is_text: true, payload: payload.into() }
    }

    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::Message { is_text: false, payload: payload.into() }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, payload) = match self {
            Self::Message { is_text: true, payload } => ("text", payload),
            Self::Message { is_text: false, payload } => ("binary", payload),
            Self::Ping(payload) => ("ping", payload),
            Self::Pong(payload) => ("pong", payload),
            Self::Pause(name) => return write!(formatter, "pause {name}"),
        };
        let shown = String::from_utf8_lossy(payload.get(..24).unwrap_or(payload));
        write!(formatter, "{name} of {}: {shown:?}", payload.len())
    }
}

/// How the request reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    Alone,
    /// In one piece with the frames that follow.
    WithFrames,
    ByteByByte,
}

pub struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
    deflate: Option<Deflate>,
    /// The message of which fragments have come: its first byte and its payload.
    partial: Option<(u8, Vec<u8>)>,
    events: Vec<Event>,
    has_sent_close: bool,
    closed_by_client: bool,
    /// The server's close frame, and its code.
    close: Option<Option<u16>>,
    has_ended: bool,
    was_left_open: bool,
    violation: Option<String>,
}

impl Peer {
    /// # Errors
    /// Why the connection did not come to be open.
    pub fn open(target: &Target, offer: &Offer, opening: Opening, early: &[u8]) -> Result<Self, String> {
        let fail = |failure: std::io::Error| failure.to_string();
        let stream = TcpStream::connect(&target.address).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        stream.set_write_timeout(Some(target.patience)).map_err(fail)?;
        let mut peer = Self {
            stream,
            unread: Vec::new(),
            deflate: None,
            partial: None,
            events: Vec::new(),
            has_sent_close: false,
            closed_by_client: false,
            close: None,
            has_ended: false,
            was_left_open: false,
            violation: None,
        };
        let extensions = match offer.0.as_str() {
            "" => String::new(),
            offer => format!("Sec-WebSocket-Extensions: {offer}\r\n"),
        };
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Version: 13\r\n{extensions}\r\n",
            target.address
        );
        match opening {
            Opening::Alone => peer.send(request.as_bytes()),
            Opening::WithFrames => peer.send(&[request.as_bytes(), early].concat()),
            Opening::ByteByByte => peer.send_in_pieces(request.as_bytes(), 1),
        }
        let deadline = Instant::now() + target.patience;
        let end = loop {
            if let Some(at) = peer.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if peer.unread.len() > MAX_HEAD || !peer.fill(deadline) {
                return Err("no response".into());
            }
        };
        let head = String::from_utf8_lossy(peer.unread.get(..end).unwrap_or_default()).into_owned();
        peer.unread.drain(..end + 4);
        peer.accept(&head)?;
        Ok(peer)
    }

    fn accept(&mut self, head: &str) -> Result<(), String> {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 101") {
            return Err(status.to_owned());
        }
        let header = |wanted: &str| {
            let fields = head.split("\r\n").filter_map(|line| line.split_once(':'));
            fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
        };
        if header("Sec-WebSocket-Accept") != Some(ACCEPT) {
            return Err("the wrong answer to the key".into());
        }
        self.deflate = Deflate::agreed(header("Sec-WebSocket-Extensions"))?;
        Ok(())
    }

    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub fn note(&mut self, event: Event) {
        self.events.push(event);
    }

    pub fn deflate(&mut self) -> Option<&mut Deflate> {
        self.deflate.as_mut()
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Neither side has begun to close.
    pub fn is_open(&self) -> bool {
        !self.has_ended && !self.has_sent_close && self.close.is_none()
    }

    pub fn has_sent_close(&self) -> bool {
        self.has_sent_close
    }

    pub fn closed_by_client(&self) -> bool {
        self.closed_by_client
    }

    pub fn close_code(&self) -> Option<u16> {
        self.close.flatten()
    }

    /// Both close frames and the server's end of the stream.
    pub fn is_clean(&self) -> bool {
        self.has_sent_close && self.close.is_some() && self.has_ended && !self.was_left_open && self.violation.is_none()
    }

    pub fn was_left_open(&self) -> bool {
        self.was_left_open
    }

    /// What the server did that a client must fail the connection for.
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// A server that has given up may be gone already: a failure shows as what it does not answer.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn send_in_pieces(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size) {
            if self.stream.write_all(piece).is_err() {
                return;
            }
        }
    }

    /// Sends a close frame, whatever is in it.
    pub fn send_close(&mut self, frame: &Frame) {
        self.closed_by_client |= self.close.is_none() && !self.has_sent_close;
        self.has_sent_close = true;
        self.send(&frame.bytes());
    }

    /// Gives the connection up: the server did not do what it had to in time.
    pub fn drop_stream(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        self.was_left_open = true;
        self.has_ended = true;
    }

    /// Waits for bytes and takes in the frames that are complete then. `false` if none came in time.
    pub fn advance(&mut self, deadline: Instant) -> bool {
        // Frames may have come with the response.
        if self.take_frames() {
            return true;
        }
        let has_grown = self.fill(deadline);
        self.take_frames();
        has_grown || self.has_ended
    }

    fn fill(&mut self, deadline: Instant) -> bool {
        if self.has_ended {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        if self.stream.set_read_timeout(Some(left)).is_err() {
            self.has_ended = true;
            return false;
        }
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.has_ended = true,
            Ok(count) => {
                self.unread.extend_from_slice(buffer.get(..count).unwrap_or_default());
                return true;
            }
            Err(failure) if matches!(failure.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_reset) => self.has_ended = true,
        }
        false
    }

    fn take_frames(&mut self) -> bool {
        let mut at = 0;
        let mut has_taken = false;
        while self.violation.is_none()
            && let Some(head) = read_head(self.unread.get(at..).unwrap_or_default())
        {
            let start = at + head.size;
            if self.unread.len() < start + head.length {
                break;
            }
            let payload = self.unread.get(start..start + head.length).unwrap_or_default().to_vec();
            at = start + head.length;
            has_taken = true;
            let taken = if head.is_masked || !head.is_shortest {
                Err("a frame that is masked, or whose length is not in its shortest form".into())
            } else {
                self.take(head.first, payload)
            };
            if let Err(reason) = taken {
                self.violation = Some(reason);
                self.send_close(&Frame::close(1002, b""));
            }
        }
        self.unread.drain(..at);
        has_taken
    }

    fn take(&mut self, first: u8, payload: Vec<u8>) -> Result<(), String> {
        let (is_final, reserved, opcode) = (first & 0x80 != 0, first >> 4 & 7, first & 15);
        if self.close.is_some() {
            return Err("a frame after the close frame".into());
        }
        if opcode >= CLOSE && (!is_final || reserved != 0 || payload.len() > 125) {
            return Err("a control frame in fragments, with reserved bits or too long".into());
        }
        match opcode {
            PING => self.events.push(Event::Ping(payload)),
            PONG => self.events.push(Event::Pong(payload)),
            CLOSE => self.take_close(&payload)?,
            TEXT | BINARY if self.partial.is_none() && (reserved == 0 || (reserved == 4 && self.deflate.is_some())) => {
                self.partial = Some((first, payload));
            }
            CONTINUATION if reserved == 0 => match &mut self.partial {
                Some((_, message)) => message.extend_from_slice(&payload),
                None => return Err("a continuation of nothing".into()),
            },
            _ => return Err(format!("a frame that begins with {first:#04x}")),
        }
        if is_final && opcode < CLOSE {
            self.end_message()?;
        }
        Ok(())
    }

    fn end_message(&mut self) -> Result<(), String> {
        let Some((first, payload)) = self.partial.take() else { return Ok(()) };
        let payload = match &mut self.deflate {
            Some(deflate) if first & 0x40 != 0 => deflate.inflate(&payload)?,
            _ => payload,
        };
        let is_text = first & 15 == TEXT;
        if is_text && std::str::from_utf8(&payload).is_err() {
            return Err("text that is no UTF-8".into());
        }
        self.events.push(Event::Message { is_text, payload });
        Ok(())
    }

    fn take_close(&mut self, payload: &[u8]) -> Result<(), String> {
        let code = match payload {
            [] => None,
            [_] => return Err("a close frame of one byte".into()),
            [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => Some(u16::from_be_bytes([*high, *low])),
            _ => return Err("a close reason that is no UTF-8".into()),
        };
        self.close = Some(code);
        if code.is_some_and(|code| !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)) {
            return Err(format!("close code {}", code.unwrap_or_default()));
        }
        if !self.has_sent_close {
            self.has_sent_close = true;
            self.send(&Frame::close(1000, b"").bytes());
        }
        Ok(())
    }
}
