//! One message on its way to all its receivers. Values only.

use std::sync::Arc;
use std::time::Instant;

use crate::hub::topic::Topic;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{Priority, UserId};

/// A message that was published, by this process or another one.
#[derive(Clone, Debug)]
pub struct Publication {
    pub target: Target,
    /// Encoded once per encoding, when the first receiver needs it.
    pub message: Arc<EncodedMessage>,
    pub priority: Priority,
    /// When it was published, for the latency histogram.
    pub published: Instant,
}

/// Which connections receive a publication. The router of each process resolves users, and each shard its subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every open connection.
    All,
    /// Those that are subscribed.
    Topic(Topic),
    /// The open connections of one user.
    User(UserId),
}

impl Publication {
    /// Published now.
    pub fn new(target: Target, message: Arc<EncodedMessage>, priority: Priority) -> Self {
        Self { target, message, priority, published: Instant::now() }
    }
}
