//! The options of a service: read once, checked one by one.
//!
//! `header.d.ts` declares them for TypeScript. `reader` has the typed access to the object, `functions` the hooks and the logger.

mod functions;
mod reader;

use std::collections::HashMap;
use std::time::Duration;

use napi::bindgen_prelude::{Object, Unknown};
use napi::{Env, Result};

use crate::authenticator::{KeyMaterial, TokenRules};
use crate::binding::error::exception;
use crate::binding::glue::Target;
use crate::binding::logger::LoggerOption;
use crate::binding::values;
use crate::config::{BaseConfig, RuntimeValues, closest};
use crate::error::{Error, ErrorKind};
use crate::hub::subscription_manager::ShardSet;
use crate::memory::sources::MemorySources;
use crate::shard::service_options::{Batching, ConnectionLimit, RejectionMode, ServiceOptions, SlowConsumerPolicy};
use crate::shard::token_bucket::Rate;
use crate::transport::deflate;
use crate::transport::forwarded::{Network, TrustProxy};
use crate::transport::origin::Origins;
use crate::types::HookKind;
use reader::{Reader, invalid};

/// All names but those of hooks, which [`HookKind`] lists.
const KNOWN: [&str; 33] = [
    "allowedOrigins",
    "authTimeout",
    "base",
    "batching",
    "circuitBreaker",
    "compression",
    "connectionLimit",
    "handshakeTimeout",
    "jwtAlgorithms",
    "jwtAudience",
    "jwtIssuer",
    "jwtPublicKey",
    "jwtSecret",
    "jwtUserIdClaim",
    "logger",
    "loggerStyle",
    "lookupCacheTtl",
    "lookupTimeout",
    "maxAnonymous",
    "maxBackpressure",
    "maxConnections",
    "maxQueueBytes",
    "maxSubscriptions",
    "memorySources",
    "messageBurst",
    "messageRate",
    "path",
    "refusals",
    "runtime",
    "slowConsumer",
    "threads",
    "transport",
    "trustProxy",
];

/// The source of the key that tokens are checked with.
#[derive(Clone)]
pub enum KeySource {
    Given(KeyMaterial),
    /// `process.env.JWT_SECRET`, read at every handshake.
    Environment,
}

/// All options, checked.
pub struct Options {
    pub service: ServiceOptions,
    pub hooks: HashMap<HookKind, Target>,
    pub logger: Option<LoggerOption>,
    pub key: KeySource,
    pub algorithms: Option<Vec<String>>,
    pub user_id_claim: String,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// Whether sockets stay with Node even where they could be taken over.
    pub uses_bridge_always: bool,
}

impl Options {
    /// The rules for tokens. `secret` is that of the environment, used if the options have no key.
    pub fn token_rules(&self, secret: Option<String>) -> std::result::Result<TokenRules, Error> {
        let key = match (&self.key, secret) {
            (KeySource::Given(key), _) => key.clone(),
            (KeySource::Environment, Some(secret)) => KeyMaterial::Secret(secret),
            (KeySource::Environment, None) => {
                let message = "there is no key to check tokens with: set the option jwtSecret or jwtPublicKey, \
                               or the environment variable JWT_SECRET";
                return Err(Error::new(ErrorKind::NoJwtSecret, message));
            }
        };
        Ok(TokenRules {
            key,
            algorithms: self.algorithms.clone(),
            user_id_claim: self.user_id_claim.clone(),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
        })
    }
}

/// Reads the options object; `undefined` means all defaults.
pub fn parse(env: &Env, given: Option<Unknown<'_>>) -> Result<Options> {
    let given = given.filter(|given| !values::is_absent(given));
    let object =
        match &given {
            None => None,
            Some(given) => Some(values::as_object(given).ok_or_else(|| {
                invalid(env, format!("The options must be an object. Received {}", values::kind(given)))
            })?),
        };
    let reader = Reader { env, object };
    reject_unknown(&reader)?;
    read(&reader)
}

fn read(reader: &Reader<'_>) -> Result<Options> {
    let mut service = ServiceOptions::default();
    if let Some(path) = reader.string("path")? {
        if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
            return Err(reader.wrong("path", "a path that starts with '/' and has no query", "string"));
        }
        service.handshake.path = path;
    }
    service.handshake.origins = origins(reader)?;
    if reader.boolean("compression")? == Some(false) {
        service.handshake.deflate = None;
    } else {
        service.handshake.deflate = Some(deflate::DeflatePolicy::SERVICE);
    }
    service.trust_proxy = trust_proxy(reader)?;
    service.base = base(reader)?;
    service.runtime = runtime(reader)?;
    service.batching = reader.one_of("batching", &["envelope", "frames"], Batching::from_name)?.unwrap_or_default();
    service.backpressure.max_bytes =
        reader.integer("maxBackpressure", 1024.0, MAX_SAFE)?.unwrap_or(1_048_576.0) as usize;
    service.backpressure.policy = reader
        .one_of("slowConsumer", &["close", "drop-oldest", "drop-newest"], SlowConsumerPolicy::from_name)?
        .unwrap_or_default();
    service.max_queue_bytes = reader.integer("maxQueueBytes", 1024.0, MAX_SAFE)?.unwrap_or(67_108_864.0) as usize;
    if let Some(most) = reader.integer("maxSubscriptions", 1.0, 1_000_000.0)? {
        service.max_subscriptions = most as usize;
    }
    service.connection_limit =
        reader.one_of("connectionLimit", &["refuse", "close-oldest"], ConnectionLimit::from_name)?.unwrap_or_default();
    service.refusals = reader.one_of("refusals", &["status", "close"], RejectionMode::from_name)?.unwrap_or_default();
    service.max_connections = reader.integer("maxConnections", 1.0, MAX_SAFE)?.map(|most| most as usize);
    if let Some(timeout) = reader.integer("handshakeTimeout", 1.0, DAY_MS)? {
        service.handshake_timeout = millis(timeout);
    }
    if let Some(threads) = reader.integer("threads", 1.0, ShardSet::CAPACITY as f64)? {
        service.threads = threads as usize;
    }
    if let Some(timeout) = reader.integer("lookupTimeout", 1.0, DAY_MS)? {
        service.lookup_timeout = millis(timeout);
    }
    if let Some(most) = reader.integer("maxAnonymous", 1.0, 1_000_000.0)? {
        service.max_anonymous = most as usize;
    }
    if let Some(timeout) = reader.integer("authTimeout", 0.0, DAY_MS)?.filter(|timeout| *timeout > 0.0) {
        service.auth_timeout = Some(millis(timeout));
    }
    if let Some(ttl) = reader.integer("lookupCacheTtl", 0.0, DAY_MS)? {
        service.lookup_cache_ttl = millis(ttl);
    }
    service.memory_sources = memory_sources(reader)?;
    service.message_rate = message_rate(reader)?;
    let hooks = functions::hooks(reader)?;
    service.hooks = hooks.keys().copied().collect();
    service.circuit_breaker = reader.boolean("circuitBreaker")?.unwrap_or(true);
    Ok(Options {
        service,
        hooks,
        logger: functions::logger(reader)?,
        key: key(reader)?,
        algorithms: reader.strings("jwtAlgorithms")?,
        user_id_claim: reader.string("jwtUserIdClaim")?.unwrap_or_else(|| "user_id".to_owned()),
        issuer: reader.string("jwtIssuer")?,
        audience: reader.string("jwtAudience")?,
        uses_bridge_always: reader.one_of("transport", &["auto", "bridge"], transport)?.unwrap_or_default(),
    })
}

fn reject_unknown(reader: &Reader<'_>) -> Result<()> {
    let Some(object) = &reader.object else { return Ok(()) };
    let known: Vec<&str> = KNOWN.into_iter().chain(functions::hook_options()).collect();
    for name in Object::keys(object)? {
        if !known.contains(&name.as_str()) {
            let hint = closest(&name, known.iter().copied())
                .map(|known| format!(". Did you mean \"{known}\"?"))
                .unwrap_or_default();
            return Err(invalid(reader.env, format!("Unknown option \"{name}\"{hint}")));
        }
    }
    Ok(())
}

fn key(reader: &Reader<'_>) -> Result<KeySource> {
    match (reader.string("jwtSecret")?, reader.string("jwtPublicKey")?) {
        (Some(_), Some(_)) => {
            Err(invalid(reader.env, "The options jwtSecret and jwtPublicKey exclude each other".into()))
        }
        (Some(secret), None) => Ok(KeySource::Given(KeyMaterial::Secret(secret))),
        (None, Some(key)) => Ok(KeySource::Given(KeyMaterial::PublicKey(key))),
        (None, None) => Ok(KeySource::Environment),
    }
}

fn memory_sources(reader: &Reader<'_>) -> Result<MemorySources> {
    let mut sources = MemorySources::default();
    let Some(given) = reader.get("memorySources")? else { return Ok(sources) };
    let object = values::as_object(&given).ok_or_else(|| {
        reader.wrong("memorySources", "an object with any of container, machine and heap", values::kind(&given))
    })?;
    for name in Object::keys(&object)? {
        let source = match name.as_str() {
            "container" => &mut sources.container,
            "machine" => &mut sources.machine,
            "heap" => &mut sources.heap,
            _ => {
                return Err(reader.wrong("memorySources", "an object with any of container, machine and heap", &name));
            }
        };
        let value = values::property(&object, &name)?;
        if !values::is_absent(&value) {
            let name = format!("memorySources.{name}");
            if values::kind(&value) != "boolean" {
                return Err(reader.wrong(&name, "a boolean", values::kind(&value)));
            }
            *source = values::read(&value)?;
        }
    }
    Ok(sources)
}

fn origins(reader: &Reader<'_>) -> Result<Origins> {
    let Some(given) = reader.get("allowedOrigins")? else { return Ok(Origins::Any) };
    match values::as_string(&given).as_deref() {
        Some("*") => return Ok(Origins::Any),
        Some("same-host") => return Ok(Origins::SameHost),
        _ => {}
    }
    match reader.strings("allowedOrigins") {
        Ok(Some(list)) if !list.is_empty() => Origins::list(list).map_err(|error| exception(*reader.env, &error)),
        _ => Err(reader.wrong("allowedOrigins", "'*', 'same-host' or a list of origins", values::kind(&given))),
    }
}

fn trust_proxy(reader: &Reader<'_>) -> Result<TrustProxy> {
    let expected = "a number of proxies (0 to 32) or a list of CIDR ranges";
    let Some(given) = reader.get("trustProxy")? else { return Ok(TrustProxy::default()) };
    if let Some(hops) = values::as_number(&given) {
        if hops.fract() != 0.0 || !(0.0..=32.0).contains(&hops) {
            return Err(reader.wrong("trustProxy", expected, &format!("{hops}")));
        }
        return Ok(TrustProxy::Hops(hops as u32));
    }
    let Ok(Some(ranges)) = reader.strings("trustProxy") else {
        return Err(reader.wrong("trustProxy", expected, values::kind(&given)));
    };
    let networks: Option<Vec<Network>> = ranges.iter().map(|range| range.parse().ok()).collect();
    networks.map(TrustProxy::Networks).ok_or_else(|| reader.wrong("trustProxy", expected, "a list with something else"))
}

/// `None` without a rate: a burst alone limits nothing.
fn message_rate(reader: &Reader<'_>) -> Result<Option<Rate>> {
    let rate = reader.integer("messageRate", 0.0, 1e6)?.unwrap_or(0.0);
    let burst = reader.integer("messageBurst", 1.0, 1e6)?.unwrap_or(2.0 * rate);
    Ok((rate > 0.0).then_some(Rate { per_second: rate, burst }))
}

fn base(reader: &Reader<'_>) -> Result<BaseConfig> {
    BaseConfig::from_pairs(reader.numbers("base")?).map_err(|error| exception(*reader.env, &error))
}

fn runtime(reader: &Reader<'_>) -> Result<RuntimeValues> {
    RuntimeValues::from_pairs(reader.numbers("runtime")?).map_err(|error| exception(*reader.env, &error))
}

const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
const DAY_MS: f64 = 86_400_000.0;

/// `true` for `bridge`.
fn transport(name: &str) -> Option<bool> {
    match name {
        "auto" => Some(false),
        "bridge" => Some(true),
        _ => None,
    }
}

fn millis(millis: f64) -> Duration {
    Duration::from_millis(millis as u64)
}
