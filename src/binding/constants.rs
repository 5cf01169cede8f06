//! What the package exports beside its classes: the ready-made instance and the constants.

use std::marker::PhantomData;

use napi::bindgen_prelude::{JavaScriptClassExt, JsObjectValue, JsValue, Object, ToNapiValue};
use napi::{Env, Result, sys};
use napi_derive::napi;

use crate::binding::service;
use crate::config;

/// The ready-made service.
pub struct ReadyMade;

/// Stands for a value of another type that cannot be changed.
pub struct Readonly<T>(PhantomData<T>);

/// As declared for TypeScript.
pub struct BaseConfig;

type WebSocketService = ReadyMade;

/// Ready-made instance, configured from the environment (JWT_SECRET) or through `configure()`.
#[napi]
#[allow(non_upper_case_globals, reason = "the name that applications import")]
pub const webSocketService: WebSocketService = ReadyMade;

/// The default values of the option `base`.
#[napi]
pub const BASE_CONFIG: Readonly<BaseConfig> = Readonly(PhantomData);

/// Constants are exported before classes, so the instance can only be made afterwards: see [`export_instance`]. This
/// holds its place among the declared exports.
impl ToNapiValue for ReadyMade {
    unsafe fn to_napi_value(env: sys::napi_env, _: Self) -> Result<sys::napi_value> {
        // SAFETY: `env` is that of the module being registered.
        unsafe { <()>::to_napi_value(env, ()) }
    }
}

#[napi(module_exports)]
pub fn export_instance(mut exports: Object<'_>, env: Env) -> Result<()> {
    let instance = service::WebSocketService::make(env, None)?.into_instance(&env)?;
    exports.set_named_property("webSocketService", instance.as_object(&env))
}

impl ToNapiValue for Readonly<BaseConfig> {
    unsafe fn to_napi_value(env: sys::napi_env, _: Self) -> Result<sys::napi_value> {
        let env = Env::from_raw(env);
        let mut object = Object::new(&env)?;
        for (name, value) in config::BaseConfig::defaults() {
            object.set_named_property(name, value)?;
        }
        object.freeze()?;
        Ok(object.raw())
    }
}
