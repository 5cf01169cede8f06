//! Finds the address a connection really comes from, behind proxies that are trusted to say so.
//!
//! Owns the list of trusted proxies. Called when a connection is accepted, on the thread that holds the request.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::request_head::RequestHead;
use crate::error::{Error, ErrorKind};

/// Whose `X-Forwarded-For` is believed. Without trust the header is what any client may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustProxy {
    /// This many proxies stand before us.
    Hops(u32),
    /// Proxies are those with an address in one of these networks.
    Networks(Vec<Network>),
}

impl Default for TrustProxy {
    fn default() -> Self {
        Self::Hops(0)
    }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Bits that all addresses of the network share; the rest is zero. IPv4 is held as its mapped IPv6 address.
    bits: u128,
    mask: u128,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Address(IpAddr),
    /// A process of this machine, which has no address: a proxy, if any is trusted.
    UnixSocket,
    /// It is gone already, or the stream is no socket.
    Unknown,
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

/// The address behind a peer, see [`client_address`]. None for a Unix socket, unless proxies are trusted: then the peer is the first of them.
pub fn client_of(head: &RequestHead, peer: Peer, trust: &TrustProxy) -> Option<IpAddr> {
    match peer {
        Peer::Address(address) => Some(client_address(head, address, trust)),
        Peer::UnixSocket if trust.is_set() => {
            let mut entries = entries(head);
            entries.next().and_then(parse_entry).map(|address| walk(entries, address, 1, trust))
        }
        Peer::UnixSocket | Peer::Unknown => None,
    }
}

/// Walks from `peer` back towards the client for as long as each next one was named by a trusted proxy.
///
/// IPv4 addresses written as IPv6 are shown as IPv4.
pub fn client_address(head: &RequestHead, peer: IpAddr, trust: &TrustProxy) -> IpAddr {
    walk(entries(head), peer.to_canonical(), 0, trust)
}

/// The last entry was written by the proxy nearest to us, and comes first.
fn entries(head: &RequestHead) -> impl Iterator<Item = &str> {
    head.header("x-forwarded-for").unwrap_or_default().rsplit(',')
}

/// `address` is that of the proxy or client `hop` steps away.
fn walk<'a>(
    mut entries: impl Iterator<Item = &'a str>,
    mut address: IpAddr,
    mut hop: u32,
    trust: &TrustProxy,
) -> IpAddr {
    while trust.covers(address, hop) {
        let Some(previous) = entries.next().and_then(parse_entry) else { break };
        address = previous;
        hop += 1;
    }
    address
}

impl TrustProxy {
    /// Whether any proxy is trusted.
    fn is_set(&self) -> bool {
        match self {
            Self::Hops(trusted) => *trusted > 0,
            Self::Networks(networks) => !networks.is_empty(),
        }
    }

    fn covers(&self, address: IpAddr, hop: u32) -> bool {
        match self {
            Self::Hops(trusted) => hop < *trusted,
            Self::Networks(networks) => networks.iter().any(|network| network.contains(address)),
        }
    }
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        mapped(address) & self.mask == self.bits
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_network(text).ok_or_else(|| {
            Error::new(ErrorKind::InvalidOption, format!("trustProxy: {text:?} is neither an address nor a CIDR range"))
        })
    }
}

fn parse_network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => width,
    };
    let free_bits = width.checked_sub(prefix)?;
    let mask = u128::MAX.checked_shl(free_bits).unwrap_or(0);
    Some(Network { bits: mapped(address) & mask, mask })
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Some proxies add the port, and brackets around IPv6.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse::<IpAddr>().or_else(|_| entry.parse::<SocketAddr>().map(|a| a.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(forwarded_for: Option<&str>) -> RequestHead {
        let headers = forwarded_for.map(|value| ("x-forwarded-for".to_owned(), value.to_owned()));
        RequestHead { method: "GET".into(), target: "/ws".into(), headers: headers.into_iter().collect() }
    }

    fn networks(ranges: &[&str]) -> TrustProxy {
        TrustProxy::Networks(ranges.iter().map(|range| range.parse().unwrap()).collect())
    }

    #[test]
    fn follows_the_header_only_as_far_as_it_is_trusted() {
        let none = TrustProxy::default();
        let private = networks(&["10.0.0.0/8", "fd00::/8"]);
        for (peer, forwarded_for, trust, expected) in [
            ("9.9.9.9", None, &none, "9.9.9.9"),
            ("9.9.9.9", Some("1.1.1.1"), &none, "9.9.9.9"),
            ("::ffff:9.9.9.9", None, &none, "9.9.9.9"),
            ("2001:db8::1", None, &none, "2001:db8::1"),
            ("9.9.9.9", None, &TrustProxy::Hops(1), "9.9.9.9"),
            ("9.9.9.9", Some("1.1.1.1"), &TrustProxy::Hops(1), "1.1.1.1"),
            ("9.9.9.9", Some("6.6.6.6, 1.1.1.1"), &TrustProxy::Hops(1), "1.1.1.1"),
            ("9.9.9.9", Some("6.6.6.6, 1.1.1.1"), &TrustProxy::Hops(2), "6.6.6.6"),
            ("9.9.9.9", Some("6.6.6.6, 1.1.1.1"), &TrustProxy::Hops(9), "6.6.6.6"),
            ("9.9.9.9", Some("6.6.6.6,1.1.1.1,\t2.2.2.2 "), &TrustProxy::Hops(2), "1.1.1.1"),
            // Not from a proxy: whatever it claims is a forgery.
            ("9.9.9.9", Some("1.1.1.1"), &private, "9.9.9.9"),
            ("10.1.2.3", Some("1.1.1.1"), &private, "1.1.1.1"),
            ("::ffff:10.1.2.3", Some("1.1.1.1"), &private, "1.1.1.1"),
            ("fd00::7", Some("2001:db8::9"), &private, "2001:db8::9"),
            ("10.1.2.3", Some("6.6.6.6, 1.1.1.1, 10.0.0.9"), &private, "1.1.1.1"),
            ("10.1.2.3", Some("10.0.0.8, 10.0.0.9"), &private, "10.0.0.8"),
            ("10.1.2.3", None, &private, "10.1.2.3"),
            // What is not an address ends the walk at the one who wrote it.
            ("10.1.2.3", Some("unknown"), &private, "10.1.2.3"),
            ("10.1.2.3", Some("1.1.1.1, , 10.0.0.9"), &private, "10.0.0.9"),
            ("10.1.2.3", Some(""), &private, "10.1.2.3"),
            ("10.1.2.3", Some("1.1.1.1:4711"), &private, "1.1.1.1"),
            ("10.1.2.3", Some("[2001:db8::9]:4711"), &private, "2001:db8::9"),
            ("10.1.2.3", Some("[2001:db8::9]"), &private, "2001:db8::9"),
            ("10.1.2.3", Some("::ffff:1.1.1.1"), &private, "1.1.1.1"),
        ] {
            let address = client_address(&head(forwarded_for), peer.parse().unwrap(), trust);
            assert_eq!(address.to_string(), expected, "{peer} {forwarded_for:?} {trust:?}");
        }
    }

    #[test]
    fn a_unix_socket_counts_as_the_nearest_proxy_where_proxies_are_trusted() {
        let private = TrustProxy::Networks(vec!["10.0.0.0/8".parse().unwrap()]);
        for (forwarded_for, trust, expected) in [
            (Some("1.1.1.1"), &TrustProxy::Hops(0), None),
            (Some("1.1.1.1"), &TrustProxy::Networks(Vec::new()), None),
            (None, &TrustProxy::Hops(1), None),
            (Some("unknown"), &TrustProxy::Hops(1), None),
            (Some("6.6.6.6, 1.1.1.1"), &TrustProxy::Hops(1), Some("1.1.1.1")),
            (Some("6.6.6.6, 1.1.1.1"), &TrustProxy::Hops(2), Some("6.6.6.6")),
            (Some("6.6.6.6, 1.1.1.1"), &private, Some("1.1.1.1")),
            (Some("6.6.6.6, 1.1.1.1, 10.0.0.9"), &private, Some("1.1.1.1")),
        ] {
            let address = client_of(&head(forwarded_for), Peer::UnixSocket, trust);
            assert_eq!(address.map(|address| address.to_string()).as_deref(), expected, "{forwarded_for:?} {trust:?}");
            assert_eq!(client_of(&head(forwarded_for), Peer::Unknown, trust), None);
        }
    }

    #[test]
    fn a_network_holds_the_addresses_under_its_prefix() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "9.255.255.255"),
            ("192.168.1.128/25", "192.168.1.200", "192.168.1.127"),
            ("1.2.3.4", "1.2.3.4", "1.2.3.5"),
            ("1.2.3.4/32", "::ffff:1.2.3.4", "1.2.3.5"),
            ("0.0.0.0/0", "255.1.2.3", "2001:db8::1"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
        ] {
            let network: Network = range.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{range} {outside}");
        }
        assert!("::/0".parse::<Network>().unwrap().contains("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn a_range_that_is_none_names_the_option() {
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "10/8", "loopback"] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.code(), "ERR_INVALID_OPTION", "{text:?}");
            assert!(error.to_string().starts_with("trustProxy: "), "{error}");
        }
    }
}
