//! Any bytes from a peer, to the whole service on a port of its own: request, handshake, frames, messages, hooks, replies.
//!
//! What one byte may cost is bounded by [`Price`]: heap at its peak and afterwards, time of the processor, bytes in reply,
//! calls of the application. A connection must end when its peer has, and leave nothing.
#![no_main]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use carillon::application::interface::{self, Answer, Event, EventKind, HookAnswer, HookCall};
use carillon::config::{RuntimeConfig, RuntimeValues};
use carillon::core::websocket_service::WebSocketService;
use carillon::shard::service_options::ServiceOptions;
use carillon::types::HookKind;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/heap.rs"]
mod heap;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

/// What a connection may cost, and what each byte that it has sent.
struct Price {
    once: usize,
    per_byte: usize,
}

impl Price {
    fn allows(&self, cost: usize, bytes: usize) -> bool {
        cost <= self.once + self.per_byte * bytes
    }
}

/// One message may be inflated to 100 KiB, and 8 may wait for the application.
const HEAP: Price = Price { once: 2 * 1024 * 1024, per_byte: 64 };
/// The smallest message is a frame of 7 bytes. Every message is answered by an acknowledgement and a reply at most.
const REPLY: Price = Price { once: 16 * 1024, per_byte: 32 };
/// Nanoseconds, instrumented: some 10 times what they are otherwise. A byte may be inflated to a thousand.
const TIME: Price = Price { once: 300_000_000, per_byte: 100_000 };
/// Calls of the application that may be under way.
const MAX_PENDING: usize = 8;
/// Bytes that may stay, all inputs of a run together: room in tables.
const KEPT: isize = 4 * 1024 * 1024;
/// When nothing has come for so long, the peer ends its side: a call of the application would come to nothing otherwise.
const QUIET: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(30);
/// What one input costs in time is measured so often before it counts.
const TRIES: usize = 3;

/// Signed with `carillon_fuzz::SECRET`, for the user "ann", without an end.
const TOKEN: &str =
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiYW5uIn0.3xezC2d9pCUHxm6U0b1XXl2eLmcHn6KjOTEjIY0B0_o";

/// An application that accepts every user, and answers about preferences on request.
#[derive(Default)]
struct Application {
    waiting: Mutex<Vec<(HookCall, Answer)>>,
    calls: AtomicUsize,
}

impl Application {
    fn waiting(&self) -> MutexGuard<'_, Vec<(HookCall, Answer)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls whose answer is waited for; those of a closed connection are not awaited.
    fn pending(&self) -> usize {
        self.waiting().iter().filter(|(_, answer)| !answer.is_closed()).count()
    }

    fn answer(&self) {
        for (call, answer) in self.waiting().drain(..) {
            let preferences = match call.kind {
                HookKind::LoadPreferences => HookAnswer::Json("{}".into()),
                _ => HookAnswer::Nothing,
            };
            let _ = answer.send(Ok(preferences));
        }
    }
}

impl interface::Application for Application {
    fn listens(&self, _: EventKind) -> bool {
        true
    }

    fn emit(&self, _: Event) {}

    fn call_hook(&self, call: HookCall, answer: Answer) {
        if call.kind == HookKind::LookupUser {
            let _ = answer.send(Ok(HookAnswer::Truth(true)));
            return;
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.waiting().push((call, answer));
    }
}

struct Service {
    core: Arc<WebSocketService>,
    application: Arc<Application>,
    address: SocketAddr,
    /// In use after a first connection has come and gone.
    heap: isize,
}

static SERVICE: LazyLock<Service> = LazyLock::new(|| {
    let options = ServiceOptions {
        threads: 1,
        auth_timeout: Some(Duration::from_secs(60)),
        hooks: HookKind::ALL.into_iter().collect(),
        ..ServiceOptions::default()
    };
    let options = ServiceOptions {
        runtime: RuntimeValues { batch_size: 1, max_connections_per_user: 1000, ..options.runtime },
        ..options
    };
    let application = Arc::new(Application::default());
    let runtime = Arc::new(RuntimeConfig::new(options.runtime));
    let core = WebSocketService::new(application.clone(), runtime, 200);
    let verifier = Arc::new(carillon_fuzz::verifier());
    core.start(options, verifier, tracing::Dispatch::none()).expect("the service starts");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    core.listen(port, None).expect("it listens");
    let mut service = Service { core, application, address, heap: isize::MAX / 2 };
    let conversation = frames(&[br#"{"type":"subscribe","data":{"bill_id":1}}"#, br#"{"type":"get_preferences"}"#]);
    let reply = service.visit(&[&request(false), &conversation], Duration::from_secs(1));
    let reply = String::from_utf8_lossy(&reply);
    for part in ["HTTP/1.1 101", r#""connected""#, r#""subscribed""#, r#""preferences""#] {
        assert!(reply.contains(part), "the whole way is reached, also {part}: {reply}");
    }
    assert_eq!(service.application.calls.load(Ordering::Relaxed), 1);
    service.settle();
    service.heap = heap::in_use();
    service
});

fuzz_target!(init: LazyLock::force(&SERVICE), |input: &[u8]| {
    let Some((kind, bytes)) = input.split_first() else { return };
    // With a request of the peer's own making, without compression or with it; as the bytes say or as text messages.
    let request = match kind % 4 {
        0 => Vec::new(),
        1 | 2 => request(false),
        _ => request(true),
    };
    let bytes = match kind % 4 {
        2 => frames(&bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>()),
        _ => bytes.to_vec(),
    };
    let sent = request.len() + bytes.len();
    for tried in 1..=TRIES {
        let before = heap::reset_peak();
        let started = processor_time();
        let reply = SERVICE.visit(&[&request, &bytes], QUIET);
        let time = processor_time() - started;
        let grown = usize::try_from(heap::peak() - before).unwrap_or_default().saturating_sub(2 * reply.capacity());
        assert!(HEAP.allows(grown, sent), "{grown} bytes of heap for {sent} bytes");
        assert!(REPLY.allows(reply.len(), sent), "{} bytes in reply to {sent}", reply.len());
        SERVICE.settle();
        let kept = heap::in_use() - SERVICE.heap - reply.capacity() as isize;
        assert!(kept < KEPT, "{kept} bytes stay when the peer has gone");
        if TIME.allows(time, sent) {
            return;
        }
        assert!(tried < TRIES, "{} ms of the processor for {sent} bytes", time / 1_000_000);
    }
});

impl Service {
    /// Connects, sends, ends its side when nothing has come for `quiet`, and returns everything that comes.
    fn visit(&self, parts: &[&[u8]], quiet: Duration) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the port accepts");
        // A service that has heard enough may have gone already.
        let _ = parts.iter().all(|part| stream.write_all(part).is_ok());
        stream.set_read_timeout(Some(quiet)).expect("a time-out");
        let deadline = Instant::now() + PATIENCE;
        let mut reply = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return reply,
                Ok(count) => reply.extend_from_slice(&buffer[..count]),
                Err(failure) if matches!(failure.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let pending = self.application.pending();
                    assert!(pending <= MAX_PENDING, "{pending} calls are under way");
                    assert!(Instant::now() < deadline, "the connection does not end");
                    if pending > 0 {
                        self.application.answer();
                    } else {
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                }
                Err(_reset) => return reply,
            }
        }
    }

    /// Waits until nothing is left of any connection.
    fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.application.answer();
            let (counts, sizes) = (self.core.counts(), self.core.sizes());
            let left = (self.core.statistics().active_connections, counts.subscriptions, sizes.buffers);
            if left == (0, 0, 0) {
                break;
            }
            assert!(Instant::now() < deadline, "something is left of the connection: {left:?}");
            std::thread::yield_now();
        }
        // Calls that the connection's last messages have begun are made when it has gone already. They are when another
        // request has been answered by the same thread.
        let mut stream = TcpStream::connect(self.address).expect("the port accepts");
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request is read");
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.read_to_end(&mut answer).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        self.application.answer();
    }
}

fn request(deflate: bool) -> Vec<u8> {
    let extensions = if deflate { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    format!(
        "GET /ws?token={TOKEN} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extensions}\r\n"
    )
    .into_bytes()
}

/// Text messages.
fn frames(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|message| carillon_fuzz::frame(0x81, &message[..message.len().min(0xffff)])).collect()
}

/// Nanoseconds that all threads of the process have had.
#[allow(unsafe_code, reason = "there is no safe way to ask")]
fn processor_time() -> usize {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that lives until the call has returned.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    usize::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or_default()
}
