//! Decides from the head of an upgrade request whether it may become a connection, and writes the answer.
//!
//! Pure. Called by the shard that answers the request (`shard/answer.rs`), and by the binding where it refuses one. The token is only found
//! here, never verified.

use std::collections::HashSet;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::authority::Authority;
use super::deflate;
pub use super::forwarded::TrustProxy;
pub use super::origin::Origins;
pub use super::rejection::{Rejection, Unavailability};
pub use super::request_head::RequestHead;
use super::request_head::{names_websocket, path_matches};
use crate::error::RejectionCode;

/// What a service demands of a request.
#[derive(Clone, Debug)]
pub struct HandshakePolicy {
    pub path: String,
    /// `None`: permessage-deflate is off, and its header is not even read.
    pub deflate: Option<deflate::DeflatePolicy>,
    pub origins: Origins,
}

/// A request that passed every check which needs no user.
#[derive(Clone, Debug)]
pub struct Upgrade {
    version: Version,
    accept_key: String,
    subprotocol: Option<String>,
    deflate: Option<deflate::Negotiated>,
}

/// How a handshake is refused that a client has made correctly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectionMode {
    /// With a status, which browsers do not show.
    #[default]
    Status,
    /// By a connection that is closed at once with a code that says why.
    Close,
}

impl RejectionMode {
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "status" => Some(Self::Status),
            "close" => Some(Self::Close),
            _ => None,
        }
    }

    /// The whole answer. `upgrade` is how the request would have been accepted, if it was one for an upgrade.
    pub fn answer(self, rejection: &Rejection, upgrade: Option<&Upgrade>) -> Vec<u8> {
        match (self, upgrade, rejection.close_code()) {
            (Self::Close, Some(upgrade), Some(code)) => upgrade.refusal(code),
            _ => rejection.response(),
        }
    }
}

/// What makes a request one for an upgrade, in the order of the contract: the first fault is the one answered. The origin and the
/// token come after it.
pub fn negotiate(head: &RequestHead, policy: &HandshakePolicy) -> Result<Upgrade, Rejection> {
    if head.method != "GET" {
        return Err(Rejection::MethodNotAllowed);
    }
    if !head.header("upgrade").is_some_and(names_websocket) {
        return Err(Rejection::InvalidUpgrade);
    }
    let key = head.header("sec-websocket-key").filter(|key| is_key(key)).ok_or(Rejection::InvalidKey)?;
    let version = head.header("sec-websocket-version").and_then(Version::parse).ok_or(Rejection::InvalidVersion)?;
    if !path_matches(&head.target, &policy.path) {
        return Err(Rejection::WrongPath);
    }
    // What follows the head of an upgrade are frames. A body would be read as such.
    if head.header("transfer-encoding").is_some() || head.header("content-length").is_some_and(|length| length != "0") {
        return Err(Rejection::UnexpectedBody);
    }
    let subprotocol = match head.header("sec-websocket-protocol") {
        Some(offers) => Some(first_subprotocol(offers).ok_or(Rejection::InvalidSubprotocol)?.to_owned()),
        None => None,
    };
    let deflate = match (&policy.deflate, head.header("sec-websocket-extensions")) {
        (Some(policy), Some(offers)) => {
            deflate::negotiate(offers, policy).map_err(|_unacceptable| Rejection::InvalidExtensions)?
        }
        _ => None,
    };
    Ok(Upgrade { version, accept_key: derive_accept_key(key.as_bytes()), subprotocol, deflate })
}

/// Whether the page that the upgrade is for may connect.
pub fn check_origin(upgrade: &Upgrade, head: &RequestHead, policy: &HandshakePolicy) -> Result<(), Rejection> {
    let mut origins = upgrade.version.origin_headers().iter();
    let is_allowed = origins.all(|name| policy.origins.allow(head.header(name), head.header("host")));
    if is_allowed { Ok(()) } else { Err(Rejection::ForbiddenOrigin) }
}

/// Everything before the token: [`negotiate`] and [`check_origin`] in one.
pub fn check(head: &RequestHead, policy: &HandshakePolicy) -> Result<Upgrade, Rejection> {
    let upgrade = negotiate(head, policy)?;
    check_origin(&upgrade, head, policy)?;
    Ok(upgrade)
}

/// The token as it was sent: the query parameter `token`, or the credentials in `Authorization`, with `Bearer` before them or
/// without.
///
/// A `Host` that makes no URL is answered like a bad token.
pub fn token(head: &RequestHead) -> Result<Option<String>, Rejection> {
    if !head.header("host").is_some_and(Authority::is_valid) {
        return Err(Rejection::Unauthorized);
    }
    let without_fragment = head.target.split('#').next().unwrap_or_default();
    let query = without_fragment.split_once('?').map_or("", |(_, query)| query);
    let from_query = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "token");
    let token = match from_query {
        Some((_, token)) if !token.is_empty() => token.into_owned(),
        _ => bearer_token(head.header("authorization").unwrap_or_default()),
    };
    Ok(Some(token).filter(|token| !token.is_empty()))
}

/// The scheme counts in any case, and any blanks may follow it (RFC 9110 §11.1, §11.4). Without a scheme the whole value is the
/// token; so it is with another scheme, which makes no valid one.
fn bearer_token(authorization: &str) -> String {
    const SCHEME: &str = "Bearer";
    let is_blank = |c| c == ' ' || c == '\t';
    if let Some((scheme, rest)) = authorization.split_at_checked(SCHEME.len())
        && scheme.eq_ignore_ascii_case(SCHEME)
        && rest.starts_with(is_blank)
    {
        return rest.trim_matches(is_blank).to_owned();
    }
    authorization.replacen("Bearer ", "", 1)
}

impl Upgrade {
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    pub fn deflate(&self) -> Option<deflate::Negotiated> {
        self.deflate
    }

    /// Nothing of it can break a line: the key is base64, a subprotocol is a token, the rest is ours.
    pub fn response(&self) -> Vec<u8> {
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            self.accept_key
        );
        if let Some(subprotocol) = &self.subprotocol {
            response.extend(["Sec-WebSocket-Protocol: ", subprotocol, "\r\n"]);
        }
        if let Some(deflate) = &self.deflate {
            response.extend(["Sec-WebSocket-Extensions: ", &deflate.response(), "\r\n"]);
        }
        response += "\r\n";
        response.into_bytes()
    }

    /// The upgrade is carried out to be refused: what browsers show of a connection that is closed is more than of one that is not
    /// opened.
    fn refusal(&self, why: RejectionCode) -> Vec<u8> {
        let mut response = self.response();
        let reason = why.text().as_bytes();
        // A final frame with the opcode of a close, unmasked, and short as those of control frames are (RFC 6455 §5.2, §5.5).
        response.extend_from_slice(&[0x88, (2 + reason.len()) as u8]);
        response.extend_from_slice(&why.code().to_be_bytes());
        response.extend_from_slice(reason);
        response
    }
}

/// The protocol versions that are spoken; they differ in nothing but one header.
#[derive(Clone, Copy, Debug)]
enum Version {
    Hybi8,
    Rfc6455,
}

impl Version {
    /// RFC 6455 §11.3.5: digits, and no leading zero.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "8" => Some(Self::Hybi8),
            "13" => Some(Self::Rfc6455),
            _ => None,
        }
    }

    /// Version 8 called it `Sec-WebSocket-Origin`; if both are sent, both must be allowed.
    fn origin_headers(self) -> &'static [&'static str] {
        match self {
            Self::Hybi8 => &["sec-websocket-origin", "origin"],
            Self::Rfc6455 => &["origin"],
        }
    }
}

/// 16 bytes in base64, by their looks.
fn is_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|digits| {
        digits.len() == 22 && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    })
}

/// The first of a list of distinct tokens; `None` if it is not such a list. Takes time linear in its length.
fn first_subprotocol(offers: &str) -> Option<&str> {
    let is_blank = |c| c == ' ' || c == '\t';
    if offers.starts_with(is_blank) || offers.ends_with(is_blank) {
        return None;
    }
    let mut seen = HashSet::new();
    let mut names = offers.split(',').map(|name| name.trim_matches(is_blank));
    let valid = names.all(|name| !name.is_empty() && name.bytes().all(is_token_byte) && seen.insert(name));
    if valid { offers.split(',').next().map(|name| name.trim_matches(is_blank)) } else { None }
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
