//! The events that the application can listen to: the table of kinds, what each carries, and the members its listeners see.
//!
//! Pure. Built on shards' threads; the binding turns the members into JavaScript values.

use std::borrow::Cow;

use crate::error::Error;
use crate::memory::leak_detector_handler::Leak;
use crate::memory::progressive_degradation::DegradationLevel;
use crate::types::{BillId, ConnectionId};

/// An event for the application's listeners. Built only for kinds that have a listener, except errors.
#[derive(Debug)]
pub enum Event {
    Connection {
        id: ConnectionId,
        remote_address: String,
    },
    Degradation {
        level: DegradationLevel,
        previous: DegradationLevel,
        pressure: f64,
    },
    /// A connection has ended. `clean`: both sides have sent a close frame (RFC 6455 §7.1.4).
    Disconnection {
        id: ConnectionId,
        code: u16,
        reason: String,
        clean: bool,
    },
    Error(Error),
    MemoryLeak(Leak),
    SlowConsumer {
        id: ConnectionId,
        pending_bytes: usize,
        action: SlowConsumerPolicy,
    },
    StateChange(LifecycleState),
    Subscription {
        id: ConnectionId,
        bills: Vec<BillId>,
        subscribed: bool,
    },
}

/// Declares the kinds and their names for the application. The order is that of the names in error messages.
macro_rules! event_kinds {
    ($($(#[$meta:meta])* $kind:ident = $name:literal,)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventKind {
            $($(#[$meta])* $kind,)+
        }

        impl EventKind {
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The name under which the application adds listeners.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

event_kinds! {
    Connection = "connection",
    Degradation = "degradation",
    Disconnection = "disconnection",
    Error = "error",
    /// Emitted by the binding, see [`Application::check_health`](super::interface::Application::check_health).
    Health = "health",
    MemoryLeak = "memoryLeak",
    SlowConsumer = "slowConsumer",
    StateChange = "stateChange",
    Subscription = "subscription",
}

/// The lifecycle state of a service. Only `websocket_service` changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleState {
    Stopped,
    Running,
    Stopping,
}

impl LifecycleState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

/// What happens to a connection that does not read fast enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowConsumerPolicy {
    /// Ended with [`CloseReason::SlowConsumer`].
    #[default]
    Close,
    /// Its oldest waiting messages are dropped.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
}

impl SlowConsumerPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Close, Self::DropOldest, Self::DropNewest].into_iter().find(|policy| policy.as_str() == name)
    }
}

/// The argument of one call of a listener.
pub enum Payload<'a> {
    Object(Members<'a>),
    /// An `Error` object with the code and the message.
    Error(&'a Error),
}

pub type Members<'a> = Vec<(&'static str, Member<'a>)>;

/// The value of a member.
pub enum Member<'a> {
    Boolean(bool),
    Number(f64),
    Object(Members<'a>),
    Text(Cow<'a, str>),
    Texts(&'a [String]),
}

impl EventKind {
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl Event {
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Connection { .. } => EventKind::Connection,
            Self::Degradation { .. } => EventKind::Degradation,
            Self::Disconnection { .. } => EventKind::Disconnection,
            Self::Error(_) => EventKind::Error,
            Self::MemoryLeak(_) => EventKind::MemoryLeak,
            Self::SlowConsumer { .. } => EventKind::SlowConsumer,
            Self::StateChange(_) => EventKind::StateChange,
            Self::Subscription { .. } => EventKind::Subscription,
        }
    }

    /// The arguments of the listeners' calls: each listener is called once per payload.
    pub fn payloads(&self) -> Vec<Payload<'_>> {
        let members = match self {
            Self::Connection { id, remote_address } => {
                let [connection, user] = identity(id);
                vec![connection, user, ("remoteAddress", remote_address.as_str().into())]
            }
            Self::Degradation { level, previous, pressure } => vec![
                ("level", level.as_str().into()),
                ("previous", previous.as_str().into()),
                ("pressure", Member::Number(*pressure)),
            ],
            Self::Disconnection { id, code, reason, clean } => {
                let [connection, user] = identity(id);
                vec![
                    connection,
                    user,
                    ("code", Member::Number(f64::from(*code))),
                    ("reason", reason.as_str().into()),
                    ("clean", Member::Boolean(*clean)),
                ]
            }
            Self::Error(error) => return vec![Payload::Error(error)],
            Self::MemoryLeak(leak) => vec![
                ("severity", leak.severity.as_str().into()),
                ("recommendations", Member::Texts(&leak.recommendations)),
                (
                    "analysis",
                    Member::Object(vec![
                        ("growthRate", Member::Number(leak.growth_rate)),
                        ("retainedIncrease", Member::Number(leak.retained_increase)),
                    ]),
                ),
            ],
            Self::SlowConsumer { id, pending_bytes, action } => {
                let [connection, user] = identity(id);
                vec![
                    connection,
                    user,
                    ("pendingBytes", Member::Number(*pending_bytes as f64)),
                    ("action", action.as_str().into()),
                ]
            }
            Self::StateChange(state) => vec![("state", state.as_str().into())],
            Self::Subscription { id, bills, subscribed } => {
                let of_bill = |bill: &BillId| {
                    let [connection, user] = identity(id);
                    Payload::Object(vec![
                        connection,
                        user,
                        ("billId", Member::Number(bill.get() as f64)),
                        ("subscribed", Member::Boolean(*subscribed)),
                    ])
                };
                return bills.iter().map(of_bill).collect();
            }
        };
        vec![Payload::Object(members)]
    }
}

/// The members that name a connection.
fn identity(id: &ConnectionId) -> [(&'static str, Member<'_>); 2] {
    [("connectionId", Member::Text(id.to_string().into())), ("userId", id.user.as_str().into())]
}

impl<'a> From<&'a str> for Member<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ConnectionNumber, UserId};

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(*kind));
        }
        assert_eq!(EventKind::from_name("connections"), None);
    }

    #[test]
    fn a_subscription_calls_the_listeners_once_per_bill() {
        let bills: Vec<BillId> = [7, 9].into_iter().filter_map(BillId::new).collect();
        let id = ConnectionId { user: UserId::new("ann"), number: ConnectionNumber(3) };
        let event = Event::Subscription { id, bills, subscribed: true };
        let numbers: Vec<f64> = event
            .payloads()
            .iter()
            .filter_map(|payload| match payload {
                Payload::Object(members) => members.iter().find_map(|(name, member)| match member {
                    Member::Number(number) if *name == "billId" => Some(*number),
                    _ => None,
                }),
                Payload::Error(_) => None,
            })
            .collect();
        assert_eq!(numbers, [7.0, 9.0]);
    }
}
