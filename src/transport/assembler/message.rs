//! Messages as the assembler hands them on, and what their receiver decides. Values and one trait.

use std::ops::ControlFlow;

use crate::transport::frame::Kind;

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
pub(super) enum Flow {
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
