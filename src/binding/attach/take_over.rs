//! Takes a socket over from Node.
//!
//! The descriptor is duplicated, and Node's copy is destroyed without shutting the connection down. The caller makes sure that Node has
//! nothing left to write. Runs on Node's thread.

use napi::Result;
use napi::bindgen_prelude::{JsValue, Object};

use crate::transport::Source;

/// `None` if there is no descriptor to take: a TLS socket, a stream, or a system whose handles have none.
#[cfg(unix)]
pub fn descriptor(socket: &Object<'_>) -> Result<Option<Source>> {
    use std::os::fd::BorrowedFd;

    use crate::binding::values;

    let is_encrypted = values::property(socket, "encrypted")?.coerce_to_bool()?;
    let Some(handle) = values::as_object(&values::property(socket, "_handle")?).filter(|_| !is_encrypted) else {
        return Ok(None);
    };
    let descriptor = values::as_number(&values::property(&handle, "fd")?).unwrap_or(-1.0);
    if descriptor < 0.0 {
        return Ok(None);
    }
    // SAFETY: the handle is open, since the socket is not destroyed and this is its thread; the descriptor is
    // borrowed only for this call, which makes a duplicate (close-on-exec) of our own.
    let duplicate = unsafe { BorrowedFd::borrow_raw(descriptor as i32) }.try_clone_to_owned();
    match duplicate {
        Ok(duplicate) => {
            values::call_method(socket, "destroy", ())?;
            Ok(Some(Source::Descriptor(duplicate)))
        }
        Err(failure) => {
            tracing::error!(%failure, "a socket could not be taken over");
            Ok(None)
        }
    }
}

#[cfg(not(unix))]
pub fn descriptor(_socket: &Object<'_>) -> Result<Option<Source>> {
    Ok(None)
}
