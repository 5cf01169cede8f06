//! Executes what peers ask for: messages routed to the topic index, to hooks and to replies.
//!
//! What a message means and what a reply says is decided purely in `message_handler`; here commands are executed between
//! the two, at once or after a hook has answered. Runs on the shard's thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tracing::warn;

use crate::application::interface::{Event, EventKind, HookAnswer, HookArgument, HookCall, HookFault};
use crate::application::panic_guard::catch_task;
use crate::error::CloseReason;
use crate::hub::subscription_manager::Transition;
use crate::monitoring::log_throttle::Line;
use crate::protocol::json::{RawJson, SharedJson};
use crate::protocol::message_handler::{
    Command, Outcome, Reply, RequestError, Verdicts, bill_id, bill_number, decode, encode,
};
use crate::shard::connection::{Connection, State};
use crate::shard::event_loop::Shard;
use crate::shard::heartbeat::Liveness;
use crate::transport::assembler::Message;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{BillId, ConnectionKey, ConnectionNumber, HookKind, Priority, UnixMillis};

/// How soon a connection is looked at again whose token is still being checked at the end of its time.
const AUTH_CHECKED_AGAIN: Duration = Duration::from_millis(250);

impl Shard {
    /// One message from a peer that is listened to.
    pub(crate) fn hear(self: &Rc<Self>, connection: &Rc<Connection>, message: Message<'_>) {
        match message {
            Message::Text(text) => self.answer(connection, text),
            Message::Binary(bytes) => self.answer(connection, &String::from_utf8_lossy(bytes)),
            Message::Ping(payload) => {
                let pong = EncodedMessage::pong(payload);
                connection.owe(pong.payload().len());
                self.queue(connection, pong);
            }
            Message::Pong(_) => connection.liveness.set(Liveness::default()),
            // The caller keeps close frames to itself: they change what it does next.
            Message::Close(_) => {}
        }
    }

    /// A reply of this service to one connection; it counts as what the peer owes us reading.
    pub(crate) fn reply(&self, connection: &Rc<Connection>, message: Arc<EncodedMessage>, priority: Priority) {
        connection.owe(message.payload().len());
        if !self.deliver(connection, &message, priority) {
            self.close(connection, CloseReason::SlowConsumer);
        }
    }

    /// The time for an `auth` message is over.
    pub(crate) fn auth_overdue(self: &Rc<Self>, connection: &Rc<Connection>) {
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

    fn answer(self: &Rc<Self>, connection: &Rc<Connection>, text: &str) {
        let now = UnixMillis::now();
        let request = decode(text, connection.is_open());
        self.counters.message(now, request.latency(now.as_f64()));
        let ack = request.ack();
        let message_id = request.message_id;
        let reply = |outcome| encode(&outcome, message_id, now.as_f64());
        if request.command == Ok(Command::Ping) {
            // Before the ack, whether messages wait for others or not.
            return [reply(Outcome::Pong), ack].into_iter().flatten().for_each(|one| self.send_reply(connection, one));
        }
        if let Some(ack) = ack {
            self.send_reply(connection, ack);
        }
        let outcome = match request.command {
            Ok(command) => self.execute(connection, command, message_id),
            Err(error) => Outcome::Failed(error),
        };
        if let Some(reply) = reply(outcome) {
            self.send_reply(connection, reply);
        }
    }

    pub(crate) fn send_reply(&self, connection: &Rc<Connection>, reply: Reply) {
        self.reply(connection, EncodedMessage::text(reply.json.into_owned()), reply.priority);
    }

    /// Changes what a request asks to change. What has to wait for a hook is silent now and replies later.
    fn execute<'m>(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        command: Command<'m>,
        message_id: Option<RawJson<'m>>,
    ) -> Outcome<'m> {
        let kept_id = || message_id.map(SharedJson::from);
        match command {
            Command::Nothing => Outcome::Silent,
            Command::Ping => Outcome::Pong,
            Command::Subscribe { bill, given } => {
                let verdicts = self.subscribe(connection, [Some(bill)].into_iter());
                match verdicts.first() {
                    Some(true) => Outcome::Subscribed { bill: given },
                    _ => Outcome::Failed(RequestError::SubscriptionLimit),
                }
            }
            Command::BatchSubscribe { bills } => {
                let elements = bills.elements().into_iter().flatten();
                Outcome::BatchSubscribed { bills, verdicts: self.subscribe(connection, elements.map(bill_number)) }
            }
            Command::Unsubscribe { bill, given } => {
                self.unsubscribe(connection, bill.into_iter());
                Outcome::Unsubscribed { bill: given }
            }
            Command::BatchUnsubscribe { bills } => {
                self.unsubscribe(connection, bills.elements().into_iter().flatten().filter_map(bill_id));
                Outcome::BatchUnsubscribed { bills }
            }
            Command::Authenticate { token } => {
                let under_way = HookUnderWay::new(self, connection);
                let authenticated = self.clone().authenticate_message(token.into_owned(), kept_id(), under_way);
                tokio::task::spawn_local(catch_task("an auth message", authenticated));
                Outcome::Silent
            }
            Command::LoadPreferences if self.shared.options.hooks.contains(HookKind::LoadPreferences) => {
                self.load_preferences(connection, kept_id());
                Outcome::Silent
            }
            Command::LoadPreferences => Outcome::DefaultPreferences,
            Command::SavePreferences { preferences }
                if self.shared.options.hooks.contains(HookKind::SavePreferences) =>
            {
                self.save_preferences(connection, preferences.into(), kept_id());
                Outcome::Silent
            }
            Command::SavePreferences { preferences } => Outcome::PreferencesSaved { preferences },
        }
    }

    /// Follows those bills for which there is room, and says of each whether it is followed now.
    fn subscribe(&self, connection: &Rc<Connection>, bills: impl Iterator<Item = Option<BillId>>) -> Verdicts {
        let mut verdicts = Verdicts::new();
        let mut state = connection.state.borrow_mut();
        let State::Open(member) = &mut *state else { return verdicts };
        let max_subscriptions = self.shared.options.max_subscriptions;
        let mut changes: SmallVec<[(BillId, Transition); 1]> = SmallVec::new();
        {
            let mut topics = self.topics.borrow_mut();
            for bill in bills {
                let is_followed = bill.is_some_and(|bill| member.bills.contains(bill));
                let Some(bill) = bill.filter(|_| !is_followed && member.bills.len() < max_subscriptions) else {
                    verdicts.push(is_followed);
                    continue;
                };
                verdicts.push(true);
                if let Some(transition) = topics.subscribe(bill, connection.key) {
                    member.bills.insert(bill);
                    changes.push((bill, transition));
                }
            }
        }
        self.shared.routing.subscribe(&member.user, self.id, &changes);
        drop(state);
        self.tell_subscriptions(connection, &changes, true);
        verdicts
    }

    fn unsubscribe(&self, connection: &Rc<Connection>, bills: impl Iterator<Item = BillId>) {
        let mut state = connection.state.borrow_mut();
        let State::Open(member) = &mut *state else { return };
        let mut changes: SmallVec<[(BillId, Transition); 1]> = SmallVec::new();
        {
            let mut topics = self.topics.borrow_mut();
            for bill in bills {
                if let Some(transition) = topics.unsubscribe(bill, connection.key) {
                    member.bills.remove(bill);
                    changes.push((bill, transition));
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

    fn load_preferences(self: &Rc<Self>, connection: &Rc<Connection>, message_id: Option<SharedJson>) {
        let Some(user) = connection.user() else { return };
        let user: Arc<str> = (&user).into();
        let call = HookCall::new(HookKind::LoadPreferences, user.clone(), [HookArgument::Text(user)]);
        self.when_settled(connection, call, move |shard, answer| {
            let outcome = match answer.as_ref().map(HookAnswer::as_json) {
                Ok(Some(preferences)) => Outcome::PreferencesLoaded { preferences },
                // `null` would be what a client might save.
                Ok(None) => {
                    shard.log_preferences(|| warn!("preferences.load gave a value that has no JSON form"));
                    Outcome::Failed(RequestError::PreferencesNotLoaded)
                }
                Err(fault) => {
                    shard.log_preferences(|| warn!(?fault, "preferences were not loaded"));
                    Outcome::Failed(RequestError::PreferencesNotLoaded)
                }
            };
            encode(&outcome, message_id.as_ref().map(SharedJson::get), UnixMillis::now().as_f64())
        });
    }

    fn save_preferences(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        preferences: SharedJson,
        message_id: Option<SharedJson>,
    ) {
        let Some(user) = connection.user() else { return };
        let user: Arc<str> = (&user).into();
        let arguments = [HookArgument::Text(user.clone()), HookArgument::Json(preferences.text().clone())];
        let call = HookCall::new(HookKind::SavePreferences, user, arguments);
        self.when_settled(connection, call, move |shard, answer| {
            let outcome = match answer {
                Ok(_) => Outcome::PreferencesSaved { preferences: preferences.get() },
                Err(fault) => {
                    shard.log_preferences(|| warn!(?fault, "preferences were not saved"));
                    Outcome::Failed(RequestError::PreferencesNotSaved)
                }
            };
            encode(&outcome, message_id.as_ref().map(SharedJson::get), UnixMillis::now().as_f64())
        });
    }

    fn log_preferences(&self, write: impl FnOnce()) {
        if self.shared.refusal_log.admits(Line::PreferencesFailed, Instant::now()) {
            write();
        }
    }

    /// Calls a hook and sends the reply that its answer makes, or its absence within the time a hook has. A hook that only
    /// reads is not called for a connection that has gone; what a peer has asked to save is saved all the same.
    fn when_settled(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        call: HookCall,
        reply: impl FnOnce(&Self, Result<HookAnswer, HookFault>) -> Option<Reply> + 'static,
    ) {
        let under_way = HookUnderWay::new(self, connection);
        let shard = self.clone();
        tokio::task::spawn_local(catch_task("a hook", async move {
            let is_wanted = || !call.kind.only_reads() || under_way.connection().is_some_and(|one| one.is_open());
            if !is_wanted() {
                return;
            }
            let reply = reply(&shard, shard.call_hook_while(&call, is_wanted).await);
            let Some(connection) = under_way.connection() else { return };
            drop(under_way);
            if let Some(reply) = reply.filter(|_| connection.is_open()) {
                shard.send_reply(&connection, reply);
                shard.flush_staged();
            }
        }));
    }
}

/// Counts a hook under way for its connection, however that ends. Does not hold the connection meanwhile: its socket lives no
/// longer than its place in the table.
pub(crate) struct HookUnderWay {
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
