//! Decides from the head of an upgrade request whether it may become a connection, and writes the answer.
//!
//! Pure. Called once per request by whoever holds it: the binding on Node's main thread for an attached server,
//! the listener on its own thread for an own port. The token is only found here, never judged.

use std::collections::HashSet;
use std::fmt;

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::authority::Authority;
use super::deflate;
pub use super::forwarded::{Network, TrustProxy, client_address};
pub use super::origin::Origins;
use crate::error::RejectionCode;

/// Method, target and headers of a request. Names are in lower case, repeated headers joined as Node joins them.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

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

/// Why a request does not become a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// Answered as [`Unauthorized`](Self::Unauthorized).
    ConnectionLimit,
    ForbiddenOrigin,
    InvalidExtensions,
    InvalidKey,
    InvalidSubprotocol,
    InvalidUpgrade,
    InvalidVersion,
    MethodNotAllowed,
    /// One answer for everything about tokens and users, so that it tells nothing.
    Unauthorized,
    /// The service takes no connections now.
    Unavailable {
        why: Unavailability,
        /// Seconds.
        retry_after: Option<u32>,
    },
    /// An upgrade request with a body.
    UnexpectedBody,
    WrongPath,
}

/// Why nobody is let in for now. The peer is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// Whoever knows the users does not answer.
    CircuitOpen,
    MemoryPressure,
    /// The service is stopping, or does not run.
    Stopping,
    /// Too many connections have no user yet.
    TooManyAnonymous,
    /// The service has as many connections as it may have.
    TooManyConnections,
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

/// Byte by byte up to the `?`. A target in absolute form never matches.
pub fn path_matches(target: &str, path: &str) -> bool {
    target.split('?').next() == Some(path)
}

/// Whether an `Upgrade` header offers the protocol that is spoken here (RFC 9110 §7.8). Others are not ours to answer.
pub fn names_websocket(upgrade: &str) -> bool {
    upgrade.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// The token as it was sent: the query parameter `token`, or the credentials in `Authorization`, with `Bearer` before them or
/// without.
///
/// A `Host` that makes no URL is answered like a bad token.
pub fn token(head: &RequestHead) -> Result<Option<String>, Rejection> {
    head.header("host").and_then(Authority::parse).ok_or(Rejection::Unauthorized)?;
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

impl RequestHead {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the request asks for a WebSocket (RFC 9110 §7.8): `Upgrade` counts only if `Connection` names it, and what it does not
    /// name is ignored. Node has seen to that already.
    pub fn asks_for_websocket(&self) -> bool {
        let mut options = self.header("connection").unwrap_or_default().split(',');
        options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
            && self.header("upgrade").is_some_and(names_websocket)
    }
}

/// Shows no header and no query: both may hold a token.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.target.split('?').next())
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
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
            response += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
        }
        if let Some(deflate) = &self.deflate {
            response += &format!("Sec-WebSocket-Extensions: {}\r\n", deflate.response());
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

impl Rejection {
    /// The service is stopping, or does not run.
    pub const STOPPING: Self = Self::Unavailable { why: Unavailability::Stopping, retry_after: None };

    pub fn status(&self) -> u16 {
        match self {
            Self::InvalidExtensions
            | Self::InvalidKey
            | Self::InvalidSubprotocol
            | Self::InvalidUpgrade
            | Self::InvalidVersion
            | Self::UnexpectedBody
            | Self::WrongPath => 400,
            Self::ConnectionLimit | Self::Unauthorized => 401,
            Self::ForbiddenOrigin => 403,
            Self::MethodNotAllowed => 405,
            Self::Unavailable { .. } => 503,
        }
    }

    /// How a connection is closed that was opened to say this. `None`: the request is none for an upgrade.
    pub fn close_code(&self) -> Option<RejectionCode> {
        match self {
            Self::ConnectionLimit => Some(RejectionCode::ConnectionLimit),
            Self::ForbiddenOrigin => Some(RejectionCode::Forbidden),
            Self::Unauthorized => Some(RejectionCode::Unauthorized),
            Self::Unavailable { .. } => Some(RejectionCode::Unavailable),
            Self::InvalidExtensions
            | Self::InvalidKey
            | Self::InvalidSubprotocol
            | Self::InvalidUpgrade
            | Self::InvalidVersion
            | Self::MethodNotAllowed
            | Self::UnexpectedBody
            | Self::WrongPath => None,
        }
    }

    /// One of a fixed set, for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ConnectionLimit => "connection_limit",
            Self::ForbiddenOrigin => "forbidden_origin",
            Self::InvalidExtensions => "invalid_extensions",
            Self::InvalidKey => "invalid_key",
            Self::InvalidSubprotocol => "invalid_subprotocol",
            Self::InvalidUpgrade => "invalid_upgrade",
            Self::InvalidVersion => "invalid_version",
            Self::UnexpectedBody => "malformed_head",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable { why: Unavailability::CircuitOpen, .. } => "circuit_open",
            Self::Unavailable { why: Unavailability::MemoryPressure, .. } => "memory_pressure",
            Self::Unavailable { why: Unavailability::Stopping, .. } => "stopping",
            Self::Unavailable { why: Unavailability::TooManyAnonymous, .. } => "too_many_anonymous",
            Self::Unavailable { why: Unavailability::TooManyConnections, .. } => "too_many_connections",
            Self::WrongPath => "wrong_path",
        }
    }

    /// The connection is to be closed after it.
    pub fn response(&self) -> Vec<u8> {
        let extra_header = match self {
            Self::InvalidVersion => "Sec-WebSocket-Version: 13, 8\r\n".to_owned(),
            // RFC 9110 §15.5.6, and §15.5.2 with RFC 6750 §3. Why a token is refused is not told.
            Self::MethodNotAllowed => "Allow: GET\r\n".to_owned(),
            Self::ConnectionLimit | Self::Unauthorized => "WWW-Authenticate: Bearer realm=\"websocket\"\r\n".to_owned(),
            Self::Unavailable { retry_after: Some(seconds), .. } => format!("Retry-After: {seconds}\r\n"),
            _ => String::new(),
        };
        let body = self.body();
        format!(
            "HTTP/1.1 {} {}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {}\r\n{extra_header}\r\n{body}",
            self.status(),
            self.status_text(),
            body.len(),
        )
        .into_bytes()
    }

    fn status_text(&self) -> &'static str {
        match self.status() {
            401 => "Unauthorized",
            403 => "Forbidden",
            405 => "Method Not Allowed",
            503 => "Service Unavailable",
            _ => "Bad Request",
        }
    }

    fn body(&self) -> &'static str {
        match self {
            Self::InvalidExtensions => "Invalid or unacceptable Sec-WebSocket-Extensions header",
            Self::InvalidKey => "Missing or invalid Sec-WebSocket-Key header",
            Self::InvalidSubprotocol => "Invalid Sec-WebSocket-Protocol header",
            Self::InvalidUpgrade => "Invalid Upgrade header",
            Self::InvalidVersion => "Missing or invalid Sec-WebSocket-Version header",
            Self::MethodNotAllowed => "Invalid HTTP method",
            Self::ConnectionLimit
            | Self::ForbiddenOrigin
            | Self::Unauthorized
            | Self::Unavailable { .. }
            | Self::UnexpectedBody
            | Self::WrongPath => self.status_text(),
        }
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
