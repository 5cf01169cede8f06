//! What the shards of one run share with each other and with publishers.
//!
//! Made when a run starts. Each table hides its own lock; nothing here is touched per message.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::Dispatch;

use crate::application::hooks::Hooks;
use crate::application::interface::Application;
use crate::authenticator::{Identity, TokenVerifier};
use crate::config::RuntimeConfig;
use crate::error::CloseReason;
use crate::hub::anonymous_limit::Anonymous;
use crate::hub::connection_limit::ConnectionPlaces;
use crate::hub::connection_manager::{ConnectionManager, ConnectionRef};
use crate::hub::subscription_manager::RoutingTable;
use crate::memory::progressive_degradation::SharedLevel;
use crate::monitoring::log_throttle::LogThrottle;
use crate::monitoring::statistics_collector::StatisticsCollector;
use crate::shard::event_loop::{Command, ShardInbox};
use crate::shard::service_options::ServiceOptions;
use crate::types::UserId;
use crate::utils::LruCache;

/// How many users found lately are remembered.
const FOUND_USERS: usize = 10_000;

/// A user and two independent hashes of its token's claims, keyed at random: the application may have answered by any of the
/// claims, and nobody can make others that hash alike.
type FoundUser = (UserId, u64, u64);

pub struct Shared {
    pub options: ServiceOptions,
    pub runtime: Arc<RuntimeConfig>,
    pub host: Arc<dyn Application>,
    pub users: Arc<ConnectionManager>,
    pub connection_places: Arc<ConnectionPlaces>,
    /// How shards reach each other. Set once, before anything can arrive.
    inboxes: OnceLock<Box<[ShardInbox]>>,
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
    /// Positive look-ups made lately, while they are cached.
    found: Mutex<LruCache<FoundUser, ()>>,
    hashers: [RandomState; 2],
    began: Instant,
}

impl Shared {
    pub fn new(
        options: ServiceOptions,
        runtime: Arc<RuntimeConfig>,
        host: Arc<dyn Application>,
        statistics: Arc<StatisticsCollector>,
        verifier: Arc<TokenVerifier>,
        dispatch: Dispatch,
    ) -> Self {
        let now = Instant::now();
        let connection_places = Arc::new(ConnectionPlaces::new(options.max_connections));
        Self {
            runtime,
            host,
            users: Arc::new(ConnectionManager::new(now)),
            connection_places,
            inboxes: OnceLock::new(),
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
            hashers: [RandomState::new(), RandomState::new()],
            began: now,
        }
    }

    /// Tells every shard of the others. Once, before anything can arrive.
    pub fn introduce(&self, shards: impl Iterator<Item = ShardInbox>) {
        // A second time would change nothing.
        let _ = self.inboxes.set(shards.collect());
    }

    /// Has a connection closed by the shard that owns it.
    pub fn close(&self, connection: ConnectionRef, reason: CloseReason) {
        let ConnectionRef { key, number, shard } = connection;
        if let Some(inbox) = self.inboxes.get().and_then(|inboxes| inboxes.get(usize::from(shard.0))) {
            inbox.send(Command::Close { key, number, reason });
        }
    }

    /// Tokens are checked with this.
    pub fn verifier(&self) -> Arc<TokenVerifier> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_verifier(&self, verifier: Arc<TokenVerifier>) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
    }

    /// Whether the user was looked up with the same claims and found so lately that it need not be done again.
    pub fn was_found(&self, identity: &Identity) -> bool {
        let ttl = millis(self.options.lookup_cache_ttl);
        let key = self.found_user(identity);
        key.is_some_and(|key| self.found().get(&key, millis(self.began.elapsed()), ttl).is_some())
    }

    pub fn remember_found(&self, identity: &Identity) {
        if let Some(key) = self.found_user(identity) {
            self.found().put(key, (), millis(self.began.elapsed()));
        }
    }

    /// `None` while look-ups are not cached.
    fn found_user(&self, identity: &Identity) -> Option<FoundUser> {
        if self.options.lookup_cache_ttl.is_zero() {
            return None;
        }
        let claims = serde_json::to_vec(&identity.claims).ok()?;
        Some((identity.user.clone(), self.hashers[0].hash_one(&claims), self.hashers[1].hash_one(&claims)))
    }

    fn found(&self) -> MutexGuard<'_, LruCache<FoundUser, ()>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
