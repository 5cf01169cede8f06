//! What an idle connection costs in heap. One test: the bytes counted are those of the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use carillon::shard::connection::{CONNECTION_BYTES, Connection};
use carillon::shard::outbox::Outbox;
use carillon::transport::assembler::Assembler;
use support::client::{close, request_of, text};
use support::{Service, TestHost, eventually, heap};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

const CONNECTIONS: usize = 400;

/// Bytes of heap of a connection that is authenticated, subscribed to one bill and idle since, its share of all tables included: 499
/// when this was written, and no more than this. System memory (descriptor, socket) comes on top.
const HEAP_PER_CONNECTION: usize = 537;

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// Blocking, so that the client itself has no heap.
fn idle_client(service: &Service, number: usize, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(service.address).unwrap();
    let subscribe = text(&format!(r#"{{"type":"subscribe","data":{{"bill_id":{}}}}}"#, 1 + number % 50));
    stream.write_all(&[request_of(&format!("user-{number}"), headers), subscribe].concat()).unwrap();
    let mut read = Vec::new();
    let mut bytes = [0; 2048];
    while !read.windows(12).any(|window| window == br#""subscribed""#) {
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&bytes[..count]);
    }
    stream
}

/// Bytes per connection of many at a service that has had none before.
async fn heap_per_connection(headers: &'static str) -> usize {
    // A host that hears nothing: one that records would be counted too.
    let service = Service::with(TestHost::deaf(), |_| {}).await;
    leave(&service, vec![idle_client(&service, 0, headers)]).await;
    let before = heap::in_use();
    let crowd = join(&service, headers);
    let grown = heap::in_use() - before;
    assert_eq!(service.core.counts().subscriptions, CONNECTIONS);
    leave(&service, crowd).await;
    // What stays is room in the tables, and who may come back: a second crowd adds nothing to it but deadlines that
    // will find none.
    let left = heap::in_use() - before;
    leave(&service, join(&service, headers)).await;
    eventually(|| heap::in_use() - before < left + 160 * CONNECTIONS as isize).await;
    service.shutdown().await;
    usize::try_from(grown).unwrap() / CONNECTIONS
}

fn join(service: &Service, headers: &str) -> Vec<TcpStream> {
    tokio::task::block_in_place(|| (0..CONNECTIONS).map(|number| idle_client(service, number, headers)).collect())
}

async fn leave(service: &Service, crowd: Vec<TcpStream>) {
    for mut stream in crowd {
        stream.write_all(&close(1000, "")).unwrap();
    }
    service.empties().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_costs_less_than_a_kilobyte() {
    assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
    assert!(size_of::<Outbox>() <= 80, "{}", size_of::<Outbox>());
    assert!(size_of::<Assembler>() <= 16, "{}", size_of::<Assembler>());

    // What the process allocates once.
    heap_per_connection(DEFLATE).await;
    let settled = heap::in_use();
    let plain = heap_per_connection("").await;
    let deflated = heap_per_connection(DEFLATE).await;
    println!("{plain} bytes of heap per idle connection, {deflated} with deflate negotiated");
    assert!(plain <= HEAP_PER_CONNECTION, "{plain}");
    assert!(CONNECTION_BYTES < plain, "{CONNECTION_BYTES} without its share of the tables, {plain} with it");
    assert!(deflated.abs_diff(plain) <= 32, "{plain} without deflate, {deflated} with it");
    // And nothing of a service stays, once the last task that knew it has gone.
    eventually(|| heap::in_use() - settled < 16 * 1024).await;
}
