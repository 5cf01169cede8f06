//! Calls of the application's hooks: arguments into JavaScript values, the settled value into an answer.
//!
//! A hook is called in the async context in which its options were set, and its value is resolved as `await` does, see `glue.js`.
//! A value that cannot be read as the answer of the hook's kind is a failure. Belongs to Node's thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use napi::bindgen_prelude::{JsValue, Unknown};
use napi::{Env, Result};
use rustc_hash::FxHashMap;

use crate::application::interface::{Answer, HookAnswer, HookArgument, HookCall, HookFault};
use crate::binding::glue::{Glue, Scope, Target};
use crate::binding::guard;
use crate::binding::reference::Reference;
use crate::binding::values;
use crate::types::{AnswerForm, HookKind};

/// The hooks that the options name, and the context they were named in.
pub struct Hooks {
    pub targets: HashMap<HookKind, Target>,
    pub scope: Scope,
}

pub struct HookCalls {
    hooks: RefCell<Option<Rc<Hooks>>>,
    pending: Rc<Pending>,
    /// The one function that every call is settled with.
    settle: Reference,
}

/// Calls that have not settled.
#[derive(Default)]
struct Pending {
    calls: RefCell<FxHashMap<u64, (HookKind, Answer)>>,
    next_id: Cell<u64>,
    /// At this many calls those without a waiting receiver are removed: a hook may never settle.
    sweep_at: Cell<usize>,
}

impl HookCalls {
    pub fn new(env: &Env) -> Result<Self> {
        let pending = Rc::new(Pending::default());
        let calls = pending.clone();
        let settle = guard::function::<()>(env, "carillonSettle", move |context| {
            let id = values::as_number(&context.get::<Unknown<'_>>(0)?).unwrap_or(-1.0);
            let is_fulfilled = values::is_true(&context.get::<Unknown<'_>>(1)?);
            let value: Unknown<'_> = context.get(2)?;
            calls.settle(context.env, id as u64, is_fulfilled, value);
            values::clear_exception(context.env);
            Ok(())
        })?;
        Ok(Self { hooks: RefCell::default(), pending, settle: Reference::strong(env, &settle.to_unknown())? })
    }

    pub fn set(&self, hooks: Hooks) {
        let before = self.hooks.replace(Some(Rc::new(hooks)));
        drop(before);
    }

    /// Calls the hook; its answer may come at once, later or never.
    pub fn call(&self, env: &Env, glue: &Glue, call: &HookCall, answer: Answer) {
        let hooks = self.hooks.borrow().clone();
        let hook = hooks.as_ref().and_then(|hooks| Some((hooks.targets.get(&call.kind)?, &hooks.scope)));
        let Some(hook) = hook else {
            return reply(answer, Err(HookFault::Failed("there is no such hook".into())));
        };
        let id = self.pending.insert(call.kind, answer);
        let called = self.settle.live(env).and_then(|settle| {
            let arguments = call.arguments.iter().map(|argument| value(env, argument)).collect::<Result<Vec<_>>>()?;
            glue.call_hook(env, hook, &arguments, &settle, id as f64)
        });
        if let Err(failure) = called {
            values::clear_exception(env);
            if let Some((_, answer)) = self.pending.take(id) {
                reply(answer, Err(HookFault::Failed(failure.reason.clone())));
            }
        }
    }
}

impl Pending {
    fn insert(&self, kind: HookKind, answer: Answer) -> u64 {
        let mut calls = self.calls.borrow_mut();
        if calls.len() >= self.sweep_at.get().max(64) {
            calls.retain(|_, (_, answer)| !answer.is_closed());
            self.sweep_at.set(calls.len() * 2);
        }
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        calls.insert(id, (kind, answer));
        id
    }

    fn take(&self, id: u64) -> Option<(HookKind, Answer)> {
        self.calls.borrow_mut().remove(&id)
    }

    fn settle(&self, env: &Env, id: u64, is_fulfilled: bool, value: Unknown<'_>) {
        let Some((kind, answer)) = self.take(id) else { return };
        let result = if is_fulfilled { read(env, kind, value) } else { Err(values::text(&value)) };
        reply(answer, result.map_err(HookFault::Failed));
    }
}

fn value<'env>(env: &'env Env, argument: &HookArgument) -> Result<Unknown<'env>> {
    match argument {
        HookArgument::Text(text) => values::write(env, &**text),
        HookArgument::Json(json) => values::from_json(env, json),
    }
}

/// The value in the form that the kind of hook asks for.
fn read(env: &Env, kind: HookKind, value: Unknown<'_>) -> std::result::Result<HookAnswer, String> {
    let answer = match kind.answer() {
        AnswerForm::Truth => value.coerce_to_bool().map(HookAnswer::Truth),
        AnswerForm::Json => {
            let json = values::to_json(env, &value);
            json.map(|json| json.map_or(HookAnswer::Nothing, HookAnswer::Json))
        }
        AnswerForm::Nothing => Ok(HookAnswer::Nothing),
    };
    answer.map_err(|failure| failure.reason.clone())
}

fn reply(answer: Answer, result: std::result::Result<HookAnswer, HookFault>) {
    // The receiver may have stopped waiting.
    let _ = answer.send(result);
}
