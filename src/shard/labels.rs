//! Maps how a connection ended, or why a request was rejected, to the label under which it is counted.

use crate::application::interface::Disconnect;
use crate::monitoring::counters::{CloseCause, RejectionReason};
use crate::transport::handshake::{Rejection, Unavailability};
use crate::transport::head_reader::HeadError;

impl From<&Disconnect> for CloseCause {
    fn from(ending: &Disconnect) -> Self {
        match ending {
            Disconnect::ByPeer { code, .. } => Self::by_peer(*code),
            Disconnect::ByUs(reason) => Self::from(*reason),
            Disconnect::GraceExceeded => Self::GraceExceeded,
            Disconnect::Lost => Self::Lost,
            Disconnect::Unresponsive => Self::Unresponsive,
        }
    }
}

impl From<&Rejection> for RejectionReason {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::ConnectionLimit => Self::ConnectionLimit,
            Rejection::ForbiddenOrigin => Self::ForbiddenOrigin,
            Rejection::InvalidExtensions => Self::InvalidExtensions,
            Rejection::InvalidKey => Self::InvalidKey,
            Rejection::InvalidSubprotocol => Self::InvalidSubprotocol,
            Rejection::InvalidUpgrade => Self::InvalidUpgrade,
            Rejection::InvalidVersion => Self::InvalidVersion,
            Rejection::MethodNotAllowed => Self::MethodNotAllowed,
            Rejection::Unauthorized => Self::Unauthorized,
            Rejection::Unavailable { why: Unavailability::CircuitOpen, .. } => Self::CircuitOpen,
            Rejection::Unavailable { why: Unavailability::MemoryPressure, .. } => Self::MemoryPressure,
            Rejection::Unavailable { why: Unavailability::Stopping, .. } => Self::Stopping,
            Rejection::UnexpectedBody => Self::MalformedHead,
            Rejection::Unavailable { why: Unavailability::TooManyAnonymous, .. } => Self::TooManyAnonymous,
            Rejection::Unavailable { why: Unavailability::TooManyConnections, .. } => Self::TooManyConnections,
            Rejection::WrongPath => Self::WrongPath,
        }
    }
}

impl From<HeadError> for RejectionReason {
    fn from(fault: HeadError) -> Self {
        match fault {
            HeadError::Malformed => Self::MalformedHead,
            HeadError::TooLarge => Self::HeadTooLarge,
            HeadError::TooSlow => Self::HeadTooSlow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_called_the_same_everywhere() {
        let overloaded = Rejection::Unavailable { why: Unavailability::MemoryPressure, retry_after: Some(30) };
        let full = Rejection::Unavailable { why: Unavailability::TooManyConnections, retry_after: None };
        let (limit, stopping) = (Rejection::ConnectionLimit, Rejection::STOPPING);
        for rejection in [Rejection::WrongPath, Rejection::Unauthorized, stopping, overloaded, full, limit] {
            assert_eq!(RejectionReason::from(&rejection).label(), rejection.reason());
        }
        for fault in [HeadError::Malformed, HeadError::TooLarge, HeadError::TooSlow] {
            assert_eq!(RejectionReason::from(fault).label(), fault.reason());
        }
    }
}
