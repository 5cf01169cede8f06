//! One connection of a client over each transport. It sends bytes that were made before, and reads until the connection ends,
//! without any heap of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, Thread};

use carillon::shard::command::UpgradeRequest;
use carillon::transport::Source;
use carillon::transport::bridge::{Bridge, Channel, Notifier, SocketAction};
use carillon::transport::head_reader::HeadReader;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::SockRef;

use crate::support::client::request_of;
use crate::support::{PATIENCE, Service};

pub const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// How a connection reaches its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A socket that was taken over.
    Plain,
    /// A channel to Node's socket, whose other end is the test.
    Bridge,
    /// The service's own port.
    OwnPort,
    /// The same with TLS.
    OwnPortTls,
}

pub enum Wire {
    Socket(TcpStream),
    Session(Box<StreamOwned<ClientConnection, TcpStream>>),
    Bridge(NodeEnd),
}

/// Node's end of a bridge, whose socket goes with it.
pub struct NodeEnd(Arc<Channel>);

impl Drop for NodeEnd {
    fn drop(&mut self) {
        self.0.peer_closed();
    }
}

/// What a client of the own port needs to know.
#[derive(Clone)]
pub struct OwnPort {
    pub address: SocketAddr,
    pub tls: Option<Arc<ClientConfig>>,
}

struct Unpark(Thread);

impl Notifier for Unpark {
    fn notify(&self) {
        self.0.unpark();
    }
}

/// A certificate with its key in PEM, and a client that trusts it.
pub fn identity() -> (String, String, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (made.cert.pem(), made.signing_key.serialize_pem(), Arc::new(client))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

impl OwnPort {
    /// A connection that has sent nothing but what TLS needs.
    pub fn connect(&self) -> Wire {
        let stream = connect(self.address);
        let Some(config) = self.tls.clone() else { return Wire::Socket(stream) };
        let mut session = ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap();
        session.set_buffer_limit(None);
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).unwrap();
        }
        Wire::Session(Box::new(stream))
    }
}

impl Wire {
    /// Asks for an upgrade over this transport. The answer is not waited for.
    pub fn request(service: &Service, transport: Transport, own: &OwnPort, user: &str, headers: &str) -> Self {
        let request = request_of(user, headers);
        match transport {
            Transport::Plain => {
                let port = TcpListener::bind("127.0.0.1:0").unwrap();
                let stream = connect(port.local_addr().unwrap());
                let (taken, _) = port.accept().unwrap();
                taken.set_nonblocking(true).unwrap();
                hand_over(service, Source::Descriptor(taken.into()), &request);
                Self::Socket(stream)
            }
            Transport::Bridge => {
                let channel = Channel::new(Box::new(Unpark(thread::current())));
                hand_over(service, Source::Bridge(Bridge::new(channel.clone())), &request);
                Self::Bridge(NodeEnd(channel))
            }
            Transport::OwnPort | Transport::OwnPortTls => {
                let mut wire = own.connect();
                match &mut wire {
                    Self::Socket(stream) => stream.write_all(&request).unwrap(),
                    Self::Session(stream) => stream.write_all(&request).unwrap(),
                    Self::Bridge(_) => unreachable!("a port has sockets"),
                }
                wire
            }
        }
    }

    /// Reads until the greeting of the service has come.
    pub fn greeted(mut self) -> Self {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        while !read.windows(11).any(|window| window == br#""connected""#) {
            let count = match &mut self {
                Self::Socket(stream) => stream.read(&mut buffer).unwrap(),
                Self::Session(stream) => stream.read(&mut buffer).unwrap(),
                Self::Bridge(NodeEnd(channel)) => {
                    thread::park_timeout(PATIENCE);
                    let write = channel.take_work().write;
                    channel.flushed();
                    buffer[..write.len()].copy_from_slice(&write);
                    write.len()
                }
            };
            assert!(count > 0 || matches!(self, Self::Bridge(_)), "{}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buffer[..count]);
        }
        self
    }

    /// What has to be written to the socket to send these bytes: with TLS, records. Nothing but that can be sent afterwards.
    pub fn seal(self, bytes: &[u8]) -> (Self, Vec<u8>) {
        let Self::Session(mut stream) = self else { return (self, bytes.to_vec()) };
        let mut records = Vec::with_capacity(bytes.len() + bytes.len() / 64 + 1024);
        stream.conn.writer().write_all(bytes).unwrap();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut records).unwrap();
        }
        let (_, socket) = stream.into_parts();
        (Self::Socket(socket), records)
    }

    /// Sends what [`seal`](Self::seal) made, and reads until the service ends the connection.
    pub fn exchange(&mut self, sealed: &[u8]) {
        match self {
            Self::Socket(stream) => {
                thread::scope(|scope| {
                    let mut writing = &*stream;
                    // A service that has read enough has closed.
                    scope.spawn(move || drop(writing.write_all(sealed)));
                    let mut reading = &*stream;
                    let mut buffer = [0; 64 * 1024];
                    while read(&mut reading, &mut buffer) {}
                });
            }
            Self::Bridge(NodeEnd(channel)) => exchange_over(channel, sealed),
            Self::Session(_) => unreachable!("sealed"),
        }
    }

    /// Sends as many of the bytes as the service takes while nothing is read, and says how many. `is_idle` returns when the
    /// service has handled what it had.
    pub fn stuff(&mut self, mut bytes: &[u8], mut is_idle: impl FnMut()) -> usize {
        const TRIES: usize = 5;
        let all = bytes.len();
        let mut refused = 0;
        match self {
            Self::Socket(stream) => {
                stream.set_nonblocking(true).unwrap();
                // So that less is held by the system.
                SockRef::from(&*stream).set_recv_buffer_size(4096).unwrap();
                while refused < TRIES {
                    match stream.write(bytes) {
                        Ok(count) => {
                            refused = 0;
                            bytes = &bytes[count..];
                            assert!(!bytes.is_empty(), "the service takes everything");
                        }
                        Err(failure) => {
                            assert_eq!(failure.kind(), ErrorKind::WouldBlock);
                            refused += 1;
                            is_idle();
                        }
                    }
                }
            }
            Self::Bridge(NodeEnd(channel)) => {
                let mut is_paused = false;
                while refused < TRIES {
                    // Taken and never flushed.
                    is_paused &= !channel.take_work().resume;
                    if is_paused {
                        refused += 1;
                        is_idle();
                    } else {
                        refused = 0;
                        let (now, rest) = bytes.split_at(bytes.len().min(16 * 1024));
                        is_paused = !channel.receive(now);
                        bytes = rest;
                        assert!(!bytes.is_empty(), "the service takes everything");
                    }
                }
            }
            Self::Session(_) => unreachable!("sealed"),
        }
        all - bytes.len()
    }
}

/// Gives the service an upgrade request as Node does.
fn hand_over(service: &Service, source: Source, request: &[u8]) {
    let (head, _) = HeadReader::default().push(request).unwrap().expect("a whole head");
    service.core.accept(UpgradeRequest { source, head, early: Vec::new(), peer: None });
}

/// `false` at the end of the stream; a reset is an end, too.
fn read(stream: &mut impl Read, buffer: &mut [u8]) -> bool {
    match stream.read(buffer) {
        Ok(count) => count > 0,
        Err(failure) => {
            assert!(
                !matches!(failure.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                "the connection does not end"
            );
            false
        }
    }
}

fn exchange_over(channel: &Channel, bytes: &[u8]) {
    let mut chunks = bytes.chunks(64 * 1024);
    let mut is_paused = false;
    loop {
        let work = channel.take_work();
        if !work.write.is_empty() {
            channel.flushed();
        }
        is_paused &= !work.resume;
        match work.action {
            SocketAction::Keep => {}
            SocketAction::End => channel.peer_ended(),
            SocketAction::Close | SocketAction::Destroy => return,
        }
        match if is_paused { None } else { chunks.next() } {
            Some(chunk) => is_paused = !channel.receive(chunk),
            None => thread::park_timeout(PATIENCE),
        }
    }
}
