//! The service as an emitter of events: the methods of Node's `EventEmitter`, over `listeners`.
//!
//! Differences, all deliberate: a listener that throws or rejects is logged and harms nobody, so that an
//! `error` event without a listener never throws; a listener removed while an event is delivered is not called for it; a listener
//! runs in the async context in which it was added; there is no limit of listeners. Belongs to Node's thread.

use napi::bindgen_prelude::{Object, This, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::application::interface::EventKind;
use crate::binding::error::invalid_argument;
use crate::binding::guard;
use crate::binding::listeners::{KINDS, Listener, Position};
use crate::binding::service::WebSocketService;
use crate::binding::values::{self, Reference};

fn read_event(env: Env, event: &Unknown<'_>) -> Result<EventKind> {
    let name = values::as_string(event).unwrap_or_default();
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
        let known = KINDS.map(|(known, _)| known).join(", ");
        invalid_argument(env, "event", &format!("one of {known}"), values::kind(event))
    })
}

fn read_listener<'env>(env: Env, listener: &Unknown<'env>) -> Result<Unknown<'env>> {
    match values::kind(listener) {
        "function" => Ok(*listener),
        kind => Err(invalid_argument(env, "listener", "a function", kind)),
    }
}

impl WebSocketService {
    fn add<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: &Unknown<'_>,
        listener: &Unknown<'_>,
        how: (Position, bool),
    ) -> Result<Object<'env>> {
        let kind = read_event(env, event)?;
        let function = Reference::strong(&env, &read_listener(env, listener)?)?;
        let (position, is_once) = how;
        let courier = self.courier();
        courier.listeners().set_emitter(&env, &this.object)?;
        let scope = courier.glue().scope(&env);
        courier.listeners().add(kind, Listener::new(function, scope, is_once), position);
        courier.note_listeners(kind);
        Ok(this.object)
    }

    fn remove<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: &Unknown<'_>,
        listener: &Unknown<'_>,
    ) -> Result<Object<'env>> {
        let kind = read_event(env, event)?;
        self.courier().listeners().remove(&env, kind, &read_listener(env, listener)?)?;
        self.courier().note_listeners(kind);
        Ok(this.object)
    }
}

#[napi]
impl WebSocketService {
    /// Adds a listener at the end. Any number per event; one that throws or rejects is logged and harms nobody. It runs in the async
    /// context (`AsyncLocalStorage`) in which it was added, with the service as `this`.
    /// @throws {TypeError} code `ERR_INVALID_ARGUMENT`: there is no such event, or the listener is no function
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn on<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "on", || self.add(env, this, &event, &listener, (Position::Last, false)))
    }

    /// The same as `on`.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn add_listener<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "addListener", || self.add(env, this, &event, &listener, (Position::Last, false)))
    }

    /// Adds a listener before the others.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn prepend_listener<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "prependListener", || self.add(env, this, &event, &listener, (Position::First, false)))
    }

    /// Adds a listener that is called once.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn once<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "once", || self.add(env, this, &event, &listener, (Position::Last, true)))
    }

    /// Adds a listener that is called once, before the others.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn prepend_once_listener<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "prependOnceListener", || self.add(env, this, &event, &listener, (Position::First, true)))
    }

    /// Removes a listener, the newest if it was added several times. It is not called any more, not even for an event that is being
    /// delivered.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn off<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "off", || self.remove(env, this, &event, &listener))
    }

    /// The same as `off`.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, listener: ServiceEvents[E]",
        ts_return_type = "this"
    )]
    pub fn remove_listener<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Unknown<'_>,
        listener: Unknown<'_>,
    ) -> Result<Object<'env>> {
        guard::call(env, "removeListener", || self.remove(env, this, &event, &listener))
    }

    /// Removes all listeners of an event, or of all events.
    #[napi(ts_args_type = "event?: keyof ServiceEvents", ts_return_type = "this")]
    pub fn remove_all_listeners<'env>(
        &self,
        env: Env,
        this: This<'env>,
        event: Option<Unknown<'_>>,
    ) -> Result<Object<'env>> {
        guard::call(env, "removeAllListeners", || {
            let kinds = match event.filter(|event| values::kind(event) != "undefined") {
                Some(event) => vec![read_event(env, &event)?],
                None => KINDS.iter().map(|(_, kind)| *kind).collect(),
            };
            for kind in kinds {
                self.courier().listeners().remove_all(kind);
                self.courier().note_listeners(kind);
            }
            Ok(this.object)
        })
    }

    /// How many listeners an event has, or how often it has this one.
    #[napi(ts_generic_types = "E extends keyof ServiceEvents", ts_args_type = "event: E, listener?: ServiceEvents[E]")]
    pub fn listener_count(&self, env: Env, event: Unknown<'_>, listener: Option<Unknown<'_>>) -> Result<u32> {
        guard::call(env, "listenerCount", || {
            let list = self.courier().listeners().list(read_event(env, &event)?);
            let Some(function) = listener.filter(|listener| !values::is_absent(listener)) else {
                return Ok(list.len() as u32);
            };
            let mut count = 0;
            for listener in list {
                count += u32::from(env.strict_equals(listener.function.live(&env)?, function)?);
            }
            Ok(count)
        })
    }

    /// The listeners of an event, in the order of their calls.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E",
        ts_return_type = "Array<ServiceEvents[E]>"
    )]
    pub fn listeners<'env>(&self, env: &'env Env, event: Unknown<'_>) -> Result<Vec<Unknown<'env>>> {
        guard::call(*env, "listeners", || {
            let list = self.courier().listeners().list(read_event(*env, &event)?);
            list.iter().map(|listener| listener.function.live(env)).collect()
        })
    }

    /// The same as `listeners`: those added by `once` have no wrapper.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E",
        ts_return_type = "Array<ServiceEvents[E]>"
    )]
    pub fn raw_listeners<'env>(&self, env: &'env Env, event: Unknown<'_>) -> Result<Vec<Unknown<'env>>> {
        guard::call(*env, "rawListeners", || {
            let list = self.courier().listeners().list(read_event(*env, &event)?);
            list.iter().map(|listener| listener.function.live(env)).collect()
        })
    }

    /// Calls the listeners of an event as the service does, with the first argument. Returns whether there are any.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, ...args: Parameters<ServiceEvents[E]>"
    )]
    pub fn emit(&self, env: Env, event: Unknown<'_>, argument: Option<Unknown<'_>>) -> Result<bool> {
        guard::call(env, "emit", || {
            let kind = read_event(env, &event)?;
            let has_listeners = self.courier().listeners().count(kind) > 0;
            let argument = argument.map_or_else(|| values::undefined(&env), Ok)?;
            self.courier().logged(|| self.courier().tell(&env, kind, argument));
            Ok(has_listeners)
        })
    }

    /// 0: there is no limit of listeners.
    #[napi]
    pub fn get_max_listeners(&self, env: Env) -> Result<u32> {
        guard::call(env, "getMaxListeners", || Ok(0))
    }

    /// Does nothing: there is no limit of listeners, and no warning about many. For code that expects an `EventEmitter`.
    #[napi(ts_args_type = "count: number", ts_return_type = "this")]
    pub fn set_max_listeners<'env>(&self, env: Env, this: This<'env>) -> Result<Object<'env>> {
        guard::call(env, "setMaxListeners", || Ok(this.object))
    }

    /// The events that have listeners.
    #[napi(ts_return_type = "Array<keyof ServiceEvents>")]
    pub fn event_names(&self, env: Env) -> Result<Vec<&'static str>> {
        guard::call(env, "eventNames", || {
            let listeners = self.courier().listeners();
            Ok(KINDS.iter().filter(|(_, kind)| listeners.count(*kind) > 0).map(|(name, _)| *name).collect())
        })
    }
}
