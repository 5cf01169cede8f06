//! The own port: requests that are no upgrade, requests that are none, TLS, and its end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use carillon::error::ErrorKind;
use carillon::transport::listener;
use carillon::transport::tls::{TlsError, server_config};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;
use socket2::{Domain, SockRef, Type};
use support::client::{request_of, text};
use support::{Client, PATIENCE, Service, TestHost};

const MEBIBYTE: usize = 1024 * 1024;

/// A peer that waits for so many hooks is not read from.
const HOOKS_AT_ONCE: usize = 8;

/// A service with an own port of two shards, plain or not.
async fn open(tls: Option<Arc<rustls::ServerConfig>>) -> (Service, SocketAddr) {
    let service = Service::with(TestHost::new(), |options| {
        options.threads = 2;
        options.backpressure.max_bytes = 64 * MEBIBYTE;
    })
    .await;
    let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
    let address = port.local_addr().unwrap();
    service.core.listen(port, tls).unwrap();
    (service, address)
}

/// Everything that is answered until the end of the stream.
async fn ask(address: SocketAddr, request: &str) -> String {
    let request = request.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn connections_are_admitted_and_dealt_out() {
    let (service, address) = open(None).await;
    let mut clients = Vec::new();
    for user in ["ann", "bob", "cid"] {
        clients.push(Client::join(address, user, "").await);
    }
    for client in &mut clients {
        client.is_served().await;
    }
    // A frame in the packet of the request, and a request in many packets.
    let mut early = Client::connect(address).await;
    early.send(&[request_of("dan", ""), text(r#"{"type":"ping"}"#)].concat()).await;
    assert!(early.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(early.json().await["type"], "connected");
    assert_eq!(early.json().await["type"], "pong");
    let mut slow = Client::connect(address).await;
    for byte in request_of("eve", "") {
        slow.send(&[byte]).await;
    }
    assert!(slow.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(service.core.counts().users, 5);
    assert_eq!(service.core.connected_users().len(), 5);
}

#[tokio::test]
async fn every_shard_gets_its_share() {
    let service = Service::with(TestHost::new(), |options| options.threads = 4).await;
    let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
    let address = port.local_addr().unwrap();
    service.core.listen(port, None).unwrap();
    let mut clients = Vec::new();
    // That one of four gets none of a hundred happens once in a million million times.
    for number in 0..100 {
        clients.push(Client::join(address, &format!("user {number}"), "").await);
    }
    let shares = || service.core.inspect(0).shards.into_iter().map(|shard| shard.connections).collect::<Vec<_>>();
    support::eventually(|| shares().iter().sum::<usize>() == clients.len()).await;
    assert!(shares().iter().all(|share| *share > 0), "{:?}", shares());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_closed_port_refuses_at_once_who_comes() {
    let (service, address) = open(None).await;
    let mut client = Client::join(address, "ann", "").await;
    service.core.shutdown(|| {});
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    // Open connections get the shutdown message, and the grace period.
    while client.json().await["type"] != "server_shutdown" {}
}

#[tokio::test]
async fn other_requests_are_answered_as_http() {
    let (_service, address) = open(None).await;
    let health = ask(address, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(health.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\n"), "{health}");
    assert!(health.ends_with("\r\nContent-Length: 20\r\n\r\n{\"status\":\"healthy\"}"), "{health}");
    let upgrade = ask(address, "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(upgrade.starts_with("HTTP/1.1 426 ") && upgrade.contains("\r\nUpgrade: websocket\r\n"), "{upgrade}");
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"]
    {
        assert!(ask(address, request).await.starts_with("HTTP/1.1 404 "), "{request}");
    }
    // Upgrades are refused as an attached service refuses them.
    let elsewhere = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(ask(address, elsewhere).await.starts_with("HTTP/1.1 400 "));
    assert!(ask(address, &elsewhere.replace("/x", "/ws")).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn what_is_no_request_is_told_so() {
    let (service, address) = open(None).await;
    assert!(ask(address, "hello\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "@".repeat(16 * 1024));
    let answer = ask(address, &large).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // A peer that says nothing and leaves costs nothing.
    drop(Client::connect(address).await);
    let mut client = Client::join(address, "ann", "").await;
    client.is_served().await;
    assert_eq!(service.core.counts().users, 1);
}

#[tokio::test]
async fn a_request_that_does_not_come_is_answered_with_408() {
    let (_service, address) = open(None).await;
    assert!(ask(address, "GET /ws HTTP/1.1\r\nHost:").await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn shutdown_closes_the_port_first_and_aborts_connections_without_a_request() {
    let (service, address) = open(None).await;
    let mut silent = Client::connect(address).await;
    let mut client = Client::join(address, "ann", "").await;
    let ended = service.begin_shutdown();
    let refused = TcpStream::connect(address).expect_err("the port is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    silent.ends().await;
    assert_eq!(client.json().await["type"], "server_shutdown");
    client.completes_close(1001).await;
    support::patiently(ended).await.unwrap();
    // The port is free again.
    drop(TcpListener::bind(address).unwrap());
}

#[tokio::test]
async fn there_is_one_port_at_a_time_and_only_while_the_service_runs() {
    let (service, address) = open(None).await;
    let another = listener::bind(Some("localhost"), 0).unwrap();
    assert_eq!(service.core.listen(another, None).unwrap_err().kind(), ErrorKind::AlreadyRunning);
    let taken = listener::bind(Some("127.0.0.1"), address.port()).unwrap_err();
    assert_eq!((taken.kind(), taken.code()), (ErrorKind::AddressInUse, "EADDRINUSE"));
    assert!(taken.to_string().contains(&address.to_string()), "{taken}");
    let elsewhere = listener::bind(Some("192.0.2.1"), 0).unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::AddressNotAvailable);
    service.shutdown().await;
    let late = listener::bind(None, 0).unwrap();
    assert_eq!(service.core.listen(late, None).unwrap_err().kind(), ErrorKind::ListenFailed);
}

struct Identity {
    certificate: String,
    key: String,
    client: Arc<ClientConfig>,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Identity { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), client: Arc::new(client) }
}

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

fn connect_encrypted(address: SocketAddr, identity: &Identity) -> Encrypted {
    encrypted(TcpStream::connect(address).unwrap(), identity)
}

fn encrypted(stream: TcpStream, identity: &Identity) -> Encrypted {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(identity.client.clone(), name).unwrap(), stream)
}

/// Reads until the bytes end with this.
fn read_until(stream: &mut Encrypted, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_carries_messages_larger_than_any_buffer() {
    let identity = identity();
    let config = server_config(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let (service, address) = open(Some(config)).await;
    let core = service.core.clone();
    tokio::task::spawn_blocking(move || {
        let mut health = connect_encrypted(address, &identity);
        health.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = String::new();
        health.read_to_string(&mut answer).expect("an orderly end");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        let mut client = connect_encrypted(address, &identity);
        let subscribe = text(r#"{"type":"subscribe","data":{"bill_id":1}}"#);
        client.write_all(&[request_of("ann", ""), subscribe].concat()).unwrap();
        read_until(&mut client, b"\r\n\r\n");
        read_until(&mut client, br#""subscribed""#);
        // Beyond what the system and the session hold together, so that the rest has to wait for room.
        let content = "@".repeat(16 * MEBIBYTE);
        core.broadcast_to_all(json!({ "type": "large", "data": content }).to_string());
        core.broadcast_to_all(json!({ "type": "last" }).to_string());
        let mut received = Vec::new();
        let mut portion = vec![0; 64 * 1024];
        while !received.ends_with(br#"{"type":"last"}"#) {
            let count = client.read(&mut portion).unwrap();
            received.extend_from_slice(&portion[..count]);
        }
        assert_eq!(received.iter().filter(|byte| **byte == b'@').count(), content.len());
    })
    .await
    .unwrap();
    service.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_encrypted_is_sent_to_a_peer_that_is_not_read_from() {
    let identity = identity();
    let config = server_config(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let service = Service::with(TestHost::without_preferences(), |options| {
        options.hooks.extend(support::PREFERENCES);
        options.lookup_timeout = 10 * PATIENCE;
        // Whatever else is written would send the rest along.
        options.base.heartbeat_interval = 10 * PATIENCE;
    })
    .await;
    let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
    // The session takes more than the system does.
    SockRef::from(&port).set_send_buffer_size(4096).unwrap();
    let address = port.local_addr().unwrap();
    service.core.listen(port, Some(config)).unwrap();
    let (core, host) = (service.core.clone(), service.host.clone());
    let client = tokio::task::spawn_blocking(move || {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let mut client = encrypted(socket.into(), &identity);
        client.write_all(&request_of("ann", "")).unwrap();
        read_until(&mut client, b"\r\n\r\n");
        client.write_all(&text(r#"{"type":"get_preferences"}"#).repeat(HOOKS_AT_ONCE)).unwrap();
        client
    });
    let mut client = client.await.unwrap();
    support::eventually(|| host.unanswered() == HOOKS_AT_ONCE).await;
    core.broadcast_to_all(format!(r#"{{"type":"large","data":"{}","at":"the end"}}"#, "@".repeat(60_000)));
    tokio::task::spawn_blocking(move || read_until(&mut client, br#""at":"the end"}"#)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_dismissed() {
    let identity = identity();
    let config = server_config(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let (service, address) = open(Some(config)).await;
    let mut plain = Client::connect(address).await;
    plain.send(&request_of("ann", "")).await;
    // An alert, and the end.
    assert_eq!(plain.next_byte().await, Some(21));
    while plain.next_byte().await.is_some() {}
    assert_eq!(service.core.counts().users, 0);
}

#[test]
fn a_wrong_certificate_or_key_is_told_apart() {
    let (one, other) = (identity(), identity());
    let configure = |certificate: &str, key: &str| server_config(certificate.as_bytes(), key.as_bytes());
    assert!(matches!(configure("no PEM", &one.key), Err(TlsError::Certificate(_))));
    assert!(matches!(configure(&one.key, &one.key), Err(TlsError::Certificate(_))));
    assert!(matches!(configure(&one.certificate, "no PEM"), Err(TlsError::Key(_))));
    assert!(matches!(configure(&one.certificate, &other.key), Err(TlsError::Key(_))));
    assert!(configure(&one.certificate, &one.key).is_ok());
}
