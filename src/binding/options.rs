//! The options of a service: read once, checked one by one, with an error that says what would be right.
//!
//! `index.d.ts` declares them in `header.d.ts`. An absent option and `undefined` mean the default.

use std::time::Duration;

use napi::bindgen_prelude::{JsObjectValue, JsValue, Object, Unknown};
use napi::{Env, Result};

use crate::authenticator::{KeyMaterial, TokenRules};
use crate::binding::error::exception;
use crate::binding::events::{Functions, LogLevel, LogOrder, Logger};
use crate::binding::glue::Target;
use crate::binding::values::{self, Reference};
use crate::config::{BaseConfig, RuntimeValues, closest};
use crate::error::{Error, ErrorKind};
use crate::hub::subscription_manager::ShardSet;
use crate::memory::sources::MemorySources;
use crate::shard::service_options::{Batching, ConnectionLimit, RejectionMode, ServiceOptions, SlowConsumerPolicy};
use crate::shard::token_bucket::Rate;
use crate::transport::deflate;
use crate::transport::handshake::{Network, Origins, TrustProxy};
use crate::types::HookKind;

const KNOWN: [&str; 35] = [
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
    "lookupUser",
    "maxAnonymous",
    "maxBackpressure",
    "maxConnections",
    "maxQueueBytes",
    "maxSubscriptions",
    "memorySources",
    "messageBurst",
    "messageRate",
    "path",
    "preferences",
    "refusals",
    "runtime",
    "slowConsumer",
    "threads",
    "transport",
    "trustProxy",
];

/// Where tokens' key comes from.
#[derive(Clone)]
pub enum KeySource {
    Given(KeyMaterial),
    /// `process.env.JWT_SECRET`, read at every handshake.
    Environment,
}

/// Everything the options say.
pub struct Parsed {
    pub service: ServiceOptions,
    pub functions: Functions,
    pub key: KeySource,
    pub algorithms: Option<Vec<String>>,
    pub user_id_claim: String,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// Whether sockets stay with Node even where they could be taken over.
    pub bridges_everything: bool,
}

impl Parsed {
    /// The rules for tokens, with a secret from the environment where no key was given.
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
pub fn parse(env: &Env, given: Option<Unknown<'_>>) -> Result<Parsed> {
    let given = given.filter(|given| !values::is_absent(given));
    let object =
        match &given {
            None => None,
            Some(given) => Some(values::as_object(given).ok_or_else(|| {
                invalid(env, format!("The options must be an object. Received {}", values::kind(given)))
            })?),
        };
    let reader = Reader { env, object };
    reader.reject_unknown()?;
    reader.parse()
}

struct Reader<'a> {
    env: &'a Env,
    object: Option<Object<'a>>,
}

impl Reader<'_> {
    fn parse(&self) -> Result<Parsed> {
        let mut service = ServiceOptions::default();
        if let Some(path) = self.string("path")? {
            if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
                return Err(self.wrong("path", "a path that starts with '/' and has no query", "string"));
            }
            service.handshake.path = path;
        }
        service.handshake.origins = self.origins()?;
        if self.boolean("compression")? == Some(false) {
            service.handshake.deflate = None;
        } else {
            service.handshake.deflate = Some(deflate::DeflatePolicy::SERVICE);
        }
        service.trust_proxy = self.trust_proxy()?;
        service.base = self.base()?;
        service.runtime = self.runtime()?;
        service.batching = self.one_of("batching", &["envelope", "frames"], Batching::from_name)?.unwrap_or_default();
        service.backpressure.max_bytes =
            self.integer("maxBackpressure", 1024.0, MAX_SAFE)?.unwrap_or(1_048_576.0) as usize;
        service.backpressure.policy = self
            .one_of("slowConsumer", &["close", "drop-oldest", "drop-newest"], SlowConsumerPolicy::from_name)?
            .unwrap_or_default();
        service.max_queue_bytes = self.integer("maxQueueBytes", 1024.0, MAX_SAFE)?.unwrap_or(67_108_864.0) as usize;
        if let Some(most) = self.integer("maxSubscriptions", 1.0, 1_000_000.0)? {
            service.max_subscriptions = most as usize;
        }
        service.connection_limit = self
            .one_of("connectionLimit", &["refuse", "close-oldest"], ConnectionLimit::from_name)?
            .unwrap_or_default();
        service.refusals = self.one_of("refusals", &["status", "close"], RejectionMode::from_name)?.unwrap_or_default();
        service.max_connections = self.integer("maxConnections", 1.0, MAX_SAFE)?.map(|most| most as usize);
        if let Some(timeout) = self.integer("handshakeTimeout", 1.0, DAY_MS)? {
            service.handshake_timeout = millis(timeout);
        }
        if let Some(threads) = self.integer("threads", 1.0, ShardSet::CAPACITY as f64)? {
            service.threads = threads as usize;
        }
        if let Some(timeout) = self.integer("lookupTimeout", 1.0, DAY_MS)? {
            service.lookup_timeout = millis(timeout);
        }
        if let Some(most) = self.integer("maxAnonymous", 1.0, 1_000_000.0)? {
            service.max_anonymous = most as usize;
        }
        if let Some(timeout) = self.integer("authTimeout", 0.0, DAY_MS)?.filter(|timeout| *timeout > 0.0) {
            service.auth_timeout = Some(millis(timeout));
        }
        if let Some(ttl) = self.integer("lookupCacheTtl", 0.0, DAY_MS)? {
            service.lookup_cache_ttl = millis(ttl);
        }
        service.memory_sources = self.memory_sources()?;
        service.message_rate = self.message_rate()?;
        let functions = self.functions()?;
        let names = |kind| functions.hooks.iter().any(|(named, _)| *named == kind);
        service.has_lookup = names(HookKind::LookupUser);
        service.has_preferences = names(HookKind::LoadPreferences);
        service.circuit_breaker = self.boolean("circuitBreaker")?.unwrap_or(true);
        Ok(Parsed {
            service,
            functions,
            key: self.key()?,
            algorithms: self.strings("jwtAlgorithms")?,
            user_id_claim: self.string("jwtUserIdClaim")?.unwrap_or_else(|| "user_id".to_owned()),
            issuer: self.string("jwtIssuer")?,
            audience: self.string("jwtAudience")?,
            bridges_everything: self.one_of("transport", &["auto", "bridge"], transport)?.unwrap_or_default(),
        })
    }

    fn memory_sources(&self) -> Result<MemorySources> {
        let mut sources = MemorySources::default();
        let Some(given) = self.get("memorySources")? else { return Ok(sources) };
        let object = values::as_object(&given).ok_or_else(|| {
            self.wrong("memorySources", "an object with any of container, machine and heap", values::kind(&given))
        })?;
        for name in Object::keys(&object)? {
            let source = match name.as_str() {
                "container" => &mut sources.container,
                "machine" => &mut sources.machine,
                "heap" => &mut sources.heap,
                _ => {
                    return Err(self.wrong(
                        "memorySources",
                        "an object with any of container, machine and heap",
                        &name,
                    ));
                }
            };
            let value = values::property(&object, &name)?;
            if !values::is_absent(&value) {
                let name = format!("memorySources.{name}");
                if values::kind(&value) != "boolean" {
                    return Err(self.wrong(&name, "a boolean", values::kind(&value)));
                }
                *source = values::read(&value)?;
            }
        }
        Ok(sources)
    }

    fn key(&self) -> Result<KeySource> {
        match (self.string("jwtSecret")?, self.string("jwtPublicKey")?) {
            (Some(_), Some(_)) => {
                Err(invalid(self.env, "The options jwtSecret and jwtPublicKey exclude each other".into()))
            }
            (Some(secret), None) => Ok(KeySource::Given(KeyMaterial::Secret(secret))),
            (None, Some(key)) => Ok(KeySource::Given(KeyMaterial::PublicKey(key))),
            (None, None) => Ok(KeySource::Environment),
        }
    }

    fn functions(&self) -> Result<Functions> {
        let mut functions = Functions::default();
        if let Some(lookup) = self.get("lookupUser")? {
            let function = values::as_function(&lookup)
                .ok_or_else(|| self.wrong("lookupUser", "a function", values::kind(&lookup)))?;
            let function = Reference::strong(self.env, &function.to_unknown())?;
            functions.hooks.push((HookKind::LookupUser, Target::Function(function)));
        }
        if let Some(given) = self.get("preferences")? {
            let hooks = values::as_object(&given).ok_or_else(|| {
                self.wrong("preferences", "an object with the functions load and save", values::kind(&given))
            })?;
            for name in ["load", "save"] {
                let hook = values::property(&hooks, name)?;
                if values::kind(&hook) != "function" {
                    return Err(self.wrong(&format!("preferences.{name}"), "a function", values::kind(&hook)));
                }
            }
            let hooks = hooks.to_unknown();
            functions.hooks.push((HookKind::LoadPreferences, Target::method(self.env, &hooks, "load")?));
            functions.hooks.push((HookKind::SavePreferences, Target::method(self.env, &hooks, "save")?));
        }
        if let Some(given) = self.get("logger")? {
            let logger = values::as_object(&given)
                .or_else(|| values::as_function(&given).and_then(|function| values::read(&function.to_unknown()).ok()))
                .ok_or_else(|| {
                    self.wrong("logger", "an object with functions such as info and error", values::kind(&given))
                })?;
            for level in LogLevel::ALL {
                let method = values::property(&logger, level.method())?;
                if !matches!(values::kind(&method), "function" | "undefined") {
                    return Err(self.wrong(&format!("logger.{}", level.method()), "a function", values::kind(&method)));
                }
            }
            let object = Reference::strong(self.env, &logger.to_unknown())?;
            functions.logger = Some(Logger { object, order: self.log_order(&logger)? });
        } else {
            self.one_of("loggerStyle", &LOGGER_STYLES, log_order)?;
        }
        Ok(functions)
    }

    /// The order of the arguments of the logger's methods: as the option says, otherwise by what the logger looks like.
    fn log_order(&self, logger: &Object<'_>) -> Result<LogOrder> {
        if let Some(Some(order)) = self.one_of("loggerStyle", &LOGGER_STYLES, log_order)? {
            return Ok(order);
        }
        let has_method =
            |name: &str| Ok::<_, napi::Error>(values::kind(&values::property(logger, name)?) == "function");
        // Of pino, and of bunyan.
        let is_context_first = has_method("child")? && (has_method("bindings")? || has_method("addStream")?);
        Ok(if is_context_first { LogOrder::ContextFirst } else { LogOrder::MessageFirst })
    }

    fn origins(&self) -> Result<Origins> {
        let Some(given) = self.get("allowedOrigins")? else { return Ok(Origins::Any) };
        match values::as_string(&given).as_deref() {
            Some("*") => return Ok(Origins::Any),
            Some("same-host") => return Ok(Origins::SameHost),
            _ => {}
        }
        match self.strings("allowedOrigins") {
            Ok(Some(list)) if !list.is_empty() => Origins::list(list).map_err(|error| exception(*self.env, &error)),
            _ => Err(self.wrong("allowedOrigins", "'*', 'same-host' or a list of origins", values::kind(&given))),
        }
    }

    fn trust_proxy(&self) -> Result<TrustProxy> {
        let expected = "a number of proxies (0 to 32) or a list of CIDR ranges";
        let Some(given) = self.get("trustProxy")? else { return Ok(TrustProxy::default()) };
        if let Some(hops) = values::as_number(&given) {
            if hops.fract() != 0.0 || !(0.0..=32.0).contains(&hops) {
                return Err(self.wrong("trustProxy", expected, &format!("{hops}")));
            }
            return Ok(TrustProxy::Hops(hops as u32));
        }
        let Ok(Some(ranges)) = self.strings("trustProxy") else {
            return Err(self.wrong("trustProxy", expected, values::kind(&given)));
        };
        let networks: Option<Vec<Network>> = ranges.iter().map(|range| range.parse().ok()).collect();
        networks
            .map(TrustProxy::Networks)
            .ok_or_else(|| self.wrong("trustProxy", expected, "a list with something else"))
    }

    /// `None` without a rate. A burst alone limits nothing.
    fn message_rate(&self) -> Result<Option<Rate>> {
        let rate = self.integer("messageRate", 0.0, 1e6)?.unwrap_or(0.0);
        let burst = self.integer("messageBurst", 1.0, 1e6)?.unwrap_or(2.0 * rate);
        Ok((rate > 0.0).then_some(Rate { per_second: rate, burst }))
    }

    fn base(&self) -> Result<BaseConfig> {
        BaseConfig::from_pairs(self.numbers("base")?).map_err(|error| exception(*self.env, &error))
    }

    fn runtime(&self) -> Result<RuntimeValues> {
        RuntimeValues::from_pairs(self.numbers("runtime")?).map_err(|error| exception(*self.env, &error))
    }

    fn reject_unknown(&self) -> Result<()> {
        let Some(object) = &self.object else { return Ok(()) };
        for name in Object::keys(object)? {
            if !KNOWN.contains(&name.as_str()) {
                let hint =
                    closest(&name, KNOWN).map(|known| format!(". Did you mean \"{known}\"?")).unwrap_or_default();
                return Err(invalid(self.env, format!("Unknown option \"{name}\"{hint}")));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<Unknown<'_>>> {
        let Some(object) = &self.object else { return Ok(None) };
        Ok(Some(values::property(object, name)?).filter(|value| values::kind(value) != "undefined"))
    }

    fn string(&self, name: &str) -> Result<Option<String>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        match values::as_string(&given) {
            Some(text) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string that is not empty", "an empty string")),
            None => Err(self.wrong(name, "a string", values::kind(&given))),
        }
    }

    fn strings(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        let expected = "a list of strings";
        if values::kind(&given) != "array" {
            return Err(self.wrong(name, expected, values::kind(&given)));
        }
        let array: Object<'_> = values::read(&given)?;
        let mut strings = Vec::new();
        for index in 0..array.get_array_length()? {
            let element: Unknown<'_> = array.get_element(index)?;
            let kind = values::kind(&element);
            strings.push(
                values::as_string(&element)
                    .ok_or_else(|| self.wrong(name, expected, &format!("a list with {kind}")))?,
            );
        }
        Ok(Some(strings))
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        if values::kind(&given) != "boolean" {
            return Err(self.wrong(name, "a boolean", values::kind(&given)));
        }
        Ok(Some(values::read(&given)?))
    }

    fn integer(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        let expected = format!("an integer from {min} to {max}");
        match values::as_number(&given) {
            Some(number) if number.fract() == 0.0 && (min..=max).contains(&number) => Ok(Some(number)),
            Some(number) => Err(self.wrong(name, &expected, &format!("{number}"))),
            None => Err(self.wrong(name, &expected, values::kind(&given))),
        }
    }

    fn one_of<T>(&self, name: &str, choices: &[&str], parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        let parsed = values::as_string(&given).and_then(|text| parse(&text));
        let expected = || choices.iter().map(|choice| format!("'{choice}'")).collect::<Vec<_>>().join(" or ");
        parsed.map(Some).ok_or_else(|| self.wrong(name, &expected(), values::kind(&given)))
    }

    /// The members of an object of numbers.
    fn numbers(&self, name: &str) -> Result<Vec<(String, f64)>> {
        let Some(given) = self.get(name)? else { return Ok(Vec::new()) };
        let object =
            values::as_object(&given).ok_or_else(|| self.wrong(name, "an object of numbers", values::kind(&given)))?;
        let mut pairs = Vec::new();
        for key in Object::keys(&object)? {
            let member = values::property(&object, &key)?;
            match (values::as_number(&member), values::kind(&member)) {
                (Some(number), _) => pairs.push((key, number)),
                (None, "undefined") => {}
                (None, kind) => return Err(self.wrong(&format!("{name}.{key}"), "a number", kind)),
            }
        }
        Ok(pairs)
    }

    fn wrong(&self, name: &str, expected: &str, given: &str) -> napi::Error {
        invalid(self.env, format!("The option \"{name}\" must be {expected}. Received {given}"))
    }
}

const LOGGER_STYLES: [&str; 3] = ["auto", "message-first", "context-first"];

/// `Some(None)` for `auto`.
fn log_order(name: &str) -> Option<Option<LogOrder>> {
    match name {
        "auto" => Some(None),
        "message-first" => Some(Some(LogOrder::MessageFirst)),
        "context-first" => Some(Some(LogOrder::ContextFirst)),
        _ => None,
    }
}

const MAX_SAFE: f64 = 9_007_199_254_740_991.0;
const DAY_MS: f64 = 86_400_000.0;

/// Whether the name asks for the bridge always.
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

fn invalid(env: &Env, message: String) -> napi::Error {
    exception(*env, &Error::new(ErrorKind::InvalidOption, message))
}
