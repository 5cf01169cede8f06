//! The interface between the service and the application: calls of hooks, ends of connections, and the trait [`Application`].
//!
//! Implemented by the binding for Node.js and by the Rust tests. Called on the service's threads; must not block.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::error::CloseReason;
use crate::memory::sources::Usage;
use crate::types::HookKind;

pub use crate::application::event::{Event, EventKind, LifecycleState, SlowConsumerPolicy};

/// Why a hook gave no answer. The message is for the log; it is never sent to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookFault {
    /// It threw or rejected, with this message.
    Failed(String),
    /// It did not settle before its deadline, or the application has ended.
    TimedOut,
    /// It was not called: its circuit breaker is open.
    CircuitOpen { retry_after: Duration },
}

/// One call of a hook. Cheap to clone: a retry makes the same call again.
#[derive(Clone)]
pub struct HookCall {
    pub kind: HookKind,
    /// The user or object of the call. The circuit breaker does not count repeated failures for one subject as failures of the hook.
    pub subject: Arc<str>,
    pub arguments: SmallVec<[HookArgument; 2]>,
}

#[derive(Clone)]
pub enum HookArgument {
    /// A string.
    Text(Arc<str>),
    /// A value, as JSON.
    Json(Arc<str>),
}

/// In the form that [`HookKind::answer`] names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAnswer {
    Truth(bool),
    Json(String),
    /// Also where the application's value has no JSON form, such as `undefined`.
    Nothing,
}

pub type Answer = oneshot::Sender<Result<HookAnswer, HookFault>>;

/// What the service calls in the application.
///
/// Every method is called on a thread of the service, must not block, and may be called until the last shard has been joined. An
/// [`Answer`] that is dropped counts as [`HookFault::TimedOut`].
pub trait Application: Send + Sync + 'static {
    fn listens(&self, kind: EventKind) -> bool;
    fn emit(&self, event: Event);
    /// Requests a health check, which needs the memory figures of the application's runtime. Called once per health check interval while
    /// the service runs.
    fn check_health(&self) {}
    /// Calls one of the application's functions. Only kinds that the options name are called.
    fn call_hook(&self, call: HookCall, answer: Answer);

    /// Measures the application's heap: bytes in use and the limit. A dropped answer means that they are unknown.
    fn measure_heap(&self, answer: oneshot::Sender<Usage>) {
        drop(answer);
    }

    /// Requests a garbage collection and a return of free memory to the system. Called when memory is critical.
    fn release_memory(&self) {}
}

/// Reported for a connection that ended without a close frame (RFC 6455 §7.1.5). Never sent.
pub const ABNORMAL_CLOSURE: u16 = 1006;

/// How a connection ended, for the `disconnection` event and the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The peer sent a close frame.
    ByPeer { code: u16, reason: String },
    /// We sent one.
    ByUs(CloseReason),
    /// The stream ended, failed or was cut without one.
    Lost,
    /// We cut it because no pong came in time.
    Unresponsive,
    /// We cut it at the end of a shutdown's grace period.
    GraceExceeded,
}

impl Disconnect {
    pub fn code(&self) -> u16 {
        match self {
            Self::ByPeer { code, .. } => *code,
            Self::ByUs(reason) => reason.code(),
            Self::Lost | Self::Unresponsive | Self::GraceExceeded => ABNORMAL_CLOSURE,
        }
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::ByPeer { reason, .. } => reason,
            Self::ByUs(reason) => reason.text(),
            Self::Lost | Self::Unresponsive | Self::GraceExceeded => "",
        }
    }
}

impl HookCall {
    pub fn new(kind: HookKind, subject: Arc<str>, arguments: impl IntoIterator<Item = HookArgument>) -> Self {
        Self { kind, subject, arguments: arguments.into_iter().collect() }
    }
}

impl HookAnswer {
    /// `false` for an answer of another form.
    pub fn is_true(&self) -> bool {
        *self == Self::Truth(true)
    }

    /// The answer as JSON, if it has that form.
    pub fn as_json(&self) -> Option<&str> {
        match self {
            Self::Json(json) => Some(json),
            Self::Truth(_) | Self::Nothing => None,
        }
    }
}
