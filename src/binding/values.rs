//! JavaScript values: reading, describing and serialising them.

use napi::bindgen_prelude::{FnArgs, FromNapiValue, Function, JsObjectValue, JsValue, Object, ToNapiValue, Unknown};
use napi::{Env, Result, ValueType, check_status, sys};
use smallvec::SmallVec;

/// Reads a value as `T`. The caller has looked at its type.
pub fn read<T: FromNapiValue>(value: &Unknown<'_>) -> Result<T> {
    // SAFETY: an `Unknown` is a live handle of the current scope; a conversion that does not fit returns an error.
    unsafe { value.cast::<T>() }
}

/// A Rust value as a JavaScript value.
pub fn write<'env, T: ToNapiValue>(env: &'env Env, value: T) -> Result<Unknown<'env>> {
    // SAFETY: `env` is that of the current call, and the value it returns lives in the current scope.
    unsafe { Unknown::from_napi_value(env.raw(), T::to_napi_value(env.raw(), value)?) }
}

/// The type of a value, for messages. Never its content.
pub fn kind(value: &Unknown<'_>) -> &'static str {
    match value.get_type() {
        Ok(ValueType::Undefined) => "undefined",
        Ok(ValueType::Null) => "null",
        Ok(ValueType::Boolean) => "boolean",
        Ok(ValueType::Number) => "number",
        Ok(ValueType::String) => "string",
        Ok(ValueType::Symbol) => "symbol",
        Ok(ValueType::Object) if value.is_array().unwrap_or(false) => "array",
        Ok(ValueType::Object) => "object",
        Ok(ValueType::Function) => "function",
        Ok(ValueType::BigInt) => "bigint",
        Ok(ValueType::External) | Ok(ValueType::Unknown) | Err(_) => "unknown",
    }
}

pub fn is_absent(value: &Unknown<'_>) -> bool {
    matches!(kind(value), "undefined" | "null")
}

/// The value as an object that is not an array or a function.
pub fn as_object<'env>(value: &Unknown<'env>) -> Option<Object<'env>> {
    (kind(value) == "object").then(|| read(value).ok()).flatten()
}

pub fn as_string(value: &Unknown<'_>) -> Option<String> {
    (kind(value) == "string").then(|| read(value).ok()).flatten()
}

pub fn as_number(value: &Unknown<'_>) -> Option<f64> {
    (kind(value) == "number").then(|| read(value).ok()).flatten()
}

pub fn as_function<'env>(value: &Unknown<'env>) -> Option<Function<'env, Unknown<'static>, Unknown<'static>>> {
    (kind(value) == "function").then(|| read(value).ok()).flatten()
}

/// A property, `undefined` if it is not there. A getter that throws is the caller's error.
pub fn property<'env>(object: &Object<'env>, name: &str) -> Result<Unknown<'env>> {
    object.get_named_property_unchecked::<Unknown>(name)
}

/// A method called on its object.
pub fn call_method<'env, Args>(object: &Object<'env>, name: &str, args: Args) -> Result<Unknown<'env>>
where
    Args: napi::bindgen_prelude::JsValuesTupleIntoVec,
{
    let method: Function<'env, Args, Unknown<'env>> = object.get_named_property(name)?;
    method.apply(object, args)
}

/// Calls a function. What it throws is the error, and no exception is left pending.
pub fn apply<'env>(
    env: &'env Env,
    function: &Unknown<'_>,
    receiver: &Unknown<'_>,
    arguments: &[Unknown<'_>],
) -> Result<Unknown<'env>> {
    let raw: SmallVec<[sys::napi_value; 8]> = arguments.iter().map(JsValue::raw).collect();
    let mut returned = std::ptr::null_mut();
    // SAFETY: all values are live handles of the current scope, and the list outlives the call.
    let status = unsafe {
        sys::napi_call_function(env.raw(), receiver.raw(), function.raw(), raw.len(), raw.as_ptr(), &mut returned)
    };
    if let Some(thrown) = take_exception(env) {
        return Err(match kind(&thrown) {
            "object" | "function" => napi::Error::from(thrown),
            // Of anything else there is no reference to keep.
            _ => napi::Error::from_reason(text(&thrown)),
        });
    }
    check_status!(status)?;
    // SAFETY: after a call that succeeded this is a live handle of the current scope.
    unsafe { Unknown::from_napi_value(env.raw(), returned) }
}

pub fn undefined(env: &Env) -> Result<Unknown<'_>> {
    write(env, ())
}

pub fn is_true(value: &Unknown<'_>) -> bool {
    kind(value) == "boolean" && read(value).unwrap_or(false)
}

/// Milliseconds of a `Date`; `NaN` for an invalid one, `None` for anything else.
pub fn date_millis(value: &Unknown<'_>) -> Option<f64> {
    if !value.is_date().unwrap_or(false) {
        return None;
    }
    let date: Object<'_> = read(value).ok()?;
    let time = call_method(&date, "getTime", ()).ok()?;
    as_number(&time)
}

/// V8's own `JSON.stringify`, so that what is sent is what JavaScript would have sent. `None` where it gives
/// `undefined`; what it throws is passed on.
pub fn to_json(env: &Env, value: &Unknown<'_>) -> Result<Option<String>> {
    let json: Object<'_> = env.get_global()?.get_named_property("JSON")?;
    let text = call_method(&json, "stringify", FnArgs::from((*value,)))?;
    Ok(as_string(&text))
}

pub fn from_json<'env>(env: &'env Env, text: &str) -> Result<Unknown<'env>> {
    let json: Object<'env> = env.get_global()?.get_named_property("JSON")?;
    call_method(&json, "parse", FnArgs::from((text,)))
}

/// A value as text, empty where it has none.
pub fn text(value: &Unknown<'_>) -> String {
    let text = value.coerce_to_string().and_then(|text| text.into_utf8()).and_then(|text| text.into_owned());
    text.unwrap_or_default()
}

/// Drops the exception of a failed call that no JavaScript caller waits for. A pending one makes further calls fail and then ends the
/// process as uncaught.
pub fn clear_exception(env: &Env) {
    take_exception(env);
}

/// Replaces the pending exception with the error that `find` returns; without one it is thrown again.
pub fn instead_of_exception(
    env: &Env,
    failure: napi::Error,
    find: impl FnOnce() -> Option<napi::Error>,
) -> napi::Error {
    let Some(thrown) = take_exception(env) else { return find().unwrap_or(failure) };
    find().unwrap_or_else(|| {
        clear_exception(env);
        // SAFETY: the value is a live handle of the current scope, and no exception is pending.
        unsafe { sys::napi_throw(env.raw(), thrown.raw()) };
        failure
    })
}

/// Takes the pending exception of a failed call.
fn take_exception(env: &Env) -> Option<Unknown<'_>> {
    let mut is_pending = false;
    let mut exception = std::ptr::null_mut();
    // SAFETY: `env` is that of the current call, the pointers are to locals, and both functions may be called while
    // an exception is pending.
    unsafe {
        if sys::napi_is_exception_pending(env.raw(), &mut is_pending) != sys::Status::napi_ok || !is_pending {
            return None;
        }
        // It fails only while the environment ends, and then nothing is pending any more.
        if sys::napi_get_and_clear_last_exception(env.raw(), &mut exception) != sys::Status::napi_ok {
            return None;
        }
        Unknown::from_napi_value(env.raw(), exception).ok()
    }
}

/// A variable of `process.env` as this thread sees it; workers have their own copy.
pub fn environment_variable(env: &Env, name: &str) -> Option<String> {
    let process: Object<'_> = env.get_global().ok()?.get_named_property("process").ok()?;
    let variables: Object<'_> = process.get_named_property("env").ok()?;
    as_string(&property(&variables, name).ok()?)
}
