//! What can be changed while a service runs: by its owner, and by degradation under memory pressure.
//!
//! [`RuntimeConfig`] is shared by the application's thread and the memory monitor; shards work with copies of
//! [`RuntimeValues`] that a change sends them.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::keyed::{Setting, unknown};
use crate::error::{Error, ErrorKind};

/// The values in effect at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeValues {
    /// Messages that leave together at most.
    pub batch_size: usize,
    /// How long the first of them waits at most.
    pub batch_delay: Duration,
    /// Bytes from which a message is compressed.
    pub compression_threshold: usize,
    /// Published updates remembered.
    pub dedupe_cache_size: usize,
    /// How long a repeat is suppressed.
    pub dedupe_window: Duration,
    pub max_connections_per_user: usize,
    /// Between two clean-ups.
    pub memory_cleanup_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeKey {
    MessageBatchSize,
    MessageBatchDelay,
    CompressionThreshold,
    DedupeCacheSize,
    DedupeWindow,
    MaxConnectionsPerUser,
    MemoryCleanupInterval,
}

/// Three layers: the values the service was constructed with, its owner's changes, and, while degraded, a function
/// of the owner's values. `get` shows what is in effect; a `set` while degraded changes the owner's layer and shows
/// through as far as the degradation lets it; `reset` returns the owner's layer to the constructed values.
pub struct RuntimeConfig {
    layers: Mutex<Layers>,
    observers: Mutex<Observers>,
}

type Observer = Box<dyn Fn(RuntimeValues) + Send + Sync>;

/// Makes degraded values of the owner's. Applied to those anew after every change, so applying it twice is no different.
pub type DegradedValues = fn(RuntimeValues) -> RuntimeValues;

struct Layers {
    constructed: RuntimeValues,
    owned: RuntimeValues,
    degradation: Option<DegradedValues>,
}

struct Observers {
    list: Vec<Observer>,
    /// What they know.
    last_reported: RuntimeValues,
}

const DAY_MS: f64 = 86_400_000.0;

impl RuntimeKey {
    pub const ALL: [Self; 7] = [
        Self::MessageBatchSize,
        Self::MessageBatchDelay,
        Self::CompressionThreshold,
        Self::DedupeCacheSize,
        Self::DedupeWindow,
        Self::MaxConnectionsPerUser,
        Self::MemoryCleanupInterval,
    ];

    /// As the design spells it.
    pub fn name(self) -> &'static str {
        self.setting().name
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::name)
    }

    /// The nearest value within the key's bounds.
    pub fn clamp(self, value: f64) -> f64 {
        let Setting { min, max, .. } = self.setting();
        value.clamp(min, max)
    }

    pub const MAX_COMPRESSION_THRESHOLD: usize = 16_777_216;

    pub const MIN_CLEANUP_INTERVAL: Duration = Duration::from_secs(1);

    fn setting(self) -> Setting {
        match self {
            Self::MessageBatchSize => Setting::new("MESSAGE_BATCH_SIZE", 10.0, 1.0, 1000.0),
            Self::MessageBatchDelay => Setting::new("MESSAGE_BATCH_DELAY", 50.0, 0.0, 60_000.0),
            Self::CompressionThreshold => Setting::new("COMPRESSION_THRESHOLD", 1024.0, 0.0, 16_777_216.0),
            Self::DedupeCacheSize => Setting::new("DEDUPE_CACHE_SIZE", 5000.0, 1.0, 1_000_000.0),
            Self::DedupeWindow => Setting::new("DEDUPE_WINDOW", 5000.0, 0.0, 3_600_000.0),
            Self::MaxConnectionsPerUser => Setting::new("MAX_CONNECTIONS_PER_USER", 5.0, 1.0, 1_000_000.0),
            Self::MemoryCleanupInterval => Setting::new("MEMORY_CLEANUP_INTERVAL", 180_000.0, 1000.0, DAY_MS),
        }
    }
}

impl Default for RuntimeValues {
    fn default() -> Self {
        let mut values = Self {
            batch_size: 1,
            batch_delay: Duration::ZERO,
            compression_threshold: 0,
            dedupe_cache_size: 1,
            dedupe_window: Duration::ZERO,
            max_connections_per_user: 1,
            memory_cleanup_interval: Duration::ZERO,
        };
        RuntimeKey::ALL.into_iter().for_each(|key| values.write(key, key.setting().default));
        values
    }
}

impl RuntimeValues {
    /// The defaults, changed by `pairs` of a name and a value (milliseconds, bytes or counts).
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for an unknown name or a value out of bounds.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, f64)>) -> Result<Self, Error> {
        let mut values = Self::default();
        for (name, value) in pairs {
            let key = RuntimeKey::from_name(&name).ok_or_else(|| unknown(&name, RuntimeKey::names()))?;
            values.write(key, key.setting().check(value, ErrorKind::InvalidOption)?);
        }
        Ok(values)
    }

    pub fn get(&self, key: RuntimeKey) -> f64 {
        let millis = |time: Duration| time.as_millis() as f64;
        match key {
            RuntimeKey::MessageBatchSize => self.batch_size as f64,
            RuntimeKey::MessageBatchDelay => millis(self.batch_delay),
            RuntimeKey::CompressionThreshold => self.compression_threshold as f64,
            RuntimeKey::DedupeCacheSize => self.dedupe_cache_size as f64,
            RuntimeKey::DedupeWindow => millis(self.dedupe_window),
            RuntimeKey::MaxConnectionsPerUser => self.max_connections_per_user as f64,
            RuntimeKey::MemoryCleanupInterval => millis(self.memory_cleanup_interval),
        }
    }

    /// The value has been checked against the key's bounds.
    fn write(&mut self, key: RuntimeKey, value: f64) {
        let time = Duration::from_millis(value as u64);
        let count = value as usize;
        match key {
            RuntimeKey::MessageBatchSize => self.batch_size = count,
            RuntimeKey::MessageBatchDelay => self.batch_delay = time,
            RuntimeKey::CompressionThreshold => self.compression_threshold = count,
            RuntimeKey::DedupeCacheSize => self.dedupe_cache_size = count,
            RuntimeKey::DedupeWindow => self.dedupe_window = time,
            RuntimeKey::MaxConnectionsPerUser => self.max_connections_per_user = count,
            RuntimeKey::MemoryCleanupInterval => self.memory_cleanup_interval = time,
        }
    }
}

impl RuntimeConfig {
    pub fn new(constructed: RuntimeValues) -> Self {
        Self {
            layers: Mutex::new(Layers { constructed, owned: constructed, degradation: None }),
            observers: Mutex::new(Observers { list: Vec::new(), last_reported: constructed }),
        }
    }

    /// Called after every change of what is in effect, on the thread that made it. An observer may read but must
    /// neither change nor subscribe: one is last_reported at a time, so that the last to be last_reported is the newest.
    pub fn subscribe(&self, observer: Observer) {
        self.observers().list.push(observer);
    }

    /// What is in effect.
    pub fn values(&self) -> RuntimeValues {
        self.layers().effective()
    }

    pub fn get(&self, key: RuntimeKey) -> f64 {
        self.values().get(key)
    }

    /// All values in effect, under the design's names.
    pub fn to_pairs(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let values = self.values();
        RuntimeKey::ALL.into_iter().map(move |key| (key.name(), values.get(key)))
    }

    /// # Errors
    /// `ERR_OUT_OF_RANGE` outside the key's bounds.
    pub fn set(&self, key: RuntimeKey, value: f64) -> Result<(), Error> {
        let value = key.setting().check(value, ErrorKind::OutOfRange)?;
        self.change(|layers| layers.owned.write(key, value));
        Ok(())
    }

    /// Back to the constructed values. A degradation stays as long as its cause.
    pub fn reset(&self) {
        self.change(|layers| layers.owned = layers.constructed);
    }

    /// Constructed anew, with other values.
    pub fn configure(&self, constructed: RuntimeValues) {
        self.change(|layers| {
            layers.constructed = constructed;
            layers.owned = constructed;
        });
    }

    /// `None` ends the degradation.
    pub fn degrade(&self, degradation: Option<DegradedValues>) {
        self.change(|layers| layers.degradation = degradation);
    }

    fn change(&self, change: impl FnOnce(&mut Layers)) {
        change(&mut self.layers());
        let mut observers = self.observers();
        // Read again: of two changes at once the other may have been the later one.
        let values = self.values();
        if observers.last_reported != values {
            observers.last_reported = values;
            observers.list.iter().for_each(|observer| observer(values));
        }
    }

    fn observers(&self) -> MutexGuard<'_, Observers> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layers {
    fn effective(&self) -> RuntimeValues {
        self.degradation.map_or(self.owned, |degrade| degrade(self.owned))
    }
}

impl fmt::Debug for RuntimeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeConfig").field("effective", &self.values()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
