//! Writes the response to a rejected request through Node. Runs on Node's thread.

use napi::bindgen_prelude::{Buffer, FnArgs, Function, JsObjectValue, JsValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::{guard, values};

/// Writes the response and closes the socket once it has been sent. Nothing else has been written to the socket.
pub fn refuse(env: &Env, socket: &Object<'_>, response: Vec<u8>) -> Result<()> {
    // An error without a listener would end the process.
    let ignore = guard::function::<()>(env, "carillonIgnore", |_| Ok(()))?;
    values::call_method(socket, "on", FnArgs::from(("error", ignore.to_unknown())))?;
    let response = Buffer::from(response);
    // A stream that is no socket has no `destroySoon`.
    if values::kind(&values::property(socket, "destroySoon")?) == "function" {
        values::call_method(socket, "write", FnArgs::from((response,)))?;
        let finished: Function<'_, (), Unknown<'_>> = socket.get_named_property("destroySoon")?;
        finished.apply(*socket, ())?;
    } else {
        values::call_method(socket, "end", FnArgs::from((response,)))?;
    }
    Ok(())
}
