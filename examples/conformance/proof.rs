//! Shows that the cases find what they are there for: a server that is right passes them all, and one that is wrong in one
//! way fails those that look at it, and no others.
//!
//! Called by `main.rs` for the word `prove`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::case::{Case, Target};
use crate::reference::{self, Fault};
use crate::run;

/// Enough for any server, and little enough for those that never answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages to a case that has many. The second shows whether a context was kept.
const MESSAGES: usize = 8;

/// Servers at a time: most of the time is spent waiting.
const LANES: usize = 4;

/// Which cases find a fault. `12.*` is all of section 12.
enum Found {
    By(&'static [&'static str]),
    /// By very many: these among them, and none of those.
    Widely {
        by: &'static [&'static str],
        not_by: &'static [&'static str],
    },
    /// Every case waits in vain, so only some are run: these, all of which find it.
    Slowly(&'static [&'static str]),
}

const REFUSALS: &[&str] =
    &["2.5", "3.*", "4.*", "5.1", "5.2", "5.9", "5.10", "5.11", "5.12", "5.13", "5.14", "5.16", "5.17"];
const ECHOES: &[&str] = &[
    "1.*", "5.3", "5.4", "5.5", "5.6", "5.7", "5.8", "6.1.*", "6.2.*", "6.5.*", "6.7.*", "6.9.*", "6.22.*", "10.*",
    "12.*", "13.*",
];

const FAULTS: &[(Fault, Found)] = &[
    (Fault::None, Found::By(&[])),
    (Fault::AcceptsAnyCloseCode, Found::By(&["7.9.*"])),
    (Fault::AcceptsAnyLengthForm, Found::By(&["20.4", "20.5", "20.6"])),
    // What follows a pong in fragments is refused all the same: 5.2 is left out. So are 5.12 to 5.16 and 3.7 below.
    (Fault::AcceptsFragmentedControlFrames, Found::By(&["5.1"])),
    (Fault::AcceptsInterruptedMessages, Found::By(&["5.18"])),
    (Fault::AcceptsInvalidCloseReasons, Found::By(&["7.5.1"])),
    (
        Fault::AcceptsInvalidText,
        Found::By(&[
            "6.3.*", "6.4.*", "6.6.1", "6.6.3", "6.6.4", "6.6.6", "6.6.8", "6.6.10", "6.8.*", "6.10.*", "6.11.5",
            "6.12.*", "6.13.*", "6.14.*", "6.15.*", "6.16.*", "6.17.*", "6.18.*", "6.19.*", "6.20.*", "6.21.*",
            "20.11",
        ]),
    ),
    (Fault::AcceptsLongControlFrames, Found::By(&["2.5", "7.3.6"])),
    (Fault::AcceptsOrphanedContinuations, Found::By(&["5.9", "5.10", "5.11", "5.17"])),
    (Fault::AcceptsReservedBits, Found::By(&["3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "20.7", "20.8"])),
    (Fault::AcceptsReservedOpcodes, Found::By(&["4.*"])),
    (Fault::AcceptsUnmaskedFrames, Found::By(&["20.1", "20.2"])),
    (
        Fault::AnswersClosesWithAnotherCode,
        Found::Widely {
            by: &["1.*", "2.1", "7.1.1", "7.3.3", "7.3.4", "7.3.5", "7.7.*", "12.*", "13.*"],
            not_by: REFUSALS,
        },
    ),
    (Fault::AnswersPongs, Found::By(&["2.7", "2.8", "2.9"])),
    (Fault::AnswersTheWrongKey, Found::By(&["*"])),
    (Fault::ChecksTextAtItsEnd, Found::By(&["6.4.*"])),
    (
        Fault::DropsFragments,
        Found::By(&[
            "5.3", "5.4", "5.5", "5.6", "5.7", "5.8", "5.15", "5.19", "5.20", "6.2.2", "6.2.3", "6.2.4", "10.1.1",
            "12.1.11", "12.2.11", "12.3.11", "12.4.11", "12.5.11", "13.1.11", "13.2.11", "13.3.11", "13.4.11",
            "13.5.11", "13.6.11", "13.7.11", "20.12",
        ]),
    ),
    (Fault::EchoesTwice, Found::Widely { by: ECHOES, not_by: WITHOUT_MESSAGES }),
    (
        Fault::GoesOnAfterClose,
        Found::Widely { by: &["7.1.3", "7.1.4", "7.1.5"], not_by: &["1.*", "2.*", "7.3.*", "7.7.*", "12.*"] },
    ),
    (
        Fault::IgnoresPings,
        Found::By(&[
            "2.1", "2.2", "2.3", "2.4", "2.6", "2.9", "2.10", "2.11", "5.6", "5.7", "5.8", "5.19", "5.20", "20.12",
            "20.15",
        ]),
    ),
    (Fault::IgnoresWhatCameWithTheRequest, Found::By(&["20.15"])),
    (
        Fault::KeepsItsContext,
        Found::Widely { by: &["12.1.*", "13.1.*", "13.2.*"], not_by: &["1.*", "2.*", "6.*", "7.*"] },
    ),
    (Fault::LeavesTheStreamOpen, Found::Slowly(&["1.1.*", "7.3.3"])),
    (Fault::MasksItsFrames, Found::Widely { by: ECHOES, not_by: &["7.1.6", "7.13.*"] }),
    (Fault::NeverAnswersCloses, Found::Widely { by: ECHOES, not_by: REFUSALS }),
    (Fault::RefusesUncompressedMessages, Found::By(&["20.9"])),
    (
        Fault::ReportsErrorsAsPolicy,
        Found::Widely { by: REFUSALS, not_by: &["1.*", "6.*", "7.1.*", "7.5.1", "7.7.*", "10.*", "12.*", "13.*"] },
    ),
    (Fault::SwapsTextAndBinary, Found::Widely { by: ECHOES, not_by: WITHOUT_MESSAGES }),
    (
        Fault::TruncatesEchoes,
        Found::By(&[
            "1.1.3", "1.1.4", "1.1.5", "1.1.6", "1.1.7", "1.1.8", "1.2.3", "1.2.4", "1.2.5", "1.2.6", "1.2.7", "1.2.8",
            "10.1.1", "12.1.3", "12.1.11", "12.2.3", "12.2.11", "12.3.3", "12.3.11", "12.4.3", "12.4.11", "12.5.3",
            "12.5.11", "13.1.3", "13.1.11", "13.2.3", "13.2.11", "13.3.3", "13.3.11", "13.4.3", "13.4.11", "13.5.3",
            "13.5.11", "13.6.3", "13.6.11", "13.7.3", "13.7.11",
        ]),
    ),
];

const WITHOUT_MESSAGES: &[&str] =
    &["2.*", "3.1", "3.5", "4.1.1", "4.1.2", "4.2.1", "4.2.2", "5.1", "5.2", "6.3.*", "7.3.*", "7.9.*"];

/// `false` if a fault was not found, or by a case that does not look at it.
pub fn prove(cases: &[Case], workers: usize) -> bool {
    let (next, holds) = (AtomicUsize::new(0), AtomicBool::new(true));
    thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                while let Some((fault, found)) = FAULTS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = check(*fault, found, cases, workers);
                    let is_fine = report.is_ok();
                    println!("{}", report.unwrap_or_else(|report| report));
                    holds.fetch_and(is_fine, Ordering::Relaxed);
                }
            });
        }
    });
    holds.into_inner()
}

fn check(fault: Fault, found: &Found, cases: &[Case], workers: usize) -> Result<String, String> {
    let address = reference::start(fault).map_err(|failure| failure.to_string())?;
    let target = Target { address: address.to_string(), patience: PATIENCE, messages: MESSAGES };
    let quick = cases.iter().filter(|case| !case.is_slow);
    let run_cases: Vec<&Case> = match found {
        Found::Slowly(patterns) => quick.filter(|case| matches(case, patterns)).collect(),
        Found::By(_) | Found::Widely { .. } => quick.collect(),
    };
    let results = run(&run_cases, &target, workers);
    let ids = |patterns: &[&str]| -> BTreeSet<&str> {
        run_cases.iter().filter(|case| matches(case, patterns)).map(|case| case.id.as_str()).collect()
    };
    let failed: BTreeSet<&str> =
        results.iter().filter(|(_, verdict)| !verdict.is_pass()).map(|(id, _)| id.as_str()).collect();
    let (missed, wrong): (Vec<&str>, Vec<&str>) = match found {
        Found::By(patterns) | Found::Slowly(patterns) => {
            let expected = ids(patterns);
            (expected.difference(&failed).copied().collect(), failed.difference(&expected).copied().collect())
        }
        Found::Widely { by, not_by } => {
            (ids(by).difference(&failed).copied().collect(), ids(not_by).intersection(&failed).copied().collect())
        }
    };
    let mut report = format!("{fault:?}: {} of {} cases fail", failed.len(), results.len());
    if missed.is_empty() && wrong.is_empty() {
        return Ok(report);
    }
    report.push_str(&format!("\n  ought to fail, but pass: {missed:?}\n  fail without need: {wrong:?}"));
    for id in wrong.iter().chain(&missed).take(8) {
        if let Some(verdict) = results.get(*id) {
            report
                .push_str(&format!("\n  {id}: {}, its end: {}: {}", verdict.behavior, verdict.ending, verdict.detail));
        }
    }
    Err(report)
}

fn matches(case: &Case, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| case.matches(pattern))
}
