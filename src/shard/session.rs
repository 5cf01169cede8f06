//! Executes the requests of an open connection: `Command` → `Outcome` → reply.
//!
//! What a message asks for and what a reply says is decided purely in `protocol`. What waits for the application runs as a task that
//! ends by sending an [`Internal`] message to the loop.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tracing::{debug, warn};

use crate::application::interface::{Event, EventKind, HookAnswer, HookArgument, HookCall, HookFault};
use crate::error::CloseReason;
use crate::hub::Topic;
use crate::hub::subscription_manager::Transition;
use crate::monitoring::log_throttle::Line;
use crate::protocol::json::{RawJson, SharedJson};
use crate::protocol::message_handler::{
    Command, Outcome, Reply, RequestError, Verdicts, bill_id, bill_number, decode, encode,
};
use crate::shard::access::{AuthFault, Renewal};
use crate::shard::authorize;
use crate::shard::close;
use crate::shard::command::Internal;
use crate::shard::connection::State;
use crate::shard::context::ShardContext;
use crate::shard::egress::Delivery;
use crate::shard::establish;
use crate::shard::heartbeat::Liveness;
use crate::shard::scope::Scope;
use crate::shard::tasks;
use crate::transport::assembler::Message;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::UnixMillis;
use crate::types::{HookKind, Priority};

/// What a request changes, mostly one topic.
type Changes = SmallVec<[(Topic, Transition); 1]>;

/// Processes one message of a connection that is listening.
pub fn on_message(scope: &mut Scope<'_>, message: Message<'_>) {
    match message {
        Message::Text(text) => on_request(scope, text),
        Message::Binary(bytes) => on_request(scope, &String::from_utf8_lossy(bytes)),
        Message::Ping(payload) => {
            let pong = EncodedMessage::pong(payload);
            scope.connection.count_reply(pong.payload().len());
            scope.queue(pong);
        }
        Message::Pong(_) => scope.connection.liveness = Liveness::default(),
        // The receiver handles close frames: they change what it does next.
        Message::Close(_) => {}
    }
}

/// Sends a message to one connection that counts as a reply the peer has to read.
pub fn reply(scope: &mut Scope<'_>, message: &Arc<EncodedMessage>, priority: Priority) {
    scope.connection.count_reply(message.payload().len());
    if scope.deliver(message, priority) == Delivery::Exhausted {
        close::close(scope, CloseReason::SlowConsumer);
    }
}

pub fn send_reply(scope: &mut Scope<'_>, reply_: Reply) {
    reply(scope, &EncodedMessage::text(reply_.json.into_owned()), reply_.priority);
}

/// The hook of a request has answered, or its task has ended without an answer.
pub fn on_replied(scope: &mut Scope<'_>, reply: Option<Reply>) {
    scope.connection.hook_settled();
    scope.mark_ready();
    if let Some(reply) = reply.filter(|_| scope.connection.is_open()) {
        send_reply(scope, reply);
    }
}

/// An `auth` message was checked: gives an anonymous connection its user, or renews the claims of an open one.
pub fn on_authenticated(scope: &mut Scope<'_>, message_id: Option<&SharedJson>, result: Result<Renewal, AuthFault>) {
    scope.connection.hook_settled();
    scope.mark_ready();
    let is_first = matches!(result, Ok(Renewal::FirstUser(..))) || scope.connection.is_anonymous();
    // A peer that has left meanwhile gets no session.
    if !scope.connection.is_listening() || (is_first && scope.connection.transport.has_ended()) {
        return;
    }
    let mut is_refused = false;
    let outcome = match &result {
        Ok(Renewal::FirstUser(..)) if !scope.connection.is_open() => Outcome::Silent,
        // Two `auth` messages in a row: the first one has opened the session, and this one is for another user.
        Ok(Renewal::FirstUser(_, identity)) if scope.connection.user() != Some(&identity.user) => {
            Outcome::Failed(RequestError::AuthenticationFailed)
        }
        Ok(Renewal::FirstUser(_, identity) | Renewal::SameUser(identity)) => {
            scope.connection.auth_succeeded();
            let expires = identity.expires_at.map(|seconds| seconds as f64 * 1000.0);
            Outcome::Authenticated { user: identity.user.as_str(), expires }
        }
        Err(fault) => {
            if scope.shard.run.refusal_log.admits(Line::Unauthorized, Instant::now()) {
                debug!(connection = scope.connection.number.0, ?fault, "authentication failed");
            }
            // Only what the peer is to blame for.
            is_refused = matches!(fault, AuthFault::Refused(_)) && scope.connection.auth_failed();
            Outcome::Failed(RequestError::AuthenticationFailed)
        }
    };
    match encode(&outcome, message_id.map(SharedJson::get), UnixMillis::now().as_f64()) {
        Some(reply) => send_reply(scope, reply),
        // The greeting is the reply.
        None => {
            if let Ok(Renewal::FirstUser(reservation, _)) = result {
                scope.connection.auth_succeeded();
                establish::open_session(scope, reservation);
            }
        }
    }
    if is_refused {
        scope.flush_batch();
        close::close(scope, CloseReason::AuthenticationRequired);
    }
}

fn on_request(scope: &mut Scope<'_>, text: &str) {
    let now = UnixMillis::now();
    let request = decode(text, scope.connection.is_open());
    scope.shard.counters.message(now, request.latency(now.as_f64()));
    let ack = request.ack();
    let message_id = request.message_id;
    let encode = |outcome| encode(&outcome, message_id, now.as_f64());
    if request.command == Ok(Command::Ping) {
        // Before the ack, whether messages are batched or not.
        return [encode(Outcome::Pong), ack].into_iter().flatten().for_each(|one| send_reply(scope, one));
    }
    if let Some(ack) = ack {
        send_reply(scope, ack);
    }
    let outcome = match request.command {
        Ok(command) => apply(scope, command, message_id),
        Err(error) => Outcome::Failed(error),
    };
    if let Some(reply) = encode(outcome) {
        send_reply(scope, reply);
    }
}

/// Changes what a request asks to change. What waits for the application is silent now and replies later.
fn apply<'m>(scope: &mut Scope<'_>, command: Command<'m>, message_id: Option<RawJson<'m>>) -> Outcome<'m> {
    let message_id = || message_id.map(SharedJson::from);
    match command {
        Command::Nothing => Outcome::Silent,
        Command::Ping => Outcome::Pong,
        Command::Subscribe { bill, given } => {
            let verdicts = subscribe(scope, [Some(bill.into())].into_iter());
            match verdicts.first() {
                Some(true) => Outcome::Subscribed { bill: given },
                _ => Outcome::Failed(RequestError::SubscriptionLimit),
            }
        }
        Command::BatchSubscribe { bills } => {
            let elements = bills.elements().into_iter().flatten();
            Outcome::BatchSubscribed {
                bills,
                verdicts: subscribe(scope, elements.map(|bill| bill_number(bill).map(Topic::from))),
            }
        }
        Command::Unsubscribe { bill, given } => {
            unsubscribe(scope, bill.into_iter().map(Topic::from));
            Outcome::Unsubscribed { bill: given }
        }
        Command::BatchUnsubscribe { bills } => {
            unsubscribe(scope, bills.elements().into_iter().flatten().filter_map(bill_id).map(Topic::from));
            Outcome::BatchUnsubscribed { bills }
        }
        Command::Authenticate { token } => {
            authenticate(scope, token.into_owned(), message_id());
            Outcome::Silent
        }
        Command::LoadPreferences if scope.shard.run.options.hooks.contains(HookKind::LoadPreferences) => {
            load_preferences(scope, message_id());
            Outcome::Silent
        }
        Command::LoadPreferences => Outcome::DefaultPreferences,
        Command::SavePreferences { preferences }
            if scope.shard.run.options.hooks.contains(HookKind::SavePreferences) =>
        {
            save_preferences(scope, preferences.into(), message_id());
            Outcome::Silent
        }
        Command::SavePreferences { preferences } => Outcome::PreferencesSaved { preferences },
    }
}

/// Subscribes to those topics for which there is room, and says of each whether the connection is subscribed to it now.
fn subscribe(scope: &mut Scope<'_>, topics: impl Iterator<Item = Option<Topic>>) -> Verdicts {
    let mut verdicts = Verdicts::new();
    let key = scope.connection.key;
    let State::Open(session) = &mut scope.connection.state else { return verdicts };
    let subscriptions = &mut scope.tables.subscriptions;
    let max_subscriptions = scope.shard.run.options.max_subscriptions;
    let mut changes: Changes = SmallVec::new();
    for topic in topics {
        let id = topic.as_ref().and_then(|topic| subscriptions.id(topic));
        let is_subscribed = id.is_some_and(|id| session.topics.contains(id));
        let Some(topic) = topic.filter(|_| !is_subscribed && session.topics.len() < max_subscriptions) else {
            verdicts.push(is_subscribed);
            continue;
        };
        verdicts.push(true);
        if let Some((id, transition)) = subscriptions.subscribe(&topic, key) {
            session.topics.insert(id);
            changes.push((topic, transition));
        }
    }
    scope.shard.run.routing.subscribe(&session.user, scope.shard.id, &changes);
    emit_subscription(scope, &changes, true);
    verdicts
}

fn unsubscribe(scope: &mut Scope<'_>, topics: impl Iterator<Item = Topic>) {
    let key = scope.connection.key;
    let State::Open(session) = &mut scope.connection.state else { return };
    let subscriptions = &mut scope.tables.subscriptions;
    let mut changes: Changes = SmallVec::new();
    for topic in topics {
        let Some(id) = subscriptions.id(&topic) else { continue };
        if let Some(change) = subscriptions.unsubscribe(id, key) {
            session.topics.remove(id);
            changes.push(change);
        }
    }
    scope.shard.run.routing.unsubscribe(&session.user, scope.shard.id, &changes);
    emit_subscription(scope, &changes, false);
}

fn emit_subscription(scope: &Scope<'_>, changes: &[(Topic, Transition)], subscribed: bool) {
    if changes.is_empty() || !scope.shard.run.application.listens(EventKind::Subscription) {
        return;
    }
    if let Some(id) = scope.connection.id() {
        let bills = changes.iter().filter_map(|(topic, _)| topic.bill()).collect();
        scope.shard.run.application.emit(Event::Subscription { id, bills, subscribed });
    }
}

fn authenticate(scope: &mut Scope<'_>, token: String, message_id: Option<SharedJson>) {
    let (peer, user) = (scope.peer(), scope.connection.user().cloned());
    let listening = scope.connection.hook_started();
    tasks::spawn("an auth message", scope.shard, peer, async move |shard| {
        // Closed meanwhile: nothing is left to authenticate.
        if listening.strong_count() == 0 {
            return Internal::Replied { peer, reply: None };
        }
        let result = authorize::renew(&shard, user.as_ref(), &token).await;
        Internal::Authenticated { peer, message_id, result }
    });
}

fn load_preferences(scope: &mut Scope<'_>, message_id: Option<SharedJson>) {
    let Some(user) = scope.connection.user().map(<Arc<str>>::from) else { return };
    let call = HookCall::new(HookKind::LoadPreferences, user.clone(), [HookArgument::Text(user)]);
    call_for_reply(scope, call, move |shard, answer| {
        let outcome = match answer.as_ref().map(HookAnswer::as_json) {
            Ok(Some(preferences)) => Outcome::PreferencesLoaded { preferences },
            // `null` would be what a client might save.
            Ok(None) => {
                log_preferences(shard, || warn!("preferences.load gave a value that has no JSON form"));
                Outcome::Failed(RequestError::PreferencesNotLoaded)
            }
            Err(fault) => {
                log_preferences(shard, || warn!(?fault, "preferences were not loaded"));
                Outcome::Failed(RequestError::PreferencesNotLoaded)
            }
        };
        encode(&outcome, message_id.as_ref().map(SharedJson::get), UnixMillis::now().as_f64())
    });
}

fn save_preferences(scope: &mut Scope<'_>, preferences: SharedJson, message_id: Option<SharedJson>) {
    let Some(user) = scope.connection.user().map(<Arc<str>>::from) else { return };
    let arguments = [HookArgument::Text(user.clone()), HookArgument::Json(preferences.text().clone())];
    let call = HookCall::new(HookKind::SavePreferences, user, arguments);
    call_for_reply(scope, call, move |shard, answer| {
        let outcome = match answer {
            Ok(_) => Outcome::PreferencesSaved { preferences: preferences.get() },
            Err(fault) => {
                log_preferences(shard, || warn!(?fault, "preferences were not saved"));
                Outcome::Failed(RequestError::PreferencesNotSaved)
            }
        };
        encode(&outcome, message_id.as_ref().map(SharedJson::get), UnixMillis::now().as_f64())
    });
}

fn log_preferences(shard: &ShardContext, write: impl FnOnce()) {
    if shard.run.refusal_log.admits(Line::PreferencesFailed, Instant::now()) {
        write();
    }
}

/// Calls a hook and sends the reply that its answer makes. A hook that only reads is not called for a connection that has closed; what
/// a peer has asked to save is saved all the same.
fn call_for_reply(
    scope: &mut Scope<'_>,
    call: HookCall,
    reply: impl FnOnce(&ShardContext, Result<HookAnswer, HookFault>) -> Option<Reply> + 'static,
) {
    let peer = scope.peer();
    let listening = scope.connection.hook_started();
    tasks::spawn("a hook", scope.shard, peer, async move |shard| {
        let is_wanted = || !call.kind.only_reads() || listening.strong_count() > 0;
        if !is_wanted() {
            return Internal::Replied { peer, reply: None };
        }
        let answer = shard.call_hook_while(&call, is_wanted).await;
        Internal::Replied { peer, reply: reply(&shard, answer) }
    });
}
