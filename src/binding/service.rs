//! The public class: converts arguments, delegates to the core, converts results. Nothing else.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use napi::bindgen_prelude::{JavaScriptClassExt, JsValue, Object, This, Unknown};
use napi::{Env, Result};
use napi_derive::napi;
use tracing::Dispatch;

use crate::application::interface::LifecycleState;
use crate::application::panic_guard::catch;
use crate::authenticator::{ShortSecret, TokenVerifier};
use crate::binding::attach::{Attachment, Receptionist};
use crate::binding::error::{exception, invalid_argument, needs_new};
use crate::binding::events::{Courier, NodeHost};
use crate::binding::listen::{self, Port};
use crate::binding::objects::{HealthStatus, Inspection, ListenAddress, ServiceMetrics, ServiceStats};
use crate::binding::options::{self, KeySource, Parsed};
use crate::binding::runtime_config::RuntimeConfig;
use crate::binding::values::Reference;
use crate::binding::{guard, health, logging, memory, publish, values};
use crate::config;
use crate::core::websocket_service::WebSocketService as Core;
use crate::error::{Error, ErrorKind};
use crate::monitoring::health_checker::HealthLevel;
use crate::shard::handshake::UpgradeRequest;
use crate::shard::probe;
use crate::transport::handshake::{self, Rejection, RequestHead};
use crate::types::{BillId, UnixMillis};

/// A WebSocket service whose connections live in Rust threads.
#[napi]
pub struct WebSocketService {
    inner: Rc<Inner>,
}

/// Shared with the listener on the server, so that a service nobody holds lives as long as its server.
struct Inner {
    core: Arc<Core>,
    courier: Rc<Courier>,
    runtime: Arc<config::RuntimeConfig>,
    runtime_view: RefCell<Option<Reference>>,
    dispatch: Dispatch,
    parsed: RefCell<Parsed>,
    attachment: RefCell<Option<Attachment>>,
    port: Port,
    /// The promise of the shutdown under way, the same for every caller.
    ending: RefCell<Option<Reference>>,
    /// The secret the verifier in use was made with.
    secret: RefCell<Option<String>>,
    /// The health that listeners know of.
    told_health: RefCell<Option<String>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        catch("the end of a service", || self.core.stop());
    }
}

/// How long the end of the environment waits for log lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

#[napi]
impl WebSocketService {
    /// @throws {TypeError} code `ERR_INVALID_OPTION`: an option is unknown, of the wrong kind or out of range
    #[napi(constructor, ts_args_type = "options?: WebSocketServiceOptions")]
    pub fn new(env: Env, this: This<'_>, options: Option<Unknown<'_>>) -> Result<Self> {
        guard::call(env, "constructor", || {
            if !Self::instance_of(&env, &this.object)? {
                return Err(needs_new(env, "WebSocketService"));
            }
            Self::make(env, options)
        })
    }

    /// Attaches to a Node server, before or after it listens: of `http`, of `https`, or of `http2` with `allowHTTP1`. A
    /// second call while attached is ignored with a log line. After `shutdown()`, and from the `stateChange` event that says
    /// `'stopped'` on, it starts afresh.
    ///
    /// Connections that stay with Node (TLS, Windows, `transport: 'bridge'`) count as the server's: its `close()` waits
    /// until `shutdown()` has ended them.
    /// @throws {Error} code `ERR_NO_JWT_SECRET`: there is neither a key among the options nor JWT_SECRET
    /// @throws {Error} code `ERR_ALREADY_RUNNING`: the service is stopping
    #[napi(ts_args_type = "server: HttpServer | HttpsServer | Http2SecureServer")]
    pub fn initialize(&self, env: Env, server: Unknown<'_>) -> Result<()> {
        self.guarded(env, "initialize", |inner| {
            let is_server = values::as_object(&server)
                .filter(|server| values::property(server, "on").is_ok_and(|on| values::kind(&on) == "function"));
            let Some(server) = is_server else {
                return Err(invalid_argument(env, "server", "an http.Server or https.Server", values::kind(&server)));
            };
            inner.initialize(&env, &server)
        })
    }

    /// Opens a port of the service's own, beside an attached server or instead of one; `tls` makes it `wss:`. Resolves
    /// when it accepts connections. The port answers `GET /health`, and keeps the process alive until `shutdown()`.
    /// JWT_SECRET is read here and when an attached server hands a connection over. One port at a time.
    ///
    /// Rejects with the code
    /// - `ERR_ALREADY_RUNNING`: there is a port already, or the service is stopping
    /// - `ERR_INVALID_ARGUMENT`: an option is missing or wrong; the message names it
    /// - `ERR_NO_JWT_SECRET`: there is neither a key among the options nor JWT_SECRET
    /// - `EADDRINUSE`, `EACCES`, `EADDRNOTAVAIL`, `ENOTFOUND`: as `net.Server` does
    /// - `ERR_LISTEN_FAILED`: anything else, such as a `shutdown()` that came first
    #[napi(ts_args_type = "options: ListenOptions", ts_return_type = "Promise<ListenAddress>")]
    pub fn listen<'env>(&self, env: &'env Env, options: Unknown<'_>) -> Result<Object<'env>> {
        self.guarded(*env, "listen", |inner| inner.listen(env, &options))
    }

    /// Ends all connections in order and detaches. Idempotent; every caller gets the same promise, and it never
    /// rejects because of a peer.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn shutdown<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.guarded(*env, "shutdown", |inner| inner.shutdown(env))
    }

    /// Empties caches, buffers and queues; connections and subscriptions stay.
    #[napi]
    pub fn cleanup(&self, env: Env) -> Result<()> {
        self.guarded(env, "cleanup", |inner| {
            inner.core.cleanup();
            Ok(())
        })
    }

    /// Sends an update to every connection that follows the bill. The same update for the same bill within
    /// `DEDUPE_WINDOW` is counted and dropped.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or whatever `JSON.stringify` throws
    #[napi(ts_args_type = "billId: number, update: Update", ts_generic_types = "Update extends BillUpdate")]
    pub fn broadcast_bill_update(&self, env: Env, bill_id: Unknown<'_>, update: Unknown<'_>) -> Result<()> {
        self.guarded(env, "broadcastBillUpdate", |inner| {
            let publish = publish::bill_update(&env, &bill_id, &update)?;
            inner.core.broadcast_bill_update(publish.bill, &publish.update, &publish.timestamp);
            Ok(())
        })
    }

    /// Sends a notification to every open connection of the user; without any it is dropped.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or whatever `JSON.stringify` throws
    #[napi(
        ts_args_type = "userId: string, notification: Notification",
        ts_generic_types = "Notification extends UserNotification"
    )]
    pub fn send_user_notification(&self, env: Env, user_id: Unknown<'_>, notification: Unknown<'_>) -> Result<()> {
        self.guarded(env, "sendUserNotification", |inner| {
            let (user, notification) = publish::notification(&env, &user_id, &notification)?;
            inner.core.send_user_notification(&user, &notification);
            Ok(())
        })
    }

    /// Sends a message to every open connection.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or whatever `JSON.stringify` throws
    #[napi(ts_args_type = "message: Message", ts_generic_types = "Message extends BroadcastMessage")]
    pub fn broadcast_to_all(&self, env: Env, message: Unknown<'_>) -> Result<()> {
        self.guarded(env, "broadcastToAll", |inner| {
            inner.core.broadcast_to_all(publish::announcement(&env, &message)?);
            Ok(())
        })
    }

    #[napi]
    pub fn get_stats(&self, env: Env) -> Result<ServiceStats> {
        self.guarded(env, "getStats", |inner| {
            Ok(ServiceStats::new(&inner.core.statistics(), &inner.core.counts(), UnixMillis::now()))
        })
    }

    #[napi]
    pub fn get_health_status(&self, env: Env) -> Result<HealthStatus> {
        self.guarded(env, "getHealthStatus", |inner| inner.health(&env))
    }

    #[napi]
    pub fn get_metrics(&self, env: Env) -> Result<ServiceMetrics> {
        self.guarded(env, "getMetrics", |inner| {
            let core = &inner.core;
            Ok(ServiceMetrics::new(&core.statistics(), &core.counts(), &mut core.latencies(), &core.history()))
        })
    }

    /// Sizes of everything the service keeps, and the memory of the process.
    #[napi(ts_return_type = "MemoryAnalysis")]
    pub fn force_memory_analysis<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.guarded(*env, "forceMemoryAnalysis", |inner| {
            let base = inner.parsed.borrow().service.base.clone();
            health::analysis(env, &inner.core, &base)
        })
    }

    /// Prometheus text exposition format 0.0.4.
    #[napi]
    pub fn metrics_text(&self, env: Env) -> Result<String> {
        self.guarded(env, "metricsText", |inner| Ok(inner.core.metrics_text(inner.courier.host().event_loop_delay())))
    }

    /// What to look at when something is wrong: the slowest consumers, the largest topics, the shards. Waits for
    /// nothing, so it shows the state of about a second ago. `top`: how many entries each list has at most, up to 100.
    #[napi(ts_args_type = "options?: { top?: number | undefined }")]
    pub fn inspect(&self, env: Env, options: Option<Unknown<'_>>) -> Result<Inspection> {
        self.guarded(env, "inspect", |inner| {
            let top = match options.as_ref().filter(|options| !values::is_absent(options)) {
                None => None,
                Some(given) => {
                    let object = values::as_object(given)
                        .ok_or_else(|| invalid_argument(env, "options", "an object", values::kind(given)))?;
                    Some(values::property(&object, "top")?).filter(|top| !values::is_absent(top))
                }
            };
            let top = match top {
                None => probe::TOP.min(10),
                Some(given) => values::as_number(&given)
                    .filter(|top| top.fract() == 0.0 && (0.0..=probe::TOP as f64).contains(top))
                    .map(|top| top as usize)
                    .ok_or_else(|| {
                        invalid_argument(env, "options.top", "an integer from 0 to 100", values::kind(&given))
                    })?,
            };
            Ok(Inspection::new(inner.core.inspect(top), inner.core.degradation_level()))
        })
    }

    /// The bills that any open connection of the user follows, in the order they were first followed.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
    #[napi(ts_args_type = "userId: string")]
    pub fn get_user_subscriptions(&self, env: Env, user_id: Unknown<'_>) -> Result<Vec<f64>> {
        self.guarded(env, "getUserSubscriptions", |inner| {
            let Some(user) = read_user(env, &user_id)? else { return Ok(Vec::new()) };
            Ok(inner.core.user_subscriptions(&user).iter().map(|bill| bill.get() as f64).collect())
        })
    }

    /// Whether the user has an open connection.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
    #[napi(ts_args_type = "userId: string")]
    pub fn is_user_connected(&self, env: Env, user_id: Unknown<'_>) -> Result<bool> {
        self.guarded(env, "isUserConnected", |inner| {
            let user = read_user(env, &user_id)?;
            Ok(user.is_some_and(|user| inner.core.connection_count(&user) > 0))
        })
    }

    /// How many open connections the user has.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a string nor absent
    #[napi(ts_args_type = "userId: string")]
    pub fn get_connection_count(&self, env: Env, user_id: Unknown<'_>) -> Result<u32> {
        self.guarded(env, "getConnectionCount", |inner| {
            let user = read_user(env, &user_id)?;
            let count = user.map_or(0, |user| inner.core.connection_count(&user));
            Ok(u32::try_from(count).unwrap_or(u32::MAX))
        })
    }

    /// Everybody with an open connection, in the order of their first one.
    #[napi]
    pub fn get_all_connected_users(&self, env: Env) -> Result<Vec<String>> {
        self.guarded(env, "getAllConnectedUsers", |inner| {
            Ok(inner.core.connected_users().iter().map(ToString::to_string).collect())
        })
    }

    /// The users with a connection that follows the bill, each once.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: the argument is neither a number nor absent
    #[napi(ts_args_type = "billId: number")]
    pub fn get_bill_subscribers(&self, env: Env, bill_id: Unknown<'_>) -> Result<Vec<String>> {
        self.guarded(env, "getBillSubscribers", |inner| {
            let number = values::as_number(&bill_id);
            if number.is_none() && !values::is_absent(&bill_id) {
                return Err(invalid_argument(env, "billId", "a number", values::kind(&bill_id)));
            }
            let subscribers = number.and_then(BillId::from_f64).map(|bill| inner.core.bill_subscribers(bill));
            Ok(subscribers.unwrap_or_default().iter().map(ToString::to_string).collect())
        })
    }

    /// Sets options before `initialize()`: for the ready-made instance.
    /// @throws {Error} code `ERR_ALREADY_RUNNING` while the service runs
    #[napi(ts_args_type = "options: WebSocketServiceOptions")]
    pub fn configure(&self, env: Env, options: Unknown<'_>) -> Result<()> {
        self.guarded(env, "configure", |inner| {
            if inner.core.state() != LifecycleState::Stopped {
                let message = "the service is running: options can be set before initialize() and after shutdown()";
                return Err(exception(env, &Error::new(ErrorKind::AlreadyRunning, message)));
            }
            let mut parsed = options::parse(&env, Some(options))?;
            inner.courier.set_functions(&env, std::mem::take(&mut parsed.functions))?;
            inner.runtime.configure(parsed.service.runtime);
            inner.secret.replace(None);
            inner.parsed.replace(parsed);
            Ok(())
        })
    }

    /// Settings that can be changed while the service runs.
    #[napi(getter, ts_return_type = "RuntimeConfig")]
    pub fn runtime_config<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.guarded(*env, "runtimeConfig", |inner| {
            if let Some(view) = inner.runtime_view.borrow().as_ref().and_then(|view| view.object(env)) {
                return Ok(view);
            }
            let instance = RuntimeConfig::new(inner.runtime.clone()).into_instance(env)?;
            let object: Object<'env> = values::read(&instance.as_object(env).to_unknown())?;
            inner.runtime_view.replace(Some(Reference::strong(env, &object.to_unknown())?));
            Ok(object)
        })
    }

    #[napi(getter, ts_return_type = "'stopped' | 'running' | 'stopping'")]
    pub fn state(&self, env: Env) -> Result<&'static str> {
        self.guarded(env, "state", |inner| Ok(inner.core.state().as_str()))
    }

    /// Reports memory pressure from outside. At or above its threshold it degrades the service at once, at least
    /// to `light`, for a minute or until a report below the threshold; what the service measures itself counts too.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: a number is missing or not from 0 to 1
    #[napi(ts_args_type = "data: { pressure: number; threshold: number }")]
    pub fn report_memory_pressure(&self, env: Env, data: Unknown<'_>) -> Result<()> {
        self.guarded(env, "reportMemoryPressure", |inner| {
            let report = memory::pressure_report(env, &data)?;
            inner.core.report_memory_pressure(report.pressure, report.threshold);
            Ok(())
        })
    }

    /// Reports a memory leak from outside: clients are warned, `memoryLeak` listeners told, and caches halved; at
    /// severity `critical` buffers and queues are emptied too.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: a member is missing or of the wrong kind
    #[napi(ts_args_type = "data: MemoryLeakData")]
    pub fn report_memory_leak(&self, env: Env, data: Unknown<'_>) -> Result<()> {
        self.guarded(env, "reportMemoryLeak", |inner| {
            inner.core.report_memory_leak(&memory::leak_report(env, &data)?);
            Ok(())
        })
    }
}

impl WebSocketService {
    pub fn courier(&self) -> &Courier {
        &self.inner.courier
    }

    /// The body of an exported method: its log lines are this service's, and its panics end the call.
    fn guarded<T>(&self, env: Env, method: &'static str, body: impl FnOnce(&Rc<Inner>) -> Result<T>) -> Result<T> {
        self.inner.logged(|| guard::call(env, method, || body(&self.inner)))
    }

    /// A service with these options, for an object of the class.
    pub fn make(env: Env, options: Option<Unknown<'_>>) -> Result<Self> {
        let mut parsed = options::parse(&env, options)?;
        let host = Arc::new(NodeHost::default());
        let (dispatch, log_writer) =
            logging::dispatch(host.clone(), values::environment_variable(&env, logging::VARIABLE));
        let courier = Courier::new(&env, host.clone(), dispatch.clone())?;
        courier.set_functions(&env, std::mem::take(&mut parsed.functions))?;
        let runtime = Arc::new(config::RuntimeConfig::new(parsed.service.runtime));
        let core = Core::new(host, runtime.clone(), parsed.service.base.max_latency_samples);
        // The end of the environment (exit, a worker's end) must find no thread of ours running.
        env.add_env_cleanup_hook((Arc::downgrade(&core), log_writer), |(core, log_writer)| {
            catch("the end of the environment", || {
                if let Some(core) = core.upgrade() {
                    core.stop();
                }
                if let Some(writer) = log_writer {
                    writer.flush(LAST_LINES);
                }
            });
        })?;
        let inner = Inner {
            core,
            courier,
            runtime,
            runtime_view: RefCell::default(),
            dispatch,
            parsed: RefCell::new(parsed),
            attachment: RefCell::default(),
            port: Port::default(),
            ending: RefCell::default(),
            secret: RefCell::default(),
            told_health: RefCell::default(),
        };
        let inner = Rc::new(inner);
        let weak = Rc::downgrade(&inner);
        inner.courier.set_physician(Rc::new(move |env| {
            let changed = weak.upgrade().map_or(Ok(None), |inner| inner.changed_health(env))?;
            changed.map(|status| values::write(env, status)).transpose()
        }));
        let weak = Rc::downgrade(&inner);
        inner.courier.set_before_stopped(Rc::new(move |env| {
            if let Some(inner) = weak.upgrade() {
                inner.detach_ended(env);
            }
        }));
        Ok(Self { inner })
    }
}

impl Inner {
    fn initialize(self: &Rc<Self>, env: &Env, server: &Object<'_>) -> Result<()> {
        let is_running = match self.core.state() {
            LifecycleState::Stopped => false,
            LifecycleState::Running => true,
            LifecycleState::Stopping => {
                let message = "the service is stopping: initialize() after shutdown() has settled";
                return Err(exception(*env, &Error::new(ErrorKind::AlreadyRunning, message)));
            }
        };
        // With nothing but a port of its own, it has still no server.
        if is_running && self.attachment.borrow().is_some() {
            tracing::warn!("initialize() was called again and ignored: the service is running");
            return Ok(());
        }
        if !is_running {
            self.start(env)?;
        }
        match Attachment::new(env, server, self.clone()) {
            Ok(attachment) => {
                let before = self.attachment.replace(Some(attachment));
                drop(before);
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

    fn health(&self, env: &Env) -> Result<HealthStatus> {
        let base = self.parsed.borrow().service.base.clone();
        health::status(env, &self.core, self.courier.host(), &base)
    }

    /// The status, if it is another than the one told last.
    fn changed_health(&self, env: &Env) -> Result<Option<HealthStatus>> {
        if self.core.state() != LifecycleState::Running {
            return Ok(None);
        }
        let status = self.health(env)?;
        let before = self.told_health.replace(Some(status.status.clone()));
        // A service is taken to be well until it is found to be otherwise.
        let is_news = before.as_deref().unwrap_or(HealthLevel::Healthy.as_str()) != status.status;
        Ok(is_news.then_some(status))
    }

    fn start(&self, env: &Env) -> Result<()> {
        self.detach_ended(env);
        let verifier = self.verifier(env)?;
        let options = self.parsed.borrow().service.clone();
        self.core.start(options, verifier, self.dispatch.clone()).map_err(|error| exception(*env, &error))?;
        *self.ending.borrow_mut() = None;
        *self.told_health.borrow_mut() = None;
        Ok(())
    }

    fn listen<'env>(self: &Rc<Self>, env: &'env Env, options: &Unknown<'_>) -> Result<Object<'env>> {
        static ATTEMPTS: AtomicU64 = AtomicU64::new(0);
        type Outcome = Box<dyn FnOnce(Env) -> Result<ListenAddress>>;
        let (deferred, promise) = env.create_deferred::<ListenAddress, Outcome>()?;
        let attempt = ATTEMPTS.fetch_add(1, Ordering::Relaxed);
        let request = listen::parse(options)?.and_then(|request| {
            if self.core.state() == LifecycleState::Stopping {
                return Err(Error::new(ErrorKind::AlreadyRunning, "the service is stopping"));
            }
            // What is certain to fail shall not take a port first.
            // Reading the environment may run the application's code: nothing is borrowed meanwhile.
            let secret = self.environment_secret(env);
            let rules = self.parsed.borrow().token_rules(secret);
            rules.and_then(TokenVerifier::new)?;
            self.port.open(attempt)?;
            Ok(request)
        });
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                deferred.resolve(Box::new(move |env| Err(exception(env, &error))));
                return Ok(promise);
            }
        };
        let handle = InnerHandle::new(self.clone());
        let tls = request.tls.clone();
        let settle = move |bound| {
            deferred.resolve(Box::new(move |env| match handle.get() {
                Some(inner) => inner.logged(|| guard::call(env, "listen", || inner.serve(&env, attempt, bound, tls))),
                None => Err(exception(env, &Error::new(ErrorKind::Internal, "a port was opened on another thread"))),
            }));
        };
        if let Err(error) = listen::bind_elsewhere(&request, settle) {
            self.port.close();
            return Err(exception(*env, &error));
        }
        Ok(promise)
    }

    /// The port is ours, or will not be.
    fn serve(
        self: &Rc<Self>,
        env: &Env,
        attempt: u64,
        bound: std::result::Result<TcpListener, Error>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Result<ListenAddress> {
        if !self.port.is_opening(attempt) {
            let error = Error::new(ErrorKind::ListenFailed, "the service was shut down before it listened");
            return Err(exception(*env, &error));
        }
        let opened = bound.map_err(|error| exception(*env, &error)).and_then(|port| {
            let address = port.local_addr().map_err(|cause| {
                let error = Error::new(ErrorKind::ListenFailed, "the port has no address").caused_by(cause);
                exception(*env, &error)
            })?;
            let keep_alive = listen::keep_alive(env, self.clone())?;
            let was_stopped = self.core.state() == LifecycleState::Stopped;
            if was_stopped {
                self.start(env)?;
            }
            if let Err(error) = self.core.listen(port, tls) {
                if was_stopped {
                    self.core.stop();
                }
                return Err(exception(*env, &error));
            }
            Ok((keep_alive, address))
        });
        match opened {
            Ok((keep_alive, address)) => {
                self.port.opened(keep_alive);
                Ok(ListenAddress { port: u32::from(address.port()), host: address.ip().to_string() })
            }
            Err(failure) => {
                self.port.close();
                Err(failure)
            }
        }
    }

    fn environment_secret(&self, env: &Env) -> Option<String> {
        let is_given = matches!(self.parsed.borrow().key, KeySource::Given(_));
        if is_given {
            return None;
        }
        values::environment_variable(env, "JWT_SECRET").filter(|secret| !secret.is_empty())
    }

    fn shutdown<'env>(self: &Rc<Self>, env: &'env Env) -> Result<Object<'env>> {
        // From here on the promise keeps the process alive, not the port.
        self.port.close();
        if let Some(ending) = self.ending.borrow().as_ref().and_then(|ending| ending.object(env)) {
            return Ok(ending);
        }
        // The deferred keeps the process alive until it is settled, which the grace period bounds.
        let (deferred, promise) = env.create_deferred::<(), Box<dyn FnOnce(Env) -> Result<()>>>()?;
        *self.ending.borrow_mut() = Some(Reference::strong(env, &promise.to_unknown())?);
        let handle = InnerHandle::new(self.clone());
        self.core.shutdown(move || {
            deferred.resolve(Box::new(move |env| {
                guard::call(env, "shutdown", || {
                    if let Some(inner) = handle.get() {
                        inner.detach_ended(&env);
                    }
                    Ok(())
                })
            }));
        });
        Ok(promise)
    }

    /// Leaves the server of a run that has ended: whatever is attached while nothing runs belongs to it. Called before anything is told
    /// of the end, and before the next run begins.
    fn detach_ended(&self, env: &Env) {
        if self.core.state() != LifecycleState::Stopped {
            return;
        }
        let ended = self.attachment.take();
        if let Some(Err(failure)) = ended.map(|attachment| attachment.detach(env)) {
            values::clear_exception(env);
            tracing::warn!(failure = failure.reason, "the server of a run that has ended could not be left");
        }
    }

    /// The verifier for the key the options name, or for JWT_SECRET as it is now.
    fn verifier(&self, env: &Env) -> Result<Arc<TokenVerifier>> {
        let secret = self.environment_secret(env);
        let rules = self.parsed.borrow().token_rules(secret.clone());
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

    /// Log lines of what runs inside go where this service's log lines go.
    fn logged<T>(&self, act: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, act)
    }
}

impl Receptionist for Inner {
    fn path(&self) -> String {
        self.parsed.borrow().service.handshake.path.clone()
    }

    fn is_running(&self) -> bool {
        self.core.state() == LifecycleState::Running
    }

    fn bridges_everything(&self) -> bool {
        self.parsed.borrow().bridges_everything
    }

    fn courier(&self) -> &Rc<Courier> {
        &self.courier
    }

    fn receive(&self, env: &Env, arrival: UpgradeRequest) {
        self.logged(|| {
            // A variable that has been unset leaves the last secret in force: there is none to change to.
            let current = self.environment_secret(env);
            let is_new = current.is_some() && current != *self.secret.borrow();
            if is_new {
                match self.verifier(env) {
                    Ok(verifier) => self.core.set_verifier(verifier),
                    Err(failure) => tracing::error!(failure = failure.reason, "the new JWT_SECRET is not usable"),
                }
            }
            self.core.accept(arrival);
        });
    }

    fn refusal(&self, head: &RequestHead, rejection: &Rejection) -> Vec<u8> {
        self.core.note_refusal(rejection);
        let options = &self.parsed.borrow().service;
        let upgrade = handshake::negotiate(head, &options.handshake).ok();
        options.refusals.answer(rejection, upgrade.as_ref())
    }
}

/// A user's name; `None` where there is none, which no user has.
fn read_user(env: Env, user: &Unknown<'_>) -> Result<Option<String>> {
    match values::as_string(user) {
        None if !values::is_absent(user) => Err(invalid_argument(env, "userId", "a string", values::kind(user))),
        name => Ok(name),
    }
}

/// Carries a reference through the thread that waits for a shutdown, back to Node's thread, where alone it is used.
struct InnerHandle(Option<Rc<Inner>>, std::thread::ThreadId);

// SAFETY: the reference is touched only by `get` and `drop`, which look at the thread first; on any other thread
// than Node's it is leaked rather than counted down.
unsafe impl Send for InnerHandle {}

impl InnerHandle {
    fn new(inner: Rc<Inner>) -> Self {
        Self(Some(inner), std::thread::current().id())
    }

    fn get(&self) -> Option<&Rc<Inner>> {
        self.0.as_ref().filter(|_| self.1 == std::thread::current().id())
    }
}

impl Drop for InnerHandle {
    fn drop(&mut self) {
        if self.1 != std::thread::current().id() {
            std::mem::forget(self.0.take());
        }
    }
}
