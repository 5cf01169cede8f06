//! A service's claim on the upgrade requests of a server, see `edge.js`.
//!
//! The server refers to its edge, the edge to its claims, and a claim to the function that refers to the service; never the other way
//! round. So a server without references is collected together with its service. Runs on Node's thread.

use napi::bindgen_prelude::{FnArgs, Function, JsObjectValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::reference::Reference;
use crate::binding::values;

/// The script that decides about upgrade requests, compiled once per attachment.
const EDGE: &str = include_str!("edge.js");

/// A weak reference: the server owns the claim.
pub struct Claim(Reference);

impl Claim {
    /// Has `handle(request, socket, head, address)` called for upgrade requests of the path, and for those that nothing else answers.
    pub fn new(env: &Env, server: &Object<'_>, path: &str, handle: &Unknown<'_>) -> Result<Self> {
        let attach: Function<'_, FnArgs<(Object<'_>, &str, Unknown<'_>)>, Unknown<'_>> = env.run_script(EDGE)?;
        let claim = attach.call(FnArgs::from((*server, path, *handle)))?;
        Reference::weak(env, &claim).map(Self)
    }

    /// Removes the claim. Nothing is left on the server after its last claim.
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
