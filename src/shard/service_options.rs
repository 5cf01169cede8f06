//! What a service is built with, parsed: values that cannot be wrong any more.
//!
//! The binding makes it from the caller's options; Rust callers fill it in. Read-only once a service runs.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{BaseConfig, RuntimeValues};
use crate::hub::subscription_manager::ShardSet;
use crate::memory::sources::MemorySources;
use crate::shard::outbox::Backpressure;
use crate::shard::token_bucket::Rate;
use crate::transport::deflate;
use crate::transport::handshake;
use crate::types::HookSet;

pub use crate::application::interface::SlowConsumerPolicy;
pub use crate::hub::connection_limit::ConnectionLimit;
pub use crate::transport::handshake::RejectionMode;

/// How messages that wait together are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// In one message `{"type":"batch","messages":[…]}`.
    #[default]
    Envelope,
    /// At the same time, but each in a frame of its own.
    Frames,
}

impl Batching {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Frames => "frames",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Envelope, Self::Frames].into_iter().find(|batching| batching.as_str() == name)
    }
}

#[derive(Clone, Debug)]
pub struct ServiceOptions {
    pub handshake: handshake::HandshakePolicy,
    pub trust_proxy: handshake::TrustProxy,
    pub base: BaseConfig,
    pub runtime: RuntimeValues,
    pub batching: Batching,
    pub backpressure: Backpressure,
    /// Bytes of publishes one shard may have waiting.
    pub max_queue_bytes: usize,
    pub threads: usize,
    pub connection_limit: ConnectionLimit,
    /// Connections of the service, anonymous ones included; `None`: any number.
    pub max_connections: Option<usize>,
    pub refusals: RejectionMode,
    /// How long a request on the own port may take to come, TLS included. Less while places are scarce.
    pub handshake_timeout: Duration,
    /// How many bills one connection may follow.
    pub max_subscriptions: usize,
    /// The hooks that the application supplies. Others are never called.
    pub hooks: HookSet,
    /// The deadline of a hook, retries included.
    pub lookup_timeout: Duration,
    /// Whether a hook that keeps failing is left alone for a while.
    pub circuit_breaker: bool,
    /// How long a user who was found need not be looked up again; zero: always.
    pub lookup_cache_ttl: Duration,
    /// How many messages a connection may send; `None`: any number.
    pub message_rate: Option<Rate>,
    /// How long a connection without a token may take to send one; `None` refuses it at the handshake.
    pub auth_timeout: Option<Duration>,
    /// How many connections may wait for their token at the same time.
    pub max_anonymous: usize,
    /// What counts as memory pressure.
    pub memory_sources: MemorySources,
    /// Where `proc` and `sys` are, by which memory is measured; another place than `/` is for tests.
    pub system_root: PathBuf,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            handshake: handshake::HandshakePolicy {
                path: "/ws".into(),
                deflate: Some(deflate::DeflatePolicy::SERVICE),
                origins: handshake::Origins::Any,
            },
            trust_proxy: handshake::TrustProxy::default(),
            base: BaseConfig::default(),
            runtime: RuntimeValues::default(),
            batching: Batching::default(),
            backpressure: Backpressure { max_bytes: 1024 * 1024, policy: SlowConsumerPolicy::default() },
            max_queue_bytes: 64 * 1024 * 1024,
            threads: default_threads(),
            connection_limit: ConnectionLimit::default(),
            max_connections: None,
            refusals: RejectionMode::default(),
            handshake_timeout: Duration::from_secs(10),
            max_subscriptions: 1000,
            hooks: HookSet::default(),
            lookup_timeout: Duration::from_secs(5),
            circuit_breaker: true,
            lookup_cache_ttl: Duration::ZERO,
            message_rate: None,
            auth_timeout: None,
            max_anonymous: 1000,
            memory_sources: MemorySources::default(),
            system_root: "/".into(),
        }
    }
}

/// One core is left to JavaScript.
pub fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.saturating_sub(1).clamp(1, ShardSet::CAPACITY)
}
