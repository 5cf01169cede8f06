//! Catches panics on Node's thread. A panic that reaches the `extern "C"` functions that Node calls would end the process.
//!
//! Every exported method is written inside [`call`] and every function given to JavaScript is made by [`function`]; a test reads the
//! sources for that (`tests/binding_guards.rs`).

use napi::bindgen_prelude::{Function, FunctionCallContext, JsValuesTupleIntoVec, ToNapiValue};
use napi::{Env, Result};

use crate::application::panic_guard;
use crate::binding::error::exception;
use crate::binding::values;
use crate::error::{Error, ErrorKind};

/// The body of an exported method. A panic becomes an exception with the code `ERR_INTERNAL`.
pub fn call<T>(env: Env, method: &'static str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    panic_guard::catch(method, body).unwrap_or_else(|| {
        // A call into JavaScript may have left an exception before the panic.
        values::clear_exception(&env);
        let message = format!("{method} failed because of an error in the service itself; see its log");
        Err(exception(env, &Error::new(ErrorKind::Internal, message)))
    })
}

/// Returns what `action` returns, or `None` if it panicked: for work that no JavaScript caller waits for.
pub fn catch<T>(env: &Env, operation: &'static str, action: impl FnOnce() -> T) -> Option<T> {
    let result = panic_guard::catch(operation, action);
    if result.is_none() {
        values::clear_exception(env);
    }
    result
}

/// Creates a function that JavaScript calls back. After a panic it returns `undefined`: an exception would surface in code of Node or
/// of the application that does not belong to this service.
pub fn function<'env, Args: JsValuesTupleIntoVec>(
    env: &'env Env,
    name: &'static str,
    body: impl Fn(FunctionCallContext<'_>) -> Result<()> + 'static,
) -> Result<Function<'env, Args, ()>> {
    create(env, name, body)
}

/// The same with a result. After a panic it returns the default.
pub fn returning<'env, R: ToNapiValue + Default>(
    env: &'env Env,
    name: &'static str,
    body: impl Fn(FunctionCallContext<'_>) -> Result<R> + 'static,
) -> Result<Function<'env, (), R>> {
    create(env, name, body)
}

fn create<'env, Args: JsValuesTupleIntoVec, R: ToNapiValue + Default>(
    env: &'env Env,
    name: &'static str,
    body: impl Fn(FunctionCallContext<'_>) -> Result<R> + 'static,
) -> Result<Function<'env, Args, R>> {
    env.create_function_from_closure(name, move |context: FunctionCallContext<'_>| {
        let env = *context.env;
        catch(&env, name, || body(context)).unwrap_or_else(|| Ok(R::default()))
    })
}
