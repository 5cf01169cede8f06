//! Node's end of `transport::bridge`: the sockets that stay with Node, and the queue of those that have work.
//!
//! A shard puts a socket that has work into [`Ready`] and wakes Node's thread with the first; there one call of `bridge.js` serves many.
//! The sockets belong to Node's thread.

mod batch;
mod script;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::bindgen_prelude::{JsValue, Object};
use napi::{Env, Result};
use slab::Slab;
use tracing::Dispatch;

use crate::binding::node_application::NodeApplication;
use crate::binding::values;
use crate::transport::Source;
use crate::transport::bridge::{Bridge, Channel, Notifier};
use batch::Batch;
use script::{Events, Received, Script};

/// The bridges whose sockets are open.
pub struct Bridges {
    ready: Arc<Ready>,
    log: Dispatch,
    sockets: RefCell<Slab<JsSocket>>,
    /// Taken from the queue and not served yet.
    taken: RefCell<VecDeque<Entry>>,
    script: RefCell<Option<Rc<Script>>>,
    next_number: Cell<u64>,
}

struct JsSocket {
    number: u64,
    channel: Arc<Channel>,
    /// Serves the bridges for as long as one is open.
    _server: Rc<dyn Any>,
}

/// The sockets that have work. Shared with the shards.
struct Ready {
    application: Arc<NodeApplication>,
    queue: Mutex<Vec<Entry>>,
}

/// A socket by its place, which is reused, and its number, which is not.
#[derive(Clone, Copy)]
struct Entry {
    place: usize,
    number: u64,
}

struct NotifyNode {
    ready: Arc<Ready>,
    entry: Entry,
}

impl Ready {
    fn queue(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier for NotifyNode {
    fn notify(&self) {
        let mut queue = self.ready.queue();
        queue.push(self.entry);
        let is_first = queue.len() == 1;
        drop(queue);
        if is_first {
            self.ready.application.serve_bridges();
        }
    }
}

impl Bridges {
    pub fn new(application: Arc<NodeApplication>, log: Dispatch) -> Rc<Self> {
        Rc::new(Self {
            ready: Arc::new(Ready { application, queue: Mutex::default() }),
            log,
            sockets: RefCell::default(),
            taken: RefCell::default(),
            script: RefCell::default(),
            next_number: Cell::default(),
        })
    }

    /// Opens a bridge to a socket of Node's and returns the shard's end.
    ///
    /// The socket remains one of its server's connections, whose `close()` waits for it: Node has no way to remove it. It holds `server`,
    /// which calls [`Bridges::serve`], until it has closed: sockets may outlive the service's object.
    pub fn open(self: &Rc<Self>, env: &Env, socket: &Object<'_>, server: Rc<dyn Any>) -> Result<Source> {
        let script = self.script(env)?;
        let place = self.sockets.borrow().vacant_key();
        let number = self.next_number.replace(self.next_number.get() + 1);
        let entry = Entry { place, number };
        let channel = Channel::new(Box::new(NotifyNode { ready: self.ready.clone(), entry }));
        self.sockets.borrow_mut().insert(JsSocket { number, channel: channel.clone(), _server: server });
        if let Err(failure) = script.open(env, &socket.to_unknown(), place) {
            channel.peer_closed();
            drop(self.remove(place));
            return Err(failure);
        }
        Ok(Source::Bridge(Bridge::new(channel)))
    }

    /// Does what shards have asked for, for some sockets. `true` if others wait.
    pub fn serve(&self, env: &Env) -> bool {
        if self.taken.borrow().is_empty() {
            let entries = std::mem::take(&mut *self.ready.queue());
            self.taken.borrow_mut().extend(entries);
        }
        let mut batch = Batch::default();
        let mut served = Vec::new();
        while !batch.is_full()
            && let Some(entry) = self.next()
        {
            let Some(channel) = self.channel(entry.place, Some(entry.number)) else { continue };
            batch.add(entry.place, &channel.take_work());
            served.push(channel);
        }
        if !batch.is_empty() {
            self.carry_out(env, batch, &served);
        }
        !self.taken.borrow().is_empty()
    }

    fn carry_out(&self, env: &Env, batch: Batch, served: &[Arc<Channel>]) {
        let script = self.script.borrow().clone();
        let served_all = script.map_or_else(|| Ok(Vec::new()), |script| script.serve(env, batch));
        match served_all {
            Ok(flushed) => {
                served
                    .iter()
                    .zip(flushed)
                    .filter(|(_, is_flushed)| *is_flushed)
                    .for_each(|(channel, _)| channel.flushed());
            }
            Err(failure) => {
                values::clear_exception(env);
                tracing::error!(failure = failure.reason, "bridged sockets could not be served");
                served.iter().for_each(|channel| channel.peer_closed());
            }
        }
    }

    fn script(self: &Rc<Self>, env: &Env) -> Result<Rc<Script>> {
        if let Some(script) = &*self.script.borrow() {
            return Ok(script.clone());
        }
        let weak: Weak<Self> = Rc::downgrade(self);
        let script = Rc::new(Script::new(env, move || weak.upgrade())?);
        self.script.replace(Some(script.clone()));
        Ok(script)
    }

    fn next(&self) -> Option<Entry> {
        self.taken.borrow_mut().pop_front()
    }

    /// The channel of the socket at a place. With a number: unless it is another socket by now.
    fn channel(&self, place: usize, number: Option<u64>) -> Option<Arc<Channel>> {
        let sockets = self.sockets.borrow();
        let socket = sockets.get(place).filter(|socket| number.is_none_or(|number| socket.number == number))?;
        Some(socket.channel.clone())
    }

    fn remove(&self, place: usize) -> Option<JsSocket> {
        self.sockets.borrow_mut().try_remove(place)
    }
}

impl Events for Bridges {
    fn received(&self, place: usize, bytes: Option<&[u8]>) -> Received {
        let Some(bytes) = bytes else {
            // The application has set an encoding. The bytes are lost, so the connection is ended.
            tracing::dispatcher::with_default(&self.log, || {
                tracing::warn!("a bridged socket does not deliver bytes");
            });
            return Received::Destroy;
        };
        match self.sockets.borrow().get(place) {
            Some(socket) if socket.channel.receive(bytes) => Received::Continue,
            Some(_) => Received::Pause,
            None => Received::Destroy,
        }
    }

    fn drained(&self, place: usize) {
        if let Some(channel) = self.channel(place, None) {
            channel.flushed();
        }
    }

    fn ended(&self, place: usize) {
        if let Some(channel) = self.channel(place, None) {
            channel.peer_ended();
        }
    }

    fn failed(&self, place: usize, failure: &napi::Error) {
        tracing::dispatcher::with_default(&self.log, || {
            tracing::debug!(failure = failure.reason, "a bridged socket failed");
        });
        if let Some(channel) = self.channel(place, None) {
            channel.peer_closed();
        }
    }

    fn closed(&self, place: usize) {
        // The last reference to the service may be dropped with it, so nothing is borrowed.
        if let Some(socket) = self.remove(place) {
            socket.channel.peer_closed();
        }
    }
}
