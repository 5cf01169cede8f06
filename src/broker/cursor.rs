//! How far a resuming subscription has got. Pure.
//!
//! Owned by the shard of the connection, one per subscription that opted in to positions; 16 bytes. A publication can reach the
//! shard's queue after a resume has replayed it already, so a cursor is kept for as long as the subscription lives: it lets each
//! publication through once and notices one that is missing.

use super::loss::LossReason;
use super::position::{Epoch, Offset, Position, PublicationId};

/// The newest position that the client was sent, or was told to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    epoch: Epoch,
    offset: Offset,
}

/// What to do with a publication that reached a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Deliver,
    /// The client has it already.
    Duplicate,
    /// Publications before it are missing: tell the client, then deliver it.
    Gap(LossReason),
}

impl Cursor {
    /// No position is known, so the first publication is delivered whatever its position.
    const UNKNOWN: Offset = Offset::new(u64::MAX);

    pub fn at(position: Position) -> Self {
        Self { epoch: position.epoch, offset: position.offset }
    }

    /// For a client that was told that nothing is known about what it missed. Only a history elsewhere can fail to answer; the
    /// history in this process, which may forget topics, always does.
    pub fn unknown() -> Self {
        Self { epoch: Epoch::from_random(0), offset: Self::UNKNOWN }
    }

    /// Decides about a publication and, unless it is a duplicate, advances to it. `previous` is the id of its predecessor.
    pub fn accept(&mut self, position: Position, previous: PublicationId) -> Arrival {
        let arrival = self.compare(position, previous);
        if arrival != Arrival::Duplicate {
            *self = Self::at(position);
        }
        arrival
    }

    /// The client has everything up to this position, or was told of what is missing.
    pub fn advance(&mut self, position: Position) {
        *self = Self::at(position);
    }

    fn compare(&self, position: Position, previous: PublicationId) -> Arrival {
        if self.offset == Self::UNKNOWN {
            return Arrival::Deliver;
        }
        if position.epoch != self.epoch {
            return Arrival::Gap(LossReason::Reset);
        }
        if position.offset <= self.offset {
            return Arrival::Duplicate;
        }
        // A publication without a predecessor is the first one since the node forgot the topic, and follows at a distance.
        if position.offset == self.offset.next() || previous.is_none() {
            Arrival::Deliver
        } else {
            Arrival::Gap(LossReason::Fork)
        }
    }
}
