//! Writes log lines to stderr on a thread of its own, so that an unread pipe blocks neither a shard nor JavaScript.
//!
//! One per process, for as long as a service logs to stderr. Lines wait in a bounded queue; further ones are dropped and counted, and
//! the count is written when there is room.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait.
const LINES: usize = 1024;

/// Bytes of one line that are kept.
const LINE_BYTES: usize = 8 * 1024;

/// How long to wait before a write that would block is tried again: Node makes pipes non-blocking.
const RETRY_DELAY: Duration = Duration::from_millis(5);

static CURRENT: Mutex<Weak<LogWriter>> = Mutex::new(Weak::new());

pub struct LogWriter {
    commands: SyncSender<Command>,
    lost: Arc<AtomicU64>,
}

enum Command {
    Write(Vec<u8>),
    /// Everything before it has been written.
    Flush(SyncSender<()>),
}

/// Takes whole lines, as the formatting layer writes them.
pub struct Lines(Arc<LogWriter>);

impl LogWriter {
    /// The process's writer; `None` if its thread cannot be started.
    pub fn shared() -> Option<Arc<Self>> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = current.upgrade() {
            return Some(writer);
        }
        let (commands, receiver) = sync_channel(LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let count = lost.clone();
        thread::Builder::new().name("carillon-log".into()).spawn(move || run(&receiver, &count, io::stderr())).ok()?;
        let writer = Arc::new(Self { commands, lost });
        *current = Arc::downgrade(&writer);
        Some(writer)
    }

    /// Waits until what was logged so far is written, but not longer than `limit`.
    pub fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let (done, written) = sync_channel(1);
        let mut command = Command::Flush(done);
        loop {
            match self.commands.try_send(command) {
                Ok(()) => break,
                Err(TrySendError::Full(refused)) if Instant::now() < deadline => command = refused,
                Err(_) => return,
            }
            thread::sleep(RETRY_DELAY);
        }
        // After the time-out stderr is not being read.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Lines {
    pub fn new(writer: Arc<LogWriter>) -> Self {
        Self(writer)
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let kept = line.get(..LINE_BYTES).unwrap_or(line);
        if self.0.commands.try_send(Command::Write(kept.to_vec())).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run(commands: &Receiver<Command>, lost: &AtomicU64, mut out: impl Write) {
    for command in commands {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            write(&mut out, format!("carillon: {count} log lines were lost, stderr was not read in time\n").as_bytes());
        }
        match command {
            Command::Write(line) => write(&mut out, &line),
            Command::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// Writes all of it, or gives up where the other end has gone.
fn write(out: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return,
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(failure) if failure.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
            Err(failure) if failure.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
