//! The listeners of a service by event, and how one event is delivered to them.
//!
//! The semantics are those of Node's `EventEmitter`, except as `event_emitter` documents. Belongs to Node's thread; no borrow is held while
//! JavaScript runs.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use napi::bindgen_prelude::{JsValue, Object, Unknown};
use napi::{Env, Result};

use crate::application::interface::EventKind;
use crate::binding::glue::{Glue, Scope};
use crate::binding::reference::Reference;
use crate::binding::values;

/// The listeners of one event, in the order of their calls. Replaced as a whole, so that a delivery keeps the list it began with.
type List = Rc<[Rc<Listener>]>;

pub struct Listener {
    pub function: Reference,
    scope: Scope,
    is_once: bool,
    is_removed: Cell<bool>,
}

/// Where a new listener is put.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Position {
    First,
    Last,
}

#[derive(Default)]
pub struct Listeners {
    lists: RefCell<HashMap<EventKind, List>>,
    /// The service's object: what listeners are called on. Weak, the object holds this.
    emitter: RefCell<Option<Rc<Reference>>>,
}

impl Listener {
    pub fn new(function: Reference, scope: Scope, is_once: bool) -> Self {
        Self { function, scope, is_once, is_removed: Cell::new(false) }
    }
}

impl Listeners {
    pub fn count(&self, kind: EventKind) -> usize {
        self.lists.borrow().get(&kind).map_or(0, |list| list.len())
    }

    pub fn list(&self, kind: EventKind) -> Vec<Rc<Listener>> {
        self.lists.borrow().get(&kind).map(|list| list.to_vec()).unwrap_or_default()
    }

    fn replace(&self, kind: EventKind, list: Vec<Rc<Listener>>) {
        // What is dropped are references to JavaScript values, whose end calls nothing.
        let before = self.lists.borrow_mut().insert(kind, list.into());
        drop(before);
    }

    pub fn add(&self, kind: EventKind, listener: Listener, position: Position) {
        let mut list = self.list(kind);
        let index = if position == Position::First { 0 } else { list.len() };
        list.insert(index, Rc::new(listener));
        self.replace(kind, list);
    }

    /// Removes the newest listener with this function, if there is one.
    pub fn remove(&self, env: &Env, kind: EventKind, function: &Unknown<'_>) -> Result<()> {
        let mut list = self.list(kind);
        for index in (0..list.len()).rev() {
            if env.strict_equals(list[index].function.live(env)?, *function)? {
                list.remove(index).is_removed.set(true);
                self.replace(kind, list);
                break;
            }
        }
        Ok(())
    }

    pub fn remove_all(&self, kind: EventKind) {
        let list = self.lists.borrow_mut().remove(&kind);
        for listener in list.iter().flat_map(|list| list.iter()) {
            listener.is_removed.set(true);
        }
    }

    /// Takes a `once` listener out before its call; `false` if it is not to be called any more.
    fn may_call(&self, kind: EventKind, listener: &Rc<Listener>) -> bool {
        if listener.is_removed.get() {
            return false;
        }
        if listener.is_once {
            listener.is_removed.set(true);
            let list = self.list(kind).into_iter().filter(|other| !Rc::ptr_eq(other, listener)).collect();
            self.replace(kind, list);
        }
        true
    }

    /// Calls every listener of the event. `report` logs what asynchronous ones reject with.
    pub fn emit(&self, env: &Env, glue: &Glue, kind: EventKind, argument: Unknown<'_>, report: &Unknown<'_>) {
        let Some(list) = self.lists.borrow().get(&kind).cloned() else { return };
        let emitter = self.emitter.borrow().clone();
        let emitter = emitter.and_then(|emitter| emitter.get(env));
        for listener in list.iter() {
            if !self.may_call(kind, listener) {
                continue;
            }
            let called = listener.function.live(env).and_then(|function| {
                let receiver = emitter.map_or_else(|| values::undefined(env), Ok)?;
                let returned = listener.scope.call(env, &function, &receiver, &[argument])?;
                glue.watch(env, &returned, report, kind.name())
            });
            if let Err(failure) = called {
                values::clear_exception(env);
                tracing::error!(event = kind.name(), failure = failure.reason, "a listener threw");
            }
        }
    }

    pub fn set_emitter(&self, env: &Env, object: &Object<'_>) -> Result<()> {
        if self.emitter.borrow().is_none() {
            let reference = Rc::new(Reference::weak(env, &object.to_unknown())?);
            *self.emitter.borrow_mut() = Some(reference);
        }
        Ok(())
    }
}
