//! Under which label an event is counted: the core's words for ends and refusals in those of the counters.

use crate::core::host::Ending;
use crate::monitoring::tally::{Close, Refusal};
use crate::transport::handshake::Rejection;

impl From<&Ending> for Close {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::ByPeer { code, .. } => Self::by_peer(*code),
            Ending::ByUs(reason) => Self::from(*reason),
            Ending::GraceExceeded => Self::GraceExceeded,
            Ending::Lost => Self::Lost,
            Ending::Unresponsive => Self::Unresponsive,
        }
    }
}

impl From<&Rejection> for Refusal {
    fn from(rejection: &Rejection) -> Self {
        match rejection {
            Rejection::ForbiddenOrigin => Self::ForbiddenOrigin,
            Rejection::InvalidExtensions => Self::InvalidExtensions,
            Rejection::InvalidKey => Self::InvalidKey,
            Rejection::InvalidSubprotocol => Self::InvalidSubprotocol,
            Rejection::InvalidUpgrade => Self::InvalidUpgrade,
            Rejection::InvalidVersion => Self::InvalidVersion,
            Rejection::MethodNotAllowed => Self::MethodNotAllowed,
            Rejection::Unauthorized => Self::Unauthorized,
            Rejection::Unavailable { .. } => Self::Unavailable,
            Rejection::WrongPath => Self::WrongPath,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_called_the_same_everywhere() {
        for rejection in [Rejection::WrongPath, Rejection::Unauthorized, Rejection::Unavailable { retry_after: None }] {
            assert_eq!(Refusal::from(&rejection).label(), rejection.reason());
        }
    }
}
