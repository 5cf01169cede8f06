//! A reference to a JavaScript value that outlives the current call.

use napi::bindgen_prelude::{FromNapiValue, JsValue, Object, Unknown};
use napi::{Env, Result, check_status, sys};

use crate::binding::values::read;

/// A weak or strong reference. Belongs to Node's thread; dropping it deletes it.
pub struct Reference {
    env: sys::napi_env,
    raw: sys::napi_ref,
}

impl Reference {
    /// Does not keep the value alive.
    pub fn weak(env: &Env, value: &Unknown<'_>) -> Result<Self> {
        Self::new(env, value, 0)
    }

    /// Keeps the value alive.
    pub fn strong(env: &Env, value: &Unknown<'_>) -> Result<Self> {
        Self::new(env, value, 1)
    }

    /// The value, unless it has been collected.
    pub fn get<'env>(&self, env: &'env Env) -> Option<Unknown<'env>> {
        let mut value = std::ptr::null_mut();
        // SAFETY: the reference is deleted only in `drop`; a collected value shows as null.
        let status = unsafe { sys::napi_get_reference_value(env.raw(), self.raw, &mut value) };
        if status != sys::Status::napi_ok || value.is_null() {
            return None;
        }
        // SAFETY: a value that is not null is a live handle of the current scope.
        unsafe { Unknown::from_napi_value(env.raw(), value) }.ok()
    }

    /// The value of a strong reference.
    pub fn live<'env>(&self, env: &'env Env) -> Result<Unknown<'env>> {
        self.get(env).ok_or_else(|| napi::Error::from_reason("a referenced value no longer exists"))
    }

    /// The value as an object.
    pub fn object<'env>(&self, env: &'env Env) -> Option<Object<'env>> {
        self.get(env).and_then(|value| read(&value).ok())
    }

    fn new(env: &Env, value: &Unknown<'_>, count: u32) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the value is a live handle of this environment.
        check_status!(unsafe { sys::napi_create_reference(env.raw(), value.raw(), count, &mut raw) })?;
        Ok(Self { env: env.raw(), raw })
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once, on Node's thread, where its owner lives.
        unsafe { sys::napi_delete_reference(self.env, self.raw) };
    }
}
