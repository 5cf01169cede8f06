//! What a peer can make the service allocate, byte by byte. Behaviour is in `vulnerabilities.rs`.
//!
//! One test: the bytes counted are those of the whole process, so nothing may run beside. Clients block and have no heap of
//! their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use support::client::{BINARY, RSV1, TEXT, deflate, frame, ping, request_of};
use support::{PATIENCE, Service, TestHost, eventually, heap};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

const KIB: isize = 1024;
/// More of them in one message close the connection.
const MAX_FRAGMENTS: isize = 16_384;
const MAX_PAYLOAD: usize = 102_400;
/// The service looks at its memory now and then, for which it needs some: the least of so many tries is without that.
const TRIES: usize = 3;
/// What the end of a connection may need for a moment, and room in tables.
const OVERHEAD: isize = 4 * KIB;

fn connect(address: SocketAddr, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request_of("villain", headers)).unwrap();
    let mut read = [0; 4096];
    let mut length = 0;
    while !read[..length].windows(14).any(|window| window == br#""connectionId""#) {
        let count = stream.read(&mut read[length..]).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read[..length]));
        length += count;
    }
    stream
}

/// Sends everything, unless the service ends the connection before, and waits for that end. The close code.
fn send_until_closed(stream: &mut TcpStream, bytes: &[u8]) -> Option<u16> {
    let _ = stream.write_all(bytes);
    let mut last = [0; 4096];
    let mut code = None;
    loop {
        match stream.read(&mut last) {
            Ok(0) => return code,
            Ok(count) => {
                let close = last[..count].windows(4).find(|window| window[0] == 0x88 && window[1] >= 2);
                code = close.map(|close| u16::from_be_bytes([close[2], close[3]])).or(code);
            }
            Err(failure) if failure.kind() == ErrorKind::ConnectionReset => return code,
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// Sends the bytes over and over until they are taken no more; how many were taken.
fn send_until_blocked(stream: &mut TcpStream, bytes: &[u8], most: usize) -> usize {
    // Nothing tells that the peer will never read again; a good second without progress is taken for it.
    stream.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
    let mut sent = 0;
    while sent < most {
        match stream.write(&bytes[sent % bytes.len()..]) {
            Ok(count) => sent += count,
            Err(_) => break,
        }
    }
    sent
}

fn head(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff], length.to_be_bytes().as_slice(), &[0; 4]].concat()
}

const DEFLATE: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

/// The most that the heap grows by while a connection that is open sends this, and is closed with `code`.
async fn peak(service: &Service, headers: &str, bytes: &[u8], code: u16) -> isize {
    let mut least = isize::MAX;
    for _ in 0..TRIES {
        let grown = tokio::task::block_in_place(|| {
            let mut stream = connect(service.address, headers);
            let before = heap::reset_peak();
            assert_eq!(send_until_closed(&mut stream, bytes), Some(code));
            heap::peak() - before
        });
        service.empties().await;
        least = least.min(grown);
    }
    least
}

/// What each of a few connections holds that have announced a message of this length and sent 70 000 bytes of it.
async fn held_for_announced(service: &Service, length: u64) -> isize {
    const CONNECTIONS: usize = 4;
    const SENT: usize = 70_000;
    let bytes = [head(BINARY, length), vec![0; SENT]].concat();
    let mut streams: Vec<_> =
        tokio::task::block_in_place(|| (0..CONNECTIONS).map(|_| connect(service.address, "")).collect());
    let before = heap::in_use();
    tokio::task::block_in_place(|| streams.iter_mut().for_each(|stream| stream.write_all(&bytes).unwrap()));
    eventually(|| heap::in_use() - before >= (CONNECTIONS * SENT) as isize).await;
    let held = (heap::in_use() - before) / CONNECTIONS as isize;
    drop(streams);
    service.empties().await;
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_peer_makes_the_service_allocate_no_more_than_it_sends() {
    // A host that records events would be counted, too.
    let service = Service::with(TestHost::deaf(), |_| {}).await;
    let roomy = Service::with(TestHost::deaf(), |options| options.base.max_payload = 1 << 30).await;
    // What the process and the shards allocate once.
    let bomb = deflate(&vec![0; 4 * 1024 * 1024]);
    for headers in ["", DEFLATE] {
        peak(&service, headers, &frame(0x83, b""), 1002).await;
        peak(&roomy, headers, &frame(0x83, b""), 1002).await;
    }
    // The inflater stays.
    peak(&service, DEFLATE, &frame(TEXT | RSV1, &bomb), 1009).await;

    // A length that is refused costs what any violation costs.
    let violation = peak(&service, "", &frame(0x83, b""), 1002).await;
    assert!(violation < KIB, "{violation} bytes for a connection that is closed at once");
    for length in [u64::MAX >> 1, 1 << 40, 1 << 32, MAX_PAYLOAD as u64 + 1] {
        for first in [TEXT, BINARY, 0x01] {
            let grown = peak(&service, "", &head(first, length), 1009).await;
            assert!(grown < KIB, "{grown} bytes when {length} are announced, {violation} for a violation");
        }
    }

    // A length that is allowed costs what has come of it.
    let honest = held_for_announced(&roomy, 70_001).await;
    assert!(honest < 2 * 70_000 + KIB, "{honest} bytes are held for 70 000");
    for length in [1 << 20, 1 << 30] {
        let held = held_for_announced(&roomy, length).await;
        assert!((held - honest).abs() < KIB, "{held} bytes are held when {length} are announced, {honest} otherwise");
    }

    // Fragments cost their bytes, and nothing each.
    for part in [&b""[..], b"x"] {
        let parts = [frame(0x01, part), frame(0x00, part).repeat(50_000)].concat();
        let grown = peak(&service, "", &parts, 1008).await;
        assert!(
            grown < 2 * part.len() as isize * MAX_FRAGMENTS + KIB,
            "{grown} bytes for fragments of {} bytes",
            part.len()
        );
    }

    // A message is inflated to its limit, in a buffer that at most doubles.
    for bytes in [frame(TEXT | RSV1, &bomb), frame(BINARY | RSV1, &bomb)] {
        let grown = peak(&service, DEFLATE, &bytes, 1009).await;
        let limit = 2 * MAX_PAYLOAD as isize + bytes.len() as isize + 64 * KIB + OVERHEAD;
        assert!(grown < limit, "{grown} bytes for a message that would be 4 MiB");
    }

    unread_pongs(&service).await;
}

/// Every ping wants a pong, and none is read: the service stops reading.
async fn unread_pongs(service: &Service) {
    for payload in [&b""[..], b"x", &[b'x'; 125]] {
        let pings = ping(payload).repeat(64 * 1024 / (payload.len() + 6));
        let (stream, before) = tokio::task::block_in_place(|| {
            let mut stream = connect(service.address, "");
            let before = heap::reset_peak();
            let sent = send_until_blocked(&mut stream, &pings, 64 << 20);
            assert!(sent < 48 << 20, "{sent} bytes of pings were read from a peer that reads nothing");
            (stream, before)
        });
        let grown = heap::peak() - before;
        assert!(grown < 512 * KIB, "{grown} bytes for pongs to pings of {} bytes", payload.len());
        drop(stream);
        service.empties().await;
    }
}
