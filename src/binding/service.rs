//! The public class: converts arguments and delegates to [`Instance`]. The getters are in `queries`, the events in `event_emitter`.

use std::rc::Rc;

use napi::bindgen_prelude::{JavaScriptClassExt, Object, This, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::binding::error::{invalid_argument, needs_new};
use crate::binding::event_dispatcher::EventDispatcher;
use crate::binding::instance::Instance;
use crate::binding::{guard, memory, own_port, publish, values};

/// A WebSocket service whose connections live in Rust threads.
#[napi]
pub struct WebSocketService {
    instance: Rc<Instance>,
}

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
    /// second call while attached is ignored and logged. After `shutdown()` has settled, or the `stateChange` event with
    /// `'stopped'`, the service can be initialized again.
    ///
    /// Connections that stay with Node (TLS, Windows, `transport: 'bridge'`) remain connections of the server: its `close()` waits
    /// until `shutdown()` has ended them.
    /// @throws {Error} code `ERR_NO_JWT_SECRET`: there is neither a key among the options nor JWT_SECRET
    /// @throws {Error} code `ERR_ALREADY_RUNNING`: the service is stopping
    #[napi(ts_args_type = "server: HttpServer | HttpsServer | Http2SecureServer")]
    pub fn initialize(&self, env: Env, server: Unknown<'_>) -> Result<()> {
        self.guarded(env, "initialize", |instance| {
            let is_server = values::as_object(&server)
                .filter(|server| values::property(server, "on").is_ok_and(|on| values::kind(&on) == "function"));
            let Some(server) = is_server else {
                return Err(invalid_argument(env, "server", "an http.Server or https.Server", values::kind(&server)));
            };
            instance.initialize(&env, &server)
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
    /// - `ERR_LISTEN_FAILED`: any other failure, such as a `shutdown()` before the port was open
    #[napi(ts_args_type = "options: ListenOptions", ts_return_type = "Promise<ListenAddress>")]
    pub fn listen<'env>(&self, env: &'env Env, options: Unknown<'_>) -> Result<Object<'env>> {
        self.guarded(*env, "listen", |instance| own_port::listen(instance, env, &options))
    }

    /// Closes all connections, stops listening and detaches from the server. Every call during a shutdown returns the same promise. A
    /// peer cannot make it reject.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn shutdown<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.guarded(*env, "shutdown", |instance| instance.shutdown(env))
    }

    /// Empties caches, buffers and queues; connections and subscriptions stay.
    #[napi]
    pub fn cleanup(&self, env: Env) -> Result<()> {
        self.guarded(env, "cleanup", |instance| {
            instance.core().cleanup();
            Ok(())
        })
    }

    /// Sends an update to every connection that follows the bill. The same update for the same bill within
    /// `DEDUPE_WINDOW` is counted and dropped.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or the exception of `JSON.stringify`
    #[napi(ts_args_type = "billId: number, update: Update", ts_generic_types = "Update extends BillUpdate")]
    pub fn broadcast_bill_update(&self, env: Env, bill_id: Unknown<'_>, update: Unknown<'_>) -> Result<()> {
        self.guarded(env, "broadcastBillUpdate", |instance| {
            let publish = publish::bill_update(&env, &bill_id, &update)?;
            instance.core().broadcast_bill_update(publish.bill, &publish.update, &publish.timestamp);
            Ok(())
        })
    }

    /// Sends a notification to every open connection of the user; without any it is dropped.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or the exception of `JSON.stringify`
    #[napi(
        ts_args_type = "userId: string, notification: Notification",
        ts_generic_types = "Notification extends UserNotification"
    )]
    pub fn send_user_notification(&self, env: Env, user_id: Unknown<'_>, notification: Unknown<'_>) -> Result<()> {
        self.guarded(env, "sendUserNotification", |instance| {
            let (user, notification) = publish::notification(&env, &user_id, &notification)?;
            instance.core().send_user_notification(&user, &notification);
            Ok(())
        })
    }

    /// Sends a message to every open connection.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`, or the exception of `JSON.stringify`
    #[napi(ts_args_type = "message: Message", ts_generic_types = "Message extends BroadcastMessage")]
    pub fn broadcast_to_all(&self, env: Env, message: Unknown<'_>) -> Result<()> {
        self.guarded(env, "broadcastToAll", |instance| {
            instance.core().broadcast_to_all(publish::announcement(&env, &message)?);
            Ok(())
        })
    }

    /// Sets the options while the service is stopped: for the ready-made instance.
    /// @throws {Error} code `ERR_ALREADY_RUNNING` while the service runs
    #[napi(ts_args_type = "options: WebSocketServiceOptions")]
    pub fn configure(&self, env: Env, options: Unknown<'_>) -> Result<()> {
        self.guarded(env, "configure", |instance| instance.configure(&env, options))
    }

    /// Settings that can be changed while the service runs.
    #[napi(getter, ts_return_type = "RuntimeConfig")]
    pub fn runtime_config<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.guarded(*env, "runtimeConfig", |instance| instance.runtime_config(env))
    }

    /// Reports memory pressure that the application has measured. At or above the threshold it degrades the service at once, at least
    /// to `light`, for a minute or until a report below the threshold. The service's own measurements count as well.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: a number is missing or not from 0 to 1
    #[napi(ts_args_type = "data: { pressure: number; threshold: number }")]
    pub fn report_memory_pressure(&self, env: Env, data: Unknown<'_>) -> Result<()> {
        self.guarded(env, "reportMemoryPressure", |instance| {
            let report = memory::pressure_report(env, &data)?;
            instance.core().report_memory_pressure(report.pressure, report.threshold);
            Ok(())
        })
    }

    /// Reports a memory leak that the application has found: clients are warned, `memoryLeak` is emitted, and caches are halved; at
    /// severity `critical` buffers and queues are emptied as well.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: a member is missing or of the wrong kind
    #[napi(ts_args_type = "data: MemoryLeakData")]
    pub fn report_memory_leak(&self, env: Env, data: Unknown<'_>) -> Result<()> {
        self.guarded(env, "reportMemoryLeak", |instance| {
            instance.core().report_memory_leak(&memory::leak_report(env, &data)?);
            Ok(())
        })
    }
}

impl WebSocketService {
    /// A service with these options, for an object of the class.
    pub fn make(env: Env, options: Option<Unknown<'_>>) -> Result<Self> {
        Instance::new(&env, options).map(|instance| Self { instance })
    }

    pub fn dispatcher(&self) -> &EventDispatcher {
        self.instance.dispatcher()
    }

    /// The body of an exported method: logs to this service's log, and ends with an exception if it panics.
    pub fn guarded<T>(
        &self,
        env: Env,
        method: &'static str,
        body: impl FnOnce(&Rc<Instance>) -> Result<T>,
    ) -> Result<T> {
        self.instance.dispatcher().logged(|| guard::call(env, method, || body(&self.instance)))
    }
}
