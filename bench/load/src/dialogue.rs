//! What the generator makes of the bytes of a server: the handshake's end, frames, messages, and what they are answered with.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::Instant;

use flate2::FlushDecompress;
use memchr::memmem;

use crate::command::Dialect;
use crate::connection::Phase;
use crate::generator::{Fate, Generator, NO_CODE};
use crate::wire::{self, Header};

/// Of so many connections one inflates what it gets; the others count compressed messages without looking inside.
const INFLATED: u64 = 16;

impl Generator {
    /// Returns how many bytes are used up.
    pub(crate) fn consume(&mut self, key: usize, bytes: &[u8], now: Instant) -> (usize, Fate) {
        let mut used = 0;
        if self.connections[key].phase == Phase::Handshaking {
            let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return (0, Fate::Stays) };
            used = end + 4;
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return (used, Fate::ClosedByServer(NO_CODE));
            }
            if self.upgraded(key).is_err() {
                return (used, Fate::ClosedByServer(NO_CODE));
            }
        }
        while let Some(header) = wire::header(&bytes[used..]) {
            let Some(payload) = bytes[used..].get(header.length..header.length + header.payload) else { break };
            used += header.length + header.payload;
            match self.frame(key, header, payload, now) {
                Ok(Fate::Stays) => {}
                Ok(fate) => return (used, fate),
                Err(_) => return (used, Fate::ClosedByServer(NO_CODE)),
            }
        }
        (used, Fate::Stays)
    }

    fn upgraded(&mut self, key: usize) -> io::Result<()> {
        self.handshaking -= 1;
        let connection = &mut self.connections[key];
        if self.target.dialect == Dialect::SocketIo {
            connection.phase = Phase::Joining;
            return Ok(());
        }
        self.admitted(key)
    }

    /// Authenticated; what is left is to subscribe.
    fn admitted(&mut self, key: usize) -> io::Result<()> {
        let connection = &mut self.connections[key];
        if connection.subscriptions.is_empty() {
            self.opened(key);
            return Ok(());
        }
        connection.subscribe(self.target.dialect)
    }

    fn opened(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        connection.phase = Phase::Open;
        self.pending -= 1;
        self.open += 1;
        self.tally.opened += 1;
        if self.opening.paused && connection.stream.deregister(self.poll.registry()).is_ok() {
            self.ledger.leave(&connection.subscriptions);
            connection.paused = true;
        }
    }

    fn frame(&mut self, key: usize, header: Header, payload: &[u8], now: Instant) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        match header.opcode {
            wire::PING => {
                connection.frame(wire::PONG, payload)?;
                Ok(Fate::Stays)
            }
            wire::CLOSE if connection.phase == Phase::Closing => Ok(Fate::Stays),
            wire::CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                Ok(Fate::ClosedByServer(code))
            }
            wire::PONG => Ok(Fate::Stays),
            _ if !header.compressed => self.message(key, payload, now),
            _ if connection.number.is_multiple_of(INFLATED) => {
                let text = self.inflate(payload)?;
                let fate = self.message(key, &text, now);
                self.inflated = text;
                fate
            }
            _ => {
                self.ledger.deliver_next(&mut connection.subscriptions, now);
                Ok(Fate::Stays)
            }
        }
    }

    fn message(&mut self, key: usize, text: &[u8], now: Instant) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        let batch = text.starts_with(br#"{"type":"batch","#);
        let (mut at, mut numbered) = (0, false);
        while let Some(found) = self.number.find(&text[at..]) {
            at += found + self.number.needle().len();
            let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
            let number = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
            numbered = true;
            if connection.phase != Phase::Closing {
                self.ledger.deliver(&mut connection.subscriptions, number, now);
            }
            if !batch {
                break;
            }
        }
        match connection.phase {
            Phase::Retiring if self.ledger.is_complete(&connection.subscriptions) => self.say_goodbye(key),
            Phase::Joining => return self.join(key, text),
            Phase::Subscribing if (batch || !numbered) && memmem::find(text, b"subscribed\"").is_some() => {
                self.ledger.acknowledge(&mut connection.subscriptions);
                self.opened(key);
            }
            Phase::Open if !numbered => return self.answer(key, text, now),
            _ => {}
        }
        Ok(Fate::Stays)
    }

    /// Socket.IO: first the transport says what it is, then the namespace wants the token.
    fn join(&mut self, key: usize, text: &[u8]) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        if text.starts_with(b"40") {
            self.admitted(key)?;
        } else if text.starts_with(b"44") {
            return Ok(Fate::ClosedByServer(NO_CODE));
        } else if text.starts_with(b"0") {
            let token = self.signer.token(&connection.user());
            connection.frame(wire::TEXT, format!(r#"40{{"token":"{token}"}}"#).as_bytes())?;
        }
        Ok(Fate::Stays)
    }

    fn answer(&mut self, key: usize, text: &[u8], now: Instant) -> io::Result<Fate> {
        let connection = &mut self.connections[key];
        if self.target.dialect == Dialect::SocketIo && text == b"2" {
            connection.frame(wire::TEXT, b"3")?;
        } else if memmem::find(text, b"\"pong\"").is_some() {
            self.tally.pongs += 1;
            if let Some(at) = connection.pinged_at.take() {
                self.ledger.record(now.duration_since(at).as_micros() as u64);
            }
            if connection.pings_left > 0 {
                connection.ping(self.target.dialect)?;
            }
        }
        Ok(Fate::Stays)
    }

    fn inflate(&mut self, payload: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = mem::take(&mut self.inflated);
        text.clear();
        self.inflater.reset(false);
        let tail: &[u8] = &[0, 0, 0xff, 0xff];
        for part in [payload, tail] {
            self.inflater
                .decompress_vec(part, &mut text, FlushDecompress::Sync)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
        Ok(text)
    }
}
