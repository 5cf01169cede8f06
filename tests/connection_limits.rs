//! How many connections there may be, of the service and of one user, and how those are told for whom there is no room.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carillon::application::interface::EventKind;
use carillon::shard::service_options::{ConnectionLimit, RejectionMode, ServiceOptions};
use carillon::transport::listener;
use carillon::transport::origin::Origins;
use support::client::{close, request, request_of};
use support::host::LookupAnswer;
use support::{Client, Service, TestHost, eventually};

const LIMIT: usize = 2;

/// A service for `LIMIT` connections of a user, and the address of its own port.
async fn open(host: TestHost, configure: impl FnOnce(&mut ServiceOptions)) -> (Service, SocketAddr) {
    let service = Service::with(host, |options| {
        options.threads = 2;
        options.runtime.max_connections_per_user = LIMIT;
        configure(options);
    })
    .await;
    let port = listener::bind(Some("127.0.0.1"), 0).unwrap();
    let address = port.local_addr().unwrap();
    service.core.listen(port, None).unwrap();
    (service, address)
}

fn closing_oldest(options: &mut ServiceOptions) {
    options.connection_limit = ConnectionLimit::CloseOldest;
}

#[tokio::test]
async fn the_oldest_connection_makes_room_for_the_newest() {
    let (service, port) = open(TestHost::new(), closing_oldest).await;
    // However they come: attached, on the own port, on either shard.
    let mut clients = vec![service.join("ann").await, Client::join(port, "ann", "").await];
    let mut other = service.join("bob").await;
    for round in 0..6 {
        let address = if round % 2 == 0 { service.address } else { port };
        let newest = Client::join(address, "ann", "").await;
        assert_eq!(service.core.connection_count("ann"), LIMIT);
        let mut oldest = clients.remove(0);
        assert_eq!(oldest.closed().await, (4009, "Replaced by a newer connection".into()));
        oldest.send(&close(4009, "")).await;
        oldest.ends().await;
        // The event comes when the peer has closed its side.
        drop(oldest);
        assert_eq!(service.host.disconnection().await, (4009, "Replaced by a newer connection".into()));
        clients.push(newest);
    }
    for client in &mut clients {
        client.is_served().await;
    }
    other.is_served().await;
    assert_eq!(service.core.statistics().active_connections, LIMIT + 1);
}

#[tokio::test]
async fn without_the_option_the_newest_is_refused() {
    let (service, port) = open(TestHost::new(), |_| {}).await;
    let mut clients = [service.join("ann").await, Client::join(port, "ann", "").await];
    for address in [service.address, port] {
        let mut one_more = Client::connect(address).await;
        one_more.send(&request_of("ann", "")).await;
        assert_eq!(one_more.refusal().await, 401);
    }
    for client in &mut clients {
        client.is_served().await;
    }
}

#[tokio::test]
async fn handshakes_that_settle_together_close_one_connection_each() {
    let answers: Arc<Mutex<Vec<LookupAnswer>>> = Arc::default();
    let keep = answers.clone();
    let host = TestHost::looking_up(move |_, answer| keep.lock().unwrap().push(answer));
    let (service, _) = open(host, |options| {
        closing_oldest(options);
        options.lookup_timeout = Duration::from_secs(600);
    })
    .await;
    let answer_all = |found: bool| {
        for answer in answers.lock().unwrap().drain(..) {
            let _ = answer.send(Ok(found));
        }
    };
    let attempt = async |count: usize| {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = Client::connect(service.address).await;
            client.send(&request_of("ann", "")).await;
            clients.push(client);
        }
        eventually(|| answers.lock().unwrap().len() == count).await;
        clients
    };
    let let_in = async |clients: &mut Vec<Client>| {
        answer_all(true);
        for client in clients {
            assert!(client.head().await.starts_with("HTTP/1.1 101 "));
            assert_eq!(client.json().await["type"], "connected");
        }
    };
    let mut first = attempt(LIMIT).await;
    let_in(&mut first).await;
    // A rejected handshake replaces no connection.
    let mut unknown = attempt(LIMIT).await;
    answer_all(false);
    for client in &mut unknown {
        assert_eq!(client.refusal().await, 401);
    }
    for client in &mut first {
        client.is_served().await;
    }
    let mut second = attempt(LIMIT).await;
    // More handshakes at once than there may be connections.
    let mut third = Client::connect(service.address).await;
    third.send(&request_of("ann", "")).await;
    assert_eq!(third.refusal().await, 401);
    let_in(&mut second).await;
    for mut client in first {
        client.completes_close(4009).await;
    }
    for client in &mut second {
        client.is_served().await;
    }
    assert_eq!(service.core.connection_count("ann"), LIMIT);
}

#[tokio::test]
async fn the_service_has_as_many_connections_as_it_may_have() {
    let (service, port) = open(TestHost::new(), |options| {
        options.max_connections = Some(3);
        options.auth_timeout = Some(Duration::from_secs(600));
    })
    .await;
    // A handshake that fails gives its place back.
    for _ in 0..5 {
        let mut stranger = Client::connect(port).await;
        stranger.send(&request("/ws?token=wrong", "")).await;
        assert_eq!(stranger.refusal().await, 401);
    }
    // Anonymous ones count, too.
    let mut anonymous = Client::connect(service.address).await;
    anonymous.send(&request("/ws", "")).await;
    assert!(anonymous.head().await.starts_with("HTTP/1.1 101 "));
    let mut attached = service.join("ann").await;
    let mut own = Client::join(port, "bob", "").await;
    for address in [service.address, port] {
        let mut one_more = Client::connect(address).await;
        one_more.send(&request_of("cid", "")).await;
        assert_eq!(one_more.refusal().await, 503);
    }
    for client in [&mut attached, &mut own] {
        client.is_served().await;
    }
    // Each that goes makes room for one, however it goes.
    own.send(&close(1000, "")).await;
    own.is_closed_with(1000).await;
    attached.reset();
    drop(anonymous);
    let mut joined = Vec::new();
    for user in ["dan", "eve", "fay"] {
        let client = loop {
            let mut client = Client::connect(port).await;
            client.send(&request_of(user, "")).await;
            match client.head().await {
                head if head.starts_with("HTTP/1.1 101 ") => break client,
                head => assert!(head.starts_with("HTTP/1.1 503 "), "{head}"),
            }
        };
        joined.push(client);
    }
    let mut one_more = Client::connect(port).await;
    one_more.send(&request_of("gus", "")).await;
    assert_eq!(one_more.refusal().await, 503);
}

#[tokio::test]
async fn a_refusal_may_be_told_by_a_close_code() {
    let (service, port) = open(TestHost::new(), |options| {
        options.refusals = RejectionMode::Close;
        options.max_connections = Some(LIMIT + 1);
        options.handshake.origins = Origins::SameHost;
    })
    .await;
    let protocol = "Sec-WebSocket-Protocol: civic-engagement-v1\r\n";
    let refused = async |address: SocketAddr, request: Vec<u8>| {
        let mut client = Client::connect(address).await;
        client.send(&request).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: civic-engagement-v1\r\n"), "{head}");
        let told = client.closed().await;
        client.send(&close(told.0, "")).await;
        client.ends().await;
        told
    };
    let mut clients = vec![service.join("ann").await, Client::join(port, "ann", "").await];
    for address in [service.address, port] {
        let unauthorized = refused(address, request("/ws?token=wrong", protocol)).await;
        assert_eq!(unauthorized, (4401, "Unauthorized".into()));
        let foreign = refused(address, request_of("bob", &format!("{protocol}Origin: https://evil.example\r\n"))).await;
        assert_eq!(foreign, (4403, "Forbidden".into()));
        let beyond = refused(address, request_of("ann", protocol)).await;
        assert_eq!(beyond, (4409, "Connection limit reached".into()));
        // A request that is not for an upgrade is answered with a status.
        let mut elsewhere = Client::connect(address).await;
        elsewhere.send(&request("/elsewhere", "")).await;
        assert_eq!(elsewhere.refusal().await, 400);
    }
    clients.push(service.join("bob").await);
    let full = refused(port, request_of("cid", protocol)).await;
    assert_eq!(full, (4503, "Service unavailable".into()));
    // None of them has been a connection.
    assert_eq!(service.core.statistics().total_connections, 3);
    assert_eq!(service.host.count(EventKind::Connection), 3);
    assert_eq!(service.host.count(EventKind::Disconnection), 0);
    for client in &mut clients {
        client.is_served().await;
    }
}
