//! Frames and extensions as a client writes and reads them (RFC 6455 §5, RFC 7692). Pure.
//!
//! Deliberately not the code of the service: a fault that both had would not show. Writes whatever it is asked to, valid
//! or not.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const MASK: [u8; 4] = [0x3d, 0xa1, 0x07, 0xf6];
/// What is inflated at a time.
const PORTION: usize = 64 * 1024;
const EMPTY_BLOCK: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// How the length of a payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthForm {
    Shortest,
    Bits16,
    Bits64,
}

/// A frame to be written. Everything may be wrong.
#[derive(Clone, Debug)]
pub struct Frame {
    pub opcode: u8,
    pub is_final: bool,
    /// The three reserved bits as a number: 4 is RSV1.
    pub reserved: u8,
    pub mask: Option<[u8; 4]>,
    pub form: LengthForm,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self { opcode, is_final: true, reserved: 0, mask: Some(MASK), form: LengthForm::Shortest, payload }
    }

    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(TEXT, payload)
    }

    pub fn close(code: u16, reason: &[u8]) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason].concat())
    }

    pub fn unfinished(self) -> Self {
        Self { is_final: false, ..self }
    }

    pub fn reserved(self, reserved: u8) -> Self {
        Self { reserved, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(14 + self.payload.len());
        bytes.push(u8::from(self.is_final) << 7 | self.reserved << 4 | self.opcode);
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let length = self.payload.len();
        match self.form {
            LengthForm::Shortest if length < 126 => bytes.push(masked | length as u8),
            LengthForm::Shortest | LengthForm::Bits16 if length < 0x1_0000 => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let start = bytes.len() + self.mask.map_or(0, |mask| mask.len());
        bytes.extend(self.mask.into_iter().flatten());
        bytes.extend_from_slice(&self.payload);
        if let (Some(mask), Some(payload)) = (self.mask, bytes.get_mut(start..)) {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        bytes
    }
}

/// The frames of one message, each with at most `size` bytes of it; 0 is no limit.
pub fn fragments(opcode: u8, reserved: u8, payload: &[u8], size: usize) -> Vec<Frame> {
    let size = if size == 0 { payload.len().max(1) } else { size };
    let mut frames: Vec<_> = payload.chunks(size).map(|chunk| Frame::new(CONTINUATION, chunk).unfinished()).collect();
    if frames.is_empty() {
        frames.push(Frame::new(CONTINUATION, []));
    }
    if let Some(first) = frames.first_mut() {
        (first.opcode, first.reserved) = (opcode, reserved);
    }
    if let Some(last) = frames.last_mut() {
        last.is_final = true;
    }
    frames
}

/// The head of a frame that was read: first byte, whether it is masked, length of the payload, length of the head.
pub struct Head {
    pub first: u8,
    pub is_masked: bool,
    pub length: usize,
    pub size: usize,
    pub is_shortest: bool,
}

/// `None` while it is not all there.
pub fn read_head(bytes: &[u8]) -> Option<Head> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, extended) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 2),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 8),
        short => (usize::from(short), 0),
    };
    let is_masked = second & 0x80 != 0;
    let size = 2 + extended + if is_masked { 4 } else { 0 };
    let is_shortest = match extended {
        2 => length > 125,
        8 => length > 0xffff,
        _ => true,
    };
    Some(Head { first: *first, is_masked, length, size, is_shortest })
}

/// What a client offers, as the header's value; nothing if it is empty.
#[derive(Clone, Debug, Default)]
pub struct Offer(pub String);

/// permessage-deflate as it was agreed on.
pub struct Deflate {
    compress: Compress,
    decompress: Decompress,
    client_keeps_context: bool,
    server_keeps_context: bool,
    server_window: u8,
}

impl Deflate {
    /// `None` if the response does not accept the extension.
    ///
    /// # Errors
    /// What the response says that no client understands.
    pub fn agreed(response: Option<&str>) -> Result<Option<Self>, String> {
        let Some(response) = response else { return Ok(None) };
        let mut parts = response.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            return Err(format!("an extension that was not offered: {response}"));
        }
        let (mut client_bits, mut server_bits) = (15, 15);
        let (mut client_keeps_context, mut server_keeps_context) = (true, true);
        for part in parts {
            let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, value.parse().ok()));
            match (name, value) {
                ("client_no_context_takeover", None) => client_keeps_context = false,
                ("server_no_context_takeover", None) => server_keeps_context = false,
                ("client_max_window_bits", Some(bits @ 9..=15)) => client_bits = bits,
                ("server_max_window_bits", Some(bits @ 9..=15)) => server_bits = bits,
                _ => return Err(format!("a parameter of no meaning: {part}")),
            }
        }
        Ok(Some(Self {
            compress: Compress::new_with_window_bits(Compression::fast(), false, client_bits),
            decompress: Decompress::new_with_window_bits(false, server_bits),
            client_keeps_context,
            server_keeps_context,
            server_window: server_bits,
        }))
    }

    pub fn compress(&mut self, payload: &[u8]) -> Vec<u8> {
        if !self.client_keeps_context {
            self.compress.reset();
        }
        let mut output = Vec::with_capacity(payload.len() / 2 + 64);
        let start = self.compress.total_in();
        loop {
            output.reserve(payload.len() / 4 + 64);
            let used = (self.compress.total_in() - start) as usize;
            let rest = payload.get(used..).unwrap_or_default();
            let room = output.capacity() - output.len();
            let before = output.len();
            // The codec fails for no input whatever.
            let _ = self.compress.compress_vec(rest, &mut output, FlushCompress::Sync);
            let is_done = (self.compress.total_in() - start) as usize == payload.len();
            if is_done && output.len() - before < room {
                break;
            }
        }
        output.truncate(output.len() - EMPTY_BLOCK.len());
        output
    }

    /// # Errors
    /// The payload is no deflate stream.
    pub fn inflate(&mut self, payload: &[u8]) -> Result<Vec<u8>, String> {
        if !self.server_keeps_context {
            // Also forgets the window, so that a server that has kept its context is found out.
            self.decompress = Decompress::new_with_window_bits(false, self.server_window);
        }
        let input = [payload, &EMPTY_BLOCK].concat();
        let mut buffer = vec![0; PORTION];
        let mut output = Vec::with_capacity(payload.len() * 3);
        let mut used = 0;
        loop {
            let (before_in, before_out) = (self.decompress.total_in(), self.decompress.total_out());
            let rest = input.get(used..).unwrap_or_default();
            let status = self.decompress.decompress(rest, &mut buffer, FlushDecompress::Sync);
            let status = status.map_err(|failure| format!("no deflate stream: {failure}"))?;
            used += (self.decompress.total_in() - before_in) as usize;
            let written = (self.decompress.total_out() - before_out) as usize;
            output.extend_from_slice(buffer.get(..written).unwrap_or_default());
            if status == Status::StreamEnd {
                self.decompress.reset(false);
                return Ok(output);
            }
            if used == input.len() && written < PORTION {
                return Ok(output);
            }
            if written == 0 && used < input.len() && status == Status::BufError {
                return Err("the deflate stream makes no progress".into());
            }
        }
    }
}
