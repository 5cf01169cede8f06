//! How the messages of one connection are put on the wire. Values only.

/// What the handshake has negotiated for the messages to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Deflate(WindowClass),
}

/// A window size of permessage-deflate; connections of one class share compressed frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowClass(u8);

impl WindowClass {
    pub const COUNT: usize = 7;

    /// zlib has no window of 8 bits: it becomes one of 9.
    pub(super) fn new(bits: u8) -> Self {
        Self(bits.clamp(9, 15))
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// 0 to [`COUNT`](Self::COUNT), exclusive.
    pub fn index(self) -> usize {
        usize::from(self.0 - 9)
    }
}
