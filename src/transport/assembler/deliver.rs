//! Complete payloads to messages: unmasked, inflated, checked and handed to the receiver. Pure.

use super::message::{Flow, Intake, Limits, Message, MessageInfo, MessageSink, PeerClose};
use crate::error::CloseReason;
use crate::transport::deflate::Inflater;
use crate::transport::frame::{self, Head, Kind};

/// Unmasks and hands on a message that lies whole in the input, or leaves it there as it was.
pub(super) fn deliver_in_place(
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
pub(super) fn deliver(
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
pub(super) fn parse_close(payload: &[u8]) -> Result<Option<PeerClose<'_>>, CloseReason> {
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
