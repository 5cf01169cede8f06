//! What a change of a shard's subscriptions means for the routing table.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The shard's first subscriber of the topic came, or its last one left.
    FirstOrLast,
    /// One more or one less of several in this shard.
    Other,
}
