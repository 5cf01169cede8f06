//! The work of some sockets as numbers and bytes, for one call of `bridge.js`. Pure.

use crate::transport::bridge::{SocketAction, Work};

/// How many sockets one call serves at most.
pub const MAX_SOCKETS: usize = 128;

/// Numbers per socket: its place, the end of its bytes, and the actions, which `bridge.js` replaces by [`FLUSHED`] or 0.
pub const FIELDS: usize = 3;

// As in `bridge.js`.
const RESUME: i32 = 1;
const END: i32 = 2;
const CLOSE: i32 = 4;
const DESTROY: i32 = 8;

/// Node holds no bytes of the socket any more.
pub const FLUSHED: i32 = 1;

/// Instead of the end of a socket's bytes: they are those of the last socket that had any.
const SAME_BYTES: i32 = -1;

#[derive(Default)]
pub struct Batch {
    entries: Vec<[i32; FIELDS]>,
    bytes: Vec<u8>,
    /// Where the bytes of the last socket that had any begin.
    last: usize,
}

impl Batch {
    pub fn is_full(&self) -> bool {
        self.entries.len() == MAX_SOCKETS
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A publication has the same bytes for all its receivers: they are copied once.
    pub fn add(&mut self, place: usize, work: &Work) {
        let mut actions = match work.action {
            SocketAction::Keep => 0,
            SocketAction::End => END,
            SocketAction::Close => CLOSE,
            SocketAction::Destroy => DESTROY,
        };
        if work.resume {
            actions |= RESUME;
        }
        let end = if !work.write.is_empty() && self.bytes.get(self.last..) == Some(&work.write) {
            SAME_BYTES
        } else {
            if !work.write.is_empty() {
                self.last = self.bytes.len();
                self.bytes.extend_from_slice(&work.write);
            }
            self.bytes.len() as i32
        };
        self.entries.push([place as i32, end, actions]);
    }

    /// The numbers of each socket, and the bytes of all.
    pub fn into_parts(self) -> (Vec<[i32; FIELDS]>, Vec<u8>) {
        (self.entries, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writing(bytes: &[u8]) -> Work {
        Work { write: bytes.to_vec(), ..Work::default() }
    }

    #[test]
    fn equal_bytes_are_copied_once() {
        let mut batch = Batch::default();
        for (place, bytes) in [(4, "hello"), (1, "hello"), (7, ""), (2, "hello"), (3, "world"), (5, "hello")] {
            batch.add(place, &writing(bytes.as_bytes()));
        }
        let (entries, bytes) = batch.into_parts();
        assert_eq!(entries, [[4, 5, 0], [1, -1, 0], [7, 5, 0], [2, -1, 0], [3, 10, 0], [5, 15, 0]]);
        assert_eq!(bytes, b"helloworldhello");
    }

    #[test]
    fn bytes_that_only_end_alike_are_not_equal() {
        let mut batch = Batch::default();
        batch.add(0, &writing(b"ab"));
        batch.add(1, &writing(b"b"));
        assert_eq!(batch.into_parts(), (vec![[0, 2, 0], [1, 3, 0]], b"abb".to_vec()));
    }

    #[test]
    fn actions_are_combined() {
        let mut batch = Batch::default();
        batch.add(0, &Work { resume: true, action: SocketAction::End, ..Work::default() });
        batch.add(1, &Work { action: SocketAction::Destroy, ..Work::default() });
        assert_eq!(batch.into_parts().0, [[0, 0, RESUME | END], [1, 0, DESTROY]]);
    }

    #[test]
    fn a_batch_is_full_at_its_limit() {
        let mut batch = Batch::default();
        for place in 0..MAX_SOCKETS {
            assert!(!batch.is_full());
            batch.add(place, &Work::default());
        }
        assert!(batch.is_full());
    }
}
