//! Drives one connection: writes what is due, reads and processes what has arrived, until it has to wait or the budget of its turn is
//! spent.
//!
//! Called by the event loop when the transport has news, when the connection is marked ready, and out of the backlog. Large buffers are
//! the shard's: between two turns an idle connection holds none.

use std::io;
use std::ops::ControlFlow;
use std::task::{Context, Poll};

use tracing::debug;

use crate::application::interface::Disconnect;
use crate::monitoring::counters::Traffic;
use crate::shard::close;
use crate::shard::connection::State;
use crate::shard::ingress::{Budget, Ingress, Rest};
use crate::shard::outbox::Flushed;
use crate::shard::receiver::{MessageReceiver, Stop};
use crate::shard::scope::Scope;
use crate::transport::assembler::{Assembler, Limits};
use crate::transport::deflate::Inflater;

/// What a peer may still send after a close frame was queued for it. Room for a message that was under way: a reset would take
/// the close frame from a peer that has not read it yet.
const MAX_DISCARDED: usize = 32 * 1024 * 1024;

/// `Ready` when the stream has ended, and how.
pub fn drive(
    scope: &mut Scope<'_>,
    ingress: &mut Ingress,
    mut budget: Budget,
    cx: &mut Context<'_>,
) -> Poll<Disconnect> {
    scope.connection.is_caught_up = false;
    loop {
        let written = write(scope, cx);
        scope.connection.account(&scope.shard.counters);
        if let Poll::Ready(ending) = written {
            return Poll::Ready(ending);
        }
        if scope.connection.is_behind {
            return Poll::Pending;
        }
        if scope.connection.is_paused(scope.shard.run.level.get()) {
            // Flush pending TLS records here: a paused connection is not read, and reading is what normally flushes them.
            return match scope.connection.transport.poll_writable(cx) {
                Poll::Ready(Err(failure)) => Poll::Ready(lost(&failure)),
                _ => Poll::Pending,
            };
        }
        let stop = match ingress.take(scope.connection) {
            Some(mut rest) => {
                let (taken, stop) = on_bytes(scope, rest.unread(), &mut ingress.inflater, &ingress.limits, &mut budget);
                rest.advance(taken);
                ingress.keep(scope.connection, rest);
                stop
            }
            None => match read(scope, ingress, &mut budget, cx) {
                Ok(ControlFlow::Continue(stop)) => stop,
                Ok(ControlFlow::Break(end)) => return end,
                Err(failure) => return Poll::Ready(lost(&failure)),
            },
        };
        if stop == Some(Stop::Budget) {
            scope.run_queue.defer(scope.connection);
            return Poll::Pending;
        }
    }
}

/// Reads once, if the budget allows, and processes that. `Break`: how the turn ends.
fn read(
    scope: &mut Scope<'_>,
    ingress: &mut Ingress,
    budget: &mut Budget,
    cx: &mut Context<'_>,
) -> io::Result<ControlFlow<Poll<Disconnect>, Option<Stop>>> {
    let Some(room) = budget.take_read().and_then(|most| ingress.buffer.get_mut(..most)) else {
        return Ok(ControlFlow::Continue(Some(Stop::Budget)));
    };
    let count = match scope.connection.transport.poll_read(cx, room) {
        Poll::Pending if scope.connection.transport.is_readable() => {
            return Ok(ControlFlow::Continue(Some(Stop::Budget)));
        }
        Poll::Pending => {
            scope.connection.is_caught_up = true;
            return Ok(ControlFlow::Break(Poll::Pending));
        }
        Poll::Ready(count) => count?,
    };
    if count == 0 {
        return Ok(ControlFlow::Break(Poll::Ready(Disconnect::Lost)));
    }
    scope.shard.counters.traffic.add(Traffic::BytesIn, count as u64);
    if !scope.connection.may_still_send(count, MAX_DISCARDED) {
        scope.connection.transport.abort();
        return Ok(ControlFlow::Break(Poll::Ready(Disconnect::Lost)));
    }
    let bytes = room.get_mut(..count).unwrap_or_default();
    let (taken, stop) = on_bytes(scope, bytes, &mut ingress.inflater, &ingress.limits, budget);
    if let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        let rest = Rest::new(rest.to_vec());
        ingress.keep(scope.connection, rest);
    }
    if let Some(pause) = scope.shard.run.level.get().read_pause() {
        scope.connection.is_throttled = true;
        let peer = scope.peer();
        scope.timers.schedule_read_resume(pause, peer);
    }
    Ok(ControlFlow::Continue(stop))
}

/// Writes until nothing is due or the socket is full. `Pending`: the connection continues.
fn write(scope: &mut Scope<'_>, cx: &mut Context<'_>) -> Poll<Disconnect> {
    let connection = &mut *scope.connection;
    if matches!(connection.state, State::Aborted) {
        return Poll::Ready(Disconnect::Lost);
    }
    while connection.outbox.is_due() {
        match connection.transport.poll_writable(cx) {
            Poll::Pending => {
                connection.is_blocked = true;
                return Poll::Pending;
            }
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(failure)) => return Poll::Ready(lost(&failure)),
        }
        match connection.write_due(&mut scope.egress.deflaters, &scope.shard.counters) {
            Ok(Flushed::Everything | Flushed::Blocked) => {}
            Err(failure) => return Poll::Ready(lost(&failure)),
        }
    }
    connection.is_blocked = false;
    if let State::Finishing { end_sent, .. } = &mut connection.state
        && !std::mem::replace(end_sent, true)
    {
        connection.transport.shutdown_write();
    }
    Poll::Pending
}

/// Takes in bytes of the peer. Returns how many, and why no more.
fn on_bytes(
    scope: &mut Scope<'_>,
    bytes: &mut [u8],
    inflater: &mut Inflater,
    limits: &Limits,
    budget: &mut Budget,
) -> (usize, Option<Stop>) {
    let length = bytes.len();
    match scope.connection.state {
        State::Anonymous { .. } | State::Open(_) => {}
        // After our own close frame only the peer's is awaited.
        State::Closing { .. } => {
            return match scope.connection.assembler.skip_to_close(bytes) {
                Ok((taken, is_closed)) => {
                    if is_closed {
                        close::on_peer_close(scope, None);
                    }
                    (taken, None)
                }
                Err(reason) => {
                    close::protocol_error(scope, reason);
                    (length, None)
                }
            };
        }
        State::Finishing { .. } | State::Aborted => {
            scope.connection.assembler.forget();
            return (length, None);
        }
    }
    // Out of the connection meanwhile: messages change the connection.
    let mut assembler = std::mem::replace(&mut scope.connection.assembler, Assembler::new(false));
    let level = scope.shard.run.level.get();
    let mut receiver = MessageReceiver::new(scope, budget, level);
    let result = assembler.advance(bytes, limits, inflater, &mut receiver);
    let stop = matches!(result, Ok(taken) if taken < length).then(|| receiver.stop());
    scope.connection.assembler = assembler;
    match result {
        Ok(taken) => (taken, stop),
        Err(reason) => {
            close::protocol_error(scope, reason);
            (length, None)
        }
    }
}

fn lost(failure: &io::Error) -> Disconnect {
    debug!(%failure, "a connection was lost");
    Disconnect::Lost
}
