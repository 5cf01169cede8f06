//! Everything that can go wrong, sorted by who is at fault, and every reason for ending a connection.
//!
//! A caller's fault becomes an exception with a stable code, a peer's fault a close code and a counter,
//! ours a log line. The two lists are never mixed: an [`Error`] answers a call, a [`CloseReason`] ends a connection.

use std::borrow::Cow;
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A kind, what it concerned, and what caused it.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What went wrong: a mistake of the caller, except for `Internal` and `Overloaded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Another program has the port.
    AddressInUse,
    /// The machine does not have the address.
    AddressNotAvailable,
    /// The service runs already and the call needs it stopped.
    AlreadyRunning,
    /// There is no address for the host's name.
    HostNotFound,
    /// Our own invariant did not hold, or the system refused us something.
    Internal,
    /// An argument of a call is not what it must be.
    InvalidArgument,
    /// An option is unknown, of the wrong kind or out of range.
    InvalidOption,
    /// The port could not be opened.
    ListenFailed,
    /// A value of the runtime configuration is out of its bounds.
    OutOfRange,
    /// The queue of a shard is full; the publish was refused.
    Overloaded,
    /// There is no key to check tokens with.
    NoJwtSecret,
    /// The port needs rights that the process does not have.
    PermissionDenied,
}

impl ErrorKind {
    /// Stable and documented: what JavaScript finds in `error.code`.
    pub fn code(self) -> &'static str {
        match self {
            // What the system refuses has the code Node gives it.
            Self::AddressInUse => "EADDRINUSE",
            Self::AddressNotAvailable => "EADDRNOTAVAIL",
            Self::HostNotFound => "ENOTFOUND",
            Self::PermissionDenied => "EACCES",
            Self::AlreadyRunning => "ERR_ALREADY_RUNNING",
            Self::Internal => "ERR_INTERNAL",
            Self::InvalidArgument => "ERR_INVALID_ARGUMENT",
            Self::InvalidOption => "ERR_INVALID_OPTION",
            Self::ListenFailed => "ERR_LISTEN_FAILED",
            Self::NoJwtSecret => "ERR_NO_JWT_SECRET",
            Self::OutOfRange => "ERR_OUT_OF_RANGE",
            Self::Overloaded => "ERR_OVERLOADED",
        }
    }
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn code(&self) -> &'static str {
        self.kind.code()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Why we end a connection: the close code and its text.
///
/// Codes are those of RFC 6455 §7.4.1 and its registry; the texts are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// No valid `auth` message in time, or a message that needs a user on a connection without one.
    AuthenticationRequired,
    /// Text that is not UTF-8, or data that does not inflate.
    InvalidData,
    /// More than the largest message allowed, inflated or not.
    MessageTooBig,
    /// A violation of RFC 6455 or RFC 7692.
    ProtocolError,
    /// The user has come with one connection too many, and this was its oldest.
    Replaced,
    /// Too many messages in too short a time.
    RateLimited,
    /// The shard that held the connection is being replaced.
    ServiceRestart,
    /// The service shuts down.
    Shutdown,
    /// More unwritten bytes than one connection may hold.
    SlowConsumer,
    /// A message in more fragments than the limit.
    TooManyFragments,
}

impl CloseReason {
    pub fn code(self) -> u16 {
        match self {
            Self::Shutdown => 1001,
            Self::ProtocolError => 1002,
            Self::InvalidData => 1007,
            Self::AuthenticationRequired | Self::RateLimited | Self::TooManyFragments => 1008,
            Self::MessageTooBig => 1009,
            Self::ServiceRestart => 1012,
            Self::SlowConsumer => 1013,
            Self::Replaced => 4009,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::AuthenticationRequired => "Authentication required",
            Self::InvalidData | Self::MessageTooBig | Self::ProtocolError | Self::TooManyFragments => "",
            Self::RateLimited => "Rate limit exceeded",
            Self::Replaced => "Replaced by a newer connection",
            Self::ServiceRestart => "Service restart",
            Self::Shutdown => "Server shutdown",
            Self::SlowConsumer => "Slow consumer",
        }
    }
}

/// Why a handshake was refused, as the close code of a connection that is opened only to say so (`refusals: 'close'`): browsers show
/// no status. Codes of the private range (RFC 6455 §7.4.2), after those of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionCode {
    Unauthorized,
    Forbidden,
    /// The user has as many connections as one may have.
    ConnectionLimit,
    /// The service takes no connections now.
    Unavailable,
}

impl RejectionCode {
    pub fn code(self) -> u16 {
        match self {
            Self::Unauthorized => 4401,
            Self::Forbidden => 4403,
            Self::ConnectionLimit => 4409,
            Self::Unavailable => 4503,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::ConnectionLimit => "Connection limit reached",
            Self::Unavailable => "Service unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_texts_fit_a_control_frame() {
        for reason in [
            CloseReason::AuthenticationRequired,
            CloseReason::InvalidData,
            CloseReason::MessageTooBig,
            CloseReason::ProtocolError,
            CloseReason::RateLimited,
            CloseReason::Replaced,
            CloseReason::ServiceRestart,
            CloseReason::Shutdown,
            CloseReason::SlowConsumer,
            CloseReason::TooManyFragments,
        ] {
            assert!(reason.text().len() <= 123, "{reason:?}");
            assert!(matches!(reason.code(), 1000..=1014 | 4000..=4999), "{reason:?}");
        }
    }

    #[test]
    fn an_error_shows_one_level_and_leaves_the_rest_to_its_source() {
        let error = Error::new(ErrorKind::Internal, "could not start").caused_by("no threads left");
        assert_eq!(error.to_string(), "could not start");
        assert_eq!(std::error::Error::source(&error).map(ToString::to_string), Some("no threads left".into()));
    }
}
