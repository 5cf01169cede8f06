//! A client as the contract describes it: it keeps the newest position of each topic and sends it after a reconnect. It writes down
//! what it does and receives, and judges nothing.

use std::collections::BTreeMap;

use super::log::{Happened, Line, Sent, TopicNumber};
use super::server::{ConnectionNumber, Frame};
use crate::broker::gate::Reply;
use crate::broker::position::Position;

#[derive(Debug, Default)]
pub struct Client {
    pub connection: Option<ConnectionNumber>,
    /// Topics that it wants to follow, also while it is away.
    pub wanted: BTreeMap<TopicNumber, Following>,
    pub log: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
pub struct Following {
    pub state: State,
    /// The newest position received.
    pub kept: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not subscribed in this connection.
    Idle,
    /// A request is under way.
    Asked(Sent),
    Subscribed,
    /// Asked to unsubscribe.
    Leaving,
}

impl Client {
    pub fn disconnected(&mut self, step: u64, time: u64) {
        self.connection = None;
        self.wanted.values_mut().for_each(|following| following.state = State::Idle);
        self.log.push(Line { step, time, topic: 0, happened: Happened::Disconnected });
    }

    pub fn receive(&mut self, frame: Frame, step: u64, time: u64) {
        let (topic, happened) = match frame {
            Frame::Reply { topic, reply } => {
                let Some(following) = self.wanted.get_mut(&topic) else { return };
                let State::Asked(sent) = following.state else { panic!("a reply without a request: {reply:?}") };
                following.state = State::Subscribed;
                // The replay is still to come: until then the client has what it had.
                following.kept = match (reply, sent) {
                    (Reply::Recovered { .. }, Sent::Kept(position) | Sent::Forged(position)) => Some(position),
                    _ => reply.position(),
                };
                (topic, Happened::Subscribed { sent, reply })
            }
            Frame::Publication { payload, position } => {
                if let Some(following) = self.wanted.get_mut(&payload.topic) {
                    following.kept = Some(position);
                }
                (payload.topic, Happened::Received { payload, position })
            }
            Frame::Gap { topic, reason, position } => {
                if let Some(following) = self.wanted.get_mut(&topic) {
                    following.kept = Some(position);
                }
                (topic, Happened::Gap { reason, position })
            }
            Frame::Unsubscribed { topic } => {
                if let Some(following) = self.wanted.get_mut(&topic) {
                    following.state = State::Idle;
                }
                (topic, Happened::Unsubscribed)
            }
        };
        self.log.push(Line { step, time, topic, happened });
    }
}
