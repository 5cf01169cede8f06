//! When a client that has lost continuity should reload its state from the application. Pure: time and random numbers come in.
//!
//! A crowd that loses continuity at once must not fall on the application's database at once. Each loss adds to a backlog that drains
//! at a fixed rate, and a client reloads at a random time of the second half of the backlog that it finds. That keeps the rate of
//! reloads below 2 ln 2, about 1.4, times the rate of the drain, however large the crowd is, until the backlog reaches its limit.

use super::random::Random;

/// Reloads per second that the backlog drains by.
const RATE: u64 = 200;
/// Milliseconds over which reloads are spread also if few clients are concerned.
const SPREAD: u64 = 2000;
/// Milliseconds that a client waits at most, beside the spread.
const MAX_BACKLOG: u64 = 60_000;
/// The backlog counts in these, so that one loss adds a whole number.
const UNITS_PER_MS: u64 = RATE;
const UNITS_PER_LOSS: u64 = 1000;

/// Owned by the code that sends `gap`, one for all topics.
#[derive(Clone, Debug, Default)]
pub struct ReloadPacer {
    /// When the backlog will have drained, in units.
    drained_at: u64,
}

impl ReloadPacer {
    /// How long one more client should wait, in milliseconds: `reload_in`.
    pub fn reload_in(&mut self, now: u64, random: &mut Random) -> u64 {
        let now = now.saturating_mul(UNITS_PER_MS);
        let backlog = self.drained_at.saturating_sub(now).min(MAX_BACKLOG * UNITS_PER_MS);
        self.drained_at = now.saturating_add(backlog).saturating_add(UNITS_PER_LOSS);
        let backlog = backlog / UNITS_PER_MS;
        backlog / 2 + random.below(backlog / 2 + SPREAD + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most reloads of any second, and the last one.
    fn pace(losses: impl Iterator<Item = u64>) -> (usize, u64) {
        let (mut pacer, mut random) = (ReloadPacer::default(), Random::seeded(1));
        let mut reloads: Vec<u64> = losses.map(|now| now + pacer.reload_in(now, &mut random)).collect();
        reloads.sort_unstable();
        let busiest =
            reloads.iter().map(|start| reloads.iter().filter(|at| (*start..start + 1000).contains(at)).count());
        (busiest.max().unwrap(), *reloads.last().unwrap())
    }

    #[test]
    fn a_single_client_reloads_within_two_seconds() {
        let (mut pacer, mut random) = (ReloadPacer::default(), Random::seeded(1));
        let delays: Vec<u64> = (0..100).map(|count| pacer.reload_in(count * 60_000, &mut random)).collect();
        assert!(delays.iter().all(|delay| *delay <= 2000));
        assert!(delays.iter().any(|delay| *delay > 1500) && delays.iter().any(|delay| *delay < 500), "{delays:?}");
    }

    #[test]
    fn a_crowd_is_spread_over_the_time_that_its_reloads_need() {
        for count in [500, 2000, 5000] {
            let (busiest, last) = pace((0..count).map(|_| 0));
            assert!(busiest <= 350, "{count}: {busiest} in one second");
            assert!(last <= count * 5 + 2000, "{count}: {last}");
            assert!(last >= count * 3, "{count}: {last}");
        }
    }

    #[test]
    fn a_steady_trickle_is_not_delayed_more_and_more() {
        let (_, last) = pace((0..5000).map(|count| count * 10));
        assert!(last <= 50_000 + 2000);
    }

    #[test]
    fn no_client_waits_longer_than_a_minute_and_the_spread() {
        let (mut pacer, mut random) = (ReloadPacer::default(), Random::seeded(1));
        let longest = (0..1_000_000).map(|_| pacer.reload_in(0, &mut random)).max().unwrap();
        assert!((60_000..=62_000).contains(&longest), "{longest}");
        // The backlog drains, however large the crowd was.
        assert!(pacer.reload_in(61_000, &mut random) <= 2000);
        assert!(pacer.reload_in(u64::MAX, &mut random) <= 2000);
    }
}
