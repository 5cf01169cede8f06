//! What peers say and what they are answered: messages routed to the topic index, to hooks and to replies.
//!
//! The meaning of a message is decided purely in `message_handler`; here its actions are carried out. Runs on
//! the shard's thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tracing::debug;

use crate::core::connection::{Connection, State};
use crate::core::containment::contained;
use crate::core::heartbeat::Liveness;
use crate::core::host::{Event, EventKind};
use crate::core::message_handler::{self, Action, Context, Reply};
use crate::core::outgoing;
use crate::core::shard::Shard;
use crate::core::subscription_manager::Transition;
use crate::error::CloseReason;
use crate::monitoring::statistics_collector::UnixMillis;
use crate::monitoring::tally::Hook;
use crate::transport::assembler::Message;
use crate::transport::prepared::Prepared;
use crate::types::{BillId, ConnectionKey, ConnectionNumber, Priority};

/// How soon a connection is looked at again whose token is still being checked at the end of its time.
const AUTH_CHECKED_AGAIN: Duration = Duration::from_millis(250);

impl Shard {
    /// One message from a peer that is listened to.
    pub(super) fn hear(self: &Rc<Self>, connection: &Rc<Connection>, message: Message<'_>) {
        match message {
            Message::Text(text) => self.answer(connection, text.as_bytes()),
            Message::Binary(bytes) => self.answer(connection, String::from_utf8_lossy(bytes).as_bytes()),
            Message::Ping(payload) => {
                let pong = Prepared::pong(payload);
                connection.owe(pong.payload().len());
                self.queue(connection, pong);
            }
            Message::Pong(_) => connection.liveness.set(Liveness::default()),
            // The caller keeps close frames to itself: they change what it does next.
            Message::Close(_) => {}
        }
    }

    /// A reply of this service to one connection; it counts as what the peer owes us reading.
    pub(super) fn reply(&self, connection: &Rc<Connection>, message: Arc<Prepared>, priority: Priority) {
        connection.owe(message.payload().len());
        if !self.deliver(connection, &message, priority) {
            self.close(connection, CloseReason::SlowConsumer);
        }
    }

    /// The time for an `auth` message is over.
    pub(super) fn auth_overdue(self: &Rc<Self>, connection: &Rc<Connection>) {
        let is_anonymous = || matches!(&*connection.state.borrow(), State::Anonymous { .. });
        if is_anonymous() {
            self.read_what_has_come(connection);
        }
        if !is_anonymous() {
            return;
        }
        if connection.has_hooks_in_flight() {
            // It has come in time, and the answer has a deadline of its own.
            self.timers.auth_within(AUTH_CHECKED_AGAIN, connection.key, connection.number);
        } else {
            self.close(connection, CloseReason::AuthenticationRequired);
        }
    }

    fn answer(self: &Rc<Self>, connection: &Rc<Connection>, payload: &[u8]) {
        let now = UnixMillis::now();
        let (authenticated, followed) = match &*connection.state.borrow() {
            State::Open(member) => (true, member.bills.len()),
            _ => (false, 0),
        };
        let inbound = message_handler::handle(
            payload,
            &Context {
                now_ms: now.as_f64(),
                authenticated,
                preference_hooks: self.shared.options.has_preferences,
                subscription_room: self.shared.options.max_subscriptions.saturating_sub(followed),
            },
        );
        self.counters.message(now, inbound.latency_ms);
        for action in inbound.actions {
            self.act(connection, action);
        }
    }

    fn act(self: &Rc<Self>, connection: &Rc<Connection>, action: Action) {
        match action {
            Action::Reply(Reply { json, priority }) => {
                self.reply(connection, Prepared::text(json.into_owned()), priority);
            }
            Action::Subscribe(bills) => self.subscribe(connection, &bills),
            Action::Unsubscribe(bills) => self.unsubscribe(connection, &bills),
            Action::Authenticate { token } => {
                let under_way = HookUnderWay::new(self, connection);
                let authenticated = self.clone().authenticate_message(token, under_way);
                tokio::task::spawn_local(contained("an auth message", authenticated));
            }
            Action::LoadPreferences => self.load_preferences(connection),
            Action::SavePreferences(preferences) => self.save_preferences(connection, preferences),
        }
    }

    fn subscribe(&self, connection: &Rc<Connection>, bills: &[BillId]) {
        let mut state = connection.state.borrow_mut();
        let State::Open(member) = &mut *state else { return };
        let mut changes: SmallVec<[(BillId, Transition); 1]> = SmallVec::new();
        {
            let mut topics = self.topics.borrow_mut();
            for bill in bills {
                if let Some(transition) = topics.subscribe(*bill, connection.key) {
                    member.bills.insert(*bill);
                    changes.push((*bill, transition));
                }
            }
        }
        self.shared.routing.subscribe(&member.user, self.id, &changes);
        drop(state);
        self.tell_subscriptions(connection, &changes, true);
    }

    fn unsubscribe(&self, connection: &Rc<Connection>, bills: &[BillId]) {
        let mut state = connection.state.borrow_mut();
        let State::Open(member) = &mut *state else { return };
        let mut changes: SmallVec<[(BillId, Transition); 1]> = SmallVec::new();
        {
            let mut topics = self.topics.borrow_mut();
            for bill in bills {
                if let Some(transition) = topics.unsubscribe(*bill, connection.key) {
                    member.bills.remove(*bill);
                    changes.push((*bill, transition));
                }
            }
        }
        self.shared.routing.unsubscribe(&member.user, self.id, &changes);
        drop(state);
        self.tell_subscriptions(connection, &changes, false);
    }

    fn tell_subscriptions(&self, connection: &Rc<Connection>, changes: &[(BillId, Transition)], subscribed: bool) {
        if changes.is_empty() || !self.shared.host.listens(EventKind::Subscription) {
            return;
        }
        if let Some(id) = connection.id() {
            let bills = changes.iter().map(|(bill, _)| *bill).collect();
            self.shared.host.emit(Event::Subscription { id, bills, subscribed });
        }
    }

    fn load_preferences(self: &Rc<Self>, connection: &Rc<Connection>) {
        let Some(user) = connection.user() else { return };
        self.when_settled(connection, async move |shard: Rc<Self>| {
            let loaded = shard.ask(Hook::LoadPreferences, |answer| shard.shared.host.load_preferences(&user, answer));
            match loaded.await {
                Ok(preferences) => outgoing::preferences_loaded(&preferences, UnixMillis::now().as_f64()),
                Err(fault) => {
                    debug!(?fault, "preferences were not loaded");
                    outgoing::error("Failed to get preferences")
                }
            }
        });
    }

    fn save_preferences(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        preferences: serde_json::Map<String, serde_json::Value>,
    ) {
        let Some(user) = connection.user() else { return };
        self.when_settled(connection, async move |shard: Rc<Self>| {
            let save = |answer| shard.shared.host.save_preferences(&user, &preferences, answer);
            match shard.ask(Hook::SavePreferences, save).await {
                Ok(()) => outgoing::preferences_saved(preferences, UnixMillis::now().as_f64()),
                Err(fault) => {
                    debug!(?fault, "preferences were not saved");
                    outgoing::error("Failed to update preferences")
                }
            }
        });
    }

    /// Sends the reply that a hook's answer makes, or its absence within the time a hook has.
    fn when_settled(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        reply: impl AsyncFnOnce(Rc<Self>) -> Vec<u8> + 'static,
    ) {
        let under_way = HookUnderWay::new(self, connection);
        let shard = self.clone();
        tokio::task::spawn_local(contained("a hook", async move {
            let reply = reply(shard.clone()).await;
            let Some(connection) = under_way.connection() else { return };
            drop(under_way);
            if connection.is_open() {
                shard.reply(&connection, Prepared::text(reply), Priority::Normal);
                shard.flush_staged();
            }
        }));
    }
}

/// Counts a hook under way for its connection, however that ends. Does not hold the connection meanwhile: its socket lives no
/// longer than its place in the table.
pub(super) struct HookUnderWay {
    shard: Rc<Shard>,
    key: ConnectionKey,
    number: ConnectionNumber,
}

impl HookUnderWay {
    fn new(shard: &Rc<Shard>, connection: &Connection) -> Self {
        connection.hook_started();
        Self { shard: shard.clone(), key: connection.key, number: connection.number }
    }

    /// Whose hook it is, unless that has gone.
    pub fn connection(&self) -> Option<Rc<Connection>> {
        self.shard.connection_numbered(self.key, self.number)
    }
}

impl Drop for HookUnderWay {
    fn drop(&mut self) {
        if let Some(connection) = self.connection() {
            connection.hook_settled();
            self.shard.rouse(&connection);
        }
    }
}
