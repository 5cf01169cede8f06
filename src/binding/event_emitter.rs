//! The methods of Node's `EventEmitter` for the public class; the listeners themselves are in `listeners`.
//!
//! Differences, all deliberate: a listener that throws or rejects is logged and does not affect the others; an `error` event without a
//! listener does not throw; a listener removed while an event is delivered is not called for it; a listener runs in the async context in
//! which it was added; there is no limit of listeners. Belongs to Node's thread.

use napi::bindgen_prelude::{Object, This, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::application::interface::EventKind;
use crate::binding::error::invalid_argument;
use crate::binding::guard;
use crate::binding::listeners::{Listener, Position};
use crate::binding::reference::Reference;
use crate::binding::service::WebSocketService;
use crate::binding::values;

fn read_event(env: Env, event: &Unknown<'_>) -> Result<EventKind> {
    let name = values::as_string(event).unwrap_or_default();
    EventKind::from_name(&name).ok_or_else(|| {
        let known = EventKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        invalid_argument(env, "event", &format!("one of {known}"), values::kind(event))
    })
}

fn read_listener<'env>(env: Env, listener: &Unknown<'env>) -> Result<Unknown<'env>> {
    match values::kind(listener) {
        "function" => Ok(*listener),
        kind => Err(invalid_argument(env, "listener", "a function", kind)),
    }
}

/// The arguments of a method that adds or removes a listener.
struct Change<'a, 'env> {
    service: &'a WebSocketService,
    env: Env,
    this: &'a This<'env>,
    event: &'a Unknown<'a>,
    listener: &'a Unknown<'a>,
}

impl Change<'_, '_> {
    fn add(self, position: Position, is_once: bool) -> Result<()> {
        let kind = read_event(self.env, self.event)?;
        let function = Reference::strong(&self.env, &read_listener(self.env, self.listener)?)?;
        let dispatcher = self.service.dispatcher();
        dispatcher.listeners().set_emitter(&self.env, &self.this.object)?;
        let scope = dispatcher.glue().scope(&self.env);
        dispatcher.listeners().add(kind, Listener::new(function, scope, is_once), position);
        dispatcher.listeners_changed(kind);
        Ok(())
    }

    fn remove(self) -> Result<()> {
        let kind = read_event(self.env, self.event)?;
        let dispatcher = self.service.dispatcher();
        dispatcher.listeners().remove(&self.env, kind, &read_listener(self.env, self.listener)?)?;
        dispatcher.listeners_changed(kind);
        Ok(())
    }
}

/// Methods that change the listeners of an event and return the service: `[lines of documentation] method as "name in JavaScript" =>
/// change`. The lines are strings, since napi takes them literally from a macro.
macro_rules! listener_methods {
    ($([$($doc:tt),+] $method:ident as $name:literal => |$event:ident| $change:expr;)+) => {$(
        #[napi]
        impl WebSocketService {
            $(#[doc = $doc])+
            #[napi(
                ts_generic_types = "E extends keyof ServiceEvents",
                ts_args_type = "event: E, listener: ServiceEvents[E]",
                ts_return_type = "this"
            )]
            pub fn $method<'env>(
                &self,
                env: Env,
                this: This<'env>,
                event: Unknown<'_>,
                listener: Unknown<'_>,
            ) -> Result<Object<'env>> {
                guard::call(env, $name, || {
                    let $event = Change { service: self, env, this: &this, event: &event, listener: &listener };
                    $change?;
                    Ok(this.object)
                })
            }
        }
    )+};
}

listener_methods! {
    [
        "Adds a listener after the others. An event may have any number. A listener that throws or rejects is logged and does not affect",
        "the others. It runs in the async context (`AsyncLocalStorage`) in which it was added, with the service as `this`.",
        "@throws {TypeError} code `ERR_INVALID_ARGUMENT`: there is no such event, or the listener is no function"
    ]
    on as "on" => |change| change.add(Position::Last, false);

    ["The same as `on`."]
    add_listener as "addListener" => |change| change.add(Position::Last, false);

    ["Adds a listener before the others."]
    prepend_listener as "prependListener" => |change| change.add(Position::First, false);

    ["Adds a listener that is called once."]
    once as "once" => |change| change.add(Position::Last, true);

    ["Adds a listener before the others that is called once."]
    prepend_once_listener as "prependOnceListener" => |change| change.add(Position::First, true);

    [
        "Removes a listener, the newest if it was added several times. It is not called any more, not even for an event that is being",
        "delivered."
    ]
    off as "off" => |change| change.remove();

    ["The same as `off`."]
    remove_listener as "removeListener" => |change| change.remove();
}

/// Methods that return the listeners of an event: `[lines of documentation] method as "name in JavaScript"`.
macro_rules! list_methods {
    ($([$($doc:tt),+] $method:ident as $name:literal;)+) => {$(
        #[napi]
        impl WebSocketService {
            $(#[doc = $doc])+
            #[napi(
                ts_generic_types = "E extends keyof ServiceEvents",
                ts_args_type = "event: E",
                ts_return_type = "Array<ServiceEvents[E]>"
            )]
            pub fn $method<'env>(&self, env: &'env Env, event: Unknown<'_>) -> Result<Vec<Unknown<'env>>> {
                guard::call(*env, $name, || {
                    let list = self.dispatcher().listeners().list(read_event(*env, &event)?);
                    list.iter().map(|listener| listener.function.live(env)).collect()
                })
            }
        }
    )+};
}

list_methods! {
    ["The listeners of an event, in the order of their calls."]
    listeners as "listeners";

    ["The same as `listeners`: those added by `once` have no wrapper."]
    raw_listeners as "rawListeners";
}

#[napi]
impl WebSocketService {
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
                None => EventKind::ALL.to_vec(),
            };
            for kind in kinds {
                self.dispatcher().listeners().remove_all(kind);
                self.dispatcher().listeners_changed(kind);
            }
            Ok(this.object)
        })
    }

    /// How many listeners an event has, or how often it has this one.
    #[napi(ts_generic_types = "E extends keyof ServiceEvents", ts_args_type = "event: E, listener?: ServiceEvents[E]")]
    pub fn listener_count(&self, env: Env, event: Unknown<'_>, listener: Option<Unknown<'_>>) -> Result<u32> {
        guard::call(env, "listenerCount", || {
            let list = self.dispatcher().listeners().list(read_event(env, &event)?);
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

    /// Calls the listeners of an event as the service does, with the first argument. Returns whether there are any.
    #[napi(
        ts_generic_types = "E extends keyof ServiceEvents",
        ts_args_type = "event: E, ...args: Parameters<ServiceEvents[E]>"
    )]
    pub fn emit(&self, env: Env, event: Unknown<'_>, argument: Option<Unknown<'_>>) -> Result<bool> {
        guard::call(env, "emit", || {
            let kind = read_event(env, &event)?;
            let has_listeners = self.dispatcher().listeners().count(kind) > 0;
            let argument = argument.map_or_else(|| values::undefined(&env), Ok)?;
            self.dispatcher().logged(|| self.dispatcher().emit(&env, kind, argument));
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
            let listeners = self.dispatcher().listeners();
            Ok(EventKind::ALL.iter().filter(|kind| listeners.count(**kind) > 0).map(|kind| kind.name()).collect())
        })
    }
}
