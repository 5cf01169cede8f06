//! Users and their connections across all shards: who is here, how many places each has left.
//!
//! Shared by all shards and the getters; touched when a connection is admitted and when it goes, never per
//! message. Its lock is held for microseconds and calls nothing back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::hub::connection_limit::ConnectionLimit;
use crate::sync::{Mutex, MutexGuard};
use crate::types::{ConnectionKey, ConnectionNumber, ShardId, UserId};
use crate::utils::LruCache;

/// A user who connects again within this time after the last connection closed has reconnected.
const RECONNECT_WINDOW: Duration = Duration::from_secs(60);

/// How many recent disconnects are kept, to recognise a reconnection.
const RECENT_DISCONNECTS: usize = 10_000;

/// Where a connection is. The number tells it from a later one at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRef {
    pub number: ConnectionNumber,
    pub key: ConnectionKey,
    pub shard: ShardId,
}

#[derive(Debug)]
pub struct ConnectionManager {
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    by_id: HashMap<UserId, User>,
    /// Counts users as they come, so that they can be listed in the order of their first connection.
    arrivals: u64,
    left: LruCache<UserId, ()>,
    /// Users with an open connection.
    present: usize,
    /// What names, and lists of several connections, take.
    entry_bytes: usize,
    epoch: Instant,
}

#[derive(Debug)]
struct User {
    arrival: u64,
    reserved: u32,
    open: SmallVec<[ConnectionRef; 1]>,
}

/// A place among a user's connections, taken before the look-up so that handshakes in flight count.
/// Dropping it gives the place back.
#[derive(Debug)]
pub struct Reservation {
    manager: Arc<ConnectionManager>,
    user: UserId,
    /// With how many open connections the oldest makes room; `None`: with no number.
    replaces_from: Option<usize>,
}

/// What has become of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub arrival: Arrival,
    /// Counts no more, and is to be closed by its shard.
    pub replaced: Option<ConnectionRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    New,
    Reconnected,
}

impl ConnectionManager {
    pub fn new(now: Instant) -> Self {
        Self {
            users: Mutex::new(Users {
                by_id: HashMap::new(),
                arrivals: 0,
                left: LruCache::new(RECENT_DISCONNECTS),
                present: 0,
                entry_bytes: 0,
                epoch: now,
            }),
        }
    }

    /// `None` if the user has `limit` connections, counting the handshakes in flight; where the oldest makes room, if so many handshakes
    /// are in flight.
    pub fn reserve(self: &Arc<Self>, user: &UserId, limit: usize, beyond: ConnectionLimit) -> Option<Reservation> {
        let mut users = self.lock();
        // An entry that was just made has no places taken, so it is never left behind empty.
        if limit == 0 {
            return None;
        }
        let (user, entry) = users.entry(user);
        let (open, replaces_from) = match beyond {
            ConnectionLimit::Refuse => (entry.open.len(), None),
            ConnectionLimit::CloseOldest => (0, Some(limit)),
        };
        if entry.reserved as usize + open >= limit {
            return None;
        }
        entry.reserved += 1;
        Some(Reservation { manager: self.clone(), user, replaces_from })
    }

    /// Forgets a connection; the last one takes the user along.
    pub fn close(&self, user: &UserId, number: ConnectionNumber, now: Instant) {
        let mut users = self.lock();
        let Some(entry) = users.by_id.get_mut(user.as_str()) else { return };
        let (count, before) = (entry.open.len(), entry.heap_bytes());
        entry.open.retain(|open| open.number != number);
        let (left, after) = (entry.open.len(), entry.heap_bytes());
        users.entry_bytes = users.entry_bytes - before + after;
        if left == 0 && count > 0 {
            users.present -= 1;
            let elapsed = users.elapsed(now);
            users.left.put(user.clone(), (), elapsed);
        }
        users.forget_if_empty(user);
    }

    /// The open connection that the user has had longest.
    pub fn oldest(&self, user: &str) -> Option<ConnectionRef> {
        self.lock().by_id.get(user).and_then(|entry| entry.open.first().copied())
    }

    /// The open connections of one user, oldest first.
    pub fn connections(&self, user: &str) -> SmallVec<[ConnectionRef; 1]> {
        self.lock().by_id.get(user).map(|entry| entry.open.clone()).unwrap_or_default()
    }

    pub fn connection_count(&self, user: &str) -> usize {
        self.lock().by_id.get(user).map_or(0, |entry| entry.open.len())
    }

    /// How many users have an open connection.
    pub fn user_count(&self) -> usize {
        self.lock().present
    }

    /// Users with an open connection, in the order of their first connection.
    pub fn connected_users(&self) -> Vec<UserId> {
        let mut present: Vec<(u64, UserId)> = {
            let users = self.lock();
            users
                .by_id
                .iter()
                .filter(|(_, entry)| !entry.open.is_empty())
                .map(|(user, entry)| (entry.arrival, user.clone()))
                .collect()
        };
        present.sort_unstable_by_key(|(arrival, _)| *arrival);
        present.into_iter().map(|(_, user)| user).collect()
    }

    /// What the table takes, names included. In constant time.
    pub fn heap_bytes(&self) -> usize {
        let users = self.lock();
        let entries = users.by_id.capacity() * (size_of::<(UserId, User)>() + 1);
        entries + users.entry_bytes + users.left.heap_bytes()
    }

    /// Drops the users who disconnected too long ago to count as reconnecting.
    pub fn expire_recent_disconnects(&self, now: Instant) {
        let mut users = self.lock();
        let elapsed = users.elapsed(now);
        users.left.evict_older_than(elapsed, u64::try_from(RECONNECT_WINDOW.as_millis()).unwrap_or(u64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock()
    }
}

impl Users {
    /// The user's entry, and the name it is kept under: one for all connections of the user.
    fn entry(&mut self, user: &UserId) -> (UserId, &mut User) {
        match self.by_id.entry(user.clone()) {
            Entry::Occupied(entry) => (entry.key().clone(), entry.into_mut()),
            Entry::Vacant(entry) => {
                self.arrivals += 1;
                self.entry_bytes += user.heap_bytes();
                (user.clone(), entry.insert(User { arrival: self.arrivals, reserved: 0, open: SmallVec::new() }))
            }
        }
    }

    fn forget_if_empty(&mut self, user: &UserId) {
        let empty = self.by_id.get(user.as_str()).is_some_and(|entry| entry.open.is_empty() && entry.reserved == 0);
        if empty {
            let freed = self.by_id.remove(user.as_str()).map_or(0, |entry| entry.heap_bytes());
            self.entry_bytes -= user.heap_bytes() + freed;
            if self.by_id.capacity() > 1024 && self.by_id.len() * 4 < self.by_id.capacity() {
                self.by_id.shrink_to(self.by_id.len() * 2);
            }
        }
    }

    fn elapsed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

impl User {
    fn heap_bytes(&self) -> usize {
        if self.open.spilled() { self.open.capacity() * size_of::<ConnectionRef>() } else { 0 }
    }
}

impl Reservation {
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Turns the place into an open connection.
    pub fn open(self, connection: ConnectionRef, now: Instant) -> Opened {
        let mut users = self.manager.lock();
        let elapsed = users.elapsed(now);
        let window = u64::try_from(RECONNECT_WINDOW.as_millis()).unwrap_or(u64::MAX);
        let (_, entry) = users.entry(&self.user);
        let before = entry.heap_bytes();
        // One for one: a limit that was lowered meanwhile closes no other connection.
        let is_beyond = self.replaces_from.is_some_and(|limit| entry.open.len() >= limit);
        let replaced = is_beyond.then(|| entry.open.remove(0));
        entry.open.push(connection);
        let (count, after) = (entry.open.len(), entry.heap_bytes());
        users.entry_bytes = users.entry_bytes - before + after;
        if count > 1 {
            return Opened { arrival: Arrival::New, replaced };
        }
        if replaced.is_none() {
            users.present += 1;
        }
        if replaced.is_some() || users.left.get(&self.user, elapsed, window).is_none() {
            return Opened { arrival: Arrival::New, replaced };
        }
        users.left.remove(&self.user);
        Opened { arrival: Arrival::Reconnected, replaced }
        // The place itself is given back by `drop`.
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut users = self.manager.lock();
        if let Some(entry) = users.by_id.get_mut(self.user.as_str()) {
            entry.reserved = entry.reserved.saturating_sub(1);
        }
        users.forget_if_empty(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(number: u64) -> ConnectionRef {
        ConnectionRef { number: ConnectionNumber(number), key: ConnectionKey(0), shard: ShardId(0) }
    }

    fn manager() -> (Arc<ConnectionManager>, Instant) {
        let now = Instant::now();
        (Arc::new(ConnectionManager::new(now)), now)
    }

    #[test]
    fn handshakes_in_flight_count_towards_the_limit_and_give_their_place_back() {
        let (manager, now) = manager();
        let ann = UserId::new("ann");
        let first = manager.reserve(&ann, 2, ConnectionLimit::Refuse).expect("a free place");
        let second = manager.reserve(&ann, 2, ConnectionLimit::Refuse).expect("a free place");
        assert!(manager.reserve(&ann, 2, ConnectionLimit::Refuse).is_none());
        drop(second);
        first.open(connection(1), now);
        let third = manager.reserve(&ann, 2, ConnectionLimit::Refuse).expect("the place given back");
        assert!(manager.reserve(&ann, 2, ConnectionLimit::Refuse).is_none());
        drop(third);
        manager.close(&ann, ConnectionNumber(1), now);
        assert_eq!(manager.lock().by_id.len(), 0);
    }

    #[test]
    fn a_refused_user_leaves_no_entry() {
        let (manager, _) = manager();
        assert!(manager.reserve(&UserId::new("ann"), 0, ConnectionLimit::Refuse).is_none());
        assert_eq!(manager.lock().by_id.len(), 0);
    }

    #[test]
    fn users_are_listed_in_the_order_of_their_first_connection() {
        let (manager, now) = manager();
        for (number, name) in [(0, "zoe"), (1, "ann"), (2, "zoe"), (3, "bob")] {
            let user = UserId::new(name);
            manager.reserve(&user, 5, ConnectionLimit::Refuse).expect("a free place").open(connection(number), now);
        }
        let names = |manager: &ConnectionManager| {
            manager.connected_users().iter().map(|user| user.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&manager), ["zoe", "ann", "bob"]);
        manager.close(&UserId::new("zoe"), ConnectionNumber(0), now);
        assert_eq!(names(&manager), ["zoe", "ann", "bob"]);
        manager.close(&UserId::new("zoe"), ConnectionNumber(2), now);
        assert_eq!(names(&manager), ["ann", "bob"]);
        assert_eq!(manager.user_count(), 2);
    }

    #[test]
    fn what_is_counted_while_it_changes_is_what_a_walk_would_count() {
        let (manager, now) = manager();
        for number in 0..30 {
            let user = UserId::new(&format!("user-{}", number % 7));
            manager.reserve(&user, 10, ConnectionLimit::Refuse).expect("a free place").open(connection(number), now);
        }
        let in_flight = manager.reserve(&UserId::new("zoe"), 10, ConnectionLimit::Refuse);
        assert_eq!(manager.oldest("user-3").map(|oldest| oldest.number), Some(ConnectionNumber(3)));
        for number in [3, 10, 17, 24, 4, 4] {
            manager.close(&UserId::new(&format!("user-{}", number % 7)), ConnectionNumber(number), now);
        }
        let users = manager.lock();
        let names: usize = users.by_id.keys().map(UserId::heap_bytes).sum();
        assert_eq!(users.entry_bytes, names + users.by_id.values().map(User::heap_bytes).sum::<usize>());
        assert_eq!(users.present, users.by_id.values().filter(|user| !user.open.is_empty()).count());
        assert_eq!(users.present, 6);
        drop(users);
        drop(in_flight);
        assert_eq!((manager.user_count(), manager.oldest("user-3")), (6, None));
    }

    #[test]
    fn a_handshake_in_flight_is_not_a_connection() {
        let (manager, _) = manager();
        let reservation = manager.reserve(&UserId::new("ann"), 5, ConnectionLimit::Refuse);
        assert_eq!(manager.connection_count("ann"), 0);
        assert_eq!(manager.user_count(), 0);
        assert!(manager.connected_users().is_empty());
        drop(reservation);
    }

    #[test]
    fn coming_back_within_a_minute_is_a_reconnection() {
        let (manager, now) = manager();
        let ann = UserId::new("ann");
        let arrive = |number, at| {
            manager
                .reserve(&ann, 5, ConnectionLimit::Refuse)
                .expect("a free place")
                .open(connection(number), at)
                .arrival
        };
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(arrive(1, now), Arrival::New);
        assert_eq!(arrive(2, now), Arrival::New, "a second tab is no reconnection");
        manager.close(&ann, ConnectionNumber(1), later(1));
        assert_eq!(arrive(3, later(2)), Arrival::New, "the user was still here");
        manager.close(&ann, ConnectionNumber(2), later(3));
        manager.close(&ann, ConnectionNumber(3), later(3));
        assert_eq!(arrive(4, later(62)), Arrival::Reconnected);
        assert_eq!(arrive(5, later(62)), Arrival::New);
        manager.close(&ann, ConnectionNumber(4), later(70));
        manager.close(&ann, ConnectionNumber(5), later(70));
        assert_eq!(arrive(6, later(131)), Arrival::New, "too late");
    }

    fn numbers(manager: &ConnectionManager) -> Vec<u64> {
        manager.connections("ann").iter().map(|open| open.number.0).collect()
    }

    #[test]
    fn the_oldest_makes_room_for_one_that_has_come_in() {
        let (manager, now) = manager();
        let ann = UserId::new("ann");
        let reserve = || manager.reserve(&ann, 2, ConnectionLimit::CloseOldest);
        let replaced = |number| reserve().unwrap().open(connection(number), now).replaced.map(|oldest| oldest.number.0);
        assert_eq!((replaced(1), replaced(2), replaced(3)), (None, None, Some(1)));
        // One that does not come in after all takes nothing.
        drop(reserve());
        assert_eq!(numbers(&manager), [2, 3]);
        // What was replaced is no more to be found, and its end takes nothing else along.
        manager.close(&ann, ConnectionNumber(1), now);
        assert_eq!(numbers(&manager), [2, 3]);
    }

    #[test]
    fn handshakes_that_settle_together_replace_one_each_and_never_pass_the_limit() {
        let (manager, now) = manager();
        let ann = UserId::new("ann");
        let reserve = || manager.reserve(&ann, 2, ConnectionLimit::CloseOldest);
        reserve().unwrap().open(connection(1), now);
        reserve().unwrap().open(connection(2), now);
        let (third, fourth) = (reserve().unwrap(), reserve().unwrap());
        assert!(reserve().is_none(), "more handshakes than there may be connections");
        assert_eq!(third.open(connection(3), now).replaced.map(|oldest| oldest.number.0), Some(1));
        assert_eq!(fourth.open(connection(4), now).replaced.map(|oldest| oldest.number.0), Some(2));
        assert_eq!(numbers(&manager), [3, 4]);
        // A limit that was lowered closes one for one.
        let lower = manager.reserve(&ann, 1, ConnectionLimit::CloseOldest).unwrap();
        assert_eq!(lower.open(connection(5), now).replaced.map(|oldest| oldest.number.0), Some(3));
        assert_eq!(numbers(&manager), [4, 5]);
        assert!(manager.reserve(&ann, 0, ConnectionLimit::CloseOldest).is_none());
    }

    #[test]
    fn a_user_whose_only_connection_is_replaced_has_not_left() {
        let (manager, now) = manager();
        let ann = UserId::new("ann");
        let open =
            |number| manager.reserve(&ann, 1, ConnectionLimit::CloseOldest).unwrap().open(connection(number), now);
        open(1);
        assert_eq!(open(2), Opened { arrival: Arrival::New, replaced: Some(connection(1)) });
        assert_eq!(manager.connected_users(), vec![ann]);
    }
}
