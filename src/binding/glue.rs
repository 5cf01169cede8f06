//! The functions of `glue.js`, and the application's functions with the async context they were registered in.
//!
//! Belongs to Node's thread. Compiled when a service is made, so that the script sees the realm the addon was loaded in.

use napi::bindgen_prelude::{JsValue, Object, Unknown};
use napi::{Env, Result};
use smallvec::SmallVec;

use crate::binding::reference::Reference;
use crate::binding::values;

pub struct Glue {
    call_hook: Reference,
    new_scope: Reference,
    set_immediate: Reference,
    watch: Reference,
}

/// A function of the application.
pub enum Target {
    Function(Reference),
    /// Looked up when it is called, as `object.name()` does.
    Method {
        object: Reference,
        name: &'static str,
    },
}

/// A captured async context: an `AsyncResource`. Absent where Node does not offer one; functions then run in the context of
/// the caller.
pub struct Scope(Option<Reference>);

impl Glue {
    pub fn new(env: &Env) -> Result<Self> {
        let functions: Object<'_> = env.run_script(include_str!("glue.js"))?;
        let function = |name: &str| Reference::strong(env, &values::property(&functions, name)?);
        Ok(Self {
            call_hook: function("callHook")?,
            new_scope: function("newScope")?,
            set_immediate: function("setImmediate")?,
            watch: function("watch")?,
        })
    }

    /// Captures the current async context.
    pub fn scope(&self, env: &Env) -> Scope {
        let made = self.new_scope.live(env).and_then(|make| values::apply(env, &make, &values::undefined(env)?, &[]));
        let resource = match made {
            Ok(resource) if !values::is_absent(&resource) => Reference::strong(env, &resource).ok(),
            Ok(_) => None,
            Err(failure) => {
                tracing::debug!(failure = failure.reason, "the async context is not known");
                None
            }
        };
        Scope(resource)
    }

    /// Has the event loop call `function` after the next poll for input and output.
    pub fn set_immediate(&self, env: &Env, function: &Unknown<'_>) -> Result<()> {
        values::apply(env, &self.set_immediate.live(env)?, &values::undefined(env)?, &[*function])?;
        Ok(())
    }

    /// Calls a hook; `settle` is called once with `id`, whether it was fulfilled, and the value or the reason.
    pub fn call_hook(
        &self,
        env: &Env,
        hook: (&Target, &Scope),
        arguments: &[Unknown<'_>],
        settle: &Unknown<'_>,
        id: f64,
    ) -> Result<()> {
        let (target, scope) = hook;
        let (function, receiver) = target.resolve(env)?;
        let nothing = values::undefined(env)?;
        let scope = scope.0.as_ref().map_or(Ok(nothing), |scope| scope.live(env))?;
        let mut all: SmallVec<[Unknown<'_>; 8]> = SmallVec::new();
        all.extend([scope, function, receiver, *settle, values::write(env, id)?]);
        all.extend(arguments.iter().copied());
        values::apply(env, &self.call_hook.live(env)?, &nothing, &all)?;
        Ok(())
    }

    /// Has the rejection of a promise reported by `report(what, reason)`. Other thenables are ignored: calling `then` could start
    /// work that a lazy one does only on request.
    pub fn watch(&self, env: &Env, returned: &Unknown<'_>, report: &Unknown<'_>, what: &str) -> Result<()> {
        if !returned.is_promise()? {
            return Ok(());
        }
        let what = values::write(env, what)?;
        values::apply(env, &self.watch.live(env)?, &values::undefined(env)?, &[*returned, *report, what])?;
        Ok(())
    }
}

impl Target {
    pub fn method(env: &Env, object: &Unknown<'_>, name: &'static str) -> Result<Self> {
        Ok(Self::Method { object: Reference::strong(env, object)?, name })
    }

    /// The function and what it is called on.
    fn resolve<'env>(&self, env: &'env Env) -> Result<(Unknown<'env>, Unknown<'env>)> {
        match self {
            Self::Function(function) => Ok((function.live(env)?, values::undefined(env)?)),
            Self::Method { object, name } => {
                let object = object.live(env)?;
                Ok((values::property(&values::read(&object)?, name)?, object))
            }
        }
    }

    /// Whether there is a function to call now.
    pub fn is_function(&self, env: &Env) -> bool {
        let is_function = self.resolve(env).is_ok_and(|(function, _)| values::kind(&function) == "function");
        values::clear_exception(env);
        is_function
    }

    /// Calls it in the context of `scope`.
    pub fn call<'env>(&self, env: &'env Env, scope: &Scope, arguments: &[Unknown<'env>]) -> Result<Unknown<'env>> {
        let (function, receiver) = self.resolve(env)?;
        scope.call(env, &function, &receiver, arguments)
    }
}

impl Scope {
    /// Calls a function in this context.
    pub fn call<'env>(
        &self,
        env: &'env Env,
        function: &Unknown<'env>,
        receiver: &Unknown<'env>,
        arguments: &[Unknown<'env>],
    ) -> Result<Unknown<'env>> {
        let Some(scope) = &self.0 else { return values::apply(env, function, receiver, arguments) };
        let scope = scope.live(env)?;
        let run = values::property(&values::read(&scope)?, "runInAsyncScope")?;
        let mut all = Vec::with_capacity(arguments.len() + 2);
        all.extend([*function, *receiver]);
        all.extend_from_slice(arguments);
        values::apply(env, &run, &scope, &all)
    }
}
