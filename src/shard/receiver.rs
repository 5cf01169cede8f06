//! Decides before each message of a connection whether it may be dealt with now: budget, pauses, rate.
//!
//! Made for one look at a connection's bytes, see `turn`. Runs on the shard's thread.

use std::ops::ControlFlow;
use std::rc::Rc;

use crate::error::CloseReason;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::monitoring::counters::Traffic;
use crate::protocol::outgoing;
use crate::shard::connection::Connection;
use crate::shard::event_loop::Shard;
use crate::shard::ingress::Budget;
use crate::shard::token_bucket::{Rate, Verdict};
use crate::transport::assembler::{Intake, Message, MessageInfo, MessageSink};
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::frame::Kind;
use crate::types::{Priority, UnixMillis};

/// Why a connection's bytes were not taken in to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// This turn's budget is spent.
    Budget,
    /// The connection is to be looked at again: it is paused, or its state has changed.
    Connection,
}

pub(crate) struct MessageReceiver<'a> {
    shard: &'a Rc<Shard>,
    connection: &'a Rc<Connection>,
    budget: &'a mut Budget,
    level: DegradationLevel,
    stop: Option<Stop>,
    /// Whether the rate was charged for a message that was not received yet.
    is_charged: bool,
}

impl<'a> MessageReceiver<'a> {
    pub fn new(
        shard: &'a Rc<Shard>,
        connection: &'a Rc<Connection>,
        budget: &'a mut Budget,
        level: DegradationLevel,
    ) -> Self {
        Self { shard, connection, budget, level, stop: None, is_charged: false }
    }

    /// Why there is a rest.
    pub fn stop(self) -> Stop {
        if self.is_charged
            && let Some(rate) = self.shared_rate()
        {
            // It inflates to more than fits: it is asked for again, and charged then.
            self.connection.refund(rate);
        }
        self.stop.unwrap_or(Stop::Budget)
    }

    fn shared_rate(&self) -> Option<Rate> {
        self.shard.shared.options.message_rate
    }

    /// Whether the peer has not sent more than it may. Control frames count like messages, but not close frames and the
    /// answer to our ping.
    fn is_within_rate(&mut self, kind: Kind) -> bool {
        let Some(rate) = self.shared_rate() else { return true };
        let is_expected = match kind {
            Kind::Close => true,
            Kind::Pong => self.connection.liveness.get().is_awaited(),
            Kind::Binary | Kind::Continuation | Kind::Ping | Kind::Text => false,
        };
        if is_expected {
            return true;
        }
        let (shard, connection) = (self.shard, self.connection);
        match connection.charge(rate, shard.timers.millis(std::time::Instant::now())) {
            Verdict::Allowed => {
                self.is_charged = true;
                true
            }
            Verdict::Refused => {
                shard.counters.traffic.add(Traffic::RateLimited, 1);
                if !kind.is_control() {
                    shard.counters.message(UnixMillis::now(), None);
                    shard.reply(
                        connection,
                        EncodedMessage::text(outgoing::error("Rate limit exceeded", None)),
                        Priority::Normal,
                    );
                }
                false
            }
            Verdict::Abusive => {
                shard.counters.traffic.add(Traffic::RateLimited, 1);
                shard.close(connection, CloseReason::RateLimited);
                false
            }
        }
    }
}

impl MessageSink for MessageReceiver<'_> {
    fn before_message(&mut self, info: MessageInfo) -> Intake {
        if !self.connection.is_listening() || self.connection.is_paused(self.level) {
            self.stop = Some(Stop::Connection);
            return Intake::Wait;
        }
        let admission = self.budget.admits(info);
        if admission == Intake::Wait {
            self.stop = Some(Stop::Budget);
            return Intake::Wait;
        }
        if !self.is_within_rate(info.kind) {
            self.budget.charge(0);
            return Intake::Skip;
        }
        admission
    }

    fn on_message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        self.is_charged = false;
        let bytes = match message {
            Message::Close(close) => {
                self.shard.peer_closed(self.connection, close);
                self.stop = Some(Stop::Connection);
                return ControlFlow::Break(());
            }
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Text(text) => text.len(),
        };
        self.budget.charge(bytes);
        self.shard.hear(self.connection, message);
        ControlFlow::Continue(())
    }
}
