//! How a request is answered: by an open connection, a response, or a question to the application.
//!
//! Decides; the event loop carries it out.

use std::time::Instant;

use tracing::debug;

use crate::monitoring::counters::RejectionReason;
use crate::monitoring::log_throttle::Line;
use crate::shard::access::Authorized;
use crate::shard::authorize::{self, Decision, LookUp};
use crate::shard::context::ShardContext;
use crate::transport::forwarded::{self, Peer};
use crate::transport::handshake::{self, Rejection, RequestHead, Upgrade};
use crate::transport::head_reader::HeadError;
use crate::transport::plain_request::{self, Availability};

pub enum Answer {
    /// Open a connection.
    Establish { upgrade: Upgrade, authorized: Authorized, remote_address: Box<str> },
    /// Ask the application first.
    LookUp { upgrade: Upgrade, look_up: LookUp, remote_address: Box<str> },
    /// Write this and close.
    Respond(Vec<u8>),
}

/// Answers a request that Node has read, which asks for an upgrade, or one of the own port, which may not.
pub fn answer(shard: &ShardContext, head: &RequestHead, peer: Peer) -> Answer {
    let upgrade = match handshake::negotiate(head, &shard.run.options.handshake) {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Answer::Respond(refuse(shard, &rejection, None)),
    };
    match authorize::decide(shard, head, &upgrade) {
        Decision::Authorized(authorized) => {
            let remote_address = remote_address(shard, head, peer);
            Answer::Establish { upgrade, authorized, remote_address }
        }
        Decision::LookUp(look_up) => {
            let remote_address = remote_address(shard, head, peer);
            Answer::LookUp { upgrade, look_up, remote_address }
        }
        Decision::Refused(rejection) => Answer::Respond(refuse(shard, &rejection, Some(&upgrade))),
    }
}

/// Answers a request of the own port that asks for no upgrade.
pub fn answer_plain(shard: &ShardContext, head: &RequestHead) -> Vec<u8> {
    let readiness = if shard.is_draining() {
        Availability::Stopping
    } else if shard.run.level.get().rejects_new_connections() {
        Availability::Overloaded
    } else {
        Availability::Serving
    };
    plain_request::answer(head, &shard.run.options.handshake.path, readiness)
}

/// Counts and logs a refused handshake, and returns the response. `upgrade`: how it would have been accepted, if it was valid.
pub fn refuse(shard: &ShardContext, rejection: &Rejection, upgrade: Option<&Upgrade>) -> Vec<u8> {
    if shard.run.refusal_log.admits(Line::Refused, Instant::now()) {
        debug!(reason = rejection.reason(), "a handshake was refused");
    }
    shard.counters.rejections.add(RejectionReason::from(rejection), 1);
    shard.run.options.refusals.answer(rejection, upgrade)
}

/// Counts a request that cannot be read, and returns the response.
pub fn refuse_unreadable(shard: &ShardContext, fault: HeadError) -> Vec<u8> {
    debug!(reason = fault.reason(), "a request could not be read");
    shard.counters.rejections.add(RejectionReason::from(fault), 1);
    fault.response()
}

fn remote_address(shard: &ShardContext, head: &RequestHead, peer: Peer) -> Box<str> {
    let address = forwarded::client_of(head, peer, &shard.run.options.trust_proxy);
    address.map(|address| address.to_string()).unwrap_or_default().into()
}
