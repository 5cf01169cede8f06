//! The only place that makes a JavaScript exception.

use napi::{Env, JsError, JsRangeError, JsTypeError};

use crate::error::{Error, ErrorKind};

/// The error as an exception with its stable `code`, of the class JavaScript expects for its kind.
pub fn exception(env: Env, error: &Error) -> napi::Error {
    let described = napi::Error::new(error.code().to_owned(), describe(error));
    let exception = match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::InvalidOption => JsTypeError::from(described).into_unknown(env),
        ErrorKind::OutOfRange => JsRangeError::from(described).into_unknown(env),
        ErrorKind::AddressInUse
        | ErrorKind::AddressNotAvailable
        | ErrorKind::AlreadyRunning
        | ErrorKind::HostNotFound
        | ErrorKind::Internal
        | ErrorKind::ListenFailed
        | ErrorKind::NoJwtSecret
        | ErrorKind::Overloaded
        | ErrorKind::PermissionDenied => JsError::from(described).into_unknown(env),
    };
    napi::Error::from(exception)
}

/// The message with the messages of its causes.
pub fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A class that was called like a function.
pub fn needs_new(env: Env, class: &str) -> napi::Error {
    let message = format!("Class constructor {class} cannot be invoked without 'new'");
    let described = napi::Error::new("ERR_CONSTRUCT_CALL_REQUIRED".to_owned(), message);
    napi::Error::from(JsTypeError::from(described).into_unknown(env))
}

/// An argument that is not what it must be.
pub fn invalid_argument(env: Env, name: &str, expected: &str, given: &str) -> napi::Error {
    let message = format!("The argument \"{name}\" must be {expected}. Received {given}");
    exception(env, &Error::new(ErrorKind::InvalidArgument, message))
}
