//! A task for Node's thread, as other threads queue it.

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::application::interface::{Answer, Event, HookCall};
use crate::memory::sources::Usage;

pub enum JsTask {
    CallHook {
        call: HookCall,
        answer: Answer,
    },
    CheckHealth,
    CollectGarbage,
    Emit(Event),
    Log {
        level: LogLevel,
        message: String,
        context: Map<String, Value>,
    },
    MeasureHeap(oneshot::Sender<Usage>),
    /// Bridges have work for their sockets.
    ServeBridges,
}

impl JsTask {
    /// Whether a peer or a shard waits for the task. Events and log lines are not urgent, and there may be many.
    pub fn is_urgent(&self) -> bool {
        !matches!(self, Self::Emit(_) | Self::Log { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The logger's method for this level.
    pub fn method(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}
