//! Connections that are unregistered and whose stream has not ended yet: what the `disconnection` event will say of them. Pure.
//!
//! Owned by the shard's tables. Empty while no listener is registered.

use rustc_hash::FxHashMap;

use crate::types::{ConnectionId, ConnectionKey};

#[derive(Debug, Default)]
pub struct Closings(FxHashMap<ConnectionKey, Closing>);

#[derive(Debug)]
pub struct Closing {
    pub id: ConnectionId,
    pub code: u16,
    pub reason: String,
    /// Whether the peer has sent its close frame.
    pub is_answered: bool,
}

impl Closings {
    pub fn insert(&mut self, key: ConnectionKey, closing: Closing) {
        self.0.insert(key, closing);
    }

    /// The peer's close frame has arrived.
    pub fn answered(&mut self, key: ConnectionKey) {
        if let Some(closing) = self.0.get_mut(&key) {
            closing.is_answered = true;
        }
    }

    pub fn take(&mut self, key: ConnectionKey) -> Option<Closing> {
        let closing = self.0.remove(&key);
        if self.0.is_empty() && self.0.capacity() > 0 {
            // Many connections that end at once must not leave their room behind.
            self.0 = FxHashMap::default();
        }
        closing
    }
}
