//! `service.runtimeConfig`: the keyed view of the runtime configuration.

use std::sync::Arc;

use napi::bindgen_prelude::{JsObjectValue, Object, Unknown};
use napi::{Env, Result};
use napi_derive::napi;

use crate::binding::error::{exception, invalid_argument};
use crate::binding::{guard, values};
use crate::config;
use crate::config::RuntimeKey;
use crate::error::{Error, ErrorKind};

/// Settings that can be changed while the service runs. A change takes effect at once, for this service alone.
#[napi]
pub struct RuntimeConfig {
    config: Arc<config::RuntimeConfig>,
}

impl RuntimeConfig {
    pub fn new(config: Arc<config::RuntimeConfig>) -> Self {
        Self { config }
    }
}

#[napi]
impl RuntimeConfig {
    /// The value in effect.
    #[napi(ts_args_type = "key: keyof RuntimeConfigValues")]
    pub fn get(&self, env: Env, key: Unknown<'_>) -> Result<f64> {
        guard::call(env, "runtimeConfig.get", || Ok(self.config.get(read_key(env, &key)?)))
    }

    /// Changes a value.
    /// @throws {RangeError} code `ERR_OUT_OF_RANGE` outside the documented bounds
    #[napi(ts_args_type = "key: keyof RuntimeConfigValues, value: number")]
    pub fn set(&self, env: Env, key: Unknown<'_>, value: Unknown<'_>) -> Result<()> {
        guard::call(env, "runtimeConfig.set", || {
            let key = read_key(env, &key)?;
            let Some(number) = values::as_number(&value) else {
                return Err(invalid_argument(env, "value", "a number", values::kind(&value)));
            };
            self.config.set(key, number).map_err(|error| exception(env, &error))
        })
    }

    /// Back to the values the service was constructed with.
    #[napi]
    pub fn reset(&self, env: Env) -> Result<()> {
        guard::call(env, "runtimeConfig.reset", || {
            self.config.reset();
            Ok(())
        })
    }

    /// All values in effect.
    #[napi(ts_return_type = "RuntimeConfigValues")]
    pub fn to_object<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        guard::call(*env, "runtimeConfig.toObject", || {
            let mut object = Object::new(env)?;
            for (name, value) in self.config.to_pairs() {
                object.set_named_property(name, value)?;
            }
            Ok(object)
        })
    }
}

fn read_key(env: Env, key: &Unknown<'_>) -> Result<RuntimeKey> {
    let name = values::as_string(key).unwrap_or_default();
    RuntimeKey::from_name(&name).ok_or_else(|| {
        let hint = config::closest(&name, RuntimeKey::names()).map(|known| format!(". Did you mean \"{known}\"?"));
        let message = format!("Unknown runtime setting \"{name}\"{}", hint.unwrap_or_default());
        exception(env, &Error::new(ErrorKind::InvalidArgument, message))
    })
}
