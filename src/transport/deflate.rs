//! permessage-deflate (RFC 7692): negotiation, inflating under a limit, deflating. Pure.
//!
//! Always without context takeover in either direction, so a shard needs one [`Inflater`] and one deflater per window
//! size, and a connection keeps nothing but its [`Encoding`].

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::error::CloseReason;
use crate::transport::encoding::{Encoding, WindowClass};
use crate::transport::extensions::{Extension, parse};

/// What ends every message and is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// An empty final block: ends the stream if it stands between two blocks, and shows thereby that it does.
const FINAL_BLOCK: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// Measured on JSON of 1 to 64 KiB with a window of 10 bits: the knee of the curve. Level 2 is within a tenth of level
/// 6's size and takes 30 µs per 4 KiB; level 1 takes 19 µs, but what it makes is a third larger, for every receiver;
/// higher levels take longer and gain next to nothing.
const LEVEL: Compression = Compression::new(2);

/// What the inflater's buffer keeps between messages.
const KEPT_BYTES: usize = 64 * 1024;

/// Own window and the smallest a client may ask for, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflatePolicy {
    pub server_max_window_bits: u8,
    pub min_server_window_bits: u8,
}

impl DeflatePolicy {
    /// What the service's clients have always been answered.
    pub const SERVICE: Self = Self { server_max_window_bits: 10, min_server_window_bits: 10 };

    /// Everything the codec can do; zlib has no window of 8 bits.
    pub const FULL_RANGE: Self = Self { server_max_window_bits: 15, min_server_window_bits: 9 };
}

/// An accepted offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    server_max_window_bits: u8,
    client_max_window_bits: Option<u8>,
    /// Whether the offer asked for a window of its own: RFC 7692 §7.1.2.1 lets a server name one unasked.
    names_server_window: bool,
}

/// The header is malformed, or permessage-deflate was offered in no acceptable way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacceptable;

/// Answers a `Sec-WebSocket-Extensions` header: the first acceptable offer, nothing if the extension is not offered.
pub fn negotiate(header: &str, policy: &DeflatePolicy) -> Result<Option<Negotiated>, Unacceptable> {
    let mut offers = Vec::new();
    for extension in parse(header) {
        let extension = extension.map_err(|_malformed| Unacceptable)?;
        if extension.name == "permessage-deflate" {
            // One broken offer spoils the header, wherever it stands.
            offers.push(Offer::read(&extension)?);
        }
    }
    if offers.is_empty() {
        return Ok(None);
    }
    offers.iter().find_map(|offer| offer.accept(policy)).map(Some).ok_or(Unacceptable)
}

impl Negotiated {
    /// The header's value for the 101.
    pub fn response(&self) -> String {
        let mut response = "permessage-deflate; server_no_context_takeover; client_no_context_takeover".to_owned();
        if self.names_server_window {
            response.push_str(&format!("; server_max_window_bits={}", self.server_max_window_bits));
        }
        if let Some(bits) = self.client_max_window_bits {
            response.push_str(&format!("; client_max_window_bits={bits}"));
        }
        response
    }

    pub fn encoding(&self) -> Encoding {
        Encoding::Deflate(WindowClass::new(self.server_max_window_bits))
    }
}

/// The parameters of one offer (RFC 7692 §7.1).
#[derive(Default)]
struct Offer {
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<u8>,
}

impl Offer {
    fn read(extension: &Extension<'_>) -> Result<Self, Unacceptable> {
        let mut offer = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in &extension.parameters {
            match (*name, value) {
                ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
                ("server_max_window_bits", Some(value)) => offer.server_max_window_bits = Some(window_bits(value)?),
                ("client_max_window_bits", Some(value)) => offer.client_max_window_bits = Some(window_bits(value)?),
                _ => return Err(Unacceptable),
            }
            // Four names exist, so this list stays short.
            if seen.contains(name) {
                return Err(Unacceptable);
            }
            seen.push(name);
        }
        Ok(offer)
    }

    fn accept(&self, policy: &DeflatePolicy) -> Option<Negotiated> {
        let asked = self.server_max_window_bits.unwrap_or(15);
        (asked >= policy.min_server_window_bits).then(|| Negotiated {
            server_max_window_bits: policy.server_max_window_bits.min(asked),
            client_max_window_bits: self.client_max_window_bits,
            names_server_window: self.server_max_window_bits.is_some() || policy.server_max_window_bits < 15,
        })
    }
}

fn window_bits(value: &str) -> Result<u8, Unacceptable> {
    let bits: u8 = value.parse().map_err(|_| Unacceptable)?;
    let is_canonical = (8..=15).contains(&bits) && value == bits.to_string();
    if is_canonical { Ok(bits) } else { Err(Unacceptable) }
}

/// Inflates messages, one at a time, into a buffer of its own.
#[derive(Debug, Default)]
pub struct Inflater {
    stream: Option<Decompress>,
    output: Vec<u8>,
}

impl Inflater {
    /// The message, if it is no longer than `max` bytes. Stops at the limit, whatever the rest would become.
    pub fn inflate(&mut self, payload: &[u8], max: usize) -> Result<&[u8], CloseReason> {
        self.output.clear();
        // Nothing at all is no deflate stream, but some clients send it for an empty message.
        if !payload.is_empty()
            && let Err(reason) = self.read_stream(payload, max)
        {
            self.forget_room();
            return Err(reason);
        }
        Ok(&self.output)
    }

    fn read_stream(&mut self, payload: &[u8], max: usize) -> Result<(), CloseReason> {
        if let Some(stream) = &mut self.stream {
            stream.reset(false);
        }
        if self.feed(payload, max)? {
            // A final block of the message's own ends it too; what follows is padding (RFC 7692 §7.2.3.4).
            return Ok(());
        }
        // A tail taken for anything else than an empty block shows that the message broke off (RFC 7692 §7.2.2).
        let length = self.output.len();
        let is_whole = self.feed(&TAIL, max)? || self.feed(&FINAL_BLOCK, max)?;
        if is_whole && self.output.len() == length { Ok(()) } else { Err(CloseReason::InvalidData) }
    }

    /// Inflates all of `input`; whether it ended with the stream's final block.
    fn feed(&mut self, mut input: &[u8], max: usize) -> Result<bool, CloseReason> {
        // A window of 15 bits reads what any smaller one has written.
        let stream = self.stream.get_or_insert_with(|| Decompress::new_with_window_bits(false, 15));
        loop {
            let written = self.output.len();
            if written == self.output.capacity() {
                // One byte beyond the limit tells that it is passed.
                let room = (max.saturating_add(1) - written).min(written.max(4096));
                self.output.reserve_exact(room);
            }
            let before = stream.total_in();
            let status = stream
                .decompress_vec(input, &mut self.output, FlushDecompress::Sync)
                .map_err(|_corrupt| CloseReason::InvalidData)?;
            if self.output.len() > max {
                return Err(CloseReason::MessageTooBig);
            }
            if status == Status::StreamEnd {
                return Ok(true);
            }
            let taken = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            let has_stopped = taken == 0 && self.output.len() == written;
            // Room to spare means that nothing waits for it.
            if input.is_empty() && (has_stopped || self.output.len() < self.output.capacity()) {
                return Ok(false);
            }
            if has_stopped {
                return Err(CloseReason::InvalidData);
            }
        }
    }

    /// Gives an exceptional message's memory back.
    pub fn forget_room(&mut self) {
        if self.output.capacity() > KEPT_BYTES {
            self.output = Vec::new();
        }
    }

    pub fn heap_bytes(&self) -> usize {
        self.output.capacity()
    }
}

/// Compresses messages: one deflater per window class in use.
#[derive(Debug, Default)]
pub struct Deflaters {
    streams: [Option<Compress>; WindowClass::COUNT],
}

impl Deflaters {
    /// The payload of a compressed message, without its tail. `None` if it cannot be had; the message goes plain then.
    pub fn deflate(&mut self, class: WindowClass, payload: &[u8]) -> Option<Vec<u8>> {
        let new = || Compress::new_with_window_bits(LEVEL, false, class.bits());
        let stream = self.streams.get_mut(class.index())?.get_or_insert_with(new);
        stream.reset();
        let mut output = Vec::with_capacity(payload.len() / 2 + 64);
        let mut rest = payload;
        loop {
            let before = stream.total_in();
            stream.compress_vec(rest, &mut output, FlushCompress::Sync).ok()?;
            let taken = usize::try_from(stream.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if output.len() < output.capacity() {
                break;
            }
            output.reserve(output.len());
        }
        let kept = output.len().checked_sub(TAIL.len())?;
        if !rest.is_empty() || !output.ends_with(&TAIL) {
            return None;
        }
        output.truncate(kept);
        Some(output)
    }
}

#[cfg(test)]
mod tests;
