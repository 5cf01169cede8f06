//! One connection of the generator: its socket, where it is in its life, what it is subscribed to.
//!
//! Kept small, since there are thousands. Owned by the generator.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use crate::command::{Dialect, Opening};
use crate::ledger::{EVERYBODY, Subscription, Topic};
use crate::stream::{Sessions, Stream};
use crate::token::Signer;
use crate::wire;

/// Addresses of the loopback network that connections come from, in turn: each has its own ports.
const SOURCES: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Handshaking,
    /// Socket.IO: the transport is open, the namespace not yet.
    Joining,
    Subscribing,
    Open,
    /// To be closed when everything due has come.
    Retiring,
    /// The close frame is sent.
    Closing,
}

pub struct Connection {
    pub stream: Stream,
    pub phase: Phase,
    pub paused: bool,
    /// The part of a frame that has come.
    pub rest: Vec<u8>,
    /// Ordered by topic.
    pub subscriptions: Vec<Subscription>,
    /// One of a series: tells user, source address and topics.
    pub number: u64,
    pub pings_left: u32,
    pub pinged_at: Option<Instant>,
}

impl Connection {
    /// `sessions`: for TLS.
    pub fn begin(number: u64, port: u16, opening: &Opening, sessions: Option<&Sessions>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if opening.receive_buffer > 0 {
            socket.set_recv_buffer_size(opening.receive_buffer)?;
        }
        let source = Ipv4Addr::new(127, 0, 0, 2 + (number % SOURCES) as u8);
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let socket = TcpStream::from_std(socket.into());
        let stream = match sessions {
            None => Stream::Plain(socket),
            Some(sessions) => sessions.begin(socket, opening.resume)?,
        };
        Ok(Self {
            stream,
            phase: Phase::Connecting,
            paused: false,
            rest: Vec::new(),
            subscriptions: subscriptions(number, opening),
            number,
            pings_left: 0,
            pinged_at: None,
        })
    }

    pub fn handshake(&mut self, dialect: Dialect, signer: &Signer, deflate: bool) -> io::Result<()> {
        let target = match dialect {
            Dialect::Plain => format!("/ws?token={}", signer.token(&self.user())),
            Dialect::SocketIo => "/socket.io/?EIO=4&transport=websocket".to_owned(),
        };
        self.phase = Phase::Handshaking;
        self.write(wire::request(&target, deflate).as_bytes())
    }

    pub fn user(&self) -> String {
        format!("user-{}", self.number)
    }

    /// The request that subscribes to all its topics.
    pub fn subscribe(&mut self, dialect: Dialect) -> io::Result<()> {
        self.phase = Phase::Subscribing;
        let bills: Vec<Topic> =
            self.subscriptions.iter().map(Subscription::topic).filter(|&topic| topic != EVERYBODY).collect();
        let request = match bills.as_slice() {
            [bill] => format!(r#"{{"type":"subscribe","data":{{"bill_id":{bill}}}}}"#),
            bills => format!(r#"{{"type":"batch_subscribe","data":{{"bill_ids":{bills:?}}}}}"#),
        };
        self.say(dialect, &request)
    }

    pub fn ping(&mut self, dialect: Dialect) -> io::Result<()> {
        self.pings_left -= 1;
        self.pinged_at = Some(Instant::now());
        self.say(dialect, r#"{"type":"ping"}"#)
    }

    pub fn say(&mut self, dialect: Dialect, json: &str) -> io::Result<()> {
        match dialect {
            Dialect::Plain => self.frame(wire::TEXT, json.as_bytes()),
            Dialect::SocketIo => self.frame(wire::TEXT, format!(r#"42["message",{json}]"#).as_bytes()),
        }
    }

    pub fn frame(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.write(&wire::client_frame(opcode, payload))
    }

    /// What a client sends is small and seldom: it fits into the system's buffer, or the server has stopped reading.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }
}

fn subscriptions(number: u64, opening: &Opening) -> Vec<Subscription> {
    if opening.topics_each == 0 {
        return Vec::new();
    }
    let (each, of) = (u64::from(opening.topics_each), u64::from(opening.topics_of.max(1)));
    let mut topics: Vec<Topic> = (0..each).map(|index| 1 + ((number * each + index) % of) as Topic).collect();
    topics.push(EVERYBODY);
    topics.sort_unstable();
    topics.dedup();
    topics.into_iter().map(Subscription::new).collect()
}
