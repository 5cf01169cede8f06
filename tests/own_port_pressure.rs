//! The own port under peers that mean no good: silent ones, slow ones, and ones that come and go. Well-behaved clients are served all the same.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carillon::transport::listener;
use carillon::transport::tls::server_config;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, SockRef, Socket, Type};
use support::client::request_of;
use support::{Client, PATIENCE, Service, TestHost, eventually};

/// As many handshakes may be pending.
const PLACES: usize = 4096;

/// What the tests with many sockets need, both ends being in one process.
const DESCRIPTORS: u64 = 16_000;

/// How long a well-behaved client may have to wait.
const SOON: Duration = Duration::from_secs(1);

async fn open(tls: Option<Arc<rustls::ServerConfig>>) -> (Service, SocketAddr) {
    let service = Service::with(TestHost::deaf(), |options| options.threads = 2).await;
    let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
    let address = port.local_addr().unwrap();
    service.core.listen(port, tls).unwrap();
    (service, address)
}

/// Runs the test of this name in a process that may have enough descriptors. `true` in that process.
fn has_descriptors(test: &str) -> bool {
    const MARK: &str = "CARILLON_TEST_HAS_DESCRIPTORS";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let limit = Command::new("sh").args(["-c", "ulimit -Hn"]).output().expect("a shell");
    let limit = String::from_utf8(limit.stdout).unwrap();
    if limit.trim().parse::<u64>().is_ok_and(|limit| limit < DESCRIPTORS) {
        eprintln!("skipped: {DESCRIPTORS} descriptors are needed, the hard limit is {}", limit.trim());
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args(["-c", &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(MARK, "1")
        .status()
        .expect("the test as a process");
    assert!(status.success(), "{status}");
    false
}

/// A connection from one of the addresses of the machine itself.
fn connect_from(last: u8, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    Ok(socket.into())
}

fn crowd(count: usize, address: SocketAddr, greeting: &[u8]) -> Vec<TcpStream> {
    (0..count)
        .map(|number| {
            let mut stream = connect_from(2 + (number % 100) as u8, address).expect("a connection");
            // Whom the service has sent away already is not sent anything.
            let _ = stream.write_all(greeting);
            stream
        })
        .collect()
}

fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !matches!((&*stream).read(&mut [0; 64]), Err(failure) if failure.kind() == io::ErrorKind::WouldBlock)
}

/// The shortest of a few tries, since the machine may be busy with other things. Every try gets in.
async fn wait_of_a_newcomer(address: SocketAddr) -> Duration {
    let mut waits = Vec::new();
    for user in ["ann", "bob", "cid"] {
        let began = Instant::now();
        let mut client = Client::join(address, user, "").await;
        client.is_served().await;
        waits.push(began.elapsed());
    }
    waits.into_iter().min().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_served_while_ten_thousand_sockets_are_silent() {
    if !has_descriptors("a_newcomer_is_served_while_ten_thousand_sockets_are_silent") {
        return;
    }
    let (_service, address) = open(None).await;
    let silent = tokio::task::spawn_blocking(move || crowd(10_000, address, b"")).await.unwrap();
    let wait = wait_of_a_newcomer(address).await;
    assert!(wait < SOON, "{wait:?}");
    // Those who had to go are gone, and the others have not been touched for nothing.
    let ended = || silent.iter().filter(|stream| has_ended(stream)).count();
    assert!(ended() >= silent.len() - PLACES, "{}", ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_served_while_heads_come_drop_by_drop() {
    if !has_descriptors("a_newcomer_is_served_while_heads_come_drop_by_drop") {
        return;
    }
    let (_service, address) = open(None).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let dripping = is_over.clone();
    let (ready, began) = tokio::sync::oneshot::channel();
    let drops = tokio::task::spawn_blocking(move || {
        let mut slow = crowd(PLACES + 500, address, b"GET /ws HTTP/1.1\r\nHost: a\r\nX: ");
        ready.send(()).unwrap();
        let mut rounds = 0;
        while !dripping.load(Ordering::Relaxed) {
            slow.retain_mut(|stream| stream.write_all(b"x").is_ok());
            rounds += 1;
        }
        rounds
    });
    began.await.unwrap();
    let wait = wait_of_a_newcomer(address).await;
    is_over.store(true, Ordering::Relaxed);
    assert!(drops.await.unwrap() > 0);
    assert!(wait < SOON, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_served_while_tls_handshakes_never_finish() {
    if !has_descriptors("a_newcomer_is_served_while_tls_handshakes_never_finish") {
        return;
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = server_config(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Arc::new(client);
    let (_service, address) = open(Some(config)).await;
    let waits = tokio::task::spawn_blocking(move || {
        // The head of a handshake record, and nothing of what it announces.
        let _unfinished = crowd(PLACES + 500, address, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        ["ann", "bob", "cid"].map(|user| {
            let began = Instant::now();
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let mut stream = StreamOwned::new(ClientConnection::new(client.clone(), name).unwrap(), stream);
            stream.write_all(&request_of(user, "")).unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            assert_eq!(&status, b"HTTP/1.1 101");
            began.elapsed()
        })
    });
    let wait = waits.await.unwrap().into_iter().min().unwrap();
    assert!(wait < SOON, "{wait:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_come_and_reset_leave_nothing_behind() {
    let (service, address) = open(None).await;
    let resets = tokio::task::spawn_blocking(move || {
        for number in 0..5_000_u32 {
            let mut stream = connect_from(2 + (number % 100) as u8, address).expect("a connection");
            if number % 2 == 0 {
                let _ = stream.write_all(b"GET /ws HTTP/1.1\r\n");
            }
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    });
    let wait = wait_of_a_newcomer(address).await;
    resets.await.unwrap();
    assert!(wait < SOON, "{wait:?}");
    eventually(|| service.core.counts().users == 0).await;
    // A shutdown waits for every handshake that is pending.
    let began = Instant::now();
    service.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "handshakes were left: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_request_has_the_time_that_the_option_says() {
    let service =
        Service::with(TestHost::new(), |options| options.handshake_timeout = Duration::from_millis(200)).await;
    let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
    let address = port.local_addr().unwrap();
    service.core.listen(port, None).unwrap();
    let began = Instant::now();
    let mut slow = Client::connect(address).await;
    slow.send(b"GET /ws HTTP/1.1\r\nHost:").await;
    assert!(slow.head().await.starts_with("HTTP/1.1 408 "));
    assert!(began.elapsed() >= Duration::from_millis(200));
    // It is not the time of what comes after: a connection outlives another request's.
    let mut client = Client::join(address, "ann", "").await;
    let mut silent = Client::connect(address).await;
    assert!(silent.head().await.starts_with("HTTP/1.1 408 "));
    client.is_served().await;
}
