//! Connections on the own port whose request has not arrived yet: by age and by address, so that a silent one can make room. Pure.
//!
//! Owned by the event loop; the time is an argument. Places are few and cost a peer nothing, so a connection may lose its place to a
//! later one: the oldest silent one first, of the addresses that hold most.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::types::ConnectionKey;

/// Places of all shards together.
pub const MAX_PENDING: usize = 4096;

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
pub enum Loss {
    /// Its request did not come in time.
    TooSlow,
    /// Another one needs the place.
    Displaced,
}

struct Pending {
    key: ConnectionKey,
    origin: Origin,
    since: Instant,
    /// Not displaced before.
    not_before: Instant,
    reprieves: u8,
    older: Option<usize>,
    newer: Option<usize>,
}

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceIndex(usize);

/// Connections by age, oldest first.
pub struct PendingPlaces {
    capacity: usize,
    timeout: Duration,
    pending: Slab<Pending>,
    oldest: Option<usize>,
    newest: Option<usize>,
    by_origin: HashMap<Origin, usize>,
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}

impl PendingPlaces {
    /// For `capacity` connections, each of which has `timeout` for its request.
    pub fn new(capacity: usize, timeout: Duration) -> Self {
        let (pending, by_origin) = (Slab::new(), HashMap::new());
        Self { capacity: capacity.max(1), timeout, pending, oldest: None, newest: None, by_origin }
    }

    pub fn enter(&mut self, key: ConnectionKey, address: IpAddr, now: Instant) -> PlaceIndex {
        let origin = Origin::of(address);
        *self.by_origin.entry(origin).or_default() += 1;
        let index = self.pending.insert(Pending {
            key,
            origin,
            since: now,
            not_before: now + MIN_STAY,
            reprieves: 0,
            older: self.newest,
            newer: None,
        });
        match self.newest.replace(index).and_then(|newest| self.pending.get_mut(newest)) {
            Some(newest) => newest.newer = Some(index),
            None => self.oldest = Some(index),
        }
        PlaceIndex(index)
    }

    pub fn leave(&mut self, PlaceIndex(index): PlaceIndex) {
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

    /// When the next request is overdue.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (_, oldest) = self.by_age().next()?;
        Some(oldest.since + self.time_allowed())
    }

    /// The connections whose time is over, and how they lose their place. They keep it until they [leave](Self::leave).
    pub fn expired(&self, now: Instant) -> (Loss, Vec<ConnectionKey>) {
        let allowed = self.time_allowed();
        // While places are scarce, an answer would hold up descriptors that others need.
        let loss = if allowed < self.timeout { Loss::Displaced } else { Loss::TooSlow };
        let overdue = self.by_age().take_while(|(_, pending)| pending.since + allowed <= now);
        (loss, overdue.map(|(_, pending)| pending.key).collect())
    }

    /// The connection that should make room, if one may lose its place at present.
    pub fn candidate(&self, now: Instant) -> Option<(PlaceIndex, ConnectionKey)> {
        let fair_share = self.capacity / self.by_origin.len().max(1);
        let holds_more =
            |pending: &Pending| self.by_origin.get(&pending.origin).is_some_and(|count| *count > fair_share);
        let oldest = || self.by_age().take(MAX_LOOKED_AT).filter(|(_, pending)| pending.not_before <= now);
        let found = oldest().find(|(_, pending)| holds_more(pending)).or_else(|| oldest().next());
        found.map(|(index, pending)| (PlaceIndex(index), pending.key))
    }

    /// The connection has something to read after all and keeps its place for a while; `false` if that has been so too often.
    pub fn reprieve(&mut self, PlaceIndex(index): PlaceIndex, now: Instant) -> bool {
        let Some(pending) = self.pending.get_mut(index) else { return false };
        pending.reprieves += 1;
        pending.not_before = now + MIN_STAY;
        pending.reprieves <= MAX_REPRIEVES
    }

    /// The time a request has to arrive: all of it while at most half of the places are taken, the less the fewer are left.
    fn time_allowed(&self) -> Duration {
        let free = self.capacity.saturating_sub(self.pending.len());
        if 2 * free >= self.capacity {
            return self.timeout;
        }
        let share = 2.0 * free as f64 / self.capacity as f64;
        self.timeout.mul_f64(share).max(SHORTEST_TIMEOUT.min(self.timeout))
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    /// A table of eight places and a moment after which no stay is protected.
    fn table() -> (PendingPlaces, Instant, Instant) {
        let now = Instant::now();
        (PendingPlaces::new(8, TIMEOUT), now, now + MIN_STAY)
    }

    fn enter(table: &mut PendingPlaces, key: u32, last: u8, now: Instant) -> PlaceIndex {
        table.enter(ConnectionKey(key), address(last), now)
    }

    /// Removes the connection that makes room, and returns its key.
    fn displace(table: &mut PendingPlaces, now: Instant) -> Option<u32> {
        let (index, key) = table.candidate(now)?;
        table.leave(index);
        Some(key.0)
    }

    #[test]
    fn the_oldest_makes_room_first() {
        let (mut table, now, later) = table();
        for key in 0..8 {
            enter(&mut table, key, 1, now);
        }
        assert_eq!(table.candidate(now), None, "every stay is protected");
        let order: Vec<_> = std::iter::from_fn(|| displace(&mut table, later)).collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn addresses_that_hold_most_make_room_first() {
        let (mut table, now, later) = table();
        enter(&mut table, 0, 1, now);
        for key in 1..8 {
            enter(&mut table, key, 2, now);
        }
        // Until the second address holds no more than its share, half of all places; then by age.
        let order: Vec<_> = std::iter::from_fn(|| displace(&mut table, later)).collect();
        assert_eq!(order, [1, 2, 3, 0, 4, 5, 6, 7]);
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
    fn a_connection_with_something_to_read_keeps_its_place_but_not_for_ever() {
        let (mut table, now, mut later) = table();
        let place = enter(&mut table, 0, 1, now);
        for _ in 0..MAX_REPRIEVES {
            assert!(table.candidate(later).is_some());
            assert!(table.reprieve(place, later));
            assert_eq!(table.candidate(later), None, "protected again");
            later += MIN_STAY;
        }
        assert!(table.candidate(later).is_some());
        assert!(!table.reprieve(place, later));
    }

    #[test]
    fn the_time_to_send_a_request_shrinks_with_the_places_left() {
        let (mut table, now, _) = table();
        let mut allowed = Vec::new();
        for key in 0..8 {
            enter(&mut table, key, 1, now);
            allowed.push(table.time_allowed());
        }
        assert_eq!(allowed[..4], [TIMEOUT; 4]);
        assert!(allowed[4..].windows(2).all(|pair| pair[0] > pair[1]), "{allowed:?}");
        assert_eq!(allowed[7], SHORTEST_TIMEOUT);
        assert_eq!(table.next_deadline(), Some(now + SHORTEST_TIMEOUT));
        let mut impatient = PendingPlaces::new(2, Duration::from_millis(200));
        enter(&mut impatient, 0, 1, now);
        enter(&mut impatient, 1, 1, now);
        assert_eq!(impatient.time_allowed(), Duration::from_millis(200));
    }

    #[test]
    fn those_whose_time_is_over_lose_their_places_in_order() {
        let (mut table, now, _) = table();
        let moments = [now, now + TIMEOUT / 2];
        let places: Vec<_> = (0..2).map(|key| enter(&mut table, key, 1, moments[key as usize])).collect();
        assert_eq!(table.expired(now + TIMEOUT - Duration::from_millis(1)).1, []);
        assert_eq!(table.expired(now + TIMEOUT), (Loss::TooSlow, vec![ConnectionKey(0)]));
        table.leave(places[0]);
        assert_eq!(table.next_deadline(), Some(moments[1] + TIMEOUT));
        // While places are scarce there is no time for an answer.
        (2..8).for_each(|key| {
            enter(&mut table, key, 1, now + TIMEOUT);
        });
        assert_eq!(table.expired(now + TIMEOUT), (Loss::Displaced, vec![ConnectionKey(1)]));
    }

    #[test]
    fn places_are_given_back_from_anywhere() {
        let (mut table, now, _) = table();
        let places: Vec<_> = (0..8).map(|key| enter(&mut table, key, key as u8, now)).collect();
        for index in [3, 0, 7, 4, 1, 6, 2, 5] {
            table.leave(places[index]);
            table.leave(places[index]);
            let known = table.by_age().count();
            assert_eq!((known, table.by_origin.len()), (table.pending.len(), table.pending.len()));
        }
        assert_eq!((table.oldest, table.newest, table.next_deadline()), (None, None, None));
        enter(&mut table, 0, 1, now);
        assert_eq!(table.by_age().count(), 1);
    }
}
