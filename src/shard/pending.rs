//! A handshake that is not finished: its request is being read, the application is being asked, or a response is being written.
//!
//! Owned by the shard's `peers` under the key that its connection will have. Does the I/O of its stage and says what follows; what a
//! request means is decided in `handshake`.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tracing::debug;

use crate::hub::limit::Slot;
use crate::shard::pending_places::PlaceIndex;
use crate::transport::forwarded::Peer as PeerAddress;
use crate::transport::handshake::{RequestHead, Upgrade};
use crate::transport::head_reader::{HeadError, HeadReader};
use crate::transport::{Source, Transport};
use crate::types::ConnectionNumber;

/// What is read of a peer after its response, so that a reset does not take the response away; then the reset follows.
const MAX_READ_AFTER_RESPONSE: usize = 64 * 1024;

pub struct PendingHandshake {
    pub number: ConnectionNumber,
    pub stage: Stage,
    /// In `run_queue`'s list of peers to drive without news of their transport.
    pub is_ready: bool,
}

pub enum Stage {
    /// The request is not complete.
    Reading(Reading),
    /// The request waits for the application's answer.
    Authorizing(Authorizing),
    /// A response is written that opens no connection.
    Responding(Responding),
    /// Between two stages, and after the last.
    Ended,
}

pub struct Reading {
    pub transport: Transport,
    reader: HeadReader,
    pub peer: PeerAddress,
    pub place: PlaceIndex,
    _slot: Slot,
}

pub struct Authorizing {
    pub source: UpgradeSource,
    pub upgrade: Upgrade,
    pub early: Vec<u8>,
    pub remote_address: Box<str>,
}

pub struct Responding {
    transport: Transport,
    response: Vec<u8>,
    written: usize,
    /// How many more bytes of the peer are read once the response is written.
    left: usize,
}

/// Where an upgrade request came from.
pub enum UpgradeSource {
    /// Node, which has read the request.
    Unwatched(Source),
    /// This shard, which watches it under the key of the pending handshake.
    Watched(Transport),
}

/// What a pending handshake has come to.
pub enum Progress {
    /// Nothing can be done before there is news of the transport.
    Waiting,
    /// The same, but the transport holds bytes that it will not give news of.
    Yielded,
    /// The request is complete; the bytes behind it.
    Request(RequestHead, Vec<u8>),
    /// The request cannot be read.
    Fault(HeadError),
    /// The peer is gone, or has read its response.
    Ended,
}

impl UpgradeSource {
    /// Whether the peer is gone by now.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Unwatched(source) => source.has_ended(),
            Self::Watched(transport) => transport.has_ended(),
        }
    }
}

impl PendingHandshake {
    pub fn new(number: ConnectionNumber, stage: Stage) -> Self {
        Self { number, stage, is_ready: false }
    }

    pub fn reading(
        number: ConnectionNumber,
        transport: Transport,
        peer: PeerAddress,
        place: PlaceIndex,
        slot: Slot,
    ) -> Self {
        let reader = HeadReader::default();
        Self::new(number, Stage::Reading(Reading { transport, reader, peer, place, _slot: slot }))
    }

    pub fn responding(number: ConnectionNumber, transport: Transport, response: Vec<u8>) -> Self {
        let responding = Responding { transport, response, written: 0, left: MAX_READ_AFTER_RESPONSE };
        Self::new(number, Stage::Responding(responding))
    }

    pub fn transport(&self) -> Option<&Transport> {
        match &self.stage {
            Stage::Reading(Reading { transport, .. })
            | Stage::Authorizing(Authorizing { source: UpgradeSource::Watched(transport), .. })
            | Stage::Responding(Responding { transport, .. }) => Some(transport),
            Stage::Authorizing(Authorizing { source: UpgradeSource::Unwatched(_), .. }) | Stage::Ended => None,
        }
    }

    /// Takes the request's state out, if the request is being read.
    pub fn take_reading(&mut self) -> Option<Reading> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Reading(reading) => Some(reading),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// The same, if the application is being asked.
    pub fn take_authorizing(&mut self) -> Option<Authorizing> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Authorizing(authorizing) => Some(authorizing),
            stage => {
                self.stage = stage;
                None
            }
        }
    }

    /// Reads or writes as far as is possible without waiting. `buffer` is for what is read.
    pub fn drive(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Progress {
        match &mut self.stage {
            Stage::Reading(reading) => reading.drive(buffer, cx),
            Stage::Authorizing(_) => Progress::Waiting,
            Stage::Responding(responding) => match responding.drive(buffer, cx) {
                Poll::Pending if responding.transport.is_readable() => Progress::Yielded,
                Poll::Pending => Progress::Waiting,
                Poll::Ready(Ok(())) => Progress::Ended,
                Poll::Ready(Err(failure)) => {
                    debug!(%failure, "a response was not taken");
                    Progress::Ended
                }
            },
            Stage::Ended => Progress::Ended,
        }
    }
}

impl Reading {
    fn drive(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Progress {
        loop {
            let read = match self.transport.poll_read(cx, buffer) {
                Poll::Pending if self.transport.is_readable() => return Progress::Yielded,
                Poll::Pending => return Progress::Waiting,
                Poll::Ready(Ok(0)) => return Progress::Ended,
                Poll::Ready(Ok(count)) => self.reader.push(buffer.get(..count).unwrap_or_default()),
                Poll::Ready(Err(failure)) => {
                    debug!(%failure, "a connection was lost before its request");
                    return Progress::Ended;
                }
            };
            match read {
                Ok(None) => {}
                Ok(Some((head, early))) => return Progress::Request(head, early),
                Err(fault) => return Progress::Fault(fault),
            }
        }
    }
}

impl Responding {
    /// Writes, ends our side, and reads what the peer still sends.
    fn drive(&mut self, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.response.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.transport.poll_writable(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => return Poll::Pending,
            }
            match self.transport.try_write(&[IoSlice::new(rest)]) {
                Ok(count) => self.written += count,
                Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => {}
                Err(failure) => return Poll::Ready(Err(failure)),
            }
            if self.written == self.response.len() {
                self.transport.shutdown_write();
            }
        }
        while self.left > 0 {
            let most = self.left.min(buffer.len());
            match self.transport.poll_read(cx, buffer.get_mut(..most).unwrap_or_default()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(count)) => self.left -= count,
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.transport.abort();
        Poll::Ready(Ok(()))
    }
}
