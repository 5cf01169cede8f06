//! Joins batches into envelopes; connections whose batches are the same share one.
//!
//! Owned by the shard's `egress`.

use std::sync::Arc;

use crate::protocol::outgoing;
use crate::transport::encoded_message::EncodedMessage;

/// Remembers only the batch it saw last: subscribers of one bill usually come one after
/// the other with the same list.
#[derive(Debug, Default)]
pub struct BatchCache {
    last: Option<(Vec<Arc<EncodedMessage>>, Arc<EncodedMessage>)>,
}

impl BatchCache {
    /// One message as it is, several as `{"type":"batch","messages":[…]}`.
    pub fn join(&mut self, mut batch: Vec<Arc<EncodedMessage>>) -> Option<Arc<EncodedMessage>> {
        if batch.len() < 2 {
            return batch.pop();
        }
        if let Some((list, envelope)) = &self.last {
            let same = list.len() == batch.len() && list.iter().zip(&batch).all(|(one, other)| Arc::ptr_eq(one, other));
            if same {
                return Some(envelope.clone());
            }
        }
        let envelope = EncodedMessage::concat(
            outgoing::BATCH_PREFIX,
            batch.iter().map(|message| message.payload()),
            b',',
            outgoing::BATCH_SUFFIX,
        );
        self.last = Some((batch, envelope.clone()));
        Some(envelope)
    }

    /// Forgets the batch seen last.
    pub fn clear(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_batches_share_one_envelope() {
        let (a, b) = (EncodedMessage::text(b"1".to_vec()), EncodedMessage::text(b"2".to_vec()));
        let mut envelopes = BatchCache::default();
        let first = envelopes.join(vec![a.clone(), b.clone()]).expect("two messages");
        let second = envelopes.join(vec![a.clone(), b.clone()]).expect("two messages");
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.payload(), br#"{"type":"batch","messages":[1,2]}"#);
        let other = envelopes.join(vec![b.clone(), a.clone()]).expect("two messages");
        assert_eq!(other.payload(), br#"{"type":"batch","messages":[2,1]}"#);
        let single = envelopes.join(vec![a.clone()]).expect("one message");
        assert!(Arc::ptr_eq(&single, &a));
        assert!(envelopes.join(Vec::new()).is_none());
    }
}
