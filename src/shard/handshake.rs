//! Pending handshakes: reads requests, has them answered, and writes responses.
//!
//! [`HandshakeScope`] is borrowed from the event loop. A handshake that is authorized becomes a connection under the same key; the loop
//! opens it.

use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use tracing::debug;

use crate::hub::limit::Slot;
use crate::monitoring::counters::RejectionReason;
use crate::shard::access::{Authorized, SessionPlace};
use crate::shard::answer::{self, Answer};
use crate::shard::command::{Internal, UpgradeRequest};
use crate::shard::context::ShardContext;
use crate::shard::establish::new_connection;
use crate::shard::peers::{Peer, Peers};
use crate::shard::pending::{Authorizing, PendingHandshake, Progress, Reading, Stage, UpgradeSource};
use crate::shard::pending_places::{Loss, PendingPlaces};
use crate::shard::run_queue::RunQueue;
use crate::shard::tasks;
use crate::shard::timers::Timers;
use crate::transport::Transport;
use crate::transport::forwarded::Peer as PeerAddress;
use crate::transport::handshake::{Rejection, RequestHead, Upgrade};
use crate::transport::head_reader::HeadError;
use crate::transport::listener::Accepted;
use crate::types::{ConnectionKey, PeerRef};

/// How long a peer may take to read a response that opens no connection.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many pending handshakes are examined for one that makes room.
const MAX_CANDIDATES: usize = 64;

/// The parts of the shard that a handshake may change.
pub struct HandshakeScope<'a> {
    pub peers: &'a mut Peers,
    pub places: &'a mut PendingPlaces,
    pub timers: &'a mut Timers,
    pub run_queue: &'a mut RunQueue,
    pub buffer: &'a mut [u8],
    pub shard: &'a Rc<ShardContext>,
}

/// A connection that is to be opened.
pub struct Established {
    pub key: ConnectionKey,
    pub upgrade: Upgrade,
    pub session: SessionPlace,
    /// Bytes that followed the request in the same packet.
    pub early: Vec<u8>,
}

impl HandshakeScope<'_> {
    /// Answers an upgrade request that Node has read.
    pub fn accept(&mut self, request: UpgradeRequest) -> Option<Established> {
        let UpgradeRequest { source, head, early, peer } = request;
        let peer = peer.unwrap_or_else(|| source.peer());
        self.answer(None, UpgradeSource::Unwatched(source), &head, early, peer)
    }

    /// Reads the request of a connection that another shard has accepted, if there is room for it.
    pub fn receive(&mut self, accepted: Accepted) -> Option<Established> {
        let slot = self.shard.pending.take().or_else(|| {
            self.make_room();
            self.shard.pending.take()
        });
        if slot.is_none() {
            self.shard.counters.rejections.add(RejectionReason::Displaced, 1);
        }
        self.read_request(accepted, slot?)
    }

    /// Reads the request of a connection on the own port.
    pub fn read_request(&mut self, accepted: Accepted, slot: Slot) -> Option<Established> {
        if self.shard.is_draining() {
            return None;
        }
        let Accepted { source, peer } = accepted;
        let places = &mut *self.places;
        let inserted = self.peers.insert(source, |peer_ref, transport| {
            let place = places.enter(peer_ref.key, peer, Instant::now());
            Peer::Pending(Box::new(PendingHandshake::reading(peer_ref.number, transport, peer.into(), place, slot)))
        });
        match inserted {
            Ok(peer) => self.drive(peer.key),
            Err(failure) => {
                debug!(%failure, "a connection could not be watched");
                None
            }
        }
    }

    /// Lets a pending handshake continue.
    pub fn drive(&mut self, key: ConnectionKey) -> Option<Established> {
        let pending = self.peers.pending(key)?;
        let peer = PeerRef { key, number: pending.number };
        let wakes = pending.transport().is_some_and(Transport::wakes);
        let waker = wakes.then(|| self.peers.waker(peer));
        let mut cx = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        match self.peers.pending(key)?.drive(self.buffer, &mut cx) {
            Progress::Waiting => {}
            Progress::Yielded => {
                if let Some(pending) = self.peers.pending(key) {
                    self.run_queue.mark_pending_ready(key, pending);
                }
            }
            Progress::Ended => self.remove(key),
            Progress::Fault(fault) => self.refuse_unreadable(key, fault),
            Progress::Request(head, _body) if !head.asks_for_websocket() => {
                let response = answer::answer_plain(self.shard, &head);
                let (source, _) = self.end_reading(key)?;
                self.respond(Some(key), source, response);
            }
            Progress::Request(head, early) => {
                let (source, peer) = self.end_reading(key)?;
                return self.answer(Some(key), source, &head, early, peer);
            }
        }
        None
    }

    /// The look-up of a handshake has ended.
    pub fn on_authorized(&mut self, peer: PeerRef, result: Result<Authorized, Rejection>) -> Option<Established> {
        let authorizing = self.peers.pending_of(peer)?.take_authorizing()?;
        match result {
            // A peer that left during the look-up gets no connection.
            Ok(_) if authorizing.source.has_ended() => {
                debug!("a peer left during its handshake");
                self.drop_source(peer.key, authorizing.source);
                None
            }
            // The shutdown was announced while the result was under way.
            Ok(_) if self.shard.is_draining() => {
                let response = answer::refuse(self.shard, &Rejection::STOPPING, Some(&authorizing.upgrade));
                self.respond(Some(peer.key), authorizing.source, response);
                None
            }
            Ok(authorized) => self.establish(Some(peer.key), authorizing, authorized),
            Err(rejection) => {
                let response = answer::refuse(self.shard, &rejection, Some(&authorizing.upgrade));
                self.respond(Some(peer.key), authorizing.source, response);
                None
            }
        }
    }

    /// Closes a silent pending handshake, so that another connection gets its place; `false` if none may be closed at present.
    pub fn make_room(&mut self) -> bool {
        let now = Instant::now();
        for _ in 0..MAX_CANDIDATES {
            let Some((place, key)) = self.places.candidate(now) else { return false };
            let transport = self.peers.pending(key).and_then(|pending| pending.transport());
            let has_unread = transport.is_some_and(Transport::has_unread);
            if !(has_unread && self.places.reprieve(place, now)) {
                self.displace(key);
                return true;
            }
        }
        false
    }

    /// Ends the handshakes whose request did not arrive in time.
    pub fn expire(&mut self, now: Instant) {
        let (loss, keys) = self.places.expired(now);
        for key in keys {
            match loss {
                Loss::Displaced => self.displace(key),
                Loss::TooSlow => self.refuse_unreadable(key, HeadError::TooSlow),
            }
        }
    }

    /// Drops the handshakes that have not asked for anything yet: the shard drains.
    pub fn drop_unread(&mut self) {
        for key in self.peers.pending_keys() {
            if self.end_reading(key).is_some_and(|(source, _)| self.drop_source(key, source)) {
                debug!("a request was not read before the shutdown");
            }
        }
    }

    /// Removes a pending handshake and closes its transport.
    pub fn remove(&mut self, key: ConnectionKey) {
        if let Some((source, _)) = self.end_reading(key) {
            self.drop_source(key, source);
        } else if self.peers.pending(key).is_some() {
            self.peers.remove(key);
        }
    }

    /// `key`: of the pending handshake, if there is one.
    fn answer(
        &mut self,
        key: Option<ConnectionKey>,
        source: UpgradeSource,
        head: &RequestHead,
        early: Vec<u8>,
        peer: PeerAddress,
    ) -> Option<Established> {
        match answer::answer(self.shard, head, peer) {
            Answer::Establish { upgrade, authorized, remote_address } => {
                return self.establish(key, Authorizing { source, upgrade, early, remote_address }, authorized);
            }
            Answer::LookUp { upgrade, look_up, remote_address } => {
                let stage = Stage::Authorizing(Authorizing { source, upgrade, early, remote_address });
                let peer = self.keep(key, stage)?;
                tasks::spawn("a handshake", self.shard, peer, async move |shard| Internal::Authorized {
                    peer,
                    result: look_up.run(&shard).await,
                });
            }
            Answer::Respond(response) => self.respond(key, source, response),
        }
        None
    }

    fn establish(
        &mut self,
        key: Option<ConnectionKey>,
        authorizing: Authorizing,
        authorized: Authorized,
    ) -> Option<Established> {
        let Authorizing { source, upgrade, early, remote_address } = authorizing;
        let Authorized { session, place } = authorized;
        let peer = self.put(key, source, |peer, transport| {
            Peer::Connection(Box::new(new_connection(peer, transport, &upgrade, remote_address)))
        })?;
        // The loop gives it back when the connection is removed.
        place.keep();
        Some(Established { key: peer.key, upgrade, session, early })
    }

    /// Writes a response that opens no connection. A peer that does not read it in time is dropped.
    fn respond(&mut self, key: Option<ConnectionKey>, source: UpgradeSource, response: Vec<u8>) {
        let peer = self.put(key, source, |peer, transport| {
            Peer::Pending(Box::new(PendingHandshake::responding(peer.number, transport, response)))
        });
        if let Some(peer) = peer {
            self.timers.schedule_refusal_timeout(RESPONSE_TIMEOUT, peer);
            // A response needs no answer: nothing can be established by it.
            self.drive(peer.key);
        }
    }

    fn refuse_unreadable(&mut self, key: ConnectionKey, fault: HeadError) {
        let response = answer::refuse_unreadable(self.shard, fault);
        if let Some((source, _)) = self.end_reading(key) {
            self.respond(Some(key), source, response);
        }
    }

    fn displace(&mut self, key: ConnectionKey) {
        self.shard.counters.rejections.add(RejectionReason::Displaced, 1);
        if let Some(transport) = self.peers.pending(key).and_then(|pending| pending.transport()) {
            // Nothing of it shall linger in the system.
            transport.abort();
        }
        self.remove(key);
    }

    /// The request is read, or will not be: its place is free.
    fn end_reading(&mut self, key: ConnectionKey) -> Option<(UpgradeSource, PeerAddress)> {
        let Reading { transport, peer, place, .. } = self.peers.pending(key)?.take_reading()?;
        self.places.leave(place);
        Some((UpgradeSource::Watched(transport), peer))
    }

    /// Keeps a handshake while the application is asked.
    fn keep(&mut self, key: Option<ConnectionKey>, stage: Stage) -> Option<PeerRef> {
        match key {
            Some(key) => {
                let pending = self.peers.pending(key)?;
                pending.stage = stage;
                Some(PeerRef { key, number: pending.number })
            }
            None => self.peers.insert_unwatched(stage),
        }
    }

    /// Puts a peer on a source, under the key that the handshake has already, if it has one.
    fn put(
        &mut self,
        key: Option<ConnectionKey>,
        source: UpgradeSource,
        make: impl FnOnce(PeerRef, Transport) -> Peer,
    ) -> Option<PeerRef> {
        let put = match (key, source) {
            (Some(key), UpgradeSource::Watched(transport)) => Ok(self.peers.replace(key, |peer| make(peer, transport))),
            (Some(key), UpgradeSource::Unwatched(source)) => {
                self.peers.watch(key, source).map(|transport| self.peers.replace(key, |peer| make(peer, transport)))
            }
            (None, UpgradeSource::Unwatched(source)) => self.peers.insert(source, make).map(Some),
            // A source is watched under a key.
            (None, UpgradeSource::Watched(_)) => Ok(None),
        };
        put.unwrap_or_else(|failure| {
            debug!(%failure, "a socket could not be watched");
            if let Some(key) = key {
                self.peers.remove(key);
            }
            None
        })
    }

    /// Closes the transport of a handshake whose stage has ended.
    fn drop_source(&mut self, key: ConnectionKey, source: UpgradeSource) -> bool {
        if let UpgradeSource::Watched(transport) = &source {
            self.peers.unwatch(transport);
        }
        self.peers.remove(key).is_some()
    }
}
