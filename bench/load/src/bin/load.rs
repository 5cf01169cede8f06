//! The load generator: `load '{"port":…,"secret":…,"dialect":"plain"}'`, commands on standard input, outcomes on standard
//! output, the server's standard input as descriptor 3.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::fd::FromRawFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use carillon_bench::command::{Command, Target};
use carillon_bench::generator::{COMMAND, Generator};
use mio::{Poll, Waker};

const SERVER: i32 = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target: Target = serde_json::from_str(&std::env::args().nth(1).ok_or("which target?")?)?;
    // SAFETY: the runner opened descriptor 3 for this process, and nothing else here uses it.
    let server = unsafe { File::from_raw_fd(SERVER) };
    let poll = Poll::new()?;
    // Held here as well: a waker that is dropped takes its last call with it.
    let waker = Arc::new(Waker::new(poll.registry(), COMMAND)?);
    let reader = Arc::clone(&waker);
    let (sender, commands) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(Some(line)).is_err() || reader.wake().is_err() {
                return;
            }
        }
        let _ = sender.send(None);
        let _ = reader.wake();
    });
    let mut generator = Generator::new(target, server, poll);
    loop {
        let Ok(line) = commands.try_recv() else {
            generator.wait()?;
            continue;
        };
        let Some(line) = line else { return Ok(()) };
        let command: Command = serde_json::from_str(&line)?;
        generator.begin();
        let result = match command {
            Command::Open(opening) => generator.open(opening),
            Command::Lockstep { topic, rounds, burst } => generator.lockstep(topic, rounds, burst),
            Command::Stream(stream) => generator.stream(stream),
            Command::Ping { rounds } => generator.ping(rounds),
            Command::Resume => generator.resume(),
            Command::Settle { milliseconds } => generator.settle(Duration::from_millis(milliseconds)),
            Command::Close => generator.close(),
        };
        let outcome = generator.outcome(result);
        println!("{}", serde_json::to_string(&outcome)?);
        io::stdout().flush()?;
    }
}
