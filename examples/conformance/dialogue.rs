//! Cases of many messages, each sent when the one before it has come back.
//!
//! Carried out on the thread of a worker.

use std::time::Instant;

use crate::case::{Behavior, Closing, Target, Verdict};
use crate::peer::{Event, Peer};
use crate::wire::{BINARY, Frame, Offer, TEXT, fragments};

/// The message with this number.
pub type Source = Box<dyn FnMut(usize) -> Vec<u8>>;

pub struct Dialogue {
    pub is_text: bool,
    pub message: Source,
    /// Bytes of a message, as it is sent, to a frame; 0 is no limit.
    pub fragment: usize,
    /// Empty: without compression.
    pub offer: Offer,
}

impl Dialogue {
    pub fn carry_out(mut self, mut peer: Peer, target: &Target) -> Verdict {
        let (mut behavior, detail) = match self.talk(&mut peer, target) {
            Ok(behavior) => (behavior, String::new()),
            Err(detail) => (Behavior::Failed, detail),
        };
        let surplus = peer.take_events().len();
        if peer.is_open() {
            peer.send_close(&Frame::close(1000, b""));
        }
        let deadline = Instant::now() + target.patience;
        while !peer.has_ended() {
            if !peer.advance(deadline) && Instant::now() >= deadline {
                peer.drop_stream();
            }
        }
        if surplus + peer.events().len() > 0 || peer.violation().is_some() {
            behavior = Behavior::Failed;
        }
        let detail = peer.violation().map_or(detail, |violation| format!("the server sent {violation}"));
        Verdict { behavior, ending: Closing::NORMAL.judge(&peer), close_code: peer.close_code(), detail }
    }

    fn talk(&mut self, peer: &mut Peer, target: &Target) -> Result<Behavior, String> {
        let is_compressed = !self.offer.0.is_empty();
        if is_compressed && peer.deflate().is_none() {
            return Ok(Behavior::Unimplemented);
        }
        let opcode = if self.is_text { TEXT } else { BINARY };
        for number in 0..target.messages {
            let payload = (self.message)(number);
            let frames = match peer.deflate() {
                Some(deflate) => fragments(opcode, 4, &deflate.compress(&payload), self.fragment),
                None => fragments(opcode, 0, &payload, self.fragment),
            };
            peer.send(&frames.iter().flat_map(Frame::bytes).collect::<Vec<_>>());
            let deadline = Instant::now() + target.patience;
            while peer.events().is_empty() && peer.is_open() {
                if !peer.advance(deadline) && Instant::now() >= deadline {
                    return Err(format!("message {number} did not come back in time"));
                }
            }
            let length = payload.len();
            if peer.take_events() != [Event::Message { is_text: self.is_text, payload }] {
                return Err(format!("message {number} of {length} bytes did not come back as it was"));
            }
        }
        Ok(Behavior::Ok)
    }
}
