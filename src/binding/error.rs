//! The only place that makes a JavaScript exception.

use napi::{Env, JsError, JsRangeError, JsTypeError};

use crate::error::{Error, ErrorKind};

/// The error as an exception with its stable `code`, of the class JavaScript expects for its kind.
pub fn exception(env: Env, error: &Error) -> napi::Error {
    let described = napi::Error::new(code(error).to_owned(), describe(error));
    let exception = match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::InvalidOption => JsTypeError::from(described).into_unknown(env),
        ErrorKind::OutOfRange => JsRangeError::from(described).into_unknown(env),
        ErrorKind::AlreadyRunning
        | ErrorKind::AttachFailed
        | ErrorKind::HookFailed
        | ErrorKind::Internal
        | ErrorKind::InvalidToken
        | ErrorKind::ListenFailed
        | ErrorKind::NoJwtSecret
        | ErrorKind::Overloaded => JsError::from(described).into_unknown(env),
    };
    napi::Error::from(exception)
}

/// The stable code; for what the system refused, the name that Node gives it.
fn code(error: &Error) -> &'static str {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    match (error.kind(), cause.map(std::io::Error::kind)) {
        (ErrorKind::ListenFailed, Some(std::io::ErrorKind::AddrInUse)) => "EADDRINUSE",
        (ErrorKind::ListenFailed, Some(std::io::ErrorKind::AddrNotAvailable)) => "EADDRNOTAVAIL",
        (ErrorKind::ListenFailed, Some(std::io::ErrorKind::PermissionDenied)) => "EACCES",
        _ => error.code(),
    }
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

/// An argument that is not what it must be.
pub fn invalid_argument(env: Env, name: &str, expected: &str, given: &str) -> napi::Error {
    let message = format!("The argument \"{name}\" must be {expected}. Received {given}");
    exception(env, &Error::new(ErrorKind::InvalidArgument, message))
}
