//! Bounds of histories. Pure values.

/// Bounds of one topic's history. The first one reached counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicLimits {
    pub publications: usize,
    /// In milliseconds. A publication that is as old has left.
    pub ttl: u64,
    /// Payloads and their entries.
    pub bytes: usize,
}

/// What one resume may replay. Beyond it the client is told to reload instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    pub publications: usize,
    /// Payloads.
    pub bytes: usize,
}

impl TopicLimits {
    /// 100 publications, 5 minutes, 256 KiB.
    pub const DEFAULT: Self = Self { publications: 100, ttl: 300_000, bytes: 256 * 1024 };

    /// The same time for a fraction of the publications and of the bytes.
    pub fn divided_by(self, divisor: usize) -> Self {
        let divisor = divisor.max(1);
        Self { publications: self.publications.div_ceil(divisor), bytes: self.bytes / divisor, ..self }
    }
}

impl ReplayLimits {
    /// 300 publications, 256 KiB.
    pub const DEFAULT: Self = Self { publications: 300, bytes: 256 * 1024 };
}
