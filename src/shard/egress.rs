//! How messages get to one connection: batched or as frames, and one write per connection and turn.
//!
//! Owned by the event loop. A message is encoded once; a connection gets a reference.

use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::application::interface::{Event, EventKind, SlowConsumerPolicy};
use crate::config::RuntimeValues;
use crate::monitoring::counters::{DropReason, Traffic};
use crate::monitoring::statistics_collector::ShardCounters;
use crate::shard::batch_cache::BatchCache;
use crate::shard::connection::Connection;
use crate::shard::context::ShardContext;
use crate::shard::outbox::Capacity;
use crate::shard::run_queue::RunQueue;
use crate::shard::service_options::Batching;
use crate::shard::timers::Timers;
use crate::transport::deflate::Deflaters;
use crate::transport::encoded_message::EncodedMessage;
use crate::transport::encoding::Encoding;
use crate::types::{ConnectionKey, Priority};

/// Up to so many entries, the list of dirty connections keeps its room for the next turn.
const KEPT_DIRTY: usize = 16_384;

pub struct Egress {
    pub deflaters: Deflaters,
    batches: BatchCache,
    /// Connections to write to at the end of the turn.
    dirty: Vec<ConnectionKey>,
    /// Whether the publication that is delivered is the only one of this turn.
    pub is_single_publish: bool,
    /// When the publications of this turn were published.
    published: Vec<Instant>,
    settings: RuntimeValues,
}

/// Whether a connection can keep up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// It got the message, or its policy dropped one.
    Done,
    /// It is at its bound and is to be closed.
    Exhausted,
}

impl Egress {
    pub fn new(settings: RuntimeValues) -> Self {
        Self {
            deflaters: Deflaters::default(),
            batches: BatchCache::default(),
            dirty: Vec::new(),
            is_single_publish: false,
            published: Vec::new(),
            settings,
        }
    }

    /// Returns the settings that were in force before.
    pub fn set_settings(&mut self, settings: RuntimeValues) -> RuntimeValues {
        std::mem::replace(&mut self.settings, settings)
    }

    /// Queues a message at an open connection: in its batch, or as a frame that the end of the turn writes.
    pub fn deliver(
        &mut self,
        connection: &mut Connection,
        message: &Arc<EncodedMessage>,
        priority: Priority,
        timers: &mut Timers,
        run_queue: &mut RunQueue,
        shard: &ShardContext,
    ) -> Delivery {
        if !connection.is_listening() {
            return Delivery::Done;
        }
        let settings = &self.settings;
        let is_batched = priority == Priority::Normal && settings.batch_size > 1 && !settings.batch_delay.is_zero();
        let encoding = self.encoding_for(connection, message);
        let size = match is_batched {
            true => message.payload().len(),
            false => message.frame(encoding, 0, &mut self.deflaters).len(),
        };
        match self.make_room(connection, size, run_queue, shard) {
            Capacity::Exhausted => return Delivery::Exhausted,
            Capacity::Refused { dropped } => {
                shard.counters.dropped(DropReason::SlowConsumerOldest, dropped);
                shard.counters.dropped(DropReason::SlowConsumerNewest, 1);
                report_first_drop(connection, dropped + 1, shard);
                return Delivery::Done;
            }
            Capacity::Fits { dropped: 0 } => {}
            Capacity::Fits { dropped } => {
                shard.counters.dropped(DropReason::SlowConsumerOldest, dropped);
                report_first_drop(connection, dropped, shard);
            }
        }
        shard.counters.traffic.add(Traffic::Deliveries, 1);
        if !is_batched {
            self.send(connection, message, encoding, run_queue, shard);
            return Delivery::Done;
        }
        let batch = connection.outbox.batch();
        let waiting = connection.outbox.push_batched(message.clone(), self.settings.batch_size);
        if waiting >= self.settings.batch_size {
            self.flush_batch(connection, shard);
        } else if waiting == 1 {
            timers.schedule_flush(self.settings.batch_delay, connection.key, batch);
        }
        connection.account(&shard.counters);
        Delivery::Done
    }

    /// Ends a batch: what waited is due now.
    pub fn flush_batch(&mut self, connection: &mut Connection, shard: &ShardContext) {
        let batch = connection.outbox.take_batch();
        match shard.run.options.batching {
            Batching::Envelope => {
                if let Some(envelope) = self.batches.join(batch) {
                    self.queue(connection, envelope, shard);
                }
            }
            Batching::Frames => batch.into_iter().for_each(|message| self.queue(connection, message, shard)),
        }
    }

    /// Forgets the batch that was joined last.
    pub fn clear_batches(&mut self) {
        self.batches.clear();
    }

    /// Makes a message due, past the bound: for control frames, and for messages that were counted already.
    pub fn queue(&mut self, connection: &mut Connection, message: Arc<EncodedMessage>, shard: &ShardContext) {
        let encoding = self.encoding_for(connection, &message);
        self.queue_encoded(connection, message, encoding, shard);
    }

    /// The connections to write to now. The list goes back by [`keep_dirty_list`](Self::keep_dirty_list).
    pub fn take_dirty(&mut self) -> Vec<ConnectionKey> {
        std::mem::take(&mut self.dirty)
    }

    /// Keeps the room of a list that was written, unless the turn was exceptional.
    pub fn keep_dirty_list(&mut self, mut list: Vec<ConnectionKey>) {
        if self.dirty.is_empty() && list.capacity() <= KEPT_DIRTY {
            list.clear();
            self.dirty = list;
        }
    }

    /// Writes what is due to one connection of the dirty list.
    pub fn write(&mut self, connection: &mut Connection, run_queue: &mut RunQueue, counters: &ShardCounters) {
        connection.is_dirty = false;
        if !connection.flush(&mut self.deflaters, counters) {
            run_queue.mark_ready(connection);
        }
        connection.account(counters);
    }

    /// Remembers when a publication of this turn was published.
    pub fn note_published(&mut self, at: Instant) {
        self.published.push(at);
    }

    /// The publications of this turn are written, or in batches.
    pub fn record_latencies(&mut self, counters: &ShardCounters) {
        if self.published.is_empty() {
            return;
        }
        let now = Instant::now();
        for published in self.published.drain(..) {
            counters.published(now.saturating_duration_since(published));
        }
    }

    /// Frees what can be built again when the next message needs it.
    pub fn reclaim(&mut self) {
        self.deflaters = Deflaters::default();
        if self.dirty.is_empty() {
            self.dirty = Vec::new();
        }
    }

    pub fn idle_capacity(&self) -> usize {
        self.dirty.capacity() * size_of::<ConnectionKey>()
    }

    /// Queues a message, or writes it at once if it is the only one of the turn: what the end of the turn would look up again is at
    /// hand now.
    fn send(
        &mut self,
        connection: &mut Connection,
        message: &Arc<EncodedMessage>,
        encoding: Encoding,
        run_queue: &mut RunQueue,
        shard: &ShardContext,
    ) {
        if self.is_single_publish
            && let Some(is_blocked) = connection.write_through(message, encoding, &mut self.deflaters, &shard.counters)
        {
            shard.counters.traffic.add(Traffic::FramesOut, 1);
            if is_blocked {
                run_queue.mark_ready(connection);
                connection.account(&shard.counters);
            }
            return;
        }
        self.queue_encoded(connection, message.clone(), encoding, shard);
    }

    fn queue_encoded(
        &mut self,
        connection: &mut Connection,
        message: Arc<EncodedMessage>,
        encoding: Encoding,
        shard: &ShardContext,
    ) {
        connection.outbox.queue(message, encoding, &mut self.deflaters);
        shard.counters.traffic.add(Traffic::FramesOut, 1);
        // A connection whose socket is full is written to when there is news of room.
        if connection.is_blocked {
            connection.account(&shard.counters);
        } else if !std::mem::replace(&mut connection.is_dirty, true) {
            self.dirty.push(connection.key);
        }
    }

    /// Room for `size` more bytes. A burst within one turn is not slowness: what is due is written first.
    fn make_room(
        &mut self,
        connection: &mut Connection,
        size: usize,
        run_queue: &mut RunQueue,
        shard: &ShardContext,
    ) -> Capacity {
        let limit = shard.run.options.backpressure;
        if connection.outbox.bytes() + size > limit.max_bytes {
            if connection.outbox.is_waiting() && connection.outbox.bytes() > limit.max_bytes / 2 {
                self.flush_batch(connection, shard);
            }
            if !connection.flush(&mut self.deflaters, &shard.counters) {
                run_queue.mark_ready(connection);
            }
        }
        connection.outbox.make_room(size, limit)
    }

    fn encoding_for(&self, connection: &Connection, message: &EncodedMessage) -> Encoding {
        let is_worth_it = message.is_data() && message.payload().len() >= self.settings.compression_threshold;
        if is_worth_it { connection.encoding } else { Encoding::Plain }
    }
}

/// Reports that the policy has dropped so many messages, if they are the connection's first: a peer that does not read must not
/// flood the application with events.
fn report_first_drop(connection: &Connection, dropped: u32, shard: &ShardContext) {
    if connection.outbox.dropped() == dropped {
        report_slow_consumer(connection, shard.run.options.backpressure.policy, shard);
    }
}

/// Logs a slow consumer and what is done about it, and emits the event.
pub fn report_slow_consumer(connection: &Connection, action: SlowConsumerPolicy, shard: &ShardContext) {
    let pending_bytes = connection.outbox.bytes();
    warn!(connection = connection.number.0, pending_bytes, action = action.as_str(), "slow consumer");
    if shard.run.application.listens(EventKind::SlowConsumer)
        && let Some(id) = connection.id()
    {
        shard.run.application.emit(Event::SlowConsumer { id, pending_bytes, action });
    }
}
