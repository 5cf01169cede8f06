//! What is sent to many: publishes carried out on one shard, batches, and one write per connection and turn.
//!
//! A message is encoded once; a connection gets a reference. What is queued during a turn leaves at its end in
//! one write per connection. Runs on the shard's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crate::application::interface::{Event, EventKind, SlowConsumerPolicy};
use crate::error::CloseReason;
use crate::hub::operation_queue_manager::{Operation, Target};
use crate::monitoring::counters::{DropReason, Traffic};
use crate::shard::connection::Connection;
use crate::shard::event_loop::Shard;
use crate::shard::outbox::Room;
use crate::shard::service_options::Batching;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;
use crate::types::{ConnectionKey, Priority};

impl Shard {
    /// Queues one publish at every connection it is for. The turn's end writes it.
    pub(crate) fn carry_out(&self, operation: &Operation) {
        let mut exhausted = Vec::new();
        let deliver = |connection: &Rc<Connection>| {
            if !self.deliver(connection, &operation.message, operation.priority) {
                exhausted.push(connection.clone());
            }
        };
        let connections = self.connections.borrow();
        let broken = match &operation.target {
            Target::Bill(bill) => {
                let topics = self.topics.borrow();
                let subscribers = topics.subscribers(*bill);
                for_each_guarded(subscribers.filter_map(|key| connections.get(key.0 as usize)), deliver)
            }
            Target::Connections(references) => {
                let ours = references.iter().filter(|reference| reference.shard == self.id);
                let named = ours.filter_map(|reference| {
                    connections.get(reference.key.0 as usize).filter(|one| one.number == reference.number)
                });
                for_each_guarded(named, deliver)
            }
            Target::Everybody => {
                let open = connections.iter().map(|(_, connection)| connection).filter(|one| one.is_open());
                for_each_guarded(open, deliver)
            }
        };
        drop(connections);
        // Closing changes the tables that were walked above.
        for connection in exhausted {
            self.guard(&connection, || self.drop_slow_consumer(&connection));
        }
        self.end_broken(broken);
    }

    /// Says something in the service's own name, at once.
    pub(crate) fn send_to_all(&self, message: &Arc<EncodedMessage>) {
        let (target, priority) = (Target::Everybody, Priority::Immediate);
        self.carry_out(&Operation { target, message: message.clone(), priority, published: Instant::now() });
    }

    /// Queues a message at an open connection: in its batch, or as a frame that the turn's end writes. `false` if
    /// the connection is at its bound and has to go.
    pub(crate) fn deliver(
        &self,
        connection: &Rc<Connection>,
        message: &Arc<EncodedMessage>,
        priority: Priority,
    ) -> bool {
        if !connection.is_listening() {
            return true;
        }
        let runtime = self.runtime.get();
        let is_batched = priority == Priority::Normal && runtime.batch_size > 1 && !runtime.batch_delay.is_zero();
        let encoding = self.encoding_for(connection, message);
        let size = match is_batched {
            true => message.payload().len(),
            false => message.frame(encoding, 0, &mut self.deflaters.borrow_mut()).len(),
        };
        match self.make_room(connection, size) {
            Room::Exhausted => return false,
            Room::Refused { dropped } => {
                self.counters.dropped(DropReason::SlowConsumerOldest, dropped);
                self.counters.dropped(DropReason::SlowConsumerNewest, 1);
                self.tell_first_drop(connection, dropped + 1);
                return true;
            }
            Room::Fits { dropped: 0 } => {}
            Room::Fits { dropped } => {
                self.counters.dropped(DropReason::SlowConsumerOldest, dropped);
                self.tell_first_drop(connection, dropped);
            }
        }
        self.counters.traffic.add(Traffic::Deliveries, 1);
        if !is_batched {
            self.send(connection, message, encoding);
            return true;
        }
        let mut outbox = connection.outbox.borrow_mut();
        let batch = outbox.batch();
        let waiting = outbox.wait(message.clone(), runtime.batch_size);
        drop(outbox);
        if waiting >= runtime.batch_size {
            self.flush_batch(connection);
        } else if waiting == 1 {
            self.timers.flush_in(runtime.batch_delay, connection.key, batch);
        }
        connection.account(&self.counters);
        true
    }

    /// Ends a batch: what waited is due now.
    pub(crate) fn flush_batch(&self, connection: &Rc<Connection>) {
        let batch = connection.outbox.borrow_mut().take_batch();
        match self.shared.options.batching {
            Batching::Envelope => {
                let envelope = self.envelopes.borrow_mut().join(batch);
                if let Some(envelope) = envelope {
                    self.queue(connection, envelope);
                }
            }
            Batching::Frames => batch.into_iter().for_each(|message| self.queue(connection, message)),
        }
    }

    pub(crate) fn flush_batches(&self) {
        for connection in self.all_connections() {
            self.flush_batch(&connection);
        }
        self.envelopes.borrow_mut().forget();
    }

    /// Makes a message due, past the bound: for control frames and for what was counted already.
    pub(crate) fn queue(&self, connection: &Rc<Connection>, message: Arc<EncodedMessage>) {
        let encoding = self.encoding_for(connection, &message);
        self.queue_encoded(connection, message, encoding);
    }

    /// Queues a message, or writes it at once if it is the only one of the turn: what would be walked to again at the
    /// turn's end is still at hand now.
    fn send(&self, connection: &Rc<Connection>, message: &Arc<EncodedMessage>, encoding: Encoding) {
        if self.is_lone.get() {
            let mut deflaters = self.deflaters.borrow_mut();
            if let Some(wants_turn) = connection.write_through(message, encoding, &mut deflaters, &self.counters) {
                self.counters.traffic.add(Traffic::FramesOut, 1);
                if wants_turn {
                    self.rouse(connection);
                    connection.account(&self.counters);
                }
                return;
            }
        }
        self.queue_encoded(connection, message.clone(), encoding);
    }

    fn queue_encoded(&self, connection: &Rc<Connection>, message: Arc<EncodedMessage>, encoding: Encoding) {
        connection.outbox.borrow_mut().queue(message, encoding, &mut self.deflaters.borrow_mut());
        self.counters.traffic.add(Traffic::FramesOut, 1);
        self.stage(connection);
    }

    /// Puts the connection on the list of those that are written to at the end of the turn. One whose socket is full is
    /// written to when there is news of room.
    fn stage(&self, connection: &Rc<Connection>) {
        if connection.is_blocked() {
            connection.account(&self.counters);
        } else if !connection.is_staged.replace(true) {
            self.staged.borrow_mut().push(connection.key);
        }
    }

    /// One write for each connection that something was queued for in this turn.
    pub(crate) fn flush_staged(&self) {
        let staged: Vec<ConnectionKey> = std::mem::take(&mut *self.staged.borrow_mut());
        let connections = self.connections.borrow();
        let broken = for_each_guarded(staged.iter().filter_map(|key| connections.get(key.0 as usize)), |connection| {
            connection.is_staged.set(false);
            if !connection.flush(&mut self.deflaters.borrow_mut(), &self.counters) {
                self.rouse(connection);
            }
            connection.account(&self.counters);
        });
        drop(connections);
        self.end_broken(broken);
        let mut spare = staged;
        spare.clear();
        // The list keeps its room for the next turn, but not the room of an exceptional one.
        if spare.capacity() <= 16_384 {
            *self.staged.borrow_mut() = spare;
        }
    }

    /// Ends the connections for which something panicked.
    fn end_broken(&self, broken: Vec<Rc<Connection>>) {
        for connection in broken {
            self.end_by_panic(&connection);
        }
    }

    pub(crate) fn drop_slow_consumer(&self, connection: &Rc<Connection>) {
        self.tell_slow(connection, SlowConsumerPolicy::Close);
        self.close(connection, CloseReason::SlowConsumer);
    }

    /// Tells that the policy has dropped so many messages, if they are the connection's first: a stuck peer must not flood
    /// the application.
    fn tell_first_drop(&self, connection: &Rc<Connection>, dropped: u32) {
        if connection.outbox.borrow().dropped() == dropped {
            self.tell_slow(connection, self.shared.options.backpressure.policy);
        }
    }

    fn tell_slow(&self, connection: &Rc<Connection>, action: SlowConsumerPolicy) {
        let pending_bytes = connection.outbox.borrow().bytes();
        tracing::warn!(connection = connection.number.0, pending_bytes, action = action.as_str(), "slow consumer");
        if self.shared.host.listens(EventKind::SlowConsumer)
            && let Some(id) = connection.id()
        {
            self.shared.host.emit(Event::SlowConsumer { id, pending_bytes, action });
        }
    }

    /// Room for `size` more bytes. A burst within one turn is not slowness: what is due is written first.
    fn make_room(&self, connection: &Rc<Connection>, size: usize) -> Room {
        let limit = self.shared.options.backpressure;
        if connection.outbox.borrow().bytes() + size > limit.max_bytes {
            if connection.outbox.borrow().is_waiting() && connection.outbox.borrow().bytes() > limit.max_bytes / 2 {
                self.flush_batch(connection);
            }
            if !connection.flush(&mut self.deflaters.borrow_mut(), &self.counters) {
                self.rouse(connection);
            }
        }
        connection.outbox.borrow_mut().make_room(size, limit)
    }

    fn encoding_for(&self, connection: &Connection, message: &EncodedMessage) -> Encoding {
        let is_worth_it = message.is_data() && message.payload().len() >= self.runtime.get().compression_threshold;
        if is_worth_it { connection.encoding } else { Encoding::Plain }
    }
}

/// Does something for each connection and returns those for which it panicked; the others have their turn all the same.
/// There is one boundary for all of them, set up again after each panic: one for each would cost every delivery.
fn for_each_guarded<'c>(
    mut connections: impl Iterator<Item = &'c Rc<Connection>>,
    mut action: impl FnMut(&Rc<Connection>),
) -> Vec<Rc<Connection>> {
    let mut broken = Vec::new();
    loop {
        let mut current = None;
        let walk = AssertUnwindSafe(|| {
            for connection in connections.by_ref() {
                current = Some(connection);
                action(connection);
            }
        });
        match (catch_unwind(walk), current) {
            (Err(_panic), Some(connection)) => broken.push(connection.clone()),
            _ => return broken,
        }
    }
}
