//! A case: what a client does, what may come back, how the connection has to end, and the verdict on what did happen.
//!
//! Pure but for `Case::run`, which a worker thread of `main.rs` calls. Verdicts have the names that the Autobahn suite
//! gives them, so that the two can be compared.

use std::fmt;
use std::time::Duration;

use crate::dialogue::Dialogue;
use crate::peer::{Event, Peer};
use crate::script::Script;
use crate::wire::Offer;

/// What a run has in common for all its cases.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// How long a server may take for anything it must do.
    pub patience: Duration,
    /// Messages that a case with many of them sends: 1 000 as the suite has it, fewer to be quick.
    pub messages: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behavior {
    Ok,
    NonStrict,
    Informational,
    Unimplemented,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Ok,
    Informational,
    /// The server left the TCP connection to the client.
    FailedByClient,
    WrongCode,
    Unclean,
    Failed,
}

impl fmt::Display for Behavior {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "OK",
            Self::NonStrict => "NON-STRICT",
            Self::Informational => "INFORMATIONAL",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Failed => "FAILED",
        })
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Ok => "OK",
            Self::Informational => "INFORMATIONAL",
            Self::FailedByClient => "FAILED BY CLIENT",
            Self::WrongCode => "WRONG CODE",
            Self::Unclean => "UNCLEAN",
            Self::Failed => "FAILED",
        })
    }
}

#[derive(Clone, Debug)]
pub struct Verdict {
    pub behavior: Behavior,
    pub ending: Ending,
    /// The code of the server's close frame.
    pub close_code: Option<u16>,
    /// For the reader of a report.
    pub detail: String,
}

impl Verdict {
    /// NON-STRICT is no pass: invalid UTF-8 has to be found at once.
    pub fn is_pass(&self) -> bool {
        matches!(self.behavior, Behavior::Ok | Behavior::Informational)
            && matches!(self.ending, Ending::Ok | Ending::Informational)
    }
}

/// How the connection has to end.
#[derive(Clone, Debug)]
pub struct Closing {
    /// Whether the client begins the closing handshake, and not the server.
    pub by_client: bool,
    /// The codes a server may send. No code is always in order.
    pub codes: &'static [u16],
    /// Whether both close frames and the server's end of the stream are required.
    pub is_clean: bool,
    /// Whether the wrong code fails the case, and not only its end.
    pub code_is_decisive: bool,
}

impl Closing {
    /// After an answer: the client closes with 1000.
    pub const NORMAL: Self = Self { by_client: true, codes: &[1000], is_clean: true, code_is_decisive: false };
    /// After a violation: the server fails the connection.
    pub const PROTOCOL_ERROR: Self =
        Self { by_client: false, codes: &[1002], is_clean: false, code_is_decisive: false };
    pub const INVALID_DATA: Self = Self { by_client: false, codes: &[1007], is_clean: false, code_is_decisive: false };

    /// The client's own close frame is the subject.
    pub const fn answered(codes: &'static [u16], is_clean: bool) -> Self {
        Self { by_client: true, codes, is_clean, code_is_decisive: true }
    }

    /// The verdict on the end of a connection that was open.
    pub fn judge(&self, peer: &Peer) -> Ending {
        if self.by_client != peer.closed_by_client() {
            Ending::Failed
        } else if self.is_clean && !peer.is_clean() {
            Ending::Unclean
        } else if peer.close_code().is_some_and(|code| !self.codes.contains(&code)) {
            Ending::WrongCode
        } else if peer.was_left_open() {
            Ending::FailedByClient
        } else {
            Ending::Ok
        }
    }
}

pub enum Plan {
    Script(Script),
    Dialogue(Dialogue),
}

pub struct Case {
    pub id: String,
    /// Sends or compresses much: left out of the quick part.
    pub is_slow: bool,
    /// Has the place of a case in the Autobahn suite.
    pub is_in_suite: bool,
    make: Box<dyn Fn() -> Plan + Send + Sync>,
}

impl Case {
    pub fn new(id: impl Into<String>, make: impl Fn() -> Plan + Send + Sync + 'static) -> Self {
        Self { id: id.into(), is_slow: false, is_in_suite: true, make: Box::new(make) }
    }

    pub fn script(id: impl Into<String>, make: impl Fn() -> Script + Send + Sync + 'static) -> Self {
        Self::new(id, move || Plan::Script(make()))
    }

    pub fn slow(self, is_slow: bool) -> Self {
        Self { is_slow, ..self }
    }

    pub fn beyond_the_suite(self) -> Self {
        Self { is_in_suite: false, ..self }
    }

    /// Whether the id is the pattern, or begins with it where it ends in `*`.
    pub fn matches(&self, pattern: &str) -> bool {
        pattern.strip_suffix('*').map_or(self.id == pattern, |prefix| self.id.starts_with(prefix))
    }

    /// Connects, carries the case out, and judges.
    pub fn run(&self, target: &Target) -> Verdict {
        let plan = (self.make)();
        let offer = match &plan {
            Plan::Script(script) => &script.offer,
            Plan::Dialogue(dialogue) => &dialogue.offer,
        };
        let opening = match &plan {
            Plan::Script(script) => script.opening,
            Plan::Dialogue(_) => crate::peer::Opening::Alone,
        };
        let early = match &plan {
            Plan::Script(script) => script.early.as_slice(),
            Plan::Dialogue(_) => &[],
        };
        match Peer::open(target, offer, opening, early) {
            Err(reason) => Verdict {
                behavior: Behavior::Failed,
                ending: Ending::Failed,
                close_code: None,
                detail: format!("the handshake was not completed: {reason}"),
            },
            Ok(peer) => match plan {
                Plan::Script(script) => script.carry_out(peer, target),
                Plan::Dialogue(dialogue) => dialogue.carry_out(peer, target),
            },
        }
    }
}

/// What came, cut to what a report can show.
pub fn summary(events: &[Event]) -> String {
    let shown: Vec<_> = events.iter().take(6).map(ToString::to_string).collect();
    format!("[{}]{}", shown.join(", "), if events.len() > 6 { " and more" } else { "" })
}

pub fn no_offer() -> Offer {
    Offer::default()
}
