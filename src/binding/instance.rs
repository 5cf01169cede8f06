//! One service as Node's thread sees it: its core, its options, its server, and its lifecycle.
//!
//! Owned by the JavaScript object, and by the server that it is attached to or the port that it listens on. Belongs to Node's thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{JavaScriptClassExt, JsValue, Object, Unknown};
use napi::{Env, Result};
use tracing::Dispatch;

use crate::application::interface::LifecycleState;
use crate::application::panic_guard;
use crate::authenticator::{ShortSecret, TokenVerifier};
use crate::binding::attach::{Attachment, UpgradeHandler};
use crate::binding::error::exception;
use crate::binding::event_dispatcher::EventDispatcher;
use crate::binding::listen::Port;
use crate::binding::node_application::NodeApplication;
use crate::binding::objects::HealthStatus;
use crate::binding::options::{self, KeySource, Options};
use crate::binding::reference::Reference;
use crate::binding::runtime_config::RuntimeConfig;
use crate::binding::thread_bound::ThreadBound;
use crate::binding::{guard, health, logging, values};
use crate::config::{self, BaseConfig};
use crate::core::websocket_service::WebSocketService as Core;
use crate::error::{Error, ErrorKind};
use crate::monitoring::health_checker::HealthLevel;
use crate::shard::command::UpgradeRequest;
use crate::transport::handshake::{self, Rejection, RequestHead};

/// How long the end of the environment waits for log lines to be written.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

pub struct Instance {
    core: Arc<Core>,
    dispatcher: Rc<EventDispatcher>,
    runtime: Arc<config::RuntimeConfig>,
    runtime_view: RefCell<Option<Reference>>,
    log: Dispatch,
    options: RefCell<Options>,
    attachment: RefCell<Option<Attachment>>,
    port: Port,
    /// The promise of the shutdown in progress, the same for every caller.
    shutdown_promise: RefCell<Option<Reference>>,
    /// The secret of the environment that the verifier in use was made with.
    secret: RefCell<Option<String>>,
    /// The health status that listeners were told last.
    reported_health: RefCell<Option<String>>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        panic_guard::catch("the end of a service", || self.core.stop());
    }
}

impl Instance {
    pub fn new(env: &Env, options: Option<Unknown<'_>>) -> Result<Rc<Self>> {
        let mut options = options::parse(env, options)?;
        let application = Arc::new(NodeApplication::default());
        let (log, log_writer) =
            logging::dispatch(application.clone(), values::environment_variable(env, logging::VARIABLE));
        let dispatcher = EventDispatcher::new(env, application.clone(), log.clone())?;
        dispatcher.set_functions(env, std::mem::take(&mut options.hooks), options.logger.take())?;
        let runtime = Arc::new(config::RuntimeConfig::new(options.service.runtime));
        let core = Core::new(application, runtime.clone(), options.service.base.max_latency_samples);
        // No thread of the service may run when the environment ends (exit, the end of a worker).
        env.add_env_cleanup_hook((Arc::downgrade(&core), log_writer), |(core, log_writer)| {
            panic_guard::catch("the end of the environment", || {
                if let Some(core) = core.upgrade() {
                    core.stop();
                }
                if let Some(writer) = log_writer {
                    writer.flush(LOG_FLUSH_TIMEOUT);
                }
            });
        })?;
        let instance = Rc::new(Self {
            core,
            dispatcher,
            runtime,
            runtime_view: RefCell::default(),
            log,
            options: RefCell::new(options),
            attachment: RefCell::default(),
            port: Port::default(),
            shutdown_promise: RefCell::default(),
            secret: RefCell::default(),
            reported_health: RefCell::default(),
        });
        let weak = Rc::downgrade(&instance);
        instance.dispatcher.set_health_check(Rc::new(move |env| {
            let changed = weak.upgrade().map_or(Ok(None), |instance| instance.changed_health(env))?;
            changed.map(|status| values::write(env, status)).transpose()
        }));
        let weak = Rc::downgrade(&instance);
        instance.dispatcher.set_before_stopped(Rc::new(move |env| {
            if let Some(instance) = weak.upgrade() {
                instance.detach_if_stopped(env);
            }
        }));
        Ok(instance)
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    pub fn dispatcher(&self) -> &EventDispatcher {
        &self.dispatcher
    }

    pub fn port(&self) -> &Port {
        &self.port
    }

    pub fn base_config(&self) -> BaseConfig {
        self.options.borrow().service.base.clone()
    }

    pub fn event_loop_delay(&self) -> Option<Duration> {
        self.dispatcher.application().event_loop_delay()
    }

    pub fn configure(&self, env: &Env, options: Unknown<'_>) -> Result<()> {
        if self.core.state() != LifecycleState::Stopped {
            let message = "the service is running: options can be set before initialize() and after shutdown()";
            return Err(exception(*env, &Error::new(ErrorKind::AlreadyRunning, message)));
        }
        let mut options = options::parse(env, Some(options))?;
        self.dispatcher.set_functions(env, std::mem::take(&mut options.hooks), options.logger.take())?;
        self.runtime.configure(options.service.runtime);
        self.secret.replace(None);
        self.options.replace(options);
        Ok(())
    }

    /// The same object at every call.
    pub fn runtime_config<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        if let Some(view) = self.runtime_view.borrow().as_ref().and_then(|view| view.object(env)) {
            return Ok(view);
        }
        let view = RuntimeConfig::new(self.runtime.clone()).into_instance(env)?;
        let object: Object<'env> = values::read(&view.as_object(env).to_unknown())?;
        self.runtime_view.replace(Some(Reference::strong(env, &object.to_unknown())?));
        Ok(object)
    }

    pub fn initialize(self: &Rc<Self>, env: &Env, server: &Object<'_>) -> Result<()> {
        let is_running = match self.core.state() {
            LifecycleState::Stopped => false,
            LifecycleState::Running => true,
            LifecycleState::Stopping => {
                let message = "the service is stopping: initialize() after shutdown() has settled";
                return Err(exception(*env, &Error::new(ErrorKind::AlreadyRunning, message)));
            }
        };
        // A service that only listens on a port of its own can still be attached.
        if is_running && self.attachment.borrow().is_some() {
            tracing::warn!("initialize() was called again and ignored: the service is running");
            return Ok(());
        }
        if !is_running {
            self.start(env)?;
        }
        match Attachment::new(env, server, self.clone()) {
            Ok(attachment) => {
                let previous = self.attachment.replace(Some(attachment));
                drop(previous);
                Ok(())
            }
            Err(failure) => {
                if !is_running {
                    self.core.stop();
                }
                Err(failure)
            }
        }
    }

    /// Starts the core, which must be stopped.
    pub fn start(&self, env: &Env) -> Result<()> {
        self.detach_if_stopped(env);
        let verifier = self.make_verifier(env)?;
        let options = self.options.borrow().service.clone();
        self.core.start(options, verifier, self.log.clone()).map_err(|error| exception(*env, &error))?;
        self.shutdown_promise.replace(None);
        self.reported_health.replace(None);
        Ok(())
    }

    pub fn shutdown<'env>(self: &Rc<Self>, env: &'env Env) -> Result<Object<'env>> {
        // The promise keeps the process alive now.
        self.port.close();
        if let Some(promise) = self.shutdown_promise.borrow().as_ref().and_then(|promise| promise.object(env)) {
            return Ok(promise);
        }
        // The deferred keeps the process alive until it is settled, which the grace period bounds.
        let (deferred, promise) = env.create_deferred::<(), Box<dyn FnOnce(Env) -> Result<()>>>()?;
        self.shutdown_promise.replace(Some(Reference::strong(env, &promise.to_unknown())?));
        let handle = ThreadBound::new(self.clone());
        self.core.shutdown(move || {
            deferred.resolve(Box::new(move |env| {
                guard::call(env, "shutdown", || {
                    if let Some(instance) = handle.get() {
                        instance.detach_if_stopped(&env);
                    }
                    Ok(())
                })
            }));
        });
        Ok(promise)
    }

    /// Detaches from the server of a run that has ended. Called before listeners are told of the end, and before the next run begins.
    fn detach_if_stopped(&self, env: &Env) {
        if self.core.state() != LifecycleState::Stopped {
            return;
        }
        let ended = self.attachment.take();
        if let Some(Err(failure)) = ended.map(|attachment| attachment.detach(env)) {
            values::clear_exception(env);
            tracing::warn!(failure = failure.reason, "the service could not be detached from its server");
        }
    }

    pub fn health(&self, env: &Env) -> Result<HealthStatus> {
        health::status(env, &self.core, self.event_loop_delay(), &self.base_config())
    }

    /// The status, if it differs from the one reported last.
    fn changed_health(&self, env: &Env) -> Result<Option<HealthStatus>> {
        if self.core.state() != LifecycleState::Running {
            return Ok(None);
        }
        let status = self.health(env)?;
        let previous = self.reported_health.replace(Some(status.status.clone()));
        // The first report of a healthy service is no change.
        let has_changed = previous.as_deref().unwrap_or(HealthLevel::Healthy.as_str()) != status.status;
        Ok(has_changed.then_some(status))
    }

    /// Whether there is a usable key, without taking it into use.
    pub fn check_key(&self, env: &Env) -> std::result::Result<(), Error> {
        // Reading the environment may run the application's code: nothing is borrowed meanwhile.
        let secret = self.environment_secret(env);
        let rules = self.options.borrow().token_rules(secret)?;
        TokenVerifier::new(rules).map(|_verifier| ())
    }

    /// `None` if the options have a key.
    fn environment_secret(&self, env: &Env) -> Option<String> {
        let is_given = matches!(self.options.borrow().key, KeySource::Given(_));
        if is_given {
            return None;
        }
        values::environment_variable(env, "JWT_SECRET").filter(|secret| !secret.is_empty())
    }

    /// A verifier for the key of the options, or for the current value of JWT_SECRET.
    fn make_verifier(&self, env: &Env) -> Result<Arc<TokenVerifier>> {
        let secret = self.environment_secret(env);
        let rules = self.options.borrow().token_rules(secret.clone());
        let verifier = rules.and_then(TokenVerifier::new).map_err(|error| exception(*env, &error))?;
        if let Some(ShortSecret { bytes, needed }) = verifier.short_secret() {
            // RFC 7518 §3.2.
            tracing::warn!(
                bytes,
                needed,
                "the secret for tokens is shorter than the output of their hash: it can be guessed"
            );
        }
        self.secret.replace(secret);
        Ok(Arc::new(verifier))
    }

    /// Takes a changed JWT_SECRET into use.
    fn refresh_verifier(&self, env: &Env) {
        // An unset variable keeps the last secret: there is none to change to.
        let current = self.environment_secret(env);
        if current.is_none() || current == *self.secret.borrow() {
            return;
        }
        match self.make_verifier(env) {
            Ok(verifier) => self.core.set_verifier(verifier),
            Err(failure) => tracing::error!(failure = failure.reason, "the new JWT_SECRET is not usable"),
        }
    }
}

impl UpgradeHandler for Instance {
    fn path(&self) -> String {
        self.options.borrow().service.handshake.path.clone()
    }

    fn is_running(&self) -> bool {
        self.core.state() == LifecycleState::Running
    }

    fn uses_bridge_always(&self) -> bool {
        self.options.borrow().uses_bridge_always
    }

    fn dispatcher(&self) -> &Rc<EventDispatcher> {
        &self.dispatcher
    }

    fn handle(&self, env: &Env, request: UpgradeRequest) {
        self.dispatcher.logged(|| {
            self.refresh_verifier(env);
            self.core.accept(request);
        });
    }

    fn rejection(&self, head: &RequestHead, rejection: &Rejection) -> Vec<u8> {
        self.core.note_refusal(rejection);
        let options = &self.options.borrow().service;
        let upgrade = handshake::negotiate(head, &options.handshake).ok();
        options.refusals.answer(rejection, upgrade.as_ref())
    }
}
