//! What authorization decides about a handshake or an `auth` message: the places that a connection gets, or the reason why not. Values only.

use std::time::Duration;

use crate::authenticator::Identity;
use crate::hub::connection_limit::ConnectionPlace;
use crate::hub::connection_manager::Reservation;
use crate::hub::limit::Slot;

/// A handshake that passed every check. Dropping it gives its places back.
pub struct Authorized {
    pub session: SessionPlace,
    pub place: ConnectionPlace,
}

/// Among which connections the new one has a place.
pub enum SessionPlace {
    /// Those of its user.
    User(Reservation),
    /// Those that have not authenticated yet.
    Anonymous(Slot),
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFault {
    /// The service shuts down.
    Draining,
    /// The user has as many connections as one user may have.
    LimitReached,
    /// The token or the user.
    Refused(&'static str),
    /// The look-up's circuit is open: the client should try again after this time.
    Unavailable { retry_after: Duration },
}

/// An `auth` message that was accepted.
pub enum Renewal {
    /// A connection without a user gets one.
    FirstUser(Reservation, Identity),
    /// The same user has shown a newer token.
    SameUser(Identity),
}
