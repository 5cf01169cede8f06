//! Delivery on Node's thread: events, hooks and log lines that shards have queued.
//!
//! One thread-safe function wakes [`Courier`], which delivers in order what is there, for at most [`SLICE`] per turn of the event
//! loop. What is left waits for the next turn, and hooks and bridges then go before events and log lines: a peer waits for them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Function, JsValue, Unknown};
use napi::{Env, Result};
use serde_json::{Map, Value};
use tracing::Dispatch;

use crate::application::interface::{Event, EventKind, LifecycleState};
use crate::binding::bridge::Bridges;
use crate::binding::glue::{Glue, Scope, Target};
use crate::binding::hook_calls::{HookCalls, Hooks};
use crate::binding::listeners::Listeners;
use crate::binding::values::{self, Reference};
use crate::binding::{guard, heap, memory};
use crate::error::{Error, ErrorKind};
use crate::types::HookKind;

pub use crate::binding::node_host::{LogLevel, NodeHost};
use crate::binding::node_host::{Parcel, Queue};

/// How long one turn of the event loop is held for deliveries; a single listener may take longer.
const SLICE: Duration = Duration::from_millis(5);

/// How much of it hooks and bridges get before events, when both wait.
const URGENT_SHARE: Duration = Duration::from_millis(4);

/// The application's functions that the options name.
#[derive(Default)]
pub struct Functions {
    pub hooks: Vec<(HookKind, Target)>,
    pub logger: Option<Logger>,
}

pub struct Logger {
    pub object: Reference,
    pub order: LogOrder,
}

/// In which order a logger's methods take their arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOrder {
    /// `(message, context)`: console, winston.
    MessageFirst,
    /// `(context, message)`: pino, bunyan.
    ContextFirst,
}

/// The logger's methods, each where it has one.
struct Log {
    methods: [Option<Target>; LogLevel::ALL.len()],
    order: LogOrder,
    scope: Scope,
}

/// What was taken from the host and is not delivered yet.
#[derive(Default)]
struct Backlog {
    urgent: VecDeque<Parcel>,
    others: VecDeque<Parcel>,
    /// The event loop will come back to it.
    is_scheduled: bool,
}

/// A listener that runs the event loop must not begin another delivery inside of one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Idle,
    UnderWay,
    /// Meanwhile there was a wake, which is still to be followed.
    Woken,
}

/// Looks at the service's health; hands back a status that is to be told.
type Physician = dyn for<'env> Fn(&'env Env) -> Result<Option<Unknown<'env>>>;

/// Called before the application is told that a run has ended.
type BeforeStopped = dyn Fn(&Env);

/// Delivers on Node's thread.
pub struct Courier {
    host: Arc<NodeHost>,
    glue: Glue,
    listeners: Listeners,
    hooks: HookCalls,
    log: RefCell<Option<Rc<Log>>>,
    bridges: Bridges,
    physician: RefCell<Option<Rc<Physician>>>,
    before_stopped: RefCell<Option<Rc<BeforeStopped>>>,
    backlog: RefCell<Backlog>,
    delivery: Cell<Delivery>,
    /// Logs what listeners reject with.
    report: Reference,
    /// What an immediate of the event loop calls.
    resume: RefCell<Option<Reference>>,
    /// Where the log lines of deliveries go.
    dispatch: Dispatch,
}

impl Courier {
    /// The thread-safe function does not keep the process alive, and holds the courier weakly: a service that
    /// nobody refers to any more goes.
    pub fn new(env: &Env, host: Arc<NodeHost>, dispatch: Dispatch) -> Result<Rc<Self>> {
        let lines = dispatch.clone();
        let report = guard::function::<()>(env, "carillonReport", move |context| {
            let what = values::as_string(&context.get::<Unknown<'_>>(0)?).unwrap_or_default();
            let failure = napi::Error::from(context.get::<Unknown<'_>>(1)?);
            values::clear_exception(context.env);
            tracing::dispatcher::with_default(&lines, || {
                tracing::error!(event = what, failure = failure.reason, "a listener rejected");
            });
            Ok(())
        })?;
        let courier = Rc::new(Self {
            host: host.clone(),
            glue: Glue::new(env)?,
            listeners: Listeners::default(),
            hooks: HookCalls::new(env)?,
            log: RefCell::default(),
            bridges: Bridges::default(),
            physician: RefCell::default(),
            before_stopped: RefCell::default(),
            backlog: RefCell::default(),
            delivery: Cell::new(Delivery::Idle),
            report: Reference::strong(env, &report.to_unknown())?,
            resume: RefCell::default(),
            dispatch,
        });
        let weak: Weak<Self> = Rc::downgrade(&courier);
        let deliver = guard::function::<()>(env, "carillonDeliver", move |context| {
            if let Some(courier) = weak.upgrade() {
                courier.logged(|| courier.deliver(context.env, false));
            }
            Ok(())
        })?;
        let deliver: Function<'_, (), Unknown<'static>> = values::read(&deliver.to_unknown())?;
        host.set_wake(deliver.build_threadsafe_function::<()>().weak::<true>().build()?);
        let weak: Weak<Self> = Rc::downgrade(&courier);
        let resume = guard::function::<()>(env, "carillonResume", move |context| {
            if let Some(courier) = weak.upgrade() {
                courier.logged(|| courier.deliver(context.env, true));
            }
            Ok(())
        })?;
        *courier.resume.borrow_mut() = Some(Reference::strong(env, &resume.to_unknown())?);
        Ok(courier)
    }

    pub fn set_physician(&self, physician: Rc<Physician>) {
        *self.physician.borrow_mut() = Some(physician);
    }

    pub fn set_before_stopped(&self, before_stopped: Rc<BeforeStopped>) {
        *self.before_stopped.borrow_mut() = Some(before_stopped);
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

    pub fn glue(&self) -> &Glue {
        &self.glue
    }

    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Tells the core whether anybody listens to such events.
    pub fn note_listeners(&self, kind: EventKind) {
        self.host.set_listens(kind, self.listeners.count(kind) > 0);
    }

    /// The functions run in the async context of this call.
    pub fn set_functions(&self, env: &Env, functions: Functions) -> Result<()> {
        let targets = functions.hooks.into_iter().collect();
        self.hooks.set(Hooks { targets, scope: self.glue.scope(env) });
        let log = match functions.logger {
            None => None,
            Some(Logger { object, order }) => {
                let object = object.live(env)?;
                let mut methods = [None, None, None, None];
                for level in LogLevel::ALL {
                    let method = Target::method(env, &object, level.method())?;
                    methods[level as usize] = method.is_function(env).then_some(method);
                }
                Some(Rc::new(Log { methods, order, scope: self.glue.scope(env) }))
            }
        };
        for level in LogLevel::ALL {
            self.host.set_logs(level, log.as_ref().is_some_and(|log| log.methods[level as usize].is_some()));
        }
        let before = self.log.replace(log);
        drop(before);
        Ok(())
    }

    /// Delivers what waits, for a slice of time. `is_resumed`: called by the event loop for what an earlier slice has left.
    fn deliver(&self, env: &Env, is_resumed: bool) {
        if self.delivery.get() != Delivery::Idle {
            self.delivery.set(Delivery::Woken);
            return;
        }
        self.delivery.set(Delivery::UnderWay);
        let is_whole = guard::catch(env, "deliveries", || self.deliver_slice(env, is_resumed)).is_some();
        // After a panic what was not taken still waits, and no wake will come for it.
        let was_woken = self.delivery.replace(Delivery::Idle) == Delivery::Woken || !is_whole;
        self.schedule(env, was_woken);
    }

    fn deliver_slice(&self, env: &Env, is_resumed: bool) {
        let began = Instant::now();
        let Queue { parcels, lost, .. } = self.host.take();
        let mut parcels = parcels.into_iter();
        if self.backlog.borrow().is_empty() {
            for parcel in parcels.by_ref() {
                self.hand_over_guarded(env, parcel);
                if began.elapsed() >= SLICE {
                    break;
                }
            }
        }
        let may_tell_events = {
            let mut backlog = self.backlog.borrow_mut();
            backlog.extend(parcels);
            if lost > 0 {
                let message = format!("{lost} events were lost because JavaScript did not take them in time");
                backlog.extend([Parcel::Event(Event::Error(Error::new(ErrorKind::Overloaded, message)))]);
            }
            if is_resumed {
                backlog.is_scheduled = false;
            }
            !backlog.is_scheduled
        };
        while began.elapsed() < URGENT_SHARE
            && let Some(parcel) = self.next_urgent()
        {
            self.hand_over_guarded(env, parcel);
        }
        while may_tell_events
            && began.elapsed() < SLICE
            && let Some(parcel) = self.next_other()
        {
            self.hand_over_guarded(env, parcel);
        }
    }

    /// Has the event loop come back if something is left.
    fn schedule(&self, env: &Env, was_woken: bool) {
        {
            let mut backlog = self.backlog.borrow_mut();
            self.host.set_held(backlog.others.len());
            if (backlog.is_empty() && !was_woken) || backlog.is_scheduled {
                return;
            }
            backlog.is_scheduled = true;
        }
        let resume = self.resume.borrow().as_ref().and_then(|resume| resume.get(env));
        let scheduled = resume.map(|resume| self.glue.set_immediate(env, &resume));
        if !matches!(scheduled, Some(Ok(()))) {
            values::clear_exception(env);
            // Without an immediate the next wake goes on.
            self.backlog.borrow_mut().is_scheduled = false;
            tracing::error!("the event loop could not be asked to come back for what is left to deliver");
        }
    }

    fn next_urgent(&self) -> Option<Parcel> {
        self.backlog.borrow_mut().urgent.pop_front()
    }

    fn next_other(&self) -> Option<Parcel> {
        self.backlog.borrow_mut().others.pop_front()
    }

    /// One handle scope each: a long queue must not pile up handles until its end.
    fn hand_over_guarded(&self, env: &Env, parcel: Parcel) {
        let delivered = guard::catch(env, "a delivery", || {
            env.run_in_scope(|| {
                self.hand_over(env, parcel);
                values::clear_exception(env);
                Ok(())
            })
        });
        if let Some(Err(failure)) = delivered {
            tracing::error!(%failure, "an event could not be delivered");
        }
    }

    fn hand_over(&self, env: &Env, parcel: Parcel) {
        match parcel {
            Parcel::CheckHealth => {
                self.host.health_check_taken();
                let physician = self.physician.borrow().clone();
                match physician.map_or(Ok(None), |physician| physician(env)) {
                    Ok(Some(status)) => self.tell(env, EventKind::Health, status),
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
            Parcel::Event(event) => {
                if matches!(event, Event::StateChange(LifecycleState::Stopped)) {
                    let before_stopped = self.before_stopped.borrow().clone();
                    if let Some(before_stopped) = before_stopped {
                        before_stopped(env);
                    }
                }
                match crate::binding::objects::event_arguments(env, &event) {
                    Ok(arguments) => arguments.into_iter().for_each(|argument| self.tell(env, event.kind(), argument)),
                    Err(failure) => tracing::error!(%failure, "an event could not be described"),
                }
            }
            Parcel::Log { level, message, context } => {
                // A logger that fails has nowhere to be logged to.
                let _ = self.write_log(env, level, &message, context);
            }
            Parcel::Hook { call, answer } => self.hooks.call(env, &self.glue, &call, answer),
            Parcel::MeasureHeap(answer) => {
                if let Some(usage) = heap::usage(env) {
                    // The manager may have ended meanwhile.
                    let _ = answer.send(usage);
                }
            }
            Parcel::CollectGarbage => memory::collect_garbage(env),
        }
    }

    /// Calls the listeners of an event.
    pub fn tell(&self, env: &Env, kind: EventKind, argument: Unknown<'_>) {
        let Some(report) = self.report.get(env) else { return };
        self.listeners.emit(env, &self.glue, kind, argument, &report);
    }

    fn write_log(&self, env: &Env, level: LogLevel, message: &str, context: Map<String, Value>) -> Result<()> {
        let Some(log) = self.log.borrow().clone() else { return Ok(()) };
        let Some(method) = &log.methods[level as usize] else { return Ok(()) };
        let context = values::from_json(env, &Value::Object(context).to_string())?;
        let message = values::write(env, message)?;
        let arguments = match log.order {
            LogOrder::MessageFirst => [message, context],
            LogOrder::ContextFirst => [context, message],
        };
        let returned = method.call(env, &log.scope, &arguments)?;
        // A logger that rejects must not end the process, nor be told of it by itself.
        self.glue.watch(env, &returned, &values::undefined(env)?, "")
    }
}

impl Backlog {
    fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.others.is_empty()
    }

    fn extend(&mut self, parcels: impl IntoIterator<Item = Parcel>) {
        for parcel in parcels {
            if parcel.is_urgent() { self.urgent.push_back(parcel) } else { self.others.push_back(parcel) }
        }
    }
}
