//! Decides before each message of a connection whether it may be processed now: budget, pauses, rate.
//!
//! Made for one look at a connection's bytes, see `drive`.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::error::CloseReason;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::counters::Traffic;
use crate::protocol::outgoing;
use crate::shard::close;
use crate::shard::ingress::Budget;
use crate::shard::scope::Scope;
use crate::shard::session;
use crate::shard::token_bucket::{Rate, RateDecision};
use crate::transport::assembler::{Intake, Message, MessageInfo, MessageSink};
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::frame::Kind;
use crate::types::Priority;
use crate::types::UnixMillis;

/// Why a connection's bytes were not taken in to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// This turn's budget is spent.
    Budget,
    /// The connection is paused, or its state has changed.
    Connection,
}

pub struct MessageReceiver<'r, 'a> {
    scope: &'r mut Scope<'a>,
    budget: &'r mut Budget,
    level: DegradationLevel,
    stop: Option<Stop>,
    /// Whether the rate was charged for a message that was not received yet.
    is_charged: bool,
}

impl<'r, 'a> MessageReceiver<'r, 'a> {
    pub fn new(scope: &'r mut Scope<'a>, budget: &'r mut Budget, level: DegradationLevel) -> Self {
        Self { scope, budget, level, stop: None, is_charged: false }
    }

    /// Why bytes are left.
    pub fn stop(self) -> Stop {
        if self.is_charged
            && let Some(rate) = self.rate()
        {
            // The message inflates to more than fits: it is announced again, and charged then.
            self.scope.connection.refund(rate);
        }
        self.stop.unwrap_or(Stop::Budget)
    }

    fn rate(&self) -> Option<Rate> {
        self.scope.shard.run.options.message_rate
    }

    /// Whether the peer has not sent more than it may. Control frames count like messages, but not close frames and the answer to
    /// our ping.
    fn is_within_rate(&mut self, kind: Kind) -> bool {
        let Some(rate) = self.rate() else { return true };
        let is_expected = match kind {
            Kind::Close => true,
            Kind::Pong => self.scope.connection.liveness.is_awaited(),
            Kind::Binary | Kind::Continuation | Kind::Ping | Kind::Text => false,
        };
        if is_expected {
            return true;
        }
        let now = self.scope.timers.moment(Instant::now()).millis();
        let decision = self.scope.connection.charge(rate, now);
        if decision != RateDecision::Allowed {
            self.scope.shard.counters.traffic.add(Traffic::RateLimited, 1);
        }
        match decision {
            RateDecision::Allowed => {
                self.is_charged = true;
                true
            }
            RateDecision::Refused => {
                if !kind.is_control() {
                    self.scope.shard.counters.message(UnixMillis::now(), None);
                    let error = EncodedMessage::text(outgoing::error("Rate limit exceeded", None));
                    session::reply(self.scope, &error, Priority::Normal);
                }
                false
            }
            RateDecision::Abusive => {
                close::close(self.scope, CloseReason::RateLimited);
                false
            }
        }
    }
}

impl MessageSink for MessageReceiver<'_, '_> {
    fn before_message(&mut self, announced: MessageInfo) -> Intake {
        if !self.scope.connection.is_listening() || self.scope.connection.is_paused(self.level) {
            self.stop = Some(Stop::Connection);
            return Intake::Wait;
        }
        let admission = self.budget.admits(announced);
        if admission == Intake::Wait {
            self.stop = Some(Stop::Budget);
            return Intake::Wait;
        }
        if !self.is_within_rate(announced.kind) {
            self.budget.charge(0);
            return Intake::Skip;
        }
        admission
    }

    fn on_message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.is_charged = false;
        let bytes = match message {
            Message::Close(frame) => {
                close::on_peer_close(self.scope, frame);
                self.stop = Some(Stop::Connection);
                return ControlFlow::Break(());
            }
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Text(text) => text.len(),
        };
        self.budget.charge(bytes);
        session::on_message(self.scope, message);
        ControlFlow::Continue(())
    }
}
