//! An application that records what it is told, answers look-ups as a test wishes, and can be made to panic.

use std::collections::VecDeque;
use std::sync::Mutex;

use carillon::core::host::{Answer, Event, EventKind, HookFault, Host};
use carillon::types::UserId;
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::patiently;

type Lookup = dyn Fn(&UserId, Answer<bool>) + Send + Sync;
type Listener = dyn Fn(&Event) + Send + Sync;

#[derive(Default)]
pub struct TestHost {
    events: Mutex<VecDeque<Event>>,
    told: Notify,
    lookup: Option<Box<Lookup>>,
    listener: Option<Box<Listener>>,
    is_deaf: bool,
    fails_to_load: bool,
    /// Who waits for preferences, if nobody is answered.
    unanswered: Option<Mutex<Vec<Answer<Value>>>>,
}

impl TestHost {
    pub fn new() -> Self {
        Self::default()
    }

    /// Fails to load preferences.
    pub fn failing_to_load() -> Self {
        Self { fails_to_load: true, ..Self::default() }
    }

    /// Listens to nothing.
    pub fn deaf() -> Self {
        Self { is_deaf: true, ..Self::default() }
    }

    pub fn looking_up(lookup: impl Fn(&UserId, Answer<bool>) + Send + Sync + 'static) -> Self {
        Self { lookup: Some(Box::new(lookup)), ..Self::default() }
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
            let _ = answer.send(Ok(Value::Null));
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

impl Host for TestHost {
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

    fn lookup_user(&self, user: &UserId, _: &Map<String, Value>, answer: Answer<bool>) {
        match &self.lookup {
            Some(lookup) => lookup(user, answer),
            None => {
                let _ = answer.send(Ok(true));
            }
        }
    }

    fn load_preferences(&self, _: &UserId, answer: Answer<Value>) {
        match &self.unanswered {
            Some(waiting) => waiting.lock().unwrap().push(answer),
            None => {
                let failed = self.fails_to_load.then(|| HookFault::Failed("as the test wants it".into()));
                let _ = answer.send(failed.map_or(Ok(Value::Null), Err));
            }
        }
    }

    fn save_preferences(&self, _: &UserId, _: &Map<String, Value>, answer: Answer<()>) {
        let _ = answer.send(Ok(()));
    }
}
