//! Frames to messages: fragments, control frames between them, UTF-8, inflation, limits. Pure.
//!
//! One per connection, empty and without heap while nothing is incomplete. What the peer claims is checked before
//! anything is kept; what is kept grows with what has arrived. The sink of messages decides before each whether to go
//! on, so that the work done at once is bounded.

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

/// What [`Assembler::advance`] hands messages to, and asks before each whether it may go on.
pub trait MessageSink {
    /// Called when a message is complete, before its last frame is unmasked and before anything is inflated.
    fn before_message(&mut self, info: MessageInfo) -> Intake;

    /// Takes the message. `Break` stops after it.
    fn on_message(&mut self, message: Message<'_>) -> ControlFlow<()>;
}

/// What is known of a message before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    pub kind: Kind,
    /// Payload as it was sent, of all its fragments.
    pub wire_bytes: usize,
    pub is_compressed: bool,
    /// It came in several frames, or in several portions.
    pub is_reassembled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Hand the message on. A compressed one that lies whole in the input is left there, as for [`Wait`](Self::Wait),
    /// if it inflates to more than this.
    Take { max_inflated: usize },
    /// Pass over the message: it is neither inflated nor checked.
    Skip,
    /// Stop before the message; its last bytes stay in the input.
    Wait,
}

/// Whether to go on with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Continue,
    /// After what was taken.
    Stop,
    /// Before what was looked at.
    Wait,
}

impl From<ControlFlow<()>> for Flow {
    fn from(flow: ControlFlow<()>) -> Self {
        match flow {
            ControlFlow::Continue(()) => Self::Continue,
            ControlFlow::Break(()) => Self::Stop,
        }
    }
}

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
        sink: &mut impl MessageSink,
    ) -> Result<Flow, CloseReason> {
        let intake = match head.length {
            0 => self.ask(&head, 0, sink),
            _ => None,
        };
        if intake == Some(Intake::Wait) {
            return Ok(Flow::Wait);
        }
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
            return self.end_frame(intake, limits, inflater, sink);
        }
        Ok(Flow::Continue)
    }

    /// Takes what belongs to the frame under way and returns the rest.
    fn continue_frame<'i>(
        &mut self,
        input: &'i mut [u8],
        limits: &Limits,
        inflater: &mut Inflater,
        sink: &mut impl MessageSink,
    ) -> Result<(&'i mut [u8], Flow), CloseReason> {
        let Some((head, received)) = self.frame else { return Ok((input, Flow::Continue)) };
        let missing = usize::try_from(head.length - received).unwrap_or(usize::MAX);
        let is_complete = missing <= input.len();
        let intake = match is_complete {
            true => self.ask(&head, missing, sink),
            false => None,
        };
        if intake == Some(Intake::Wait) {
            return Ok((input, Flow::Wait));
        }
        let (payload, rest) = input.split_at_mut(missing.min(input.len()));
        frame::unmask(payload, head.mask, received);
        self.frame = Some((head, received + payload.len() as u64));
        match &mut self.message {
            Some(message) if !head.kind.is_control() => message.add(payload)?,
            _ => self.control.extend_from_slice(payload),
        }
        if !is_complete {
            return Ok((rest, Flow::Continue));
        }
        Ok((rest, self.end_frame(intake, limits, inflater, sink)?))
    }

    /// Asks the sink, if the frame completes a message with these last bytes of it.
    fn ask(&self, head: &Head, last_bytes: usize, sink: &mut impl MessageSink) -> Option<Intake> {
        let (kind, wire_bytes, is_compressed) = match &self.message {
            _ if head.kind.is_control() => (head.kind, self.control.len(), false),
            _ if !head.is_final => return None,
            Some(message) => (message.kind(), message.data.len(), message.is_compressed),
            None => (head.kind, 0, head.is_compressed),
        };
        let wire_bytes = wire_bytes + last_bytes;
        Some(sink.before_message(MessageInfo { kind, wire_bytes, is_compressed, is_reassembled: true }))
    }

    /// `intake`: what the sink has said to the message that the frame completes.
    fn end_frame(
        &mut self,
        intake: Option<Intake>,
        limits: &Limits,
        inflater: &mut Inflater,
        sink: &mut impl MessageSink,
    ) -> Result<Flow, CloseReason> {
        let Some((head, _)) = self.frame.take() else { return Ok(Flow::Continue) };
        let Some(intake) = intake else { return Ok(Flow::Continue) };
        let is_skipped = intake == Intake::Skip;
        if head.kind.is_control() {
            let payload = std::mem::take(&mut self.control);
            return if is_skipped { Ok(Flow::Continue) } else { deliver(&head, &payload, limits, inflater, sink) };
        }
        let Some(message) = self.message.take().filter(|_| !is_skipped) else { return Ok(Flow::Continue) };
        let whole = Head { kind: message.kind(), is_compressed: message.is_compressed, ..head };
        deliver(&whole, &message.data, limits, inflater, sink)
    }
}

impl Unfinished {
    fn kind(&self) -> Kind {
        if self.is_text { Kind::Text } else { Kind::Binary }
    }

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

/// Unmasks and hands on a message that lies whole in the input, or leaves it there as it was.
fn deliver_in_place(
    head: &Head,
    payload: &mut [u8],
    limits: &Limits,
    inflater: &mut Inflater,
    sink: &mut impl MessageSink,
) -> Result<Flow, CloseReason> {
    let info = MessageInfo {
        kind: head.kind,
        wire_bytes: payload.len(),
        is_compressed: head.is_compressed,
        is_reassembled: false,
    };
    let max_inflated = match sink.before_message(info) {
        Intake::Take { max_inflated } => max_inflated,
        Intake::Skip => return Ok(Flow::Continue),
        Intake::Wait => return Ok(Flow::Wait),
    };
    frame::unmask(payload, head.mask, 0);
    if !head.is_compressed || max_inflated >= limits.max_message {
        return deliver(head, payload, limits, inflater, sink);
    }
    match deliver(head, payload, &Limits { max_message: max_inflated, ..*limits }, inflater, sink) {
        Err(CloseReason::MessageTooBig) => {
            // Masking again undoes the unmasking.
            frame::unmask(payload, head.mask, 0);
            Ok(Flow::Wait)
        }
        delivered => delivered,
    }
}

/// Hands a complete, unmasked payload on.
fn deliver(
    head: &Head,
    payload: &[u8],
    limits: &Limits,
    inflater: &mut Inflater,
    sink: &mut impl MessageSink,
) -> Result<Flow, CloseReason> {
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
    let flow = sink.on_message(message);
    inflater.forget_room();
    Ok(flow.into())
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
mod advance_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
