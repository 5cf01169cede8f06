//! What the runner asks of the generator, one JSON object a line, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ledger::{Counts, Latency, Topic};

/// Given once, as the generator's only argument.
#[derive(Clone, Deserialize)]
pub struct Target {
    pub port: u16,
    pub secret: String,
    pub dialect: Dialect,
    #[serde(default)]
    pub tls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// JSON messages in text frames.
    Plain,
    /// The same messages as events of Engine.IO 4 and Socket.IO 5, over WebSocket alone.
    SocketIo,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Opens connections, subscribes them, and waits until all is acknowledged.
    Open(Opening),
    /// Publishes, waits until everything has arrived, and again.
    Lockstep { topic: Topic, rounds: u32, burst: u32 },
    /// Publishes at a steady rate, whatever becomes of it.
    Stream(Stream),
    /// Every connection sends a ping, and another when its pong has come.
    Ping { rounds: u32 },
    /// Reads from the paused connections again until they have everything, are closed, or nothing more comes: what the
    /// server has dropped is lost.
    Resume,
    /// Only listens: for what should not come.
    Settle { milliseconds: u64 },
    /// Closes every connection and waits for the server's answer.
    Close,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Opening {
    pub count: u32,
    /// Subscriptions of each connection; without any, it is open once the handshake is done.
    pub topics_each: u32,
    /// How many different ones there are.
    pub topics_of: u32,
    pub deflate: bool,
    /// With TLS: resumes an earlier session where the server has given a ticket.
    pub resume: bool,
    /// Handshakes at one time.
    pub in_flight: u32,
    /// Not read from once it is subscribed.
    pub paused: bool,
    /// The system's receive buffer, if not the default.
    pub receive_buffer: usize,
}

#[derive(Clone, Copy, Deserialize)]
pub struct Stream {
    /// To the topics from here on …
    pub first: Topic,
    /// … so many of them, in turn.
    pub topics: u32,
    pub per_second: f64,
    pub seconds: f64,
    /// Connections that go and are replaced.
    #[serde(default)]
    pub churn_per_second: f64,
    /// Drop every connection at this time and reopen them all.
    #[serde(default)]
    pub drop_after: Option<f64>,
}

#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    pub seconds: f64,
    /// Share of the time in which the generator had nothing to do.
    pub idle: f64,
    #[serde(flatten)]
    pub counts: Counts,
    pub latency: Latency,
    pub open: u64,
    pub opened: u64,
    pub refused: u64,
    pub pongs: u64,
    /// Connections the server has closed, by code; 1006 without one.
    pub closed: BTreeMap<u16, u64>,
    /// Messages that were due to those.
    pub abandoned: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// After everybody was dropped.
#[derive(Debug, Serialize)]
pub struct Recovery {
    pub seconds: f64,
    /// Of what was delivered meanwhile.
    pub latency: Latency,
}
