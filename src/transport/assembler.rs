//! Frames to messages: fragments, control frames between them, UTF-8, inflation, limits. Pure.
//!
//! One per connection, empty and without heap while nothing is incomplete. What the peer claims is checked before
//! anything is kept; what is kept grows with what has arrived.

use std::ops::ControlFlow;

use crate::error::CloseReason;
use crate::transport::deflate::Inflater;
use crate::transport::frame::{self, Head, Kind, MAX_HEAD_BYTES};

/// What one peer may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message, reassembled and inflated.
    pub max_message: usize,
    /// Data frames of a message. `u32::MAX`: no limit.
    pub max_fragments: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Binary(&'a [u8]),
    Close(Option<PeerClose<'a>>),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Text(&'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerClose<'a> {
    pub code: u16,
    pub reason: &'a str,
}

type Sink<'s> = &'s mut dyn FnMut(Message<'_>) -> ControlFlow<()>;

#[derive(Debug)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
    deflate: bool,
}

/// What is incomplete.
#[derive(Debug, Default)]
struct Partial {
    /// The beginning of a head.
    head: Vec<u8>,
    /// A frame whose payload is not all there, and how much of it is.
    frame: Option<(Head, u64)>,
    /// The payload of an unfinished control frame.
    control: Vec<u8>,
    message: Option<Unfinished>,
}

/// A data message whose last frame has not ended.
#[derive(Debug)]
struct Unfinished {
    is_text: bool,
    is_compressed: bool,
    data: Vec<u8>,
    fragments: u32,
    /// How much of `data` is known to be whole UTF-8 sequences.
    checked: usize,
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
        sink: Sink<'_>,
    ) -> Result<(), CloseReason> {
        let result = self.take_in(input, limits, inflater, sink);
        if result.is_err() {
            // The connection may linger until its peer has heard of it.
            self.partial = None;
        }
        result
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

    fn take_in(
        &mut self,
        mut input: &mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        sink: Sink<'_>,
    ) -> Result<(), CloseReason> {
        while !input.is_empty() {
            let flow = if let Some(partial) = self.partial.as_deref_mut().filter(|partial| partial.frame.is_some()) {
                let flow;
                (input, flow) = partial.continue_frame(input, limits, inflater, sink)?;
                flow
            } else {
                let Some((head, rest)) = self.read_head(input)? else { return Ok(()) };
                input = rest;
                let unfinished = self.partial.as_deref().and_then(|partial| partial.message.as_ref());
                check_order(&head, unfinished, limits)?;
                let length = usize::try_from(head.length).ok().filter(|length| *length <= input.len());
                let is_whole = head.kind.is_control() || (head.is_final && head.kind != Kind::Continuation);
                match length {
                    // The usual case: a message that is one frame that is all here is handed on where it lies.
                    Some(length) if is_whole => {
                        let (payload, rest) = input.split_at_mut(length);
                        input = rest;
                        frame::unmask(payload, head.mask, 0);
                        deliver(&head, payload, limits, inflater, sink)?
                    }
                    _ => self.partial.get_or_insert_default().begin(head, limits, inflater, sink)?,
                }
            };
            if flow.is_break() {
                self.partial = None;
                return Ok(());
            }
            if self.partial.as_deref().is_some_and(Partial::is_empty) {
                self.partial = None;
            }
        }
        Ok(())
    }

    /// The next head and what follows it; `None` if it is not all there, and then the bytes are kept.
    fn read_head<'i>(&mut self, input: &'i mut [u8]) -> Result<Option<(Head, &'i mut [u8])>, CloseReason> {
        let kept = self.partial.as_deref_mut().map(|partial| &mut partial.head).filter(|head| !head.is_empty());
        if let Some(kept) = kept {
            let before = kept.len();
            kept.extend_from_slice(input.get(..input.len().min(MAX_HEAD_BYTES - before)).unwrap_or_default());
            let Some(head) = frame::decode(kept, self.deflate)? else { return Ok(None) };
            kept.clear();
            // The head did not end in what was kept, or it would have been read then.
            let (_, rest) = input.split_at_mut(head.size - before);
            return Ok(Some((head, rest)));
        }
        match frame::decode(input, self.deflate)? {
            Some(head) => Ok(Some((head, input.split_at_mut(head.size).1))),
            None => {
                self.partial.get_or_insert_default().head.extend_from_slice(input);
                Ok(None)
            }
        }
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.head.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    /// Begins a frame that is not a whole message here. An empty one is complete already.
    fn begin(
        &mut self,
        head: Head,
        limits: &Limits,
        inflater: &mut Inflater,
        sink: Sink<'_>,
    ) -> Result<ControlFlow<()>, CloseReason> {
        if !head.kind.is_control() {
            let message = self.message.get_or_insert_with(|| Unfinished {
                is_text: head.kind == Kind::Text,
                is_compressed: head.is_compressed,
                data: Vec::new(),
                fragments: 0,
                checked: 0,
            });
            message.fragments += 1;
        }
        self.frame = Some((head, 0));
        if head.length == 0 {
            return self.end_frame(limits, inflater, sink);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Takes what belongs to the frame under way and returns the rest.
    fn continue_frame<'i>(
        &mut self,
        input: &'i mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        sink: Sink<'_>,
    ) -> Result<(&'i mut [u8], ControlFlow<()>), CloseReason> {
        let Some((head, received)) = &mut self.frame else { return Ok((input, ControlFlow::Continue(()))) };
        let missing = usize::try_from(head.length - *received).unwrap_or(usize::MAX);
        let (payload, rest) = input.split_at_mut(missing.min(input.len()));
        frame::unmask(payload, head.mask, *received);
        *received += payload.len() as u64;
        let is_complete = *received == head.length;
        match &mut self.message {
            Some(message) if !head.kind.is_control() => message.add(payload)?,
            _ => self.control.extend_from_slice(payload),
        }
        if !is_complete {
            return Ok((rest, ControlFlow::Continue(())));
        }
        Ok((rest, self.end_frame(limits, inflater, sink)?))
    }

    fn end_frame(
        &mut self,
        limits: &Limits,
        inflater: &mut Inflater,
        sink: Sink<'_>,
    ) -> Result<ControlFlow<()>, CloseReason> {
        let Some((head, _)) = self.frame.take() else { return Ok(ControlFlow::Continue(())) };
        if head.kind.is_control() {
            let payload = std::mem::take(&mut self.control);
            return deliver(&head, &payload, limits, inflater, sink);
        }
        if !head.is_final {
            return Ok(ControlFlow::Continue(()));
        }
        let Some(message) = self.message.take() else { return Ok(ControlFlow::Continue(())) };
        let kind = if message.is_text { Kind::Text } else { Kind::Binary };
        let whole = Head { kind, is_compressed: message.is_compressed, ..head };
        deliver(&whole, &message.data, limits, inflater, sink)
    }
}

impl Unfinished {
    fn add(&mut self, payload: &[u8]) -> Result<(), CloseReason> {
        self.data.extend_from_slice(payload);
        if !self.is_text || self.is_compressed {
            return Ok(());
        }
        // Text is checked as it comes, so that a bad byte is not waited on to the end of its message.
        match simdutf8::compat::from_utf8(self.data.get(self.checked..).unwrap_or_default()) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(CloseReason::InvalidData),
        }
        Ok(())
    }
}

/// The frame may come now, and what it announces is within the limits.
fn check_order(head: &Head, unfinished: Option<&Unfinished>, limits: &Limits) -> Result<(), CloseReason> {
    if head.kind.is_control() {
        return Ok(());
    }
    if (head.kind == Kind::Continuation) != unfinished.is_some() {
        return Err(CloseReason::ProtocolError);
    }
    let (is_compressed, before, fragments) = match unfinished {
        Some(message) => (message.is_compressed, message.data.len(), message.fragments),
        None => (head.is_compressed, 0, 0),
    };
    if fragments >= limits.max_fragments {
        return Err(CloseReason::TooManyFragments);
    }
    // What cannot be compressed becomes longer by a few bytes per block; an eighth is far more than any deflater needs.
    let allowance = if is_compressed { limits.max_message / 8 + 64 } else { 0 };
    let max = limits.max_message.saturating_add(allowance);
    if (before as u64).saturating_add(head.length) > max as u64 {
        return Err(CloseReason::MessageTooBig);
    }
    Ok(())
}

/// Hands a complete, unmasked payload on.
fn deliver(
    head: &Head,
    payload: &[u8],
    limits: &Limits,
    inflater: &mut Inflater,
    sink: Sink<'_>,
) -> Result<ControlFlow<()>, CloseReason> {
    let message = match head.kind {
        Kind::Close => Message::Close(parse_close(payload)?),
        Kind::Ping => Message::Ping(payload),
        Kind::Pong => Message::Pong(payload),
        Kind::Text | Kind::Binary | Kind::Continuation => {
            let data = if head.is_compressed { inflater.inflate(payload, limits.max_message)? } else { payload };
            if head.kind == Kind::Text {
                Message::Text(simdutf8::basic::from_utf8(data).map_err(|_| CloseReason::InvalidData)?)
            } else {
                Message::Binary(data)
            }
        }
    };
    let flow = sink(message);
    inflater.forget_room();
    Ok(flow)
}

/// RFC 6455 §5.5.1 and §7.4.
fn parse_close(payload: &[u8]) -> Result<Option<PeerClose<'_>>, CloseReason> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(CloseReason::ProtocolError) };
    };
    let code = u16::from_be_bytes(*code);
    let may_be_sent = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !may_be_sent {
        return Err(CloseReason::ProtocolError);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| CloseReason::InvalidData)?;
    Ok(Some(PeerClose { code, reason }))
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
