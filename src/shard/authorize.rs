//! May this peer have a connection? Origin, shutdown, memory, limits, token, user.
//!
//! Everything but the look-up is decided at once. Changes no part of the shard; places that were taken give themselves back.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};

use crate::application::interface::{HookArgument, HookCall, HookFault};
use crate::authenticator::Identity;
use crate::hub::connection_limit::ConnectionPlace;
use crate::hub::connection_manager::Reservation;
use crate::monitoring::log_throttle::Line;
use crate::shard::access::{AuthFault, Authorized, Renewal, SessionPlace};
use crate::shard::context::ShardContext;
use crate::transport::handshake::{self, Rejection, RequestHead, Unavailability, Upgrade};
use crate::types::{HookKind, UserId};

/// `Retry-After` for a client that is refused because memory is low: a few steps of the recovery.
const RETRY_AFTER_SECONDS: u32 = 30;

/// The same while as many connections as may wait for their token: one of them is soon decided.
const RETRY_ANONYMOUS_SECONDS: u32 = 5;

/// The decision about an upgrade request.
pub enum Decision {
    Authorized(Authorized),
    /// The application has to be asked whether the user exists.
    LookUp(LookUp),
    Refused(Rejection),
}

/// A look-up that is still to be made, and the places that are held meanwhile.
pub struct LookUp {
    identity: Identity,
    reservation: Reservation,
    place: ConnectionPlace,
}

/// Decides about an upgrade request as far as that is possible without waiting.
pub fn decide(shard: &ShardContext, head: &RequestHead, upgrade: &Upgrade) -> Decision {
    match check(shard, head, upgrade) {
        Ok(decision) => decision,
        Err(rejection) => Decision::Refused(rejection),
    }
}

fn check(shard: &ShardContext, head: &RequestHead, upgrade: &Upgrade) -> Result<Decision, Rejection> {
    let run = &shard.run;
    handshake::check_origin(upgrade, head, &run.options.handshake)?;
    if shard.is_draining() {
        return Err(Rejection::STOPPING);
    }
    if run.level.get().rejects_new_connections() {
        return Err(unavailable(Unavailability::MemoryPressure, Some(RETRY_AFTER_SECONDS)));
    }
    let Some(place) = run.connection_places.take() else {
        return Err(unavailable(Unavailability::TooManyConnections, None));
    };
    match (handshake::token(head)?, run.options.auth_timeout) {
        (Some(token), _) => match verify(shard, &token).and_then(|identity| reserve(shard, identity)) {
            Ok((identity, reservation)) if needs_lookup(shard, &identity) => {
                Ok(Decision::LookUp(LookUp { identity, reservation, place }))
            }
            Ok((_, reservation)) => {
                Ok(Decision::Authorized(Authorized { session: SessionPlace::User(reservation), place }))
            }
            Err(fault) => Err(rejection_of(shard, fault)),
        },
        (None, Some(_)) => match run.anonymous.take() {
            Some(slot) => Ok(Decision::Authorized(Authorized { session: SessionPlace::Anonymous(slot), place })),
            None => Err(unavailable(Unavailability::TooManyAnonymous, Some(RETRY_ANONYMOUS_SECONDS))),
        },
        (None, None) => Err(Rejection::Unauthorized),
    }
}

impl LookUp {
    /// Asks the application.
    pub async fn run(self, shard: &ShardContext) -> Result<Authorized, Rejection> {
        let Self { identity, reservation, place } = self;
        match look_up(shard, &identity).await {
            Ok(()) if shard.is_draining() => Err(Rejection::STOPPING),
            Ok(()) => Ok(Authorized { session: SessionPlace::User(reservation), place }),
            Err(fault) => Err(rejection_of(shard, fault)),
        }
    }
}

/// Checks the token of an `auth` message. `user`: whose connection it is, unless it is anonymous.
pub async fn renew(shard: &ShardContext, user: Option<&UserId>, token: &str) -> Result<Renewal, AuthFault> {
    let identity = verify(shard, token)?;
    match user {
        Some(user) if *user != identity.user => Err(AuthFault::Refused("token of another user")),
        Some(_) => {
            look_up(shard, &identity).await?;
            Ok(Renewal::SameUser(identity))
        }
        None => {
            let (identity, reservation) = reserve(shard, identity)?;
            look_up(shard, &identity).await?;
            Ok(Renewal::FirstUser(reservation, identity))
        }
    }
}

fn verify(shard: &ShardContext, token: &str) -> Result<Identity, AuthFault> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    shard.run.verifier().verify(token, now).map_err(|fault| AuthFault::Refused(fault.label()))
}

/// Takes a place among the user's connections. Before the look-up, so that simultaneous handshakes cannot exceed the limit.
fn reserve(shard: &ShardContext, identity: Identity) -> Result<(Identity, Reservation), AuthFault> {
    let limit = shard.run.runtime.values().max_connections_per_user;
    let beyond = shard.run.options.connection_limit;
    match shard.run.users.reserve(&identity.user, limit, beyond) {
        Some(reservation) => Ok((identity, reservation)),
        None => Err(AuthFault::LimitReached),
    }
}

fn needs_lookup(shard: &ShardContext, identity: &Identity) -> bool {
    shard.run.options.hooks.contains(HookKind::LookupUser) && !shard.run.is_lookup_cached(identity)
}

async fn look_up(shard: &ShardContext, identity: &Identity) -> Result<(), AuthFault> {
    if !needs_lookup(shard, identity) {
        return Ok(());
    }
    let user: Arc<str> = (&identity.user).into();
    let claims = serde_json::to_string(&identity.claims).unwrap_or_else(|_| "{}".to_owned());
    let arguments = [HookArgument::Text(user.clone()), HookArgument::Json(claims.into())];
    match shard.call_hook(&HookCall::new(HookKind::LookupUser, user, arguments)).await {
        Ok(answer) if answer.is_true() => {
            shard.run.cache_lookup(identity);
            Ok(())
        }
        Ok(_) => Err(AuthFault::Refused("unknown user")),
        Err(_) if shard.is_draining() => Err(AuthFault::Draining),
        Err(HookFault::CircuitOpen { retry_after }) => Err(AuthFault::Unavailable { retry_after }),
        Err(HookFault::Failed(message)) => {
            if shard.run.refusal_log.admits(Line::HookFailed, Instant::now()) {
                warn!(reason = message, "lookupUser failed");
            }
            Err(AuthFault::Refused("look-up failed"))
        }
        Err(HookFault::TimedOut) => {
            if shard.run.refusal_log.admits(Line::HookFailed, Instant::now()) {
                warn!("lookupUser did not answer in time");
            }
            Err(AuthFault::Refused("look-up timed out"))
        }
    }
}

fn rejection_of(shard: &ShardContext, fault: AuthFault) -> Rejection {
    let (why, rejection) = match fault {
        AuthFault::Draining => return Rejection::STOPPING,
        AuthFault::Unavailable { retry_after } => {
            return unavailable(Unavailability::CircuitOpen, Some(whole_seconds(retry_after)));
        }
        AuthFault::LimitReached => ("connection limit reached", Rejection::ConnectionLimit),
        AuthFault::Refused(why) => (why, Rejection::Unauthorized),
    };
    if shard.run.refusal_log.admits(Line::Unauthorized, Instant::now()) {
        info!(why, "a handshake was not authorised");
    }
    rejection
}

fn unavailable(why: Unavailability, retry_after: Option<u32>) -> Rejection {
    Rejection::Unavailable { why, retry_after }
}

/// At least one, so that a client does not try again at once.
fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
