//! Runs histories, gates and cursors through schedules of publications, subscriptions, resumes, drops, evictions and restarts in any
//! order, with virtual time, and judges them by the logs of the publishers and of the clients alone.
//!
//! A schedule follows from its seed. A failure names the seed in one line that replays it:
//!
//! ```text
//! CARILLON_SCHEDULE=<seed> cargo test --no-default-features --lib simulator::embedded -- --nocapture
//! CARILLON_SCHEDULES=1000000 cargo test --release --no-default-features --lib simulator::embedded
//! ```

mod check;
mod client;
mod cluster;
mod log;
mod plan;
mod server;
mod world;

use std::collections::BTreeMap;

use self::world::World;

/// Schedules of an ordinary test run.
const SCHEDULES: u64 = 10_000;

/// What happened in a schedule, by name: a simulator that never reaches a case proves nothing about it.
type Coverage = BTreeMap<&'static str, u64>;

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one schedule. The error says what a client received that contradicts the publishers' log.
fn simulate(seed: u64, trace: bool) -> Result<Coverage, String> {
    let mut world = World::new(seed, trace);
    world.run();
    let conditions = world.conditions();
    check::check(&world.logs(), conditions).map_err(|violation| {
        format!("{violation}\nreplay: CARILLON_SCHEDULE={seed} cargo test --no-default-features --lib simulator::embedded -- --nocapture")
    })
}

#[test]
fn embedded_histories_never_lose_silently_in_any_schedule() {
    run_schedules(simulate, &log::ALL_OUTCOMES);
}

/// Runs as many schedules as the environment says, or the one that it names, and asks of an ordinary run that all outcomes happened.
fn run_schedules(simulate: impl Fn(u64, bool) -> Result<Coverage, String>, outcomes: &[&str]) {
    if let Some(seed) = environment("CARILLON_SCHEDULE") {
        let coverage = simulate(seed, true).unwrap_or_else(|violation| panic!("{violation}"));
        println!("{coverage:#?}");
        return;
    }
    let schedules = environment("CARILLON_SCHEDULES").unwrap_or(SCHEDULES);
    let first = environment("CARILLON_FIRST_SCHEDULE").unwrap_or(0);
    let mut total = Coverage::new();
    for seed in first..first + schedules {
        let coverage = simulate(seed, false).unwrap_or_else(|violation| panic!("{violation}"));
        for (name, count) in coverage {
            *total.entry(name).or_default() += count;
        }
    }
    if schedules >= SCHEDULES {
        for name in outcomes {
            let count = total.get(name).copied().unwrap_or(0);
            assert!(count >= schedules / 1000, "{name} happened {count} times in {schedules} schedules: {total:#?}");
        }
    }
    println!("{schedules} schedules: {total:#?}");
}
