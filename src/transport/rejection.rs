//! Why a request does not become a connection, and the response that says so. Pure.

use crate::error::RejectionCode;

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

/// Why no connection is accepted for now. Not sent to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailability {
    /// The circuit of the user look-up is open.
    CircuitOpen,
    MemoryPressure,
    /// The service is stopping, or does not run.
    Stopping,
    /// Too many connections have no user yet.
    TooManyAnonymous,
    /// The service has as many connections as it may have.
    TooManyConnections,
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
