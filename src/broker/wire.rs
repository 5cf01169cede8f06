//! Frames that nodes exchange through a broker: publications of topics, and messages between nodes. Pure: bytes ↔ values.
//!
//! A frame is a header of fixed size and a payload:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | version of the format, 1 |
//! | 1 | kind |
//! | 8 | node that made it |
//! | 8 | its number among the frames of that node, from 1 |
//! | 8 | the number of the first attempt, if it is sent again because it may have been lost; otherwise its own |
//! | 8 | when it was made, in milliseconds since 1970 by that node's clock |
//! | rest | payload |
//!
//! Integers are big-endian. Each attempt has a number of its own, so that a position names one place in one line of history: had two
//! attempts the same id, a broker that was set back could give it the same offset after other publications than before. A publication of a topic with history is preceded by a line of text, which a script on the broker puts
//! together from strings alone: `epoch:offset:node-sequence\n`, the text form of a position with the id of the **previous**
//! publication. Its first byte is a digit or a letter, so it cannot be taken for a version.
//!
//! What arrives is hostile input: a broker can be shared, or run by another version. Nothing here panics, allocates, or trusts a
//! length. Unknown versions and kinds are errors of their own, for counting.

use crate::broker::position::{NodeId, Offset, Position, PublicationId};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 1 + 1 + 8 + 8 + 8 + 8;

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A message for the subscribers of a topic.
    Publication,
    /// A message for all connections, or for those of one user.
    Announcement,
    /// A command or a question for other nodes.
    Command,
    /// The answer to a question.
    Answer,
    /// The node is alive.
    Heartbeat,
    /// The node is shutting down.
    Leaving,
}

/// A frame whose payload is borrowed from the bytes that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'bytes> {
    pub kind: FrameKind,
    pub id: PublicationId,
    /// The id of the first attempt, by which receivers recognize what they have.
    pub origin: PublicationId,
    /// Milliseconds since 1970, by the clock of the node that made it.
    pub time: u64,
    pub payload: &'bytes [u8],
}

/// What arrived on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'bytes> {
    /// Without a position: a message between nodes, or a publication of a topic without history.
    Plain(Frame<'bytes>),
    /// A publication with its place in the history of its topic.
    Positioned { frame: Frame<'bytes>, position: Position, previous: PublicationId },
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MalformedMessage {
    /// Another version of the format, or no such format at all.
    Version,
    Kind,
    /// Too short, or a number that cannot be.
    Frame,
    /// The line before a publication is not a position, or the frame after it is no publication.
    Position,
}

impl FrameKind {
    pub const ALL: [Self; 6] =
        [Self::Publication, Self::Announcement, Self::Command, Self::Answer, Self::Heartbeat, Self::Leaving];

    const fn code(self) -> u8 {
        match self {
            Self::Publication => 1,
            Self::Announcement => 2,
            Self::Command => 3,
            Self::Answer => 4,
            Self::Heartbeat => 5,
            Self::Leaving => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl<'bytes> Frame<'bytes> {
    /// The frame as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        bytes.extend_from_slice(&[VERSION, self.kind.code()]);
        bytes.extend_from_slice(&self.id.node.to_bits().to_be_bytes());
        bytes.extend_from_slice(&self.id.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.origin.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.time.to_be_bytes());
        bytes.extend_from_slice(self.payload);
        bytes
    }

    fn decode(bytes: &'bytes [u8]) -> Result<Self, MalformedMessage> {
        let (version, rest) = bytes.split_first().ok_or(MalformedMessage::Frame)?;
        if *version != VERSION {
            return Err(MalformedMessage::Version);
        }
        let (kind, rest) = rest.split_first().ok_or(MalformedMessage::Frame)?;
        let kind = FrameKind::from_code(*kind).ok_or(MalformedMessage::Kind)?;
        let (node, rest) = number(rest)?;
        let (sequence, rest) = number(rest)?;
        let (first, rest) = number(rest)?;
        let (time, payload) = number(rest)?;
        if first == 0 || first > sequence {
            return Err(MalformedMessage::Frame);
        }
        let id = |sequence| PublicationId { node: NodeId::from_bits(node), sequence };
        Ok(Self { kind, id: id(sequence), origin: id(first), time, payload })
    }
}

impl<'bytes> Message<'bytes> {
    pub fn decode(bytes: &'bytes [u8]) -> Result<Self, MalformedMessage> {
        match bytes.first() {
            Some(first) if first.is_ascii_alphanumeric() => Self::decode_positioned(bytes),
            _ => Frame::decode(bytes).map(Self::Plain),
        }
    }

    fn decode_positioned(bytes: &'bytes [u8]) -> Result<Self, MalformedMessage> {
        // The line end is looked for where it can be, not in the whole payload.
        let start = bytes.get(..=Position::MAX_TEXT_LEN).unwrap_or(bytes);
        let end = start.iter().position(|byte| *byte == b'\n').ok_or(MalformedMessage::Position)?;
        let (line, frame) = bytes.split_at_checked(end).ok_or(MalformedMessage::Position)?;
        let line = std::str::from_utf8(line).map_err(|_| MalformedMessage::Position)?;
        let line = Position::parse(line).map_err(|_| MalformedMessage::Position)?;
        let frame = Frame::decode(frame.get(1..).unwrap_or_default())?;
        // The first publication of an epoch has offset 1, and no publication follows itself.
        if frame.kind != FrameKind::Publication || line.offset == Offset::ZERO || line.id == frame.id {
            return Err(MalformedMessage::Position);
        }
        let position = Position { id: frame.id, ..line };
        Ok(Self::Positioned { frame, position, previous: line.id })
    }
}

/// The line that precedes a publication with this position, as the script on the broker writes it.
pub fn position_line(position: Position, previous: PublicationId) -> String {
    format!("{}\n", Position { id: previous, ..position })
}

fn number(bytes: &[u8]) -> Result<(u64, &[u8]), MalformedMessage> {
    let (number, rest) = bytes.split_first_chunk().ok_or(MalformedMessage::Frame)?;
    Ok((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests;
