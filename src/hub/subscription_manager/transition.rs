//! Whether a subscription that was added or removed changes which shards have subscribers of its topic.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The shard's first subscriber of the topic came, or its last one left.
    FirstOrLast,
    /// One more or one less of several in this shard.
    Other,
}
