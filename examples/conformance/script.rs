//! Cases that are a few steps and a list of what may come back.
//!
//! Carried out on the thread of a worker. A script waits for what it expects and ends as soon as the verdict is clear: the
//! server's patience is spent in full only by one that does nothing.

use std::time::{Duration, Instant};

use crate::case::{Behavior, Closing, Ending, Target, Verdict, no_offer, summary};
use crate::peer::{Event, Opening, Peer};
use crate::wire::{Frame, Offer};

/// Time in which a server may not give up a connection.
const PAUSE: Duration = Duration::from_secs(1);

pub enum Step {
    Send(Vec<u8>),
    /// So many bytes to a write.
    SendInPieces(Vec<u8>, usize),
    /// A close frame, which begins the closing handshake.
    Close(Frame),
    /// Until so many events have come.
    Await(usize),
    /// The connection has to stay open for a while, and that is recorded.
    Pause(char),
    /// As `Pause`, but with patience: it is not to stay open.
    LastPause(char),
}

pub struct Script {
    pub steps: Vec<Step>,
    pub ok: Vec<Event>,
    pub non_strict: Option<Vec<Event>>,
    pub closing: Closing,
    pub offer: Offer,
    pub opening: Opening,
    /// Frames that come with the request.
    pub early: Vec<u8>,
    /// No verdict: the outcome is left open by the protocol.
    pub is_informational: bool,
}

impl Script {
    /// Frames that are answered; then the client closes.
    pub fn answered(frames: &[Frame], ok: Vec<Event>) -> Self {
        Self::new(vec![Step::Send(concat(frames))], ok, Closing::NORMAL)
    }

    /// Frames for which the server fails the connection.
    pub fn refused(frames: &[Frame]) -> Self {
        Self::new(vec![Step::Send(concat(frames))], Vec::new(), Closing::PROTOCOL_ERROR)
    }

    pub fn new(steps: Vec<Step>, ok: Vec<Event>, closing: Closing) -> Self {
        Self {
            steps,
            ok,
            non_strict: None,
            closing,
            offer: no_offer(),
            opening: Opening::Alone,
            early: Vec::new(),
            is_informational: false,
        }
    }

    /// The same bytes, in pieces of this size.
    pub fn in_pieces(mut self, size: usize) -> Self {
        for step in &mut self.steps {
            if let Step::Send(bytes) = step {
                *step = Step::SendInPieces(std::mem::take(bytes), size);
            }
        }
        self
    }

    pub fn or_non_strict(mut self, events: Vec<Event>) -> Self {
        self.non_strict = Some(events);
        self
    }

    pub fn carry_out(self, mut peer: Peer, target: &Target) -> Verdict {
        for step in &self.steps {
            match step {
                Step::Send(bytes) => peer.send(bytes),
                Step::SendInPieces(bytes, size) => peer.send_in_pieces(bytes, *size),
                Step::Close(frame) => peer.send_close(frame),
                Step::Await(count) => {
                    let deadline = Instant::now() + target.patience;
                    while peer.events().len() < *count && !peer.has_ended() && peer.advance(deadline) {}
                }
                Step::Pause(name) => stay_open(&mut peer, *name, PAUSE),
                Step::LastPause(name) => stay_open(&mut peer, *name, target.patience),
            }
        }
        self.finish(&mut peer, target);
        self.judge(&peer)
    }

    /// Until the stream has ended, on either side.
    fn finish(&self, peer: &mut Peer, target: &Target) {
        let mut deadline = Instant::now() + target.patience;
        let mut is_closing = peer.has_sent_close();
        while !peer.has_ended() {
            if !peer.has_sent_close() {
                if self.closing.by_client && self.ok == peer.events() {
                    let code = self.closing.codes.first().copied().unwrap_or(1000);
                    peer.send_close(&Frame::close(code, b""));
                } else if self.is_hopeless(peer.events()) {
                    peer.send_close(&Frame::close(1001, b"Going Away"));
                }
            }
            if peer.has_sent_close() && !is_closing {
                is_closing = true;
                deadline = Instant::now() + target.patience;
            }
            if !peer.advance(deadline) && Instant::now() >= deadline {
                if peer.has_sent_close() {
                    peer.drop_stream();
                } else {
                    peer.send_close(&Frame::close(1001, b"Going Away"));
                }
            }
        }
    }

    /// Whatever comes, it will be no outcome that is allowed.
    fn is_hopeless(&self, events: &[Event]) -> bool {
        let begins = |outcome: &Vec<Event>| outcome.starts_with(events);
        !begins(&self.ok) && !self.non_strict.as_ref().is_some_and(begins)
    }

    fn judge(&self, peer: &Peer) -> Verdict {
        let mut behavior = if peer.violation().is_some() {
            Behavior::Failed
        } else if self.ok == peer.events() {
            Behavior::Ok
        } else if self.non_strict.as_deref() == Some(peer.events()) {
            Behavior::NonStrict
        } else {
            Behavior::Failed
        };
        let mut ending = self.closing.judge(peer);
        if ending == Ending::WrongCode && self.closing.code_is_decisive {
            behavior = Behavior::Failed;
        }
        // Bad UTF-8 that the server did not close for was not found.
        if self.closing.codes == Closing::INVALID_DATA.codes && self.closing.by_client != peer.closed_by_client() {
            behavior = Behavior::Failed;
        }
        if self.is_informational {
            (behavior, ending) = (Behavior::Informational, Ending::Informational);
        }
        let detail = match peer.violation() {
            Some(violation) => format!("the server sent {violation}"),
            None => format!("expected {}, came {}", summary(&self.ok), summary(peer.events())),
        };
        Verdict { behavior, ending, close_code: peer.close_code(), detail }
    }
}

fn stay_open(peer: &mut Peer, name: char, time: Duration) {
    let until = Instant::now() + time;
    while peer.is_open() && Instant::now() < until {
        peer.advance(until);
    }
    if peer.is_open() {
        peer.note(Event::Pause(name));
    }
}

pub fn concat(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}
