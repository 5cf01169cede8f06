//! Frames to messages: fragments, control frames between them, UTF-8, inflation, limits. Pure.
//!
//! One per connection, empty and without heap while nothing is incomplete. What the peer claims is checked before
//! anything is kept; what is kept grows with what has arrived. The sink of messages decides before each whether to go
//! on, so that the work done at once is bounded.

use std::ops::ControlFlow;

use crate::error::CloseReason;
use crate::transport::deflate::Inflater;
use crate::transport::frame::{self, Head, Kind, MAX_HEAD_BYTES};

mod deliver;
mod message;
mod partial;

use deliver::{deliver_in_place, parse_close};
use message::Flow;
pub use message::{Intake, Limits, Message, MessageInfo, MessageSink, PeerClose};
use partial::{Partial, check_order};

/// Takes every message until `sink` says `Break`.
struct Everything<'s>(&'s mut dyn FnMut(Message<'_>) -> ControlFlow<()>);

impl MessageSink for Everything<'_> {
    fn before_message(&mut self, _: MessageInfo) -> Intake {
        Intake::Take { max_inflated: usize::MAX }
    }

    fn on_message(&mut self, message: Message<'_>) -> ControlFlow<()> {
        (self.0)(message)
    }
}

#[derive(Debug)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
    deflate: bool,
}

impl Assembler {
    /// `deflate`: whether permessage-deflate was negotiated.
    pub fn new(deflate: bool) -> Self {
        Self { partial: None, deflate }
    }

    /// Takes in bytes as they come, unmasking them in place, and hands every message that is complete to `sink`.
    /// What follows a `Break` is ignored.
    ///
    /// # Errors
    /// The reason to close the connection with; nothing is kept, and nothing more may be pushed then.
    pub fn push(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        sink: &mut dyn FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> Result<(), CloseReason> {
        let length = input.len();
        if self.advance(input, limits, inflater, &mut Everything(sink))? < length {
            self.partial = None;
        }
        Ok(())
    }

    /// Takes in bytes as far as `sink` lets it, unmasking them in place, and returns how many. The rest is to be
    /// given again, in front of what comes later.
    ///
    /// # Errors
    /// The reason to close the connection with; nothing is kept, and nothing more may be given then.
    pub fn advance(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        sink: &mut impl MessageSink,
    ) -> Result<usize, CloseReason> {
        let length = input.len();
        match self.take_in(input, limits, inflater, sink) {
            Ok(rest) => Ok(length - rest),
            Err(reason) => {
                // The connection may linger until its peer has heard of it.
                self.partial = None;
                Err(reason)
            }
        }
    }

    /// Looks for a close frame alone: of all other frames nothing but the head is read, and nothing is kept of a message
    /// that had begun. Returns how many bytes were taken, and whether a close frame ended them.
    ///
    /// # Errors
    /// What cannot be the head of a frame, or a close frame that is not in order.
    pub fn skip_to_close(&mut self, input: &mut [u8]) -> Result<(usize, bool), CloseReason> {
        let length = input.len();
        let mut rest = input;
        if let Some(partial) = self.partial.as_deref_mut() {
            partial.message = None;
        }
        while !rest.is_empty() {
            let (head, received, payload) = match self.partial.as_deref_mut().and_then(|partial| partial.frame.take()) {
                Some((head, received)) => (head, received, rest),
                None => match self.peek_head(rest)? {
                    None => {
                        self.keep_head(rest);
                        return Ok((length, false));
                    }
                    Some((head, taken)) => {
                        self.partial = None;
                        (head, 0, rest.split_at_mut(taken).1)
                    }
                },
            };
            let missing = usize::try_from(head.length - received).unwrap_or(usize::MAX);
            let (payload, after) = payload.split_at_mut(missing.min(payload.len()));
            rest = after;
            if payload.len() < missing {
                let partial = self.partial.get_or_insert_default();
                partial.frame = Some((head, received + payload.len() as u64));
                if head.kind == Kind::Close {
                    frame::unmask(payload, head.mask, received);
                    partial.control.extend_from_slice(payload);
                }
                return Ok((length, false));
            }
            let begun = self.partial.take().map_or_else(Vec::new, |partial| partial.control);
            if head.kind == Kind::Close {
                frame::unmask(payload, head.mask, received);
                parse_close(&[&begun, &*payload].concat())?;
                return Ok((length - rest.len(), true));
            }
        }
        Ok((length, false))
    }

    /// Lets go of what is incomplete: nothing more will be taken in.
    pub fn forget(&mut self) {
        self.partial = None;
    }

    /// Bytes of heap in use.
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_deref().map_or(0, |partial| {
            size_of::<Partial>()
                + partial.head.capacity()
                + partial.control.capacity()
                + partial.message.as_ref().map_or(0, |message| message.data.capacity())
        })
    }

    /// Returns how many bytes of the input are left.
    fn take_in(
        &mut self,
        mut input: &mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        sink: &mut impl MessageSink,
    ) -> Result<usize, CloseReason> {
        while !input.is_empty() {
            let left = input.len();
            let flow = if let Some(partial) = self.partial.as_deref_mut().filter(|partial| partial.frame.is_some()) {
                let flow;
                (input, flow) = partial.continue_frame(input, limits, inflater, sink)?;
                flow
            } else {
                let Some((head, taken)) = self.peek_head(input)? else {
                    self.keep_head(input);
                    return Ok(0);
                };
                let unfinished = self.partial.as_deref().and_then(|partial| partial.message.as_ref());
                check_order(&head, unfinished, limits)?;
                let (_, rest) = input.split_at_mut(taken);
                let length = usize::try_from(head.length).ok().filter(|length| *length <= rest.len());
                let is_whole = head.kind.is_control() || (head.is_final && head.kind != Kind::Continuation);
                let flow;
                (input, flow) = match length {
                    // The usual case: a message that is one frame that is all here is handed on where it lies.
                    Some(length) if is_whole => {
                        let (payload, rest) = rest.split_at_mut(length);
                        (rest, deliver_in_place(&head, payload, limits, inflater, sink)?)
                    }
                    _ => (rest, self.partial.get_or_insert_default().begin(head, limits, inflater, sink)?),
                };
                if flow == Flow::Wait {
                    return Ok(left);
                }
                if let Some(partial) = self.partial.as_deref_mut() {
                    partial.head.clear();
                }
                flow
            };
            if self.partial.as_deref().is_some_and(Partial::is_empty) {
                self.partial = None;
            }
            if flow != Flow::Continue {
                return Ok(input.len());
            }
        }
        Ok(0)
    }

    /// The next head, and how many bytes of the input belong to it; `None` if it is not all there.
    fn peek_head(&self, input: &[u8]) -> Result<Option<(Head, usize)>, CloseReason> {
        let kept = self.partial.as_deref().map(|partial| partial.head.as_slice()).filter(|head| !head.is_empty());
        let Some(kept) = kept else { return Ok(frame::decode(input, self.deflate)?.map(|head| (head, head.size))) };
        let mut bytes = [0; MAX_HEAD_BYTES];
        let mut length = 0;
        for (to, from) in bytes.iter_mut().zip(kept.iter().chain(input)) {
            *to = *from;
            length += 1;
        }
        // The head did not end in what was kept, or it would have been read then.
        let head = frame::decode(bytes.get(..length).unwrap_or_default(), self.deflate)?;
        Ok(head.map(|head| (head, head.size - kept.len())))
    }

    /// Keeps the beginning of a head until the rest comes.
    fn keep_head(&mut self, input: &[u8]) {
        self.partial.get_or_insert_default().head.extend_from_slice(input);
    }
}

#[cfg(test)]
mod advance_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
