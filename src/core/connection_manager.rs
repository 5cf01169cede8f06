//! Users and their connections across all shards: who is here, how many places each has left.
//!
//! Shared by all shards and the getters; touched when a connection is admitted and when it goes, never per
//! message. Its lock is held for microseconds and calls nothing back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::types::{ConnectionKey, ConnectionNumber, ShardId, UserId};
use crate::utils::LruCache;

/// A user who is back within this time of losing the last connection has reconnected.
const RECONNECT_WINDOW: Duration = Duration::from_secs(60);

/// How many users who left are remembered for telling a reconnection.
const REMEMBERED_LEAVERS: usize = 10_000;

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
                left: LruCache::new(REMEMBERED_LEAVERS),
                epoch: now,
            }),
        }
    }

    /// `None` if the user has `limit` connections, counting the handshakes in flight.
    pub fn reserve(self: &Arc<Self>, user: &UserId, limit: usize) -> Option<Reservation> {
        let mut users = self.lock();
        // An entry that was just made has no places taken, so it is never left behind empty.
        if limit == 0 {
            return None;
        }
        let entry = users.entry(user);
        if entry.reserved as usize + entry.open.len() >= limit {
            return None;
        }
        entry.reserved += 1;
        Some(Reservation { manager: self.clone(), user: user.clone() })
    }

    /// Forgets a connection; the last one takes the user along.
    pub fn close(&self, user: &UserId, number: ConnectionNumber, now: Instant) {
        let mut users = self.lock();
        if let Some(entry) = users.by_id.get_mut(user.as_str()) {
            entry.open.retain(|open| open.number != number);
            if entry.open.is_empty() {
                let elapsed = users.elapsed(now);
                users.left.put(user.clone(), (), elapsed);
            }
            users.forget_if_empty(user);
        }
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
        self.lock().by_id.values().filter(|entry| !entry.open.is_empty()).count()
    }

    /// Everybody with an open connection, in the order of their first connection.
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

    /// What the table takes, names included.
    pub fn heap_bytes(&self) -> usize {
        let users = self.lock();
        let entries = users.by_id.capacity() * (size_of::<(UserId, User)>() + 1);
        let names: usize = users.by_id.keys().map(|user| user.heap_bytes()).sum();
        let spilled = |user: &User| if user.open.spilled() { user.open.capacity() } else { 0 };
        let references: usize = users.by_id.values().map(spilled).sum::<usize>() * size_of::<ConnectionRef>();
        entries + names + references + users.left.heap_bytes()
    }

    /// Forgets those who left too long ago to come back.
    pub fn forget_leavers(&self, now: Instant) {
        let mut users = self.lock();
        let elapsed = users.elapsed(now);
        users.left.evict_older_than(elapsed, u64::try_from(RECONNECT_WINDOW.as_millis()).unwrap_or(u64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        // No code that can panic runs under the lock, so what it protects is whole even if a thread died.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Users {
    fn entry(&mut self, user: &UserId) -> &mut User {
        let arrivals = &mut self.arrivals;
        self.by_id.entry(user.clone()).or_insert_with(|| {
            *arrivals += 1;
            User { arrival: *arrivals, reserved: 0, open: SmallVec::new() }
        })
    }

    fn forget_if_empty(&mut self, user: &UserId) {
        let empty = self.by_id.get(user.as_str()).is_some_and(|entry| entry.open.is_empty() && entry.reserved == 0);
        if empty {
            self.by_id.remove(user.as_str());
            if self.by_id.capacity() > 1024 && self.by_id.len() * 4 < self.by_id.capacity() {
                self.by_id.shrink_to(self.by_id.len() * 2);
            }
        }
    }

    fn elapsed(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Reservation {
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Turns the place into an open connection.
    pub fn open(self, connection: ConnectionRef, now: Instant) -> Arrival {
        let mut users = self.manager.lock();
        let elapsed = users.elapsed(now);
        let window = u64::try_from(RECONNECT_WINDOW.as_millis()).unwrap_or(u64::MAX);
        let entry = users.entry(&self.user);
        entry.open.push(connection);
        if entry.open.len() > 1 {
            return Arrival::New;
        }
        if users.left.get(&self.user, elapsed, window).is_none() {
            return Arrival::New;
        }
        users.left.remove(&self.user);
        Arrival::Reconnected
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
        let first = manager.reserve(&ann, 2).expect("a free place");
        let second = manager.reserve(&ann, 2).expect("a free place");
        assert!(manager.reserve(&ann, 2).is_none());
        drop(second);
        first.open(connection(1), now);
        let third = manager.reserve(&ann, 2).expect("the place given back");
        assert!(manager.reserve(&ann, 2).is_none());
        drop(third);
        manager.close(&ann, ConnectionNumber(1), now);
        assert_eq!(manager.lock().by_id.len(), 0);
    }

    #[test]
    fn a_refused_user_leaves_no_entry() {
        let (manager, _) = manager();
        assert!(manager.reserve(&UserId::new("ann"), 0).is_none());
        assert_eq!(manager.lock().by_id.len(), 0);
    }

    #[test]
    fn users_are_listed_in_the_order_of_their_first_connection() {
        let (manager, now) = manager();
        for (number, name) in [(0, "zoe"), (1, "ann"), (2, "zoe"), (3, "bob")] {
            let user = UserId::new(name);
            manager.reserve(&user, 5).expect("a free place").open(connection(number), now);
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
    fn a_handshake_in_flight_is_not_a_connection() {
        let (manager, _) = manager();
        let reservation = manager.reserve(&UserId::new("ann"), 5);
        assert_eq!(manager.connection_count("ann"), 0);
        assert_eq!(manager.user_count(), 0);
        assert!(manager.connected_users().is_empty());
        drop(reservation);
    }

    #[test]
    fn coming_back_within_a_minute_is_a_reconnection() {
        let (manager, now) = manager();
        let ann = UserId::new("ann");
        let arrive = |number, at| manager.reserve(&ann, 5).expect("a free place").open(connection(number), at);
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
}
