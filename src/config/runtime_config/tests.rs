//! Tests of `runtime_config`.

use std::sync::Arc;

use super::*;

#[test]
fn the_defaults_are_the_designs() {
    let config = RuntimeConfig::new(RuntimeValues::default());
    let pairs: Vec<_> = config.to_pairs().collect();
    assert_eq!(
        pairs,
        [
            ("MESSAGE_BATCH_SIZE", 10.0),
            ("MESSAGE_BATCH_DELAY", 50.0),
            ("COMPRESSION_THRESHOLD", 1024.0),
            ("DEDUPE_CACHE_SIZE", 5000.0),
            ("DEDUPE_WINDOW", 5000.0),
            ("MAX_CONNECTIONS_PER_USER", 5.0),
            ("MEMORY_CLEANUP_INTERVAL", 180_000.0),
        ]
    );
}

#[test]
fn every_key_changes_its_own_value_and_reset_returns_to_the_constructed_one() {
    let constructed = RuntimeValues::from_pairs([("MESSAGE_BATCH_SIZE".to_owned(), 7.0)]).expect("valid");
    let config = RuntimeConfig::new(constructed);
    for key in RuntimeKey::ALL {
        let others = |config: &RuntimeConfig| {
            let others = RuntimeKey::ALL.into_iter().filter(|other| *other != key);
            others.map(|other| config.get(other)).collect::<Vec<_>>()
        };
        let before = others(&config);
        let value = 2000.0_f64.min(key.setting().max);
        config.set(key, value).expect("in bounds");
        assert_eq!(config.get(key), value);
        assert_eq!(others(&config), before, "{key:?}");
    }
    config.reset();
    assert_eq!(config.values(), constructed);
}

#[test]
fn observers_hear_of_changes_and_of_nothing_else() {
    let config = RuntimeConfig::new(RuntimeValues::default());
    let heard = Arc::new(Mutex::new(Vec::new()));
    config.subscribe(Box::new({
        let heard = heard.clone();
        move |values| heard.lock().expect("no panic").push(values.batch_size)
    }));
    config.set(RuntimeKey::MessageBatchSize, 3.0).expect("in bounds");
    config.set(RuntimeKey::MessageBatchSize, 3.0).expect("in bounds");
    assert_eq!(config.set(RuntimeKey::MessageBatchSize, 0.0).expect_err("out").code(), "ERR_OUT_OF_RANGE");
    config.reset();
    assert_eq!(*heard.lock().expect("no panic"), [3, 10]);
}

#[test]
fn bounds_belong_to_the_range_and_only_integers_pass() {
    let config = RuntimeConfig::new(RuntimeValues::default());
    for key in RuntimeKey::ALL {
        let Setting { min, max, .. } = key.setting();
        for value in [min, max] {
            assert!(config.set(key, value).is_ok(), "{key:?} {value}");
            assert_eq!(config.get(key), value, "{key:?}");
        }
        for value in [min - 1.0, max + 1.0, min + 0.5, f64::NAN, f64::INFINITY] {
            assert!(config.set(key, value).is_err(), "{key:?} {value}");
            assert_eq!(config.get(key), max, "{key:?}");
        }
    }
}

#[test]
fn a_name_that_is_none_is_answered_with_the_nearest_one() {
    assert!(RuntimeKey::names().all(|name| RuntimeKey::from_name(name).map(RuntimeKey::name) == Some(name)));
    let error = RuntimeValues::from_pairs([("MESSAGE_BATCHSIZE".to_owned(), 1.0)]).expect_err("unknown");
    assert_eq!(error.code(), "ERR_INVALID_OPTION");
    assert_eq!(error.to_string(), "Unknown setting \"MESSAGE_BATCHSIZE\". Did you mean \"MESSAGE_BATCH_SIZE\"?");
}

#[test]
fn of_changes_at_once_the_last_told_is_the_last_made() {
    let config = Arc::new(RuntimeConfig::new(RuntimeValues::default()));
    let heard = Arc::new(Mutex::new(RuntimeValues::default()));
    config.subscribe(Box::new({
        let heard = heard.clone();
        move |values| *heard.lock().expect("no panic") = values
    }));
    std::thread::scope(|scope| {
        for offset in 0..2 {
            let config = &config;
            scope.spawn(move || {
                for size in 1..400 {
                    config.set(RuntimeKey::MessageBatchSize, f64::from(2 * size + offset)).expect("in bounds");
                }
            });
        }
    });
    assert_eq!(*heard.lock().expect("no panic"), config.values());
}

#[test]
fn a_degradation_applied_twice_is_no_different_and_shows_the_owners_changes_through() {
    let halve: DegradedValues = |values| RuntimeValues { batch_size: (values.batch_size / 2).max(1), ..values };
    let config = RuntimeConfig::new(RuntimeValues::default());
    config.degrade(Some(halve));
    config.degrade(Some(halve));
    assert_eq!(config.get(RuntimeKey::MessageBatchSize), 5.0);
    config.set(RuntimeKey::MessageBatchSize, 20.0).expect("in bounds");
    assert_eq!(config.get(RuntimeKey::MessageBatchSize), 10.0);
    config.degrade(None);
    assert_eq!(config.get(RuntimeKey::MessageBatchSize), 20.0);
}
