//! How many messages a connection may send: a bucket of tokens that fills at a rate. Pure.
//!
//! One per connection while `messageRate` is set. A refused message is charged as well, so that sending more brings no advantage.

/// What all buckets of a service have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Tokens added per second.
    pub per_second: f64,
    /// What a bucket holds, and begins with.
    pub burst: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenBucket {
    /// Below 0 the connection is in debt: each refused message costs a token, too.
    tokens: f32,
    /// Milliseconds of the shard's clock, which wraps.
    filled_at: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateDecision {
    Allowed,
    /// Not to be processed; the peer gets an error.
    Refused,
    /// The peer has gone on for another burst: it is to be closed.
    Abusive,
}

impl TokenBucket {
    pub fn new(rate: Rate, now: u32) -> Self {
        Self { tokens: rate.burst as f32, filled_at: now }
    }

    /// Charges one message.
    pub fn charge(&mut self, rate: Rate, now: u32) -> RateDecision {
        let elapsed = f64::from(now.wrapping_sub(self.filled_at)) / 1000.0;
        let tokens = (f64::from(self.tokens) + elapsed * rate.per_second).min(rate.burst) - 1.0;
        // Debt has a floor: a peer that stops sending too much is served again after a bounded time.
        self.tokens = tokens.max(-rate.burst - 1.0) as f32;
        self.filled_at = now;
        if tokens >= 0.0 {
            RateDecision::Allowed
        } else if tokens >= -rate.burst {
            RateDecision::Refused
        } else {
            RateDecision::Abusive
        }
    }

    /// Takes back the charge for a message that was allowed and is charged again later.
    pub fn refund(&mut self, rate: Rate) {
        self.tokens = (self.tokens + 1.0).min(rate.burst as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 20.0 };

    fn charge(bucket: &mut TokenBucket, now: u32, times: usize) -> Vec<RateDecision> {
        (0..times).map(|_| bucket.charge(RATE, now)).collect()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = TokenBucket::new(RATE, 0);
        assert!(charge(&mut bucket, 0, 20).iter().all(|decision| *decision == RateDecision::Allowed));
        assert_eq!(bucket.charge(RATE, 0), RateDecision::Refused);
        // The refused one was charged: two tokens' time for one message.
        assert_eq!(bucket.charge(RATE, 200), RateDecision::Allowed);
        assert_eq!(bucket.charge(RATE, 250), RateDecision::Refused);
    }

    #[test]
    fn going_on_for_another_burst_is_abuse_and_patience_is_not_endless_debt() {
        let mut bucket = TokenBucket::new(RATE, 0);
        let verdicts = charge(&mut bucket, 0, 100);
        assert_eq!(verdicts.iter().filter(|decision| **decision == RateDecision::Refused).count(), 20);
        assert_eq!(verdicts.iter().filter(|decision| **decision == RateDecision::Abusive).count(), 60);
        assert_eq!(bucket.charge(RATE, 2300), RateDecision::Allowed);
    }

    #[test]
    fn a_refund_undoes_a_charge_and_never_adds_to_the_burst() {
        let mut bucket = TokenBucket::new(RATE, 0);
        bucket.refund(RATE);
        assert!(charge(&mut bucket, 0, 20).iter().all(|decision| *decision == RateDecision::Allowed));
        bucket.refund(RATE);
        assert_eq!(charge(&mut bucket, 0, 2), [RateDecision::Allowed, RateDecision::Refused]);
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut bucket = TokenBucket::new(RATE, u32::MAX - 50);
        charge(&mut bucket, u32::MAX - 50, 20);
        assert_eq!(bucket.charge(RATE, 149), RateDecision::Allowed);
    }

    #[test]
    fn it_stays_small() {
        assert_eq!(size_of::<TokenBucket>(), 8);
    }
}
