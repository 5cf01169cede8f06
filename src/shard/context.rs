//! What the parts of a run share: `RunContext` between all shards and publishers, `ShardContext` between one shard's loop and its tasks.
//!
//! Made when a run starts. Each table hides its own lock; no lock here is taken per message.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tracing::Dispatch;

use crate::application::hooks::Hooks;
use crate::application::interface::{Application, HookAnswer, HookCall, HookFault};
use crate::application::stop_signal::StopSignal;
use crate::authenticator::{Identity, TokenVerifier};
use crate::config::RuntimeConfig;
use crate::error::CloseReason;
use crate::hub::connection_limit::ConnectionPlaces;
use crate::hub::connection_manager::{ConnectionManager, ConnectionRef};
use crate::hub::limit::Limit;
use crate::hub::subscription_manager::RoutingTable;
use crate::memory::progressive_degradation::SharedLevel;
use crate::monitoring::log_throttle::LogThrottle;
use crate::monitoring::statistics_collector::{ShardCounters, StatisticsCollector};
use crate::shard::command::{Command, Internal, ShardInbox};
use crate::shard::service_options::ServiceOptions;
use crate::types::{ShardId, UserId};
use crate::utils::LruCache;

/// How many successful look-ups are cached.
const FOUND_USERS: usize = 10_000;

/// A user and two independent hashes of its token's claims, keyed at random: the application may have answered by any claim, and no
/// peer can construct other claims with the same hashes.
type FoundUser = (UserId, u64, u64);

pub struct RunContext {
    pub options: ServiceOptions,
    pub runtime: Arc<RuntimeConfig>,
    pub application: Arc<dyn Application>,
    pub users: Arc<ConnectionManager>,
    pub connection_places: Arc<ConnectionPlaces>,
    /// How shards reach each other. Set once, before the first connection.
    inboxes: OnceLock<Box<[ShardInbox]>>,
    pub routing: Arc<RoutingTable>,
    /// Connections without a user.
    pub anonymous: Limit,
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

impl RunContext {
    pub fn new(
        options: ServiceOptions,
        runtime: Arc<RuntimeConfig>,
        application: Arc<dyn Application>,
        statistics: Arc<StatisticsCollector>,
        verifier: Arc<TokenVerifier>,
        dispatch: Dispatch,
    ) -> Self {
        let now = Instant::now();
        let connection_places = Arc::new(ConnectionPlaces::new(options.max_connections));
        Self {
            runtime,
            users: Arc::new(ConnectionManager::new(now)),
            connection_places,
            inboxes: OnceLock::new(),
            routing: Arc::default(),
            anonymous: Limit::new(options.max_anonymous),
            statistics,
            level: SharedLevel::default(),
            hooks: Hooks::new(application.clone(), options.lookup_timeout, options.circuit_breaker, now),
            refusal_log: LogThrottle::default(),
            options,
            application,
            dispatch,
            verifier: RwLock::new(verifier),
            found: Mutex::new(LruCache::new(FOUND_USERS)),
            hashers: [RandomState::new(), RandomState::new()],
            began: now,
        }
    }

    /// Sets how shards reach each other. Once, before the first connection.
    pub fn set_inboxes(&self, shards: impl Iterator<Item = ShardInbox>) {
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

    /// Whether a look-up of the user with the same claims succeeded within `lookupCacheTtl`.
    pub fn is_lookup_cached(&self, identity: &Identity) -> bool {
        let ttl = millis(self.options.lookup_cache_ttl);
        let key = self.found_user(identity);
        key.is_some_and(|key| self.found().get(&key, millis(self.began.elapsed()), ttl).is_some())
    }

    pub fn cache_lookup(&self, identity: &Identity) {
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

/// What a shard's loop shares with its tasks. Nothing in it changes a connection: tasks end by sending an [`Internal`] message.
pub struct ShardContext {
    pub id: ShardId,
    pub run: Arc<RunContext>,
    pub counters: Arc<ShardCounters>,
    /// Wakes the loop.
    pub notify: Arc<Notify>,
    /// Set when the shard begins to drain.
    pub stop: StopSignal,
    /// Handshakes on the own port whose request is not read yet.
    pub pending: Limit,
    results: mpsc::UnboundedSender<Internal>,
}

impl ShardContext {
    /// `results`: where the loop takes the results of its tasks from.
    pub fn new(
        id: ShardId,
        run: Arc<RunContext>,
        notify: Arc<Notify>,
        pending: Limit,
        results: mpsc::UnboundedSender<Internal>,
    ) -> Self {
        let counters = run.statistics.shard(usize::from(id.0));
        Self { id, run, counters, notify, stop: StopSignal::default(), pending, results }
    }

    pub fn is_draining(&self) -> bool {
        self.stop.is_set()
    }

    /// Hands a result to the loop.
    pub fn send(&self, result: Internal) {
        // The loop takes results for as long as it runs tasks.
        let _ = self.results.send(result);
        self.notify.notify_one();
    }

    /// Calls a function of the application.
    pub async fn call_hook(&self, call: &HookCall) -> Result<HookAnswer, HookFault> {
        self.call_hook_while(call, || true).await
    }

    /// The same; a call that failed is only repeated while `is_wanted`.
    pub async fn call_hook_while(
        &self,
        call: &HookCall,
        is_wanted: impl Fn() -> bool,
    ) -> Result<HookAnswer, HookFault> {
        self.run.hooks.call(call, is_wanted, &self.stop, &self.counters).await
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
