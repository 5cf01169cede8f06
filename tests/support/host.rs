//! An application that records its events, answers look-ups as a test configures, and can be made to panic.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use carillon::application::interface::{Answer, Application, Event, EventKind, HookAnswer, HookCall, HookFault};
use carillon::types::{HookKind, UserId};
use tokio::sync::Notify;

use super::patiently;

type Lookup = dyn Fn(&UserId, LookupAnswer) + Send + Sync;
type Listener = dyn Fn(&Event) + Send + Sync;

/// Tells whether a user exists.
pub struct LookupAnswer(Answer);

impl LookupAnswer {
    /// An error if the service does not wait for it any more.
    pub fn send(self, found: Result<bool, HookFault>) -> Result<(), ()> {
        self.0.send(found.map(HookAnswer::Truth)).map_err(|_| ())
    }
}

#[derive(Default)]
pub struct TestHost {
    events: Mutex<VecDeque<Event>>,
    told: Notify,
    lookup: Option<Box<Lookup>>,
    listener: Option<Box<Listener>>,
    is_deaf: bool,
    fails_to_load: bool,
    calls: [AtomicUsize; HookKind::COUNT],
    /// Calls for preferences that are kept unanswered.
    unanswered: Option<Mutex<Vec<Answer>>>,
}

impl TestHost {
    pub fn new() -> Self {
        Self::default()
    }

    /// How often this hook was called.
    pub fn calls(&self, kind: HookKind) -> usize {
        self.calls[kind as usize].load(Ordering::SeqCst)
    }

    /// Fails to load preferences.
    pub fn failing_to_load() -> Self {
        Self { fails_to_load: true, ..Self::default() }
    }

    /// Listens to nothing.
    pub fn deaf() -> Self {
        Self { is_deaf: true, ..Self::default() }
    }

    pub fn looking_up(lookup: impl Fn(&UserId, LookupAnswer) + Send + Sync + 'static) -> Self {
        Self { lookup: Some(Box::new(lookup)), ..Self::default() }
    }

    /// The same, and listens to nothing.
    pub fn deaf_looking_up(lookup: impl Fn(&UserId, LookupAnswer) + Send + Sync + 'static) -> Self {
        Self { is_deaf: true, ..Self::looking_up(lookup) }
    }

    /// Calls `listener` on the shard's thread, before the event is recorded.
    pub fn listening(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self { listener: Some(Box::new(listener)), ..Self::default() }
    }

    /// Never answers who asks for preferences.
    pub fn without_preferences() -> Self {
        Self { unanswered: Some(Mutex::default()), ..Self::default() }
    }

    /// How many wait for preferences that do not come.
    pub fn unanswered(&self) -> usize {
        self.unanswered.as_ref().map_or(0, |waiting| waiting.lock().unwrap().len())
    }

    /// Answers all who wait for preferences, and returns how many those were.
    pub fn answer_preferences(&self) -> usize {
        let waiting = self.unanswered.as_ref().map(|waiting| std::mem::take(&mut *waiting.lock().unwrap()));
        let waiting = waiting.unwrap_or_default();
        let count = waiting.len();
        for answer in waiting {
            let _ = answer.send(Ok(HookAnswer::Json("null".into())));
        }
        count
    }

    pub fn answers_look_ups(&self) -> bool {
        self.lookup.is_some()
    }

    /// The next event of this kind; those before it are forgotten.
    pub async fn next(&self, kind: EventKind) -> Event {
        patiently(async {
            loop {
                let told = self.told.notified();
                while let Some(event) = self.pop() {
                    if event.kind() == kind {
                        return event;
                    }
                }
                told.await;
            }
        })
        .await
    }

    /// How many events of this kind were told and not looked at.
    pub fn count(&self, kind: EventKind) -> usize {
        self.events.lock().unwrap().iter().filter(|event| event.kind() == kind).count()
    }

    /// The code and reason of the next end of a connection.
    pub async fn disconnection(&self) -> (u16, String) {
        match self.next(EventKind::Disconnection).await {
            Event::Disconnection { code, reason, .. } => (code, reason),
            other => panic!("{other:?}"),
        }
    }

    fn pop(&self) -> Option<Event> {
        self.events.lock().unwrap().pop_front()
    }
}

impl Application for TestHost {
    fn listens(&self, _: EventKind) -> bool {
        !self.is_deaf
    }

    fn emit(&self, event: Event) {
        if let Some(listener) = &self.listener {
            listener(&event);
        }
        self.events.lock().unwrap().push_back(event);
        self.told.notify_one();
    }

    fn call_hook(&self, call: HookCall, answer: Answer) {
        self.calls[call.kind as usize].fetch_add(1, Ordering::SeqCst);
        match (call.kind, &self.lookup, &self.unanswered) {
            (HookKind::LookupUser, Some(lookup), _) => {
                return lookup(&UserId::new(&call.subject), LookupAnswer(answer));
            }
            (HookKind::LoadPreferences, _, Some(waiting)) => return waiting.lock().unwrap().push(answer),
            _ => {}
        }
        let reply = match call.kind {
            HookKind::LookupUser => Ok(HookAnswer::Truth(true)),
            HookKind::LoadPreferences if self.fails_to_load => Err(HookFault::Failed("as the test wants it".into())),
            HookKind::LoadPreferences => Ok(HookAnswer::Json("null".into())),
            HookKind::SavePreferences => Ok(HookAnswer::Nothing),
        };
        let _ = answer.send(reply);
    }
}
