//! A shard that breaks with connections open, over real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

use serde_json::json;
use tracing::Dispatch;

use super::*;
use crate::application::interface::{Answer, Application, EventKind, HookCall};
use crate::authenticator::{KeyMaterial, TokenRules, TokenVerifier};
use crate::config::{RuntimeConfig, RuntimeValues};
use crate::core::websocket_service::WebSocketService;
use crate::shard::command::UpgradeRequest;
use crate::shard::service_options::ServiceOptions;
use crate::transport::Source;
use crate::transport::handshake::RequestHead;
use crate::transport::listener;
use crate::types::BillId;

#[path = "../../../tests/support/signing.rs"]
mod signing;

const SECRET: &str = "a secret of the tests alone";
const PATIENCE: Duration = Duration::from_secs(30);

/// Reports errors and disconnections.
struct Listener(Mutex<mpsc::Sender<Event>>);

impl Application for Listener {
    fn listens(&self, kind: EventKind) -> bool {
        matches!(kind, EventKind::Disconnection | EventKind::Error)
    }
    fn emit(&self, event: Event) {
        let _ = self.0.lock().expect("no panic").send(event);
    }
    fn check_health(&self) {}
    fn call_hook(&self, _: HookCall, _: Answer) {}
    fn measure_heap(&self, _: tokio::sync::oneshot::Sender<crate::memory::sources::Usage>) {}
    fn release_memory(&self) {}
}

struct Trial {
    service: Arc<WebSocketService>,
    events: mpsc::Receiver<Event>,
    port: TcpListener,
}

impl Trial {
    fn start() -> Self {
        let (told, events) = mpsc::channel();
        let values = RuntimeValues { batch_size: 1, ..RuntimeValues::default() };
        let runtime = Arc::new(RuntimeConfig::new(values));
        let service = WebSocketService::new(Arc::new(Listener(Mutex::new(told))), runtime, 10);
        let rules = TokenRules {
            key: KeyMaterial::Secret(SECRET.into()),
            algorithms: None,
            user_id_claim: "user_id".into(),
            issuer: None,
            audience: None,
        };
        let options = ServiceOptions { threads: 1, runtime: values, ..ServiceOptions::default() };
        let verifier = Arc::new(TokenVerifier::new(rules).expect("a verifier"));
        service.start(options, verifier, Dispatch::none()).expect("the service starts");
        Self { service, events, port: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    /// A connected client that has been let in and greeted.
    fn join(&self, user: &str) -> TcpStream {
        let client = connect(self.port.local_addr().expect("an address"));
        let (socket, _) = self.port.accept().expect("a connection");
        let token = token_of(user);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let head = RequestHead {
            method: "GET".into(),
            target: format!("/ws?token={token}"),
            headers: vec![
                header("host", "localhost"),
                header("upgrade", "websocket"),
                header("connection", "Upgrade"),
                header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                header("sec-websocket-version", "13"),
            ],
        };
        self.service.accept(UpgradeRequest {
            source: Source::Descriptor(socket.into()),
            head,
            early: Vec::new(),
            peer: None,
        });
        reads(&client, b"connectionId");
        client
    }

    /// Opens the service's own port.
    fn listen(&self) -> SocketAddr {
        let port = listener::bind(Some("127.0.0.1"), 0).expect("a port");
        let address = port.local_addr().expect("an address");
        self.service.listen(port, None).expect("it is served");
        address
    }

    fn next_event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.service.stop();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("a connection");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

fn token_of(user: &str) -> String {
    let claims = json!({ "user_id": user, "exp": 4_000_000_000_u64 });
    signing::hs256_token(SECRET, &claims)
}

/// Reads until these bytes have arrived, and returns everything up to then.
fn reads(mut stream: &TcpStream, what: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.windows(what.len()).any(|window| window == what) {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).expect("bytes in time");
        assert!(count > 0, "the stream has ended");
        bytes.extend_from_slice(&some[..count]);
    }
    bytes
}

#[test]
fn its_peers_are_told_to_come_back_and_find_a_new_one() {
    let trial = Trial::start();
    for _ in 0..2 {
        let mut clients = [trial.join("ann"), trial.join("bob")];
        // A masked `subscribe` to bill 1, so that the tables have something to lose.
        let message = br#"{"type":"subscribe","data":{"bill_id":1}}"#;
        for client in &mut clients {
            let head = [0x81, 0x80 | message.len() as u8, 0, 0, 0, 0];
            client.write_all(&[head.as_slice(), message].concat()).expect("the message is sent");
            reads(client, b"subscribed");
        }
        trial.service.break_shards();
        for mut client in clients {
            // RFC 6455 §5.5.1: the code leads the payload of the close frame.
            reads(&client, &[0x88, 2 + "Service restart".len() as u8, 0x03, 0xf4]);
            client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).expect("the answer is sent");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).expect("the stream ends in order");
        }
        for _ in 0..2 {
            let Event::Disconnection { code, .. } = trial.next_event() else { panic!("not a disconnection") };
            assert_eq!(code, 1012);
        }
        let Event::Error(error) = trial.next_event() else { panic!("not an error") };
        assert_eq!(error.code(), "ERR_INTERNAL");
        let counts = trial.service.counts();
        assert_eq!((counts.users, counts.bills, counts.subscriptions), (0, 0, 0));
        assert_eq!(trial.service.statistics().active_connections, 0);
        assert_eq!(trial.service.sizes().buffers, 0);
    }
    let another = trial.join("ann");
    trial.service.broadcast_to_all(r#"{"type":"announcement"}"#.into());
    reads(&another, b"announcement");
}

#[test]
fn the_own_port_stays_open() {
    let trial = Trial::start();
    let address = trial.listen();
    for _ in 0..3 {
        let mut client = connect(address);
        client.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the request is sent");
        reads(&client, b"HTTP/1.1 200 OK");
        trial.service.break_shards();
        while !matches!(trial.next_event(), Event::Error(_)) {}
    }
}

#[test]
fn a_client_that_connects_to_the_own_port_meanwhile_is_accepted_by_the_new_loop() {
    let trial = Trial::start();
    let address = trial.listen();
    // Does not answer the close frame: the old shard waits for it.
    let _silent = trial.join("ann");
    trial.service.break_shards();
    let Event::Disconnection { .. } = trial.next_event() else { panic!("not a disconnection") };
    let mut client = connect(address);
    let request = format!(
        "GET /ws?token={} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        token_of("bob")
    );
    client.write_all(request.as_bytes()).expect("the request is sent");
    while !matches!(trial.next_event(), Event::Error(_)) {}
    reads(&client, b"connectionId");
    trial.service.broadcast_to_all(r#"{"type":"announcement"}"#.into());
    reads(&client, b"announcement");
}

#[test]
fn a_publish_made_meanwhile_is_carried_out_by_the_new_one() {
    let trial = Trial::start();
    drop(trial.join("ann"));
    trial.service.break_shards();
    let Event::Disconnection { .. } = trial.next_event() else { panic!("not a disconnection") };
    // Whichever loop takes it, the service continues.
    trial.service.broadcast_bill_update(BillId::new(1).expect("a bill"), "{}", "now");
    while !matches!(trial.next_event(), Event::Error(_)) {}
    let client = trial.join("bob");
    trial.service.send_user_notification("bob", r#"{"title":"still here"}"#);
    reads(&client, b"still here");
}

#[test]
fn one_that_breaks_while_it_drains_ends() {
    let trial = Trial::start();
    let client = trial.join("ann");
    let (done, ended) = mpsc::channel();
    trial.service.shutdown(move || done.send(()).expect("the test waits"));
    reads(&client, b"server_shutdown");
    trial.service.break_shards();
    ended.recv_timeout(PATIENCE).expect("the shutdown ends");
}
