//! What a socket is ready for. Values only.

/// What a watched socket is ready for, as far as is known. Edges only: what was found empty or full stays so until the
/// system says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub readable: bool,
    pub writable: bool,
    /// The end of the stream, or an error, waits behind what can be read: no further edge will come.
    pub ended: bool,
}

impl Readiness {
    pub fn add(&mut self, news: Self) {
        self.readable |= news.readable || news.ended;
        self.writable |= news.writable || news.ended;
        self.ended |= news.ended;
    }
}
