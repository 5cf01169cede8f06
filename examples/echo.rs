//! An echo server on the transport alone: every message comes back as it was, text as text and binary as binary.
//!
//! For conformance suites and for reading how the parts of `transport` fit together. Run with
//! `cargo run --release --no-default-features --example echo -- 127.0.0.1:9001`; prints the address it listens on.
//! With `bridge` as a second argument every byte goes over a bridge, whose other end is pumped here as Node would.
//! One thread, one task per connection, one reactor for all of them.

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use carillon::error::CloseReason;
use carillon::shard::outbox::{Flushed, Outbox};
use carillon::transport::assembler::{Assembler, Limits, Message};
use carillon::transport::bridge::{Bridge, Channel, Notifier, SocketAction};
use carillon::transport::deflate::{self, Deflaters, Inflater, Negotiated};
use carillon::transport::encoded_message::EncodedMessage;
use carillon::transport::encoding::Encoding;
use carillon::transport::handshake;
use carillon::transport::head_reader::HeadReader;
use carillon::transport::origin::Origins;
use carillon::transport::socket::Readiness;
use carillon::transport::socket::reactor::{Reactor, Registry, WatchKey};
use carillon::transport::{Source, Transport};
use slab::Slab;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

const LIMITS: Limits = Limits { max_message: 64 * 1024 * 1024, max_fragments: u32::MAX };

/// Nothing more is read from a peer that has this much to take.
const MAX_UNREAD: usize = 1024 * 1024;

/// What the connections share.
struct Server {
    policy: handshake::HandshakePolicy,
    bridges: bool,
    registry: Registry,
    /// By the key that each connection is registered under.
    events: RefCell<Slab<Events>>,
    buffer: RefCell<Vec<u8>>,
    inflater: RefCell<Inflater>,
    deflaters: RefCell<Deflaters>,
}

/// What the reactor has reported of a connection since its task last asked.
#[derive(Default)]
struct Events {
    readiness: Readiness,
    task: Option<Waker>,
}

/// A transport whose task is woken by the reactor.
struct Stream<'s> {
    transport: Transport,
    key: usize,
    server: &'s Server,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = TcpListener::bind(address).await?;
    println!("ws://{}", listener.local_addr()?);
    let (reactor, registry) = Reactor::new()?;
    let server = Rc::new(Server {
        policy: handshake::HandshakePolicy {
            path: "/".into(),
            deflate: Some(deflate::DeflatePolicy::FULL_RANGE),
            origins: Origins::Any,
        },
        bridges: std::env::args().nth(2).is_some_and(|transport| transport == "bridge"),
        registry,
        events: RefCell::default(),
        buffer: RefCell::new(vec![0; 64 * 1024]),
        inflater: RefCell::default(),
        deflaters: RefCell::default(),
    });
    let accepting = async {
        tokio::task::spawn_local(server.clone().watch(reactor));
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::task::spawn_local(server.clone().serve(stream));
        }
    };
    LocalSet::new().run_until(accepting).await
}

impl Stream<'_> {
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.take_events(cx);
        self.transport.poll_read(cx, buffer)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.take_events(cx);
        self.transport.poll_writable(cx)
    }

    fn take_events(&self, cx: &Context<'_>) {
        if let Some(events) = self.server.events.borrow_mut().get_mut(self.key) {
            self.transport.on_readiness(std::mem::take(&mut events.readiness));
            events.task = Some(cx.waker().clone());
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        self.transport.deregister(&self.server.registry);
        self.server.events.borrow_mut().remove(self.key);
    }
}

impl Server {
    /// Wakes the task of each connection that the reactor reports.
    async fn watch(self: Rc<Self>, mut reactor: Reactor) {
        loop {
            poll_fn(|cx| reactor.poll_events(cx)).await;
            reactor.take_events(|key, readiness| {
                if let Some(events) = self.events.borrow_mut().get_mut(key as usize) {
                    events.readiness.add(readiness);
                    if let Some(task) = events.task.take() {
                        task.wake();
                    }
                }
            });
            tokio::task::yield_now().await;
        }
    }

    /// A failure concerns this peer alone: it is gone.
    async fn serve(self: Rc<Self>, stream: TcpStream) {
        let source = if self.bridges {
            bridge(stream)
        } else {
            let Ok(stream) = stream.into_std() else { return };
            Source::Descriptor(stream.into())
        };
        let key = self.events.borrow_mut().insert(Events::default());
        match Transport::register(source, &self.registry, key as WatchKey) {
            Ok(transport) => {
                let _ = self.converse(&Stream { transport, key, server: &self }).await;
            }
            Err(_) => {
                self.events.borrow_mut().remove(key);
            }
        }
    }

    async fn converse(&self, stream: &Stream<'_>) -> io::Result<()> {
        let mut outbox = Outbox::default();
        let Some((encoding, mut early)) = self.greet(stream, &mut outbox).await? else {
            self.flush(stream, &mut outbox).await?;
            stream.transport.shutdown_write();
            return Ok(());
        };
        let mut assembler = Assembler::new(encoding != Encoding::Plain);
        let mut flow = self.echo(&mut early, &mut assembler, encoding, &mut outbox);
        while flow.is_continue() {
            let turn = poll_fn(|cx| self.turn(cx, stream, &mut assembler, encoding, &mut outbox));
            flow = turn.await?;
        }
        self.flush(stream, &mut outbox).await?;
        // Closing with bytes unread would reset the connection, and our close frame with it.
        stream.transport.shutdown_write();
        let mut sink = [0; 4096];
        while poll_fn(|cx| stream.poll_read(cx, &mut sink)).await? > 0 {}
        Ok(())
    }

    /// Reads the request and queues the answer. `Some` if the peer is let in: how messages go, and what came early.
    async fn greet(&self, stream: &Stream<'_>, outbox: &mut Outbox) -> io::Result<Option<(Encoding, Vec<u8>)>> {
        let mut reader = HeadReader::default();
        let mut bytes = [0; 2048];
        loop {
            let count = poll_fn(|cx| stream.poll_read(cx, &mut bytes)).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let (answer, admitted) = match reader.push(bytes.get(..count).unwrap_or_default()) {
                Ok(None) => continue,
                Ok(Some((head, early))) => match handshake::check(&head, &self.policy) {
                    Ok(upgrade) => {
                        let encoding = upgrade.deflate().as_ref().map_or(Encoding::Plain, Negotiated::encoding);
                        (upgrade.response(), Some((encoding, early)))
                    }
                    Err(rejection) => (rejection.response(), None),
                },
                Err(fault) => (fault.response(), None),
            };
            outbox.queue(EncodedMessage::raw(answer), Encoding::Plain, &mut self.deflaters.borrow_mut());
            return Ok(admitted);
        }
    }

    /// Writes what fits, then reads once and understands that. `Break`: nothing more is to be read.
    fn turn(
        &self,
        cx: &mut Context<'_>,
        stream: &Stream<'_>,
        assembler: &mut Assembler,
        encoding: Encoding,
        outbox: &mut Outbox,
    ) -> Poll<io::Result<ControlFlow<()>>> {
        if let Poll::Ready(Err(failure)) = self.poll_flush(cx, stream, outbox) {
            return Poll::Ready(Err(failure));
        }
        if outbox.bytes() > MAX_UNREAD {
            return Poll::Pending;
        }
        let mut buffer = self.buffer.borrow_mut();
        match ready!(stream.poll_read(cx, &mut buffer))? {
            0 => Poll::Ready(Ok(ControlFlow::Break(()))),
            count => {
                let bytes = buffer.get_mut(..count).unwrap_or_default();
                Poll::Ready(Ok(self.echo(bytes, assembler, encoding, outbox)))
            }
        }
    }

    /// Queues an answer for every message that is complete.
    fn echo(
        &self,
        bytes: &mut [u8],
        assembler: &mut Assembler,
        encoding: Encoding,
        outbox: &mut Outbox,
    ) -> ControlFlow<()> {
        let mut deflaters = self.deflaters.borrow_mut();
        let mut flow = ControlFlow::Continue(());
        let understood = assembler.push(bytes, &LIMITS, &mut self.inflater.borrow_mut(), &mut |message| {
            let answer = match message {
                Message::Text(text) => EncodedMessage::text(text.into()),
                Message::Binary(bytes) => EncodedMessage::binary(bytes),
                Message::Ping(payload) => EncodedMessage::pong(payload),
                Message::Pong(_) => return ControlFlow::Continue(()),
                Message::Close(close) => {
                    flow = ControlFlow::Break(());
                    close.map_or_else(EncodedMessage::close_empty, |close| {
                        EncodedMessage::close(close.code, close.reason)
                    })
                }
            };
            outbox.queue(answer, encoding, &mut deflaters);
            flow
        });
        if let Err(reason) = understood {
            outbox.queue(close_frame(reason), encoding, &mut deflaters);
            return ControlFlow::Break(());
        }
        flow
    }

    async fn flush(&self, stream: &Stream<'_>, outbox: &mut Outbox) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx, stream, outbox)).await
    }

    fn poll_flush(&self, cx: &mut Context<'_>, stream: &Stream<'_>, outbox: &mut Outbox) -> Poll<io::Result<()>> {
        loop {
            let flushed = outbox.flush(&mut self.deflaters.borrow_mut(), |parts| stream.transport.try_write(parts))?;
            match flushed {
                Flushed::Everything => return Poll::Ready(Ok(())),
                Flushed::Blocked => ready!(stream.poll_writable(cx))?,
            }
        }
    }
}

/// Wakes the pump.
struct Work(Arc<Notify>);

impl Notifier for Work {
    fn notify(&self) {
        self.0.notify_one();
    }
}

/// A bridge to the stream, pumped by a task of its own.
fn bridge(stream: TcpStream) -> Source {
    let work = Arc::new(Notify::new());
    let channel = Channel::new(Box::new(Work(work.clone())));
    tokio::task::spawn_local({
        let channel = channel.clone();
        async move {
            // A failure shows at the bridge's other end as a socket that is gone.
            let _ = pump(stream, &channel, &work).await;
            channel.peer_closed();
        }
    });
    Source::Bridge(Bridge::new(channel))
}

/// What Node does with a socket: what arrives into the channel, what the channel's other end wants out of it.
async fn pump(mut stream: TcpStream, channel: &Channel, work: &Notify) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut bytes = vec![0; 64 * 1024];
    let (mut is_paused, mut has_ended) = (false, false);
    loop {
        tokio::select! {
            count = reader.read(&mut bytes), if !is_paused && !has_ended => match count? {
                0 => {
                    has_ended = true;
                    channel.peer_ended();
                }
                count => is_paused = !channel.receive(bytes.get(..count).unwrap_or_default()),
            },
            () = work.notified() => {
                let work = channel.take_work();
                writer.write_all(&work.write).await?;
                channel.flushed();
                is_paused &= !work.resume;
                match work.action {
                    SocketAction::Keep => {}
                    SocketAction::End => writer.shutdown().await?,
                    SocketAction::Close => return writer.shutdown().await,
                    SocketAction::Destroy => return Ok(()),
                }
            }
        }
    }
}

fn close_frame(reason: CloseReason) -> Arc<EncodedMessage> {
    EncodedMessage::close(reason.code(), reason.text())
}
