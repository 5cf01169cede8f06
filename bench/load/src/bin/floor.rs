//! The floor: what fan-out costs if there is nothing but the system call. Accepts everybody, checks nothing.
//!
//! `floor` sends a ready frame to each socket with `send(2)`, `floor uring` hands the sends to io_uring in batches. What was
//! published in one turn is one buffer and one send per connection: nobody can do it with less.

use std::collections::HashMap;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use carillon_bench::control::{Order, greeting, message, reply};
use carillon_bench::ledger::{EVERYBODY, Topic};
use carillon_bench::wire::{self, CLOSE, TEXT};
use io_uring::{IoUring, opcode, types};
use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::{Domain, Socket, Type};

const ORDER: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
const BACKLOG: i32 = 4096;
const READ_BUFFER: usize = 64 * 1024;
const BATCH: u32 = 256;

struct Floor {
    listener: TcpListener,
    poll: Poll,
    peers: Slab<Peer>,
    topics: HashMap<Topic, Vec<usize>>,
    uring: Option<IoUring>,
    filler: String,
}

struct Peer {
    stream: TcpStream,
    upgraded: bool,
    rest: Vec<u8>,
    /// What the system would not take yet.
    waiting: Vec<u8>,
    topics: Vec<Topic>,
}

fn main() -> io::Result<()> {
    let uring = std::env::args().nth(1).is_some_and(|mode| mode == "uring").then(|| IoUring::new(BATCH)).transpose()?;
    let poll = Poll::new()?;
    // Held here as well: a waker that is dropped takes its last call with it.
    let waker = Arc::new(Waker::new(poll.registry(), ORDER)?);
    let orders = orders(Arc::clone(&waker));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    let mut listener = TcpListener::from_std(socket.into());
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!(r#"{{"port":{},"runtime":"Rust"}}"#, listener.local_addr()?.port());
    Floor { listener, poll, peers: Slab::new(), topics: HashMap::new(), uring, filler: String::new() }.run(&orders)
}

/// Standard input, read by a thread of its own; `None` at its end.
fn orders(waker: Arc<Waker>) -> Receiver<Option<Order>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let order = serde_json::from_str(&line).ok();
            if order.is_some() && (sender.send(order).is_err() || waker.wake().is_err()) {
                return;
            }
        }
        let _ = sender.send(None);
        let _ = waker.wake();
    });
    receiver
}

impl Floor {
    fn run(mut self, orders: &Receiver<Option<Order>>) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                match event.token() {
                    ORDER => {
                        for order in orders.try_iter() {
                            let Some(order) = order else { return Ok(()) };
                            self.obey(order)?;
                        }
                    }
                    LISTENER => self.accept()?,
                    Token(key) => {
                        if self.serve(key, &mut buffer, event.is_writable()).is_err() {
                            self.remove(key);
                        }
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Filler { text } => self.filler = text,
            Order::Usage => println!(r#"{{"connections":{}}}"#, self.peers.len()),
            Order::Publish { topic, n, count } => {
                let frames: Vec<u8> = (n..n + count)
                    .flat_map(|number| wire::server_frame(TEXT, message(topic, number, &self.filler).as_bytes()))
                    .collect();
                let keys = match topic {
                    EVERYBODY => self.peers.iter().map(|(key, _)| key).collect(),
                    _ => self.topics.get(&topic).cloned().unwrap_or_default(),
                };
                match self.uring.take() {
                    Some(mut uring) => {
                        self.send_batches(&mut uring, &keys, &frames)?;
                        self.uring = Some(uring);
                    }
                    None => keys.into_iter().for_each(|key| self.send(key, &frames)),
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, key: usize, bytes: &[u8]) {
        let peer = &mut self.peers[key];
        let sent = if peer.waiting.is_empty() { peer.stream.write(bytes).unwrap_or(0) } else { 0 };
        peer.waiting.extend_from_slice(&bytes[sent..]);
    }

    fn send_batches(&mut self, uring: &mut IoUring, keys: &[usize], bytes: &[u8]) -> io::Result<()> {
        for batch in keys.chunks(BATCH as usize) {
            let mut expected = 0;
            for &key in batch {
                let peer = &mut self.peers[key];
                if !peer.waiting.is_empty() {
                    peer.waiting.extend_from_slice(bytes);
                    continue;
                }
                let send = opcode::Send::new(types::Fd(peer.stream.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32)
                    .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data(key as u64);
                // SAFETY: `bytes` and the socket outlive the submission, which is waited for below.
                unsafe { uring.submission().push(&send) }.map_err(io::Error::other)?;
                expected += 1;
            }
            uring.submit_and_wait(expected)?;
            for completion in uring.completion() {
                let sent = usize::try_from(completion.result()).unwrap_or(0);
                self.peers[completion.user_data() as usize].waiting.extend_from_slice(&bytes[sent..]);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let entry = self.peers.vacant_entry();
            self.poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE | Interest::WRITABLE)?;
            entry.insert(Peer { stream, upgraded: false, rest: Vec::new(), waiting: Vec::new(), topics: Vec::new() });
        }
    }

    fn serve(&mut self, key: usize, buffer: &mut [u8], writable: bool) -> io::Result<()> {
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        if writable && !peer.waiting.is_empty() {
            match peer.stream.write(&peer.waiting) {
                Ok(sent) => drop(peer.waiting.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        loop {
            match self.peers[key].stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.receive(key, &buffer[..length])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive(&mut self, key: usize, bytes: &[u8]) -> io::Result<()> {
        let mut input = mem::take(&mut self.peers[key].rest);
        input.extend_from_slice(bytes);
        let mut used = 0;
        if !self.peers[key].upgraded {
            let Some(end) = memmem::find(&input, b"\r\n\r\n") else {
                self.peers[key].rest = input;
                return Ok(());
            };
            used = end + 4;
            let answer = wire::acceptance(&String::from_utf8_lossy(&input[..used])).ok_or(ErrorKind::InvalidData)?;
            self.send(key, answer.as_bytes());
            self.send(key, &wire::server_frame(TEXT, greeting("user").as_bytes()));
            self.peers[key].upgraded = true;
        }
        while let Some(header) = wire::header(&input[used..]) {
            let start = used + header.length;
            let Some(payload) = input.get_mut(start..start + header.payload) else { break };
            used = start + header.payload;
            wire::unmask(payload, header.mask.unwrap_or_default());
            if header.opcode == CLOSE {
                self.send(key, &wire::server_frame(CLOSE, payload));
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some((answer, topics)) = reply(payload) else { continue };
            for topic in topics {
                self.topics.entry(topic).or_default().push(key);
                self.peers[key].topics.push(topic);
            }
            self.send(key, &wire::server_frame(TEXT, answer.as_bytes()));
        }
        input.drain(..used);
        self.peers[key].rest = input;
        Ok(())
    }

    fn remove(&mut self, key: usize) {
        let peer = self.peers.remove(key);
        for topic in peer.topics {
            self.topics.entry(topic).or_default().retain(|&other| other != key);
        }
    }
}
