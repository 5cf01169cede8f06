//! A conformance suite for WebSocket servers that echo: the 517 cases of the Autobahn suite, as they are seen by a server,
//! and some that it lacks.
//!
//! `cargo run --no-default-features --example conformance -- 127.0.0.1:9001` runs all of them against a server there;
//! `quick` as a second word leaves out those that send much, and any other word is an id such as `6.4.1` or `12.*`.
//! `prove` instead of an address shows that the suite finds what is wrong. `--report FILE` writes every verdict as JSON.
//! Called by `scripts/conformance.mjs`. A few threads, each with one connection at a time.

mod beyond;
mod case;
mod closing;
mod compression;
mod dialogue;
mod framing;
mod limits;
mod payloads;
mod peer;
mod proof;
mod reference;
mod script;
mod utf8;
mod wire;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use case::{Case, Target, Verdict};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(30);

/// Messages to a case of section 9.7, 9.8, 12 or 13.
const MESSAGES: usize = 1000;

/// Cases that run at a time: some wait a second, and the large ones are to leave room.
const WORKERS: usize = 8;

type Results = BTreeMap<String, Verdict>;

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let report =
        words.iter().position(|word| word == "--report").map(|at| words.drain(at..).nth(1).unwrap_or_default());
    let cases = all_cases();
    let Some(address) = words.first() else {
        eprintln!("an address such as 127.0.0.1:9001 is needed, or prove");
        return ExitCode::from(2);
    };
    if address == "prove" {
        return if proof::prove(&cases, WORKERS) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let patterns = words.get(1..).unwrap_or_default();
    let is_chosen = |case: &&Case| match patterns {
        [] => true,
        [quick] if quick == "quick" => !case.is_slow,
        patterns => patterns.iter().any(|pattern| case.matches(pattern)),
    };
    let chosen: Vec<&Case> = cases.iter().filter(is_chosen).collect();
    let address = address.trim_start_matches("ws://").to_owned();
    let started = Instant::now();
    let results = run(&chosen, &Target { address, patience: PATIENCE, messages: MESSAGES }, WORKERS);
    if let Some(path) = report
        && let Err(failure) = write_report(&path, &results)
    {
        eprintln!("{path}: {failure}");
        return ExitCode::from(2);
    }
    summarise(&chosen, &results, started.elapsed())
}

fn all_cases() -> Vec<Case> {
    let mut cases = framing::cases();
    cases.extend(utf8::cases());
    cases.extend(closing::cases());
    cases.extend(limits::cases());
    cases.extend(compression::cases());
    cases.extend(beyond::cases());
    cases
}

/// The verdict on each case.
pub fn run(cases: &[&Case], target: &Target, workers: usize) -> Results {
    let next = AtomicUsize::new(0);
    let (results, verdicts) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (next, results) = (&next, results.clone());
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver lives as long as this scope.
                    let _ = results.send((case.id.clone(), case.run(target)));
                }
            });
        }
    });
    drop(results);
    verdicts.into_iter().collect()
}

fn write_report(path: &str, results: &Results) -> std::io::Result<()> {
    let entries: serde_json::Map<_, _> = results
        .iter()
        .map(|(id, verdict)| {
            let entry = json!({
                "behavior": verdict.behavior.to_string(),
                "behaviorClose": verdict.ending.to_string(),
                "remoteCloseCode": verdict.close_code,
            });
            (id.clone(), entry)
        })
        .collect();
    std::fs::write(path, serde_json::Value::from(entries).to_string())
}

fn summarise(cases: &[&Case], results: &Results, time: Duration) -> ExitCode {
    let of_the_suite = cases.iter().filter(|case| case.is_in_suite).count();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for verdict in results.values() {
        *counts.entry(verdict.behavior.to_string()).or_default() += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    println!(
        "{of_the_suite} cases of the suite and {} beyond it in {:.1} s: {}",
        cases.len() - of_the_suite,
        time.as_secs_f64(),
        counts.join(", ")
    );
    let failures: Vec<_> = results.iter().filter(|(_, verdict)| !verdict.is_pass()).collect();
    for (id, verdict) in &failures {
        println!("  {id}: {}, its end: {}: {}", verdict.behavior, verdict.ending, verdict.detail);
    }
    let is_complete = results.len() == cases.len() && !cases.is_empty();
    if failures.is_empty() && is_complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
