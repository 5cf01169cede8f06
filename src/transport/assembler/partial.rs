//! What is incomplete of one connection's input: a head, a frame, a message. Pure.

use super::deliver::deliver;
use super::message::{Flow, Intake, Limits, MessageInfo, MessageSink};
use crate::error::CloseReason;
use crate::transport::deflate::Inflater;
use crate::transport::frame::{self, Head, Kind};

/// What is incomplete.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The beginning of a head.
    pub head: Vec<u8>,
    /// A frame whose payload is not all there, and how much of it is.
    pub frame: Option<(Head, u64)>,
    /// The payload of an unfinished control frame.
    pub control: Vec<u8>,
    pub message: Option<Unfinished>,
}

/// A data message whose last frame has not ended.
#[derive(Debug)]
pub(super) struct Unfinished {
    is_text: bool,
    is_compressed: bool,
    pub data: Vec<u8>,
    fragments: u32,
    /// How much of `data` is known to be whole UTF-8 sequences.
    checked: usize,
}

impl Partial {
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    /// Begins a frame that is not a whole message here. An empty one is complete already.
    pub fn begin(
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
    pub fn continue_frame<'i>(
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
pub(super) fn check_order(head: &Head, unfinished: Option<&Unfinished>, limits: &Limits) -> Result<(), CloseReason> {
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
