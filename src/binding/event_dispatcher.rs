//! Carries out the tasks of [`NodeApplication`] on Node's thread: calls listeners, hooks and the logger, and serves bridges.
//!
//! One thread-safe function wakes [`EventDispatcher`], which carries out tasks in their order for at most [`SLICE`] per turn of the event
//! loop. The rest waits for the next turn; hooks and bridges then go before events and log lines, since a peer waits for them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Function, JsValue, Unknown};
use napi::{Env, Result};
use tracing::Dispatch;

use crate::application::interface::{Event, EventKind, LifecycleState};
use crate::binding::backlog::Backlog;
use crate::binding::bridge::Bridges;
use crate::binding::event_arguments::event_arguments;
use crate::binding::glue::{Glue, Target};
use crate::binding::hook_calls::{HookCalls, Hooks};
use crate::binding::js_task::{JsTask, LogLevel};
use crate::binding::listeners::Listeners;
use crate::binding::logger::{Logger, LoggerOption};
use crate::binding::node_application::{NodeApplication, Queue};
use crate::binding::reference::Reference;
use crate::binding::{guard, heap, memory, values};
use crate::error::{Error, ErrorKind};
use crate::types::HookKind;

/// How long tasks may hold one turn of the event loop; a single listener may take longer.
const SLICE: Duration = Duration::from_millis(5);

/// How much of a slice hooks and bridges get before events, when both wait.
const URGENT_SHARE: Duration = Duration::from_millis(4);

/// Whether tasks are being carried out. A listener that runs the event loop itself must not start another round within this one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Idle,
    Running,
    /// A wake came meanwhile and has still to be followed.
    Woken,
}

/// Checks the service's health; returns the status if listeners have to be told of it.
type HealthCheck = dyn for<'env> Fn(&'env Env) -> Result<Option<Unknown<'env>>>;

/// Called before the application is told that a run has ended.
type BeforeStopped = dyn Fn(&Env);

pub struct EventDispatcher {
    application: Arc<NodeApplication>,
    glue: Glue,
    listeners: Listeners,
    hooks: HookCalls,
    logger: Logger,
    bridges: Rc<Bridges>,
    health_check: RefCell<Option<Rc<HealthCheck>>>,
    before_stopped: RefCell<Option<Rc<BeforeStopped>>>,
    backlog: RefCell<Backlog>,
    progress: Cell<Progress>,
    /// Logs the rejections of listeners.
    report: Reference,
    /// The function that the event loop calls to continue.
    resume: RefCell<Option<Reference>>,
    /// Where log lines made on Node's thread go.
    log: Dispatch,
}

impl EventDispatcher {
    /// The thread-safe function does not keep the process alive, and refers to the dispatcher weakly: a service without references is
    /// collected.
    pub fn new(env: &Env, application: Arc<NodeApplication>, log: Dispatch) -> Result<Rc<Self>> {
        let report_log = log.clone();
        let report = guard::function::<()>(env, "carillonReport", move |context| {
            let event = values::as_string(&context.get::<Unknown<'_>>(0)?).unwrap_or_default();
            let failure = napi::Error::from(context.get::<Unknown<'_>>(1)?);
            values::clear_exception(context.env);
            tracing::dispatcher::with_default(&report_log, || {
                tracing::error!(event, failure = failure.reason, "a listener rejected");
            });
            Ok(())
        })?;
        let dispatcher = Rc::new(Self {
            application: application.clone(),
            glue: Glue::new(env)?,
            listeners: Listeners::default(),
            hooks: HookCalls::new(env)?,
            logger: Logger::default(),
            bridges: Bridges::new(application.clone(), log.clone()),
            health_check: RefCell::default(),
            before_stopped: RefCell::default(),
            backlog: RefCell::default(),
            progress: Cell::new(Progress::Idle),
            report: Reference::strong(env, &report.to_unknown())?,
            resume: RefCell::default(),
            log,
        });
        let run = |name, is_resumed| {
            let weak: Weak<Self> = Rc::downgrade(&dispatcher);
            guard::function::<()>(env, name, move |context| {
                if let Some(dispatcher) = weak.upgrade() {
                    dispatcher.logged(|| dispatcher.run(context.env, is_resumed));
                }
                Ok(())
            })
        };
        let wake: Function<'_, (), Unknown<'static>> = values::read(&run("carillonDeliver", false)?.to_unknown())?;
        application.set_wake(wake.build_threadsafe_function::<()>().weak::<true>().build()?);
        let resume = Reference::strong(env, &run("carillonResume", true)?.to_unknown())?;
        dispatcher.resume.replace(Some(resume));
        Ok(dispatcher)
    }

    pub fn set_health_check(&self, check: Rc<HealthCheck>) {
        self.health_check.replace(Some(check));
    }

    pub fn set_before_stopped(&self, before_stopped: Rc<BeforeStopped>) {
        self.before_stopped.replace(Some(before_stopped));
    }

    pub fn application(&self) -> &NodeApplication {
        &self.application
    }

    /// Runs `action` with this service's log.
    pub fn logged<T>(&self, action: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.log, action)
    }

    pub fn bridges(&self) -> &Rc<Bridges> {
        &self.bridges
    }

    pub fn glue(&self) -> &Glue {
        &self.glue
    }

    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Tells the service whether events of this kind have listeners. Called after every change of them.
    pub fn listeners_changed(&self, kind: EventKind) {
        self.application.set_listens(kind, self.listeners.count(kind) > 0);
    }

    /// Replaces the application's functions. They are called in the async context of this call.
    pub fn set_functions(
        &self,
        env: &Env,
        hooks: HashMap<HookKind, Target>,
        logger: Option<LoggerOption>,
    ) -> Result<()> {
        self.hooks.set(Hooks { targets: hooks, scope: self.glue.scope(env) });
        self.logger.set(env, &self.glue, logger)?;
        for level in LogLevel::ALL {
            self.application.set_logs(level, self.logger.has_method(level));
        }
        Ok(())
    }

    /// Calls the listeners of an event.
    pub fn emit(&self, env: &Env, kind: EventKind, argument: Unknown<'_>) {
        let Some(report) = self.report.get(env) else { return };
        self.listeners.emit(env, &self.glue, kind, argument, &report);
    }

    /// Carries out tasks for a slice of time. `is_resumed`: called by the event loop for the rest of an earlier slice.
    fn run(&self, env: &Env, is_resumed: bool) {
        if self.progress.get() != Progress::Idle {
            self.progress.set(Progress::Woken);
            return;
        }
        self.progress.set(Progress::Running);
        let is_whole = guard::catch(env, "deliveries", || self.run_slice(env, is_resumed)).is_some();
        // After a panic untaken tasks still wait, and no wake will come for them.
        let was_woken = self.progress.replace(Progress::Idle) == Progress::Woken || !is_whole;
        self.schedule_rest(env, was_woken);
    }

    fn run_slice(&self, env: &Env, is_resumed: bool) {
        let began = Instant::now();
        let Queue { tasks, lost, .. } = self.application.take();
        let mut tasks = tasks.into_iter();
        if self.backlog.borrow().is_empty() {
            for task in tasks.by_ref() {
                self.dispatch_guarded(env, task);
                if began.elapsed() >= SLICE {
                    break;
                }
            }
        }
        let may_emit = {
            let mut backlog = self.backlog.borrow_mut();
            backlog.extend(tasks);
            if lost > 0 {
                let message = format!("{lost} events were lost because JavaScript did not take them in time");
                backlog.extend([JsTask::Emit(Event::Error(Error::new(ErrorKind::Overloaded, message)))]);
            }
            if is_resumed {
                backlog.is_scheduled = false;
            }
            !backlog.is_scheduled
        };
        while began.elapsed() < URGENT_SHARE
            && let Some(task) = self.next_urgent()
        {
            self.dispatch_guarded(env, task);
        }
        while may_emit
            && began.elapsed() < SLICE
            && let Some(task) = self.next_other()
        {
            self.dispatch_guarded(env, task);
        }
    }

    /// Asks the event loop to call again if tasks are left.
    fn schedule_rest(&self, env: &Env, was_woken: bool) {
        {
            let mut backlog = self.backlog.borrow_mut();
            self.application.set_undelivered(backlog.undelivered());
            if (backlog.is_empty() && !was_woken) || backlog.is_scheduled {
                return;
            }
            backlog.is_scheduled = true;
        }
        let resume = self.resume.borrow().as_ref().and_then(|resume| resume.get(env));
        let scheduled = resume.map(|resume| self.glue.set_immediate(env, &resume));
        if !matches!(scheduled, Some(Ok(()))) {
            values::clear_exception(env);
            // Without an immediate the next wake continues.
            self.backlog.borrow_mut().is_scheduled = false;
            tracing::error!("setImmediate failed: the remaining deliveries wait for the next event");
        }
    }

    // Nothing is borrowed while a task runs.
    fn next_urgent(&self) -> Option<JsTask> {
        self.backlog.borrow_mut().next_urgent()
    }

    fn next_other(&self) -> Option<JsTask> {
        self.backlog.borrow_mut().next_other()
    }

    /// One handle scope per task: the handles of a long queue must not add up.
    fn dispatch_guarded(&self, env: &Env, task: JsTask) {
        let done = guard::catch(env, "a delivery", || {
            env.run_in_scope(|| {
                self.dispatch(env, task);
                values::clear_exception(env);
                Ok(())
            })
        });
        if let Some(Err(failure)) = done {
            tracing::error!(%failure, "an event could not be delivered");
        }
    }

    fn dispatch(&self, env: &Env, task: JsTask) {
        match task {
            JsTask::CallHook { call, answer } => self.hooks.call(env, &self.glue, &call, answer),
            JsTask::CheckHealth => self.check_health(env),
            JsTask::CollectGarbage => memory::collect_garbage(env),
            JsTask::Emit(event) => self.emit_event(env, &event),
            JsTask::Log { level, message, context } => {
                // The failure of a logger cannot be logged.
                let _ = self.logger.write(env, &self.glue, level, &message, context);
            }
            JsTask::MeasureHeap(answer) => {
                if let Some(usage) = heap::usage(env) {
                    // The receiver may have ended.
                    let _ = answer.send(usage);
                }
            }
            JsTask::ServeBridges => {
                if self.bridges.serve(env) {
                    // Behind the hooks that wait.
                    self.backlog.borrow_mut().extend([JsTask::ServeBridges]);
                }
            }
        }
    }

    fn check_health(&self, env: &Env) {
        self.application.health_check_taken();
        let check = self.health_check.borrow().clone();
        match check.map_or(Ok(None), |check| check(env)) {
            Ok(Some(status)) => self.emit(env, EventKind::Health, status),
            Ok(None) => {}
            Err(failure) => tracing::error!(%failure, "the health could not be checked"),
        }
    }

    fn emit_event(&self, env: &Env, event: &Event) {
        if matches!(event, Event::StateChange(LifecycleState::Stopped)) {
            let before_stopped = self.before_stopped.borrow().clone();
            if let Some(before_stopped) = before_stopped {
                before_stopped(env);
            }
        }
        match event_arguments(env, event) {
            Ok(arguments) => arguments.into_iter().for_each(|argument| self.emit(env, event.kind(), argument)),
            Err(failure) => tracing::error!(%failure, "an event could not be described"),
        }
    }
}
