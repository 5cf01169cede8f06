//! The constants of a service: set when it is built, never changed.
//!
//! Parsed from the design's names into types that cannot be wrong.

use std::time::Duration;

use crate::config::keyed::{Setting, unknown};
use crate::error::{Error, ErrorKind};

/// Immutable configuration of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseConfig {
    /// Between two pings to a connection.
    pub heartbeat_interval: Duration,
    /// Between two checks of the service's health.
    pub health_check_interval: Duration,
    /// How long a peer whose socket is full may take nothing: it cannot be asked whether it is there.
    pub stale_connection_threshold: Duration,
    /// How many connections are expected; for warnings, not a bound.
    pub connection_pool_size: usize,
    /// What queue warnings are relative to; not a bound.
    pub max_queue_size: usize,
    /// Bytes of the largest inbound message, reassembled and inflated.
    pub max_payload: usize,
    pub max_latency_samples: usize,
    /// Remembered publishes older than this go at a clean-up.
    pub dedupe_cache_cleanup_age: Duration,
    /// Never used, kept so that configurations load.
    pub max_reconnect_attempts: usize,
    /// Told to clients at shutdown.
    pub reconnect_delay: Duration,
    /// Percent.
    pub high_memory_threshold: f64,
    /// Percent.
    pub critical_memory_threshold: f64,
    /// Seconds of history kept.
    pub performance_history_max_size: usize,
    /// How long peers may take to go at shutdown.
    pub shutdown_grace_period: Duration,
}

const DAY_MS: f64 = 86_400_000.0;

const SETTINGS: [Setting; 14] = [
    Setting::new("HEARTBEAT_INTERVAL", 30_000.0, 10.0, DAY_MS),
    Setting::new("HEALTH_CHECK_INTERVAL", 60_000.0, 10.0, DAY_MS),
    Setting::new("STALE_CONNECTION_THRESHOLD", 60_000.0, 10.0, DAY_MS),
    Setting::new("CONNECTION_POOL_SIZE", 10_000.0, 1.0, 1e9),
    Setting::new("MAX_QUEUE_SIZE", 1000.0, 1.0, 1e9),
    Setting::new("MAX_PAYLOAD", 102_400.0, 1.0, 1_073_741_824.0),
    Setting::new("MAX_LATENCY_SAMPLES", 200.0, 1.0, 100_000.0),
    Setting::new("DEDUPE_CACHE_CLEANUP_AGE", 1_800_000.0, 1.0, DAY_MS),
    Setting::new("MAX_RECONNECT_ATTEMPTS", 3.0, 0.0, 1e9),
    Setting::new("RECONNECT_DELAY", 1000.0, 0.0, DAY_MS),
    Setting::new("HIGH_MEMORY_THRESHOLD", 85.0, 1.0, 100.0),
    Setting::new("CRITICAL_MEMORY_THRESHOLD", 95.0, 1.0, 100.0),
    Setting::new("PERFORMANCE_HISTORY_MAX_SIZE", 100.0, 1.0, 100_000.0),
    Setting::new("SHUTDOWN_GRACE_PERIOD", 5000.0, 0.0, DAY_MS),
];

impl Default for BaseConfig {
    fn default() -> Self {
        Self::from_values(SETTINGS.map(|setting| setting.default))
    }
}

impl BaseConfig {
    /// The design's names with their defaults.
    pub fn defaults() -> impl Iterator<Item = (&'static str, f64)> {
        SETTINGS.iter().map(|setting| (setting.name, setting.default))
    }

    /// The defaults, changed by `pairs` of a name and a value (milliseconds, bytes, percent or counts).
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for an unknown name, a value out of bounds, or thresholds that contradict each other.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, f64)>) -> Result<Self, Error> {
        let mut values = SETTINGS.map(|setting| setting.default);
        for (name, given) in pairs {
            let place = SETTINGS.iter().position(|setting| setting.name == name);
            let found = place.and_then(|place| Some((SETTINGS.get(place)?, values.get_mut(place)?)));
            let Some((setting, value)) = found else {
                return Err(unknown(&name, SETTINGS.iter().map(|setting| setting.name)));
            };
            *value = setting.check(given, ErrorKind::InvalidOption)?;
        }
        let config = Self::from_values(values);
        if config.high_memory_threshold > config.critical_memory_threshold {
            let message = "HIGH_MEMORY_THRESHOLD must not be above CRITICAL_MEMORY_THRESHOLD";
            return Err(Error::new(ErrorKind::InvalidOption, message));
        }
        Ok(config)
    }

    /// Values in the order of the settings, each within its bounds.
    fn from_values(values: [f64; 14]) -> Self {
        let [
            heartbeat_interval,
            health_check_interval,
            stale_connection_threshold,
            connection_pool_size,
            max_queue_size,
            max_payload,
            max_latency_samples,
            dedupe_cache_cleanup_age,
            max_reconnect_attempts,
            reconnect_delay,
            high_memory_threshold,
            critical_memory_threshold,
            performance_history_max_size,
            shutdown_grace_period,
        ] = values;
        let time = |millis: f64| Duration::from_millis(millis as u64);
        Self {
            heartbeat_interval: time(heartbeat_interval),
            health_check_interval: time(health_check_interval),
            stale_connection_threshold: time(stale_connection_threshold),
            connection_pool_size: connection_pool_size as usize,
            max_queue_size: max_queue_size as usize,
            max_payload: max_payload as usize,
            max_latency_samples: max_latency_samples as usize,
            dedupe_cache_cleanup_age: time(dedupe_cache_cleanup_age),
            max_reconnect_attempts: max_reconnect_attempts as usize,
            reconnect_delay: time(reconnect_delay),
            high_memory_threshold,
            critical_memory_threshold,
            performance_history_max_size: performance_history_max_size as usize,
            shutdown_grace_period: time(shutdown_grace_period),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, f64)]) -> Vec<(String, f64)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn the_defaults_are_the_designs() {
        let config = BaseConfig::default();
        assert_eq!(config.heartbeat_interval, Duration::from_secs(30));
        assert_eq!(config.max_payload, 102_400);
        assert_eq!(config.shutdown_grace_period, Duration::from_secs(5));
        assert_eq!(BaseConfig::from_pairs([]).ok(), Some(config));
        assert_eq!(BaseConfig::defaults().count(), 14);
    }

    #[test]
    fn names_change_their_own_value_and_no_other() {
        let config = BaseConfig::from_pairs(pairs(&[("MAX_PAYLOAD", 10.0), ("RECONNECT_DELAY", 5.0)])).expect("valid");
        assert_eq!((config.max_payload, config.reconnect_delay), (10, Duration::from_millis(5)));
        assert_eq!(config.max_queue_size, 1000);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (list, expected) in [
            (&[("MAX_PAYLOD", 1.0)][..], "Unknown setting \"MAX_PAYLOD\". Did you mean \"MAX_PAYLOAD\"?"),
            (&[("MAX_PAYLOAD", 0.0)], "\"MAX_PAYLOAD\" must be an integer from 1 to 1073741824. Received 0"),
            (&[("HIGH_MEMORY_THRESHOLD", 96.0)], "HIGH_MEMORY_THRESHOLD must not be above CRITICAL_MEMORY_THRESHOLD"),
        ] {
            let error = BaseConfig::from_pairs(pairs(list)).expect_err("invalid");
            assert_eq!((error.to_string().as_str(), error.code()), (expected, "ERR_INVALID_OPTION"));
        }
    }
}
