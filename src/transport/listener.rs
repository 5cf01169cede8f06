//! The sockets of an own port: one per shard where the system shares a port among them, else one.
//!
//! Made on the caller's thread; each is then accepted from on its shard's.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the system keeps for us until we accept them.
const BACKLOG: i32 = 1024;

/// The first and the longest pause after the system refused to accept, for want of descriptors mostly.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// At most `count` listening sockets on one address. Port 0 means any free one.
pub fn bind(host: &str, port: u16, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address, count) {
            Ok(listeners) => return Ok(listeners),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_address(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Somebody else's port is not to be shared: the first socket claims it alone, and opens it to ours then.
    let first = listen(address, false)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    #[cfg(target_os = "linux")]
    if count > 1 {
        drop(listeners.pop());
        for _ in 0..count {
            listeners.push(listen(address, true)?);
        }
    }
    let _ = (count, address);
    Ok(listeners)
}

fn listen(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    socket.set_reuse_port(is_shared)?;
    let _ = is_shared;
    if address.is_ipv6() {
        // `::` takes IPv4 as well, as in Node.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// How long to leave a listener alone that refuses to accept.
#[derive(Debug, Default)]
pub struct Pause {
    current: Option<Duration>,
}

impl Pause {
    /// The next pause, and whether it is the first of a row.
    pub fn lengthen(&mut self) -> (Duration, bool) {
        let is_first = self.current.is_none();
        let pause = self.current.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.current = Some(pause);
        (pause, is_first)
    }

    /// It accepts again.
    pub fn end(&mut self) {
        self.current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_begin_anew() {
        let mut pause = Pause::default();
        let row: Vec<_> =
            (0..6).map(|_| pause.lengthen()).map(|(pause, is_first)| (pause.as_millis(), is_first)).collect();
        assert_eq!(row, [(100, true), (200, false), (400, false), (800, false), (1000, false), (1000, false)]);
        pause.end();
        assert_eq!(pause.lengthen(), (FIRST_PAUSE, true));
    }

    #[test]
    fn all_sockets_share_one_port_that_nobody_else_gets() {
        let listeners = bind("127.0.0.1", 0, 3).expect("a free port");
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect();
        assert!(ports.iter().all(|port| Some(port) == ports.first()), "{ports:?}");
        let taken = bind("127.0.0.1", *ports.first().expect("one at least"), 1).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
