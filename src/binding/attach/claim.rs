//! A service's claim on the upgrade requests of a server, see `edge.js`.
//!
//! The server holds its edge, the edge its claims, and a claim the function that holds the service; never the other way round. So a server
//! that nothing refers to any more takes its service along. Runs on Node's thread.

use napi::bindgen_prelude::{FnArgs, Function, JsObjectValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::values::{self, Reference};

/// What decides about upgrade requests, compiled once per attachment.
const EDGE: &str = include_str!("edge.js");

/// The server holds it.
pub struct Claim(Reference);

impl Claim {
    /// From now on `handle(request, socket, head)` gets the requests of the path, and those that nothing else answers.
    pub fn new(env: &Env, server: &Object<'_>, path: &str, handle: &Unknown<'_>) -> Result<Self> {
        let attach: Function<'_, FnArgs<(Object<'_>, &str, Unknown<'_>)>, Unknown<'_>> = env.run_script(EDGE)?;
        let claim = attach.call(FnArgs::from((*server, path, *handle)))?;
        Reference::weak(env, &claim).map(Self)
    }

    /// Without a trace on the server, once its last claim has gone.
    pub fn release(self, env: &Env) -> Result<()> {
        if let Some(claim) = self.0.object(env) {
            values::call_method(&claim, "release", ())?;
        }
        Ok(())
    }
}

/// Whether the server of a claim listens on a path: a Unix socket, a named pipe.
pub fn listens_on_path(claim: &Object<'_>) -> Result<bool> {
    let edge: Object<'_> = claim.get_named_property("edge")?;
    let server: Object<'_> = edge.get_named_property("server")?;
    let address = values::call_method(&server, "address", ())?;
    Ok(values::kind(&address) == "string")
}
