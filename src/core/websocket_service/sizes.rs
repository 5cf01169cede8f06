//! What the service has, in numbers: entries by kind, bytes by purpose. Values only.

/// Counts for `getStats()` that are not in the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub users: usize,
    pub bills: usize,
    pub subscribed_users: usize,
    /// Pairs of a bill and a user.
    pub subscriptions: usize,
    pub queue_depth: usize,
    pub queue_bytes: usize,
    pub dedupe_entries: usize,
}

/// Bytes the service keeps, by what for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Connections and the table of users.
    pub connections: usize,
    /// The shards' topic indexes, as of about a second ago, and the table of who follows what.
    pub subscriptions: usize,
    /// Published updates that are remembered.
    pub dedupe: usize,
    /// Publishes that wait for a shard.
    pub queues: usize,
    /// Unwritten bytes of all connections.
    pub buffers: usize,
}

impl Sizes {
    pub fn total(&self) -> usize {
        self.connections + self.subscriptions + self.dedupe + self.queues + self.buffers
    }
}
