//! The arguments of `listen()`, checked before anything is opened.

use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Object, Unknown};
use napi::{Env, Result};
use napi_derive::napi;
use tokio_rustls::rustls::ServerConfig;

use crate::binding::error::{exception, invalid_argument};
use crate::binding::values;
use crate::transport::tls;

/// Where an own port is.
#[napi(object, object_from_js = false)]
pub struct ListenAddress {
    pub port: u32,
    pub host: String,
}

pub struct ListenOptions {
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<ServerConfig>>,
}

/// All addresses of the machine, as in Node.
const EVERYWHERE: &str = "::";

pub fn parse(env: &Env, given: &Unknown<'_>) -> Result<ListenOptions> {
    let object = object(env, "options", given)?;
    for name in Object::keys(&object)? {
        if !["port", "host", "tls"].contains(&name.as_str()) {
            return Err(invalid_argument(*env, "options", "an object with port, host and tls", &format!("\"{name}\"")));
        }
    }
    let port = values::property(&object, "port")?;
    let port = values::as_number(&port)
        .filter(|port| port.fract() == 0.0 && (0.0..=65_535.0).contains(port))
        .ok_or_else(|| invalid_argument(*env, "options.port", "an integer from 0 to 65535", values::kind(&port)))?;
    let host = values::property(&object, "host")?;
    let host = match values::as_string(&host) {
        Some(host) if !host.is_empty() => host,
        _ if values::is_absent(&host) => EVERYWHERE.to_owned(),
        _ => return Err(invalid_argument(*env, "options.host", "a host name or address", values::kind(&host))),
    };
    let tls = values::property(&object, "tls")?;
    let tls = if values::is_absent(&tls) {
        None
    } else {
        let tls = self::object(env, "options.tls", &tls)?;
        let certificates = pem(env, "options.tls.cert", &values::property(&tls, "cert")?)?;
        let key = pem(env, "options.tls.key", &values::property(&tls, "key")?)?;
        Some(tls::config(&certificates, &key).map_err(|error| exception(*env, &error))?)
    };
    Ok(ListenOptions { host, port: port as u16, tls })
}

fn object<'env>(env: &Env, name: &str, value: &Unknown<'env>) -> Result<Object<'env>> {
    values::as_object(value).ok_or_else(|| invalid_argument(*env, name, "an object", values::kind(value)))
}

/// Text or a Buffer of it.
fn pem(env: &Env, name: &str, value: &Unknown<'_>) -> Result<Vec<u8>> {
    use napi::bindgen_prelude::JsValue;

    if let Some(text) = values::as_string(value) {
        return Ok(text.into_bytes());
    }
    if value.is_buffer().unwrap_or(false) {
        return Ok(values::read::<Buffer>(value)?.to_vec());
    }
    Err(invalid_argument(*env, name, "PEM as a string or Buffer", values::kind(value)))
}
