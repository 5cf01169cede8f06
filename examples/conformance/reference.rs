//! A small echo server that is right, and that can be made wrong in one way at a time. Shows that the cases can fail.
//!
//! Shares nothing with the service. Blocking, a thread to each connection; used by `proof.rs` alone.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::peer::ACCEPT;
use crate::wire::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, read_head};

/// How long one that goes on after a close frame waits for more.
const A_LITTLE: Duration = Duration::from_millis(300);

/// How long a server that does not end its connections keeps them.
const TOO_LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    AcceptsAnyCloseCode,
    AcceptsAnyLengthForm,
    AcceptsFragmentedControlFrames,
    AcceptsInterruptedMessages,
    AcceptsInvalidCloseReasons,
    AcceptsInvalidText,
    AcceptsLongControlFrames,
    AcceptsOrphanedContinuations,
    AcceptsReservedBits,
    AcceptsReservedOpcodes,
    AcceptsUnmaskedFrames,
    AnswersClosesWithAnotherCode,
    AnswersPongs,
    AnswersTheWrongKey,
    ChecksTextAtItsEnd,
    DropsFragments,
    EchoesTwice,
    GoesOnAfterClose,
    IgnoresPings,
    IgnoresWhatCameWithTheRequest,
    KeepsItsContext,
    LeavesTheStreamOpen,
    MasksItsFrames,
    NeverAnswersCloses,
    ReportsErrorsAsPolicy,
    RefusesUncompressedMessages,
    SwapsTextAndBinary,
    TruncatesEchoes,
}

/// Listens on a port of its own for as long as the process lives.
///
/// # Errors
/// No port is to be had.
pub fn start(fault: Fault) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // A failure concerns this peer alone.
                let _ = serve(stream, fault);
            });
        }
    });
    Ok(address)
}

/// Why a connection is not read any further: the frame that says so, if any.
struct Stop(Option<Vec<u8>>);

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self(None)
    }
}

struct Server {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    fault: Fault,
    /// With permessage-deflate.
    deflate: Option<(Decompress, Compress)>,
    message: Option<Message>,
}

struct Message {
    opcode: u8,
    is_compressed: bool,
    data: Vec<u8>,
}

fn serve(stream: TcpStream, fault: Fault) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut server =
        Server { reader: BufReader::new(stream.try_clone()?), writer: stream, fault, deflate: None, message: None };
    server.greet()?;
    let stop = loop {
        if let Err(Stop(frame)) = server.frame() {
            break frame;
        }
    };
    if let Some(frame) = stop {
        server.write(CLOSE, &frame)?;
        if fault == Fault::GoesOnAfterClose {
            server.writer.set_read_timeout(Some(A_LITTLE))?;
            while server.frame().is_ok() {}
        }
    }
    if fault == Fault::LeavesTheStreamOpen {
        thread::sleep(TOO_LONG);
    }
    server.writer.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut server.reader, &mut std::io::sink()).map(|_| ())
}

impl Server {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn greet(&mut self) -> std::io::Result<()> {
        let (mut line, mut offer) = (String::new(), None);
        while !matches!(line.as_str(), "\r\n") {
            line.clear();
            self.reader.read_line(&mut line)?;
            if let Some(value) = line.strip_prefix("Sec-WebSocket-Extensions: ") {
                offer = value.trim().split(',').next().map(str::to_owned);
            }
        }
        if self.has(Fault::IgnoresWhatCameWithTheRequest) {
            let buffered = self.reader.buffer().len();
            self.reader.consume(buffered);
        }
        let accept = if self.has(Fault::AnswersTheWrongKey) { "AAAAAAAAAAAAAAAAAAAAAAAAAAA=" } else { ACCEPT };
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n"
        );
        if let Some(offer) = offer {
            let window: Option<u8> =
                offer.split_once("server_max_window_bits=").and_then(|(_, bits)| bits.parse().ok());
            let named = window.map(|bits| format!("; server_max_window_bits={bits}")).unwrap_or_default();
            response.push_str("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; ");
            response.push_str(&format!("client_no_context_takeover{named}\r\n"));
            let bits = window.unwrap_or(15);
            self.deflate = Some((
                Decompress::new_with_window_bits(false, 15),
                Compress::new_with_window_bits(Compression::best(), false, bits),
            ));
        }
        self.writer.write_all(format!("{response}\r\n").as_bytes())
    }

    /// Reads and answers one frame.
    fn frame(&mut self) -> Result<(), Stop> {
        let mut head = [0; 14];
        let mut size = 0;
        let parsed = loop {
            let Some(byte) = head.get_mut(size..=size) else { return Err(self.violation()) };
            std::io::Read::read_exact(&mut self.reader, byte)?;
            size += 1;
            let is_too_long = size == 10 && head[1] & 0x7f == 127 && head[2] & 0x80 != 0;
            if is_too_long && !self.has(Fault::AcceptsAnyLengthForm) {
                return Err(self.violation());
            }
            if let Some(parsed) = read_head(head.get(..size).unwrap_or_default())
                && parsed.size == size
            {
                break parsed;
            }
        };
        let opcode = parsed.first & 15;
        self.check(parsed.first, parsed.is_masked, parsed.is_shortest, parsed.length)?;
        if opcode >= CLOSE {
            let mut payload = vec![0; parsed.length];
            std::io::Read::read_exact(&mut self.reader, &mut payload)?;
            unmask(&mut payload, parsed.is_masked, &head, size);
            return self.control(opcode, &payload);
        }
        let is_compressed = parsed.first & 0x40 != 0 && self.deflate.is_some();
        let fresh = || Message { opcode, is_compressed, data: Vec::new() };
        if opcode != CONTINUATION || (self.has(Fault::DropsFragments) && parsed.length > 0) {
            let opcode = self.message.as_ref().map_or(opcode, |message| message.opcode);
            let is_compressed = is_compressed || self.message.as_ref().is_some_and(|message| message.is_compressed);
            self.message = Some(Message { opcode, is_compressed, data: Vec::new() });
        }
        let mut message = self.message.take().unwrap_or_else(fresh);
        self.payload(&mut message, parsed.length, parsed.is_masked, &head, size)?;
        if parsed.first & 0x80 == 0 {
            self.message = Some(message);
            return Ok(());
        }
        self.echo(message)
    }

    fn violation(&self) -> Stop {
        let code: u16 = if self.has(Fault::ReportsErrorsAsPolicy) { 1008 } else { 1002 };
        Stop(Some(code.to_be_bytes().to_vec()))
    }

    fn invalid(&self) -> Stop {
        Stop(Some(1007_u16.to_be_bytes().to_vec()))
    }

    fn check(&self, first: u8, is_masked: bool, is_shortest: bool, length: usize) -> Result<(), Stop> {
        let (is_final, opcode) = (first & 0x80 != 0, first & 15);
        let is_control = opcode >= CLOSE;
        let rsv1_is_allowed = self.deflate.is_some() && matches!(opcode, TEXT | BINARY);
        let reserved = first & if rsv1_is_allowed { 0x30 } else { 0x70 };
        let is_reserved_opcode = !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG);
        let is_inside = self.message.is_some();
        let faults = [
            (reserved != 0, Fault::AcceptsReservedBits),
            (is_reserved_opcode, Fault::AcceptsReservedOpcodes),
            (!is_masked, Fault::AcceptsUnmaskedFrames),
            (!is_shortest, Fault::AcceptsAnyLengthForm),
            (is_control && !is_final, Fault::AcceptsFragmentedControlFrames),
            (is_control && length > 125, Fault::AcceptsLongControlFrames),
            (opcode == CONTINUATION && !is_inside, Fault::AcceptsOrphanedContinuations),
            (matches!(opcode, TEXT | BINARY) && is_inside, Fault::AcceptsInterruptedMessages),
        ];
        let is_violation = faults.into_iter().any(|(is_wrong, fault)| is_wrong && !self.has(fault));
        if is_violation { Err(self.violation()) } else { Ok(()) }
    }

    /// Appends the frame's payload as it comes, looking at text at once.
    fn payload(
        &mut self,
        message: &mut Message,
        length: usize,
        is_masked: bool,
        head: &[u8],
        size: usize,
    ) -> Result<(), Stop> {
        let start = message.data.len();
        while message.data.len() - start < length {
            let buffered = self.reader.fill_buf()?;
            let count = buffered.len().min(length - (message.data.len() - start));
            if count == 0 {
                return Err(Stop(None));
            }
            let offset = message.data.len() - start;
            let mask = head.get(size.saturating_sub(4)..size).filter(|_| is_masked).unwrap_or(&[0]);
            let bytes = buffered.iter().take(count).zip(mask.iter().cycle().skip(offset % mask.len()));
            message.data.extend(bytes.map(|(byte, key)| byte ^ key));
            self.reader.consume(count);
            let looks = !matches!(self.fault, Fault::AcceptsInvalidText | Fault::ChecksTextAtItsEnd);
            if message.opcode == TEXT && !message.is_compressed && looks {
                let checked = std::str::from_utf8(&message.data);
                if checked.is_err_and(|error| error.error_len().is_some()) {
                    return Err(self.invalid());
                }
            }
        }
        Ok(())
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) -> Result<(), Stop> {
        match opcode {
            PING if self.has(Fault::IgnoresPings) => Ok(()),
            PING => Ok(self.write(PONG, payload)?),
            PONG if self.has(Fault::AnswersPongs) => Ok(self.write(PONG, payload)?),
            CLOSE if self.has(Fault::NeverAnswersCloses) => Err(Stop(None)),
            CLOSE => Err(self.close(payload)),
            _ => Ok(()),
        }
    }

    fn close(&self, payload: &[u8]) -> Stop {
        let [high, low, reason @ ..] = payload else {
            return if payload.is_empty() { Stop(Some(Vec::new())) } else { self.violation() };
        };
        let code = u16::from_be_bytes([*high, *low]);
        let is_code = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let is_text = std::str::from_utf8(reason).is_ok();
        if !is_code && !self.has(Fault::AcceptsAnyCloseCode) {
            return self.violation();
        }
        if !is_text && !self.has(Fault::AcceptsInvalidCloseReasons) {
            return self.invalid();
        }
        let code = match self.fault {
            Fault::AnswersClosesWithAnotherCode => 1012,
            _ if !is_code => 1000,
            _ => code,
        };
        Stop(Some(code.to_be_bytes().to_vec()))
    }

    fn echo(&mut self, message: Message) -> Result<(), Stop> {
        if self.has(Fault::RefusesUncompressedMessages) && self.deflate.is_some() && !message.is_compressed {
            return Err(self.violation());
        }
        let mut data = message.data;
        if message.is_compressed
            && let Some((decompress, _)) = &mut self.deflate
        {
            data = inflate(decompress, &data).ok_or_else(|| self.invalid())?;
        }
        let is_text = message.opcode == TEXT;
        if is_text && !self.has(Fault::AcceptsInvalidText) && std::str::from_utf8(&data).is_err() {
            return Err(self.invalid());
        }
        if self.has(Fault::TruncatesEchoes) {
            data.truncate(125);
        }
        let opcode = match message.opcode {
            TEXT if self.has(Fault::SwapsTextAndBinary) => BINARY,
            BINARY if self.has(Fault::SwapsTextAndBinary) => TEXT,
            BINARY => BINARY,
            _ => TEXT,
        };
        for _ in 0..if self.has(Fault::EchoesTwice) { 2 } else { 1 } {
            let keeps_context = self.has(Fault::KeepsItsContext);
            match &mut self.deflate {
                Some((_, compress)) => {
                    let payload = deflate(compress, &data, keeps_context);
                    self.write(opcode | 0x40, &payload)?;
                }
                None => self.write(opcode, &data)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, first: u8, payload: &[u8]) -> std::io::Result<()> {
        let mask = if self.has(Fault::MasksItsFrames) { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | first];
        match payload.len() {
            length @ ..126 => bytes.push(mask | length as u8),
            length @ ..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if mask != 0 {
            bytes.extend_from_slice(&[0; 4]);
        }
        bytes.extend_from_slice(payload);
        self.writer.write_all(&bytes)
    }
}

fn unmask(payload: &mut [u8], is_masked: bool, head: &[u8], size: usize) {
    let mask = head.get(size.saturating_sub(4)..size).filter(|_| is_masked).unwrap_or(&[0]);
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

fn inflate(decompress: &mut Decompress, payload: &[u8]) -> Option<Vec<u8>> {
    decompress.reset(false);
    let input = [payload, &[0x00, 0x00, 0xff, 0xff]].concat();
    let mut output = Vec::with_capacity(payload.len() * 4 + 1024);
    loop {
        output.reserve(4096);
        let room = output.capacity() - output.len();
        let (used, length) = (decompress.total_in() as usize, output.len());
        let rest = input.get(used..).unwrap_or_default();
        let status = decompress.decompress_vec(rest, &mut output, FlushDecompress::Sync).ok()?;
        let is_used_up = decompress.total_in() as usize == input.len();
        if status == Status::StreamEnd || (is_used_up && output.len() - length < room) {
            return Some(output);
        }
    }
}

fn deflate(compress: &mut Compress, data: &[u8], keeps_context: bool) -> Vec<u8> {
    if !keeps_context {
        compress.reset();
    }
    let start = compress.total_in();
    let mut output = Vec::new();
    loop {
        output.reserve(data.len() / 2 + 1024);
        let room = output.capacity() - output.len();
        let length = output.len();
        let rest = data.get((compress.total_in() - start) as usize..).unwrap_or_default();
        let _ = compress.compress_vec(rest, &mut output, FlushCompress::Sync);
        if (compress.total_in() - start) as usize == data.len() && output.len() - length < room {
            output.truncate(output.len() - 4);
            return output;
        }
    }
}
