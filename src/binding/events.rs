//! Events, hooks and log lines on their way from the shards to Node's thread, through one thread-safe function.
//!
//! [`NodeHost`] is what the core sees: it queues and, if nothing is queued yet, wakes Node. [`Courier`] lives on
//! Node's thread and delivers everything that has gathered by then in one turn. Nothing is queued for an event
//! that nobody listens to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, JsValue, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Result, Status};
use serde_json::{Map, Value};
use tokio::sync::oneshot;
use tracing::Dispatch;

use crate::binding::bridge::{BridgeId, Bridges};
use crate::binding::values::{self, Reference};
use crate::binding::{heap, memory};
use crate::core::host::{Answer, Event, EventKind, HookFault, Host};
use crate::error::{Error, ErrorKind};
use crate::memory::sources::Usage;
use crate::types::UserId;

type Wake = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true>;

/// The core's way to Node. Shared by all shards.
#[derive(Default)]
pub struct NodeHost {
    queue: Mutex<Queue>,
    /// One bit per kind of event with a listener, and per level with a log method.
    heard: AtomicU32,
    wake: OnceLock<Wake>,
    /// A health check is under way to Node's thread.
    is_check_due: AtomicBool,
    delay: Mutex<Option<Delay>>,
}

/// The longest that a parcel had to wait for Node's thread of late.
#[derive(Clone, Copy)]
struct Delay {
    waited: Duration,
    seen: Instant,
}

/// A delay seen longer ago says nothing of now. A health check comes as often by default.
const DELAY_LIFETIME: Duration = Duration::from_secs(60);

/// What waits for Node's thread. Calls of hooks are bounded by the connections that wait for them; events and log lines
/// by [`MAX_WAITING`].
#[derive(Default)]
struct Queue {
    parcels: Vec<Parcel>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Events and log lines that found the queue full.
    lost: u64,
}

/// How many parcels may wait before further events and log lines are lost, and said to be.
const MAX_WAITING: usize = 262_144;

/// Something for Node's thread.
enum Parcel {
    CheckHealth,
    /// A bridge's shard wants something done with its socket.
    Bridge(BridgeId),
    Event(Event),
    Log {
        level: LogLevel,
        message: String,
        context: Map<String, Value>,
    },
    LookupUser {
        user: UserId,
        claims: Map<String, Value>,
        answer: Answer<bool>,
    },
    LoadPreferences {
        user: UserId,
        answer: Answer<Value>,
    },
    SavePreferences {
        user: UserId,
        preferences: Map<String, Value>,
        answer: Answer<()>,
    },
    MeasureHeap(oneshot::Sender<Usage>),
    CollectGarbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    pub fn method(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    fn bit(self) -> u32 {
        1 << (16 + self as u32)
    }
}

fn bit(kind: EventKind) -> u32 {
    1 << kind as u32
}

impl NodeHost {
    pub fn logs(&self, level: LogLevel) -> bool {
        self.heard.load(Ordering::Relaxed) & level.bit() != 0
    }

    pub fn log(&self, level: LogLevel, message: String, context: Map<String, Value>) {
        self.send(Parcel::Log { level, message, context });
    }

    pub fn bridge_has_work(&self, id: BridgeId) {
        self.send(Parcel::Bridge(id));
    }

    /// The longest that the JavaScript thread kept a parcel waiting within a minute; unknown if there was none.
    pub fn event_loop_delay(&self) -> Option<Duration> {
        let delay = *self.delay.lock().unwrap_or_else(PoisonError::into_inner);
        delay.filter(|delay| delay.seen.elapsed() < DELAY_LIFETIME).map(|delay| delay.waited)
    }

    fn set_heard(&self, bits: u32, heard: bool) {
        if heard {
            self.heard.fetch_or(bits, Ordering::Relaxed);
        } else {
            self.heard.fetch_and(!bits, Ordering::Relaxed);
        }
    }

    fn send(&self, parcel: Parcel) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.parcels.len() >= MAX_WAITING && matches!(parcel, Parcel::Event(_) | Parcel::Log { .. }) {
            queue.lost += 1;
            return;
        }
        queue.parcels.push(parcel);
        let is_first = queue.parcels.len() == 1;
        if is_first {
            queue.since = Some(Instant::now());
        }
        drop(queue);
        if is_first && let Some(wake) = self.wake.get() {
            // While the environment is being torn down the call is refused: nobody is there to hear.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn take(&self) -> Queue {
        let queue = std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(since) = queue.since {
            let mut longest = self.delay.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = since.elapsed();
            if longest.is_none_or(|longest| longest.waited <= waited || longest.seen.elapsed() > DELAY_LIFETIME) {
                *longest = Some(Delay { waited, seen: Instant::now() });
            }
        }
        queue
    }
}

impl Host for NodeHost {
    fn listens(&self, kind: EventKind) -> bool {
        self.heard.load(Ordering::Relaxed) & bit(kind) != 0
    }

    fn emit(&self, event: Event) {
        if self.listens(event.kind()) {
            self.send(Parcel::Event(event));
        }
    }

    fn check_health(&self) {
        // One at a time: while JavaScript is stuck there is nobody to tell.
        if self.listens(EventKind::Health) && !self.is_check_due.swap(true, Ordering::Relaxed) {
            self.send(Parcel::CheckHealth);
        }
    }

    fn lookup_user(&self, user: &UserId, claims: &Map<String, Value>, answer: Answer<bool>) {
        self.send(Parcel::LookupUser { user: user.clone(), claims: claims.clone(), answer });
    }

    fn load_preferences(&self, user: &UserId, answer: Answer<Value>) {
        self.send(Parcel::LoadPreferences { user: user.clone(), answer });
    }

    fn save_preferences(&self, user: &UserId, preferences: &Map<String, Value>, answer: Answer<()>) {
        self.send(Parcel::SavePreferences { user: user.clone(), preferences: preferences.clone(), answer });
    }

    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        self.send(Parcel::MeasureHeap(answer));
    }

    fn release_memory(&self) {
        self.send(Parcel::CollectGarbage);
        memory::trim_allocator();
    }
}

type Callback = FunctionRef<Unknown<'static>, Unknown<'static>>;

struct Listener {
    callback: Rc<Callback>,
    is_once: bool,
}

/// The application's functions. The hooks and the logger are set with the options.
#[derive(Default)]
pub struct Functions {
    pub lookup_user: Option<Callback>,
    pub preferences: Option<Reference>,
    pub logger: Option<Reference>,
}

/// Looks at the service's health; hands back a status that is to be told.
type Physician = dyn for<'env> Fn(&'env Env) -> Result<Option<Unknown<'env>>>;

/// Delivers on Node's thread.
pub struct Courier {
    host: Arc<NodeHost>,
    listeners: RefCell<HashMap<EventKind, Vec<Listener>>>,
    functions: RefCell<Rc<Functions>>,
    bridges: Bridges,
    physician: RefCell<Option<Rc<Physician>>>,
    /// Where the log lines of deliveries go.
    dispatch: Dispatch,
}

impl Courier {
    /// The thread-safe function does not keep the process alive, and holds the courier weakly: a service that
    /// nobody refers to any more goes.
    pub fn new(env: &Env, host: Arc<NodeHost>, dispatch: Dispatch) -> Result<Rc<Self>> {
        let courier = Rc::new(Self {
            host: host.clone(),
            listeners: RefCell::default(),
            functions: RefCell::default(),
            bridges: Bridges::default(),
            physician: RefCell::default(),
            dispatch,
        });
        let weak: Weak<Self> = Rc::downgrade(&courier);
        let deliver = env.create_function_from_closure::<(), (), _>("carillonDeliver", move |context| {
            if let Some(courier) = weak.upgrade() {
                courier.logged(|| courier.deliver(context.env));
            }
            Ok(())
        })?;
        let deliver: Function<'_, (), Unknown<'static>> = values::read(&deliver.to_unknown())?;
        let wake = deliver.build_threadsafe_function::<()>().weak::<true>().build()?;
        // Set once, here; nobody else has the host yet.
        let _ = host.wake.set(wake);
        Ok(courier)
    }

    pub fn set_physician(&self, physician: Rc<Physician>) {
        *self.physician.borrow_mut() = Some(physician);
    }

    pub fn host(&self) -> &Arc<NodeHost> {
        &self.host
    }

    /// Log lines of what runs inside go where this service's log lines go.
    pub fn logged<T>(&self, act: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, act)
    }

    pub fn bridges(&self) -> &Bridges {
        &self.bridges
    }

    pub fn set_functions(&self, env: &Env, functions: Functions) -> Result<()> {
        for level in LogLevel::ALL {
            let is_logged = match functions.logger.as_ref().and_then(|logger| logger.object(env)) {
                Some(logger) => values::kind(&values::property(&logger, level.method())?) == "function",
                None => false,
            };
            self.host.set_heard(level.bit(), is_logged);
        }
        *self.functions.borrow_mut() = Rc::new(functions);
        Ok(())
    }

    pub fn add(&self, kind: EventKind, callback: Callback, is_once: bool) {
        let mut listeners = self.listeners.borrow_mut();
        listeners.entry(kind).or_default().push(Listener { callback: Rc::new(callback), is_once });
        self.host.set_heard(bit(kind), true);
    }

    /// Removes the listener added last, as Node's EventEmitter does.
    pub fn remove(&self, env: &Env, kind: EventKind, callback: &Unknown<'_>) -> Result<()> {
        let mut listeners = self.listeners.borrow_mut();
        let Some(list) = listeners.get_mut(&kind) else { return Ok(()) };
        let mut found = None;
        for (index, listener) in list.iter().enumerate().rev() {
            if env.strict_equals(listener.callback.borrow_back(env)?.to_unknown(), *callback)? {
                found = Some(index);
                break;
            }
        }
        if let Some(index) = found {
            list.remove(index);
        }
        self.host.set_heard(bit(kind), !list.is_empty());
        Ok(())
    }

    fn deliver(&self, env: &Env) {
        let Queue { parcels, lost, .. } = self.host.take();
        if lost > 0 {
            let message = format!("{lost} events were lost because JavaScript did not take them in time");
            self.fire(env, &Event::Error(Error::new(ErrorKind::Overloaded, message)));
        }
        for parcel in parcels {
            // One handle scope each: a long queue must not pile up handles until its end.
            let result = env.run_in_scope(|| {
                self.hand_over(env, parcel);
                values::clear_exception(env);
                Ok(())
            });
            if let Err(failure) = result {
                tracing::error!(%failure, "an event could not be delivered");
            }
        }
    }

    fn hand_over(&self, env: &Env, parcel: Parcel) {
        let functions = self.functions.borrow().clone();
        match parcel {
            Parcel::CheckHealth => {
                self.host.is_check_due.store(false, Ordering::Relaxed);
                let physician = self.physician.borrow().clone();
                match physician.map_or(Ok(None), |physician| physician(env)) {
                    Ok(Some(status)) => self.call(env, EventKind::Health, &[status]),
                    Ok(None) => {}
                    Err(failure) => tracing::error!(%failure, "the health could not be checked"),
                }
            }
            Parcel::Bridge(id) => {
                if let Err(failure) = self.bridges.work(env, id) {
                    values::clear_exception(env);
                    tracing::debug!(failure = failure.reason, "a bridged socket failed");
                }
            }
            Parcel::Event(event) => self.fire(env, &event),
            Parcel::Log { level, message, context } => {
                // A logger that throws has nowhere to be logged to.
                let _ = functions.log(env, level, &message, context);
            }
            Parcel::LookupUser { user, claims, answer } => {
                let result = functions.call_lookup(env, &user, claims);
                settle(env, result, answer, |value| value.coerce_to_bool());
            }
            Parcel::LoadPreferences { user, answer } => {
                let result = functions.call_preferences(env, "load", &user, None);
                let env_copy = *env;
                settle(env, result, answer, move |value| {
                    let json = values::to_json(&env_copy, &value)?;
                    Ok(json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or(Value::Null))
                });
            }
            Parcel::SavePreferences { user, preferences, answer } => {
                let result = functions.call_preferences(env, "save", &user, Some(preferences));
                settle(env, result, answer, |_| Ok(()));
            }
            Parcel::MeasureHeap(answer) => {
                if let Some(usage) = heap::usage(env) {
                    // The manager may have ended meanwhile.
                    let _ = answer.send(usage);
                }
            }
            Parcel::CollectGarbage => memory::collect_garbage(env),
        }
    }

    fn fire(&self, env: &Env, event: &Event) {
        match crate::binding::objects::event_arguments(env, event) {
            Ok(arguments) => self.call(env, event.kind(), &arguments),
            Err(failure) => tracing::error!(%failure, "an event could not be described"),
        }
    }

    /// Calls each listener once per argument.
    fn call(&self, env: &Env, kind: EventKind, arguments: &[Unknown<'_>]) {
        // Listeners may add and remove listeners: what is called is what was there at the time of the event.
        let callbacks: Vec<Rc<Callback>> = {
            let mut listeners = self.listeners.borrow_mut();
            let Some(list) = listeners.get_mut(&kind) else { return };
            let callbacks = list.iter().map(|listener| listener.callback.clone()).collect();
            list.retain(|listener| !listener.is_once);
            self.host.set_heard(bit(kind), !list.is_empty());
            callbacks
        };
        for argument in arguments {
            for callback in &callbacks {
                let result = callback.borrow_back(env).and_then(|callback| {
                    // SAFETY: the value lives in the scope of this delivery and the call returns within it.
                    let argument = unsafe { std::mem::transmute::<Unknown<'_>, Unknown<'static>>(*argument) };
                    callback.call(argument)
                });
                if let Err(failure) = result {
                    values::clear_exception(env);
                    tracing::error!(event = ?kind, failure = failure.reason, "a listener threw");
                }
            }
        }
    }
}

impl Functions {
    fn log(&self, env: &Env, level: LogLevel, message: &str, context: Map<String, Value>) -> Result<()> {
        let Some(logger) = self.logger.as_ref().and_then(|logger| logger.object(env)) else { return Ok(()) };
        let context = values::from_json(env, &Value::Object(context).to_string())?;
        values::call_method(&logger, level.method(), FnArgs::from((message, context)))?;
        Ok(())
    }

    fn call_lookup<'env>(&self, env: &'env Env, user: &UserId, claims: Map<String, Value>) -> Result<Unknown<'env>> {
        let Some(lookup) = &self.lookup_user else { return values::write(env, true) };
        let claims = values::from_json(env, &Value::Object(claims).to_string())?;
        let lookup: Function<'_, FnArgs<(&str, Unknown<'_>)>, Unknown<'env>> =
            values::read(&lookup.borrow_back(env)?.to_unknown())?;
        lookup.call(FnArgs::from((user.as_str(), claims)))
    }

    fn call_preferences<'env>(
        &self,
        env: &'env Env,
        method: &str,
        user: &UserId,
        preferences: Option<Map<String, Value>>,
    ) -> Result<Unknown<'env>> {
        let Some(hooks) = self.preferences.as_ref().and_then(|hooks| hooks.object(env)) else {
            return values::write(env, ());
        };
        match preferences {
            None => values::call_method(&hooks, method, FnArgs::from((user.as_str(),))),
            Some(preferences) => {
                let preferences = values::from_json(env, &Value::Object(preferences).to_string())?;
                values::call_method(&hooks, method, FnArgs::from((user.as_str(), preferences)))
            }
        }
    }
}

/// Answers with what a hook returned, or with what the promise it returned settles to.
fn settle<T: 'static>(
    env: &Env,
    returned: Result<Unknown<'_>>,
    answer: Answer<T>,
    read: impl Fn(Unknown<'_>) -> Result<T> + 'static,
) {
    let returned = match returned {
        Ok(returned) => returned,
        Err(failure) => return reply(answer, Err(HookFault::Failed(failure.reason.clone()))),
    };
    let then = values::as_object(&returned).and_then(|promise| {
        let then: Option<Function<'_, FnArgs<(Unknown<'_>, Unknown<'_>)>, Unknown<'_>>> =
            values::property(&promise, "then")
                .ok()
                .filter(|then| values::kind(then) == "function")
                .and_then(|then| values::read(&then).ok());
        then.map(|then| (promise, then))
    });
    let Some((promise, then)) = then else {
        return reply(answer, read(returned).map_err(|failure| HookFault::Failed(failure.reason.clone())));
    };
    // A promise settles once; the cell is for the two functions that share the answer.
    let answer = Rc::new(Cell::new(Some(answer)));
    let on_failure = answer.clone();
    let wire = || -> Result<()> {
        let fulfilled = env.create_function_from_closure::<Unknown<'_>, (), _>("fulfilled", move |context| {
            if let Some(answer) = answer.take() {
                let value = context.first_arg::<Unknown<'_>>();
                reply(answer, value.and_then(&read).map_err(|failure| HookFault::Failed(failure.reason.clone())));
                values::clear_exception(context.env);
            }
            Ok(())
        })?;
        let rejected = env.create_function_from_closure::<Unknown<'_>, (), _>("rejected", move |context| {
            if let Some(answer) = on_failure.take() {
                let why = context
                    .first_arg::<Unknown<'_>>()
                    .and_then(|why| why.coerce_to_string()?.into_utf8()?.into_owned());
                reply(answer, Err(HookFault::Failed(why.unwrap_or_default())));
                values::clear_exception(context.env);
            }
            Ok(())
        })?;
        then.apply(promise, FnArgs::from((fulfilled.to_unknown(), rejected.to_unknown())))?;
        Ok(())
    };
    if let Err(failure) = wire() {
        // The answer went with the functions, which the shard sees as a time-out.
        tracing::warn!(failure = failure.reason, "a hook's promise could not be awaited");
    }
}

fn reply<T>(answer: Answer<T>, result: std::result::Result<T, HookFault>) {
    // The shard has stopped waiting: it was too late.
    let _ = answer.send(result);
}
