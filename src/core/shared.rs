//! What the shards of one run share with each other and with publishers.
//!
//! Made when a run starts. Each table hides its own lock; nothing here is touched per message.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::Dispatch;

use crate::config::RuntimeConfig;
use crate::core::anonymous::Anonymous;
use crate::core::authenticator::TokenVerifier;
use crate::core::connection_manager::ConnectionManager;
use crate::core::hooks::Hooks;
use crate::core::host::Host;
use crate::core::log_throttle::LogThrottle;
use crate::core::service_options::ServiceOptions;
use crate::core::subscription_manager::RoutingTable;
use crate::memory::progressive_degradation::SharedLevel;
use crate::monitoring::statistics_collector::StatisticsCollector;
use crate::types::UserId;
use crate::utils::LruCache;

/// How many users found lately are remembered.
const FOUND_USERS: usize = 10_000;

pub struct Shared {
    pub options: ServiceOptions,
    pub runtime: Arc<RuntimeConfig>,
    pub host: Arc<dyn Host>,
    pub users: Arc<ConnectionManager>,
    pub routing: RoutingTable,
    /// Connections without a user.
    pub anonymous: Anonymous,
    pub statistics: Arc<StatisticsCollector>,
    /// How far memory pressure has degraded the run.
    pub level: SharedLevel,
    pub hooks: Hooks,
    /// Keeps refused handshakes from filling the log.
    pub refusal_log: LogThrottle,
    /// Where the run's log lines go; set as the default of every shard's thread.
    pub dispatch: Dispatch,
    verifier: RwLock<Arc<TokenVerifier>>,
    /// Users found lately, while look-ups are cached.
    found: Mutex<LruCache<UserId, ()>>,
    began: Instant,
}

impl Shared {
    pub fn new(
        options: ServiceOptions,
        runtime: Arc<RuntimeConfig>,
        host: Arc<dyn Host>,
        statistics: Arc<StatisticsCollector>,
        verifier: Arc<TokenVerifier>,
        dispatch: Dispatch,
    ) -> Self {
        let now = Instant::now();
        Self {
            runtime,
            host,
            users: Arc::new(ConnectionManager::new(now)),
            routing: RoutingTable::default(),
            anonymous: Anonymous::default(),
            statistics,
            level: SharedLevel::default(),
            hooks: Hooks::new(now, options.circuit_breaker),
            refusal_log: LogThrottle::default(),
            options,
            dispatch,
            verifier: RwLock::new(verifier),
            found: Mutex::new(LruCache::new(FOUND_USERS)),
            began: now,
        }
    }

    /// Tokens are checked with this.
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_verifier(&self, verifier: Arc<TokenVerifier>) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }

    /// Whether the user was looked up and found so lately that it need not be done again.
    pub fn was_found(&self, user: &UserId) -> bool {
        let ttl = millis(self.options.lookup_cache_ttl);
        ttl > 0 && self.found().get(user, millis(self.began.elapsed()), ttl).is_some()
    }

    pub fn remember_found(&self, user: &UserId) {
        if !self.options.lookup_cache_ttl.is_zero() {
            self.found().put(user.clone(), (), millis(self.began.elapsed()));
        }
    }

    fn found(&self) -> MutexGuard<'_, LruCache<UserId, ()>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
