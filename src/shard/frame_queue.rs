//! Frames that wait to be written: usually none or one, so the first has its place without any heap.
//!
//! Part of an outbox.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::transport::encoded_message::EncodedMessage;

use crate::transport::encoding::Encoding;

/// A message in the encoding it will have on the wire. Fixed when it is queued: a threshold that changes
/// later must not change a frame that is half written.
#[derive(Debug)]
pub struct Frame {
    pub message: Arc<EncodedMessage>,
    pub encoding: Encoding,
}

#[derive(Debug, Default)]
pub struct FrameQueue {
    first: Option<Frame>,
    /// Empty while there is no first. Boxed, since most connections never need it.
    #[allow(clippy::box_collection, reason = "three words less in every idle connection")]
    rest: Option<Box<VecDeque<Frame>>>,
}

impl Frame {
    pub fn len(&self) -> usize {
        self.message.encoded_len(self.encoding)
    }
}

impl FrameQueue {
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub fn front(&self) -> Option<&Frame> {
        self.first.as_ref()
    }

    pub fn get(&self, index: usize) -> Option<&Frame> {
        match index {
            0 => self.first.as_ref(),
            index => self.rest.as_ref()?.get(index - 1),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    pub fn push_back(&mut self, frame: Frame) {
        if self.first.is_none() {
            self.first = Some(frame);
        } else {
            self.rest.get_or_insert_default().push_back(frame);
        }
    }

    pub fn pop_front(&mut self) -> Option<Frame> {
        let next = self.rest.as_mut().and_then(|rest| rest.pop_front());
        if next.is_none() {
            // The room of a burst is given back with its last frame.
            self.rest = None;
        }
        std::mem::replace(&mut self.first, next)
    }

    pub fn pop_back(&mut self) -> Option<Frame> {
        self.rest.as_mut().and_then(|rest| rest.pop_back()).or_else(|| self.first.take())
    }

    pub fn remove(&mut self, index: usize) -> Option<Frame> {
        match index {
            0 => self.pop_front(),
            index => self.rest.as_mut()?.remove(index - 1),
        }
    }

    pub fn shrink(&mut self) {
        match &mut self.rest {
            Some(rest) if rest.is_empty() => self.rest = None,
            Some(rest) => rest.shrink_to_fit(),
            None => {}
        }
    }

    pub fn heap_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| size_of_val(&**rest) + rest.capacity() * size_of::<Frame>())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(length: usize) -> Frame {
        Frame { message: EncodedMessage::text(vec![b'x'; length]), encoding: Encoding::Plain }
    }

    fn lengths<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<usize> {
        frames.map(|frame| frame.message.payload().len()).collect()
    }

    #[test]
    fn one_frame_needs_no_heap_and_a_burst_leaves_none() {
        let mut queue = FrameQueue::default();
        queue.push_back(frame(1));
        assert_eq!(queue.heap_bytes(), 0);
        (2..100).for_each(|length| queue.push_back(frame(length)));
        assert!(queue.heap_bytes() > 0);
        while queue.pop_front().is_some() {}
        assert_eq!(queue.heap_bytes(), 0);
    }

    proptest! {
        #[test]
        fn is_a_queue_like_any_other(steps in prop::collection::vec((0..4_u8, 0..6_usize), 0..200)) {
            let mut queue = FrameQueue::default();
            let mut model = VecDeque::new();
            for (number, (step, index)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        queue.push_back(frame(number));
                        model.push_back(number);
                    }
                    2 => {
                        let removed = queue.remove(index);
                        prop_assert_eq!(lengths(removed.iter()).pop(), model.remove(index));
                    }
                    _ => {
                        let popped = if index % 2 == 0 { queue.pop_front() } else { queue.pop_back() };
                        let expected = if index % 2 == 0 { model.pop_front() } else { model.pop_back() };
                        prop_assert_eq!(lengths(popped.iter()).pop(), expected);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(lengths(queue.iter()), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(lengths(queue.get(index).into_iter()), model.get(index).copied().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(lengths(queue.front().into_iter()), model.front().copied().into_iter().collect::<Vec<_>>());
            }
        }
    }
}
