//! Connections of the own port whose request has not come yet: how many there may be, and which one makes room for another.
//!
//! Owned by a shard, used by its thread alone. [`Table`] is pure: the time comes in. Places are few and cost the peer nothing, so
//! a connection may lose its place to a newcomer: the oldest silent one first, of the addresses that hold most.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::shard::event_loop::Shard;

/// Places of all shards together.
const MAX_PENDING: usize = 4096;

/// A connection keeps its place for so long whatever happens: a request needs a few round trips to come.
const MIN_STAY: Duration = Duration::from_millis(100);

/// While every place is taken, a request has so long to come.
const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a connection may keep its place because something of it waits to be read. Requests do not come in so many pieces.
const MAX_REPRIEVES: u8 = 8;

/// How many of the oldest connections are looked at for one that gives up its place.
const MAX_LOOKED_AT: usize = 64;

/// The addresses that share places: one of IPv4, a network of 64 bits of IPv6, which one host may have to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin(u128);

/// Why a connection loses its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its request did not come in time.
    TooSlow,
    /// Another one needs the place.
    Displaced,
}

/// What a connection hears of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// Another one needs the place: is there anything to read?
    Asked,
    Lost(Loss),
}

struct Pending {
    origin: Origin,
    since: Instant,
    /// Not asked for its place before.
    not_before: Instant,
    reprieves: u8,
    notice: Option<Notice>,
    task: Option<Waker>,
    older: Option<usize>,
    newer: Option<usize>,
}

/// Connections by age, oldest first.
struct Table {
    capacity: usize,
    timeout: Duration,
    pending: Slab<Pending>,
    oldest: Option<usize>,
    newest: Option<usize>,
    by_origin: HashMap<Origin, usize>,
}

pub(crate) struct PendingHandshakes(RefCell<Table>);

/// A place among the pending handshakes of a shard, until it is dropped.
pub(crate) struct PendingPlace {
    index: usize,
    shard: Rc<Shard>,
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}

impl Table {
    fn new(capacity: usize, timeout: Duration) -> Self {
        let (pending, by_origin) = (Slab::new(), HashMap::new());
        Self { capacity: capacity.max(1), timeout, pending, oldest: None, newest: None, by_origin }
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= self.capacity
    }

    fn enter(&mut self, address: IpAddr, now: Instant) -> usize {
        let origin = Origin::of(address);
        *self.by_origin.entry(origin).or_default() += 1;
        let index = self.pending.insert(Pending {
            origin,
            since: now,
            not_before: now + MIN_STAY,
            reprieves: 0,
            notice: None,
            task: None,
            older: self.newest,
            newer: None,
        });
        match self.newest.replace(index).and_then(|newest| self.pending.get_mut(newest)) {
            Some(newest) => newest.newer = Some(index),
            None => self.oldest = Some(index),
        }
        index
    }

    fn leave(&mut self, index: usize) {
        let Some(gone) = self.pending.try_remove(index) else { return };
        match gone.older.and_then(|older| self.pending.get_mut(older)) {
            Some(older) => older.newer = gone.newer,
            None => self.oldest = gone.newer,
        }
        match gone.newer.and_then(|newer| self.pending.get_mut(newer)) {
            Some(newer) => newer.older = gone.older,
            None => self.newest = gone.older,
        }
        if let Some(count) = self.by_origin.get_mut(&gone.origin) {
            *count -= 1;
            if *count == 0 {
                self.by_origin.remove(&gone.origin);
            }
        }
        if self.pending.is_empty() && self.pending.capacity() > self.capacity / 8 {
            self.pending.shrink_to_fit();
            self.by_origin.shrink_to_fit();
        }
    }

    /// The time a request has to come: all of it while at most half of the places are taken, the less the fewer are left.
    fn time_allowed(&self) -> Duration {
        let free = self.capacity.saturating_sub(self.pending.len());
        if 2 * free >= self.capacity {
            return self.timeout;
        }
        let share = 2.0 * free as f64 / self.capacity as f64;
        self.timeout.mul_f64(share).max(SHORTEST_TIMEOUT.min(self.timeout))
    }

    fn next_deadline(&self) -> Option<Instant> {
        // One that lost its place leaves it in a moment.
        let next = self.by_age().find(|(_, pending)| !matches!(pending.notice, Some(Notice::Lost(_))));
        next.map(|(_, pending)| pending.since + self.time_allowed())
    }

    /// Takes the places of those whose time is over.
    fn expire(&mut self, now: Instant) {
        let allowed = self.time_allowed();
        let is_due = |pending: &Pending| pending.since + allowed <= now;
        let overdue: Vec<_> =
            self.by_age().take_while(|(_, pending)| is_due(pending)).map(|(index, _)| index).collect();
        // Their answer would hold up descriptors that others need.
        let loss = if allowed < self.timeout { Loss::Displaced } else { Loss::TooSlow };
        for index in overdue {
            self.notify(index, Notice::Lost(loss));
        }
    }

    /// Asks one connection for its place; `false` if there is none to ask at present.
    fn ask_for_place(&mut self, now: Instant) -> bool {
        let fair_share = self.capacity / self.by_origin.len().max(1);
        let holds_more =
            |pending: &Pending| self.by_origin.get(&pending.origin).is_some_and(|count| *count > fair_share);
        let may_be_asked = |pending: &Pending| pending.notice.is_none() && pending.not_before <= now;
        let oldest = || self.by_age().take(MAX_LOOKED_AT).filter(|(_, pending)| may_be_asked(pending));
        let found = oldest().find(|(_, pending)| holds_more(pending)).or_else(|| oldest().next());
        let Some((index, _)) = found else { return false };
        self.notify(index, Notice::Asked);
        true
    }

    /// The connection has something to read after all; `false` if that has been so too often.
    fn reprieve(&mut self, index: usize, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(index) else { return false };
        pending.reprieves += 1;
        pending.notice = None;
        pending.not_before = now + MIN_STAY;
        pending.reprieves <= MAX_REPRIEVES
    }

    fn notify(&mut self, index: usize, notice: Notice) {
        let Some(pending) = self.pending.get_mut(index) else { return };
        if matches!(pending.notice, Some(Notice::Lost(_))) {
            return;
        }
        pending.notice = Some(notice);
        if let Some(task) = pending.task.take() {
            task.wake();
        }
    }

    fn poll_notice(&mut self, index: usize, cx: &Context<'_>) -> Poll<Notice> {
        let Some(pending) = self.pending.get_mut(index) else { return Poll::Pending };
        if let Some(notice) = pending.notice {
            return Poll::Ready(notice);
        }
        match &mut pending.task {
            Some(task) => task.clone_from(cx.waker()),
            task => *task = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn by_age(&self) -> impl Iterator<Item = (usize, &Pending)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let index = next?;
            let pending = self.pending.get(index)?;
            next = pending.newer;
            Some((index, pending))
        })
    }
}

impl PendingHandshakes {
    /// The places of one of `shards` shards. A request has `timeout` to come.
    pub fn new(shards: usize, timeout: Duration) -> Self {
        Self(RefCell::new(Table::new(MAX_PENDING / shards.max(1), timeout)))
    }

    pub fn is_full(&self) -> bool {
        self.0.borrow().is_full()
    }

    /// Has a silent connection give up its place, as soon as its task has run; `false` if there is none at present.
    pub fn ask_for_place(&self, now: Instant) -> bool {
        self.0.borrow_mut().ask_for_place(now)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.borrow().next_deadline()
    }

    pub fn expire(&self, now: Instant) {
        self.0.borrow_mut().expire(now);
    }
}

impl PendingPlace {
    /// Takes a place, even if there is none left: whoever accepts looks first.
    pub fn new(shard: &Rc<Shard>, address: IpAddr) -> Self {
        let index = shard.pending.0.borrow_mut().enter(address, Instant::now());
        if let Some(deadline) = shard.pending.next_deadline() {
            shard.timers.wake_for(deadline);
        }
        Self { index, shard: shard.clone() }
    }

    /// Ends when the place is lost. `has_unread` tells whether the peer has sent something that was not read yet.
    pub async fn lost(&self, has_unread: impl Fn() -> bool) -> Loss {
        loop {
            match poll_fn(|cx| self.shard.pending.0.borrow_mut().poll_notice(self.index, cx)).await {
                Notice::Lost(loss) => return loss,
                Notice::Asked => {
                    let is_kept =
                        has_unread() && self.shard.pending.0.borrow_mut().reprieve(self.index, Instant::now());
                    if !is_kept {
                        return Loss::Displaced;
                    }
                }
            }
        }
    }
}

impl Drop for PendingPlace {
    fn drop(&mut self) {
        self.shard.pending.0.borrow_mut().leave(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    /// A table of eight places and a moment after which nobody's stay is protected.
    fn table() -> (Table, Instant, Instant) {
        let now = Instant::now();
        (Table::new(8, TIMEOUT), now, now + MIN_STAY)
    }

    fn notices(table: &Table) -> Vec<Option<Notice>> {
        table.by_age().map(|(_, pending)| pending.notice).collect()
    }

    /// The indexes that were asked for their place, oldest first.
    fn asked(table: &Table) -> Vec<usize> {
        table.by_age().filter(|(_, pending)| pending.notice == Some(Notice::Asked)).map(|(index, _)| index).collect()
    }

    #[test]
    fn the_oldest_is_asked_first_and_nobody_twice() {
        let (mut table, now, later) = table();
        let places: Vec<_> = (0..8).map(|_| table.enter(address(1), now)).collect();
        assert!(table.is_full());
        assert!(!table.ask_for_place(now), "every stay is protected");
        assert!(table.ask_for_place(later));
        assert_eq!(asked(&table), [places[0]]);
        assert!(table.ask_for_place(later));
        assert_eq!(asked(&table), [places[0], places[1]]);
        table.leave(places[0]);
        assert!(!table.is_full());
        for _ in 2..8 {
            assert!(table.ask_for_place(later));
        }
        assert!(!table.ask_for_place(later));
    }

    #[test]
    fn addresses_that_hold_most_give_up_their_places_first() {
        let (mut table, now, later) = table();
        let lone = table.enter(address(1), now);
        let crowd: Vec<_> = (0..7).map(|_| table.enter(address(2), now)).collect();
        assert!(table.ask_for_place(later));
        assert_eq!(asked(&table), [crowd[0]]);
        for _ in 1..7 {
            assert!(table.ask_for_place(later));
        }
        assert!(!asked(&table).contains(&lone));
        assert!(table.ask_for_place(later), "if there is nobody else");
        assert_eq!(asked(&table)[0], lone);
    }

    #[test]
    fn neighbours_share_places() {
        let of = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
        assert_ne!(Origin::of(Ipv6Addr::LOCALHOST.into()), Origin::of(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn what_has_something_to_read_keeps_its_place_but_not_for_ever() {
        let (mut table, now, mut later) = table();
        let place = table.enter(address(1), now);
        for _ in 0..MAX_REPRIEVES {
            assert!(table.ask_for_place(later));
            assert!(table.reprieve(place, later));
            assert!(!table.ask_for_place(later), "protected again");
            later += MIN_STAY;
        }
        assert!(table.ask_for_place(later));
        assert!(!table.reprieve(place, later));
    }

    #[test]
    fn the_time_to_send_a_request_shrinks_with_the_places_left() {
        let (mut table, now, _) = table();
        let mut allowed = Vec::new();
        for _ in 0..8 {
            table.enter(address(1), now);
            allowed.push(table.time_allowed());
        }
        assert_eq!(allowed[..4], [TIMEOUT; 4]);
        assert!(allowed[4..].windows(2).all(|pair| pair[0] > pair[1]), "{allowed:?}");
        assert_eq!(allowed[7], SHORTEST_TIMEOUT);
        assert_eq!(table.next_deadline(), Some(now + SHORTEST_TIMEOUT));
        let mut impatient = Table::new(2, Duration::from_millis(200));
        impatient.enter(address(1), now);
        impatient.enter(address(1), now);
        assert_eq!(impatient.time_allowed(), Duration::from_millis(200));
    }

    #[test]
    fn those_whose_time_is_over_lose_their_places_in_order() {
        let (mut table, now, _) = table();
        let moments = [now, now + TIMEOUT / 2];
        for moment in moments {
            table.enter(address(1), moment);
        }
        table.expire(now + TIMEOUT - Duration::from_millis(1));
        assert_eq!(notices(&table), [None, None]);
        table.expire(now + TIMEOUT);
        assert_eq!(notices(&table), [Some(Notice::Lost(Loss::TooSlow)), None]);
        assert_eq!(table.next_deadline(), Some(moments[1] + TIMEOUT), "a place that is lost is not waited for");
        // In need there is no time for an answer.
        (0..6).for_each(|_| {
            table.enter(address(1), now + TIMEOUT);
        });
        table.expire(now + TIMEOUT);
        assert_eq!(notices(&table)[1], Some(Notice::Lost(Loss::Displaced)));
    }

    #[test]
    fn places_are_given_back_from_anywhere() {
        let (mut table, now, _) = table();
        let places: Vec<_> = (0..8).map(|number| table.enter(address(number), now)).collect();
        for index in [3, 0, 7, 4, 1, 6, 2, 5] {
            table.leave(places[index]);
            table.leave(places[index]);
            let known = table.by_age().count();
            assert_eq!((known, table.by_origin.len()), (table.pending.len(), table.pending.len()));
        }
        assert_eq!((table.oldest, table.newest, table.next_deadline()), (None, None, None));
        table.enter(address(1), now);
        assert_eq!(table.by_age().count(), 1);
    }
}
