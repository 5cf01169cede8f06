//! How threads may interleave in the small state machines over locks: `shuttle` runs each model under many schedules, the
//! smallest under all.
//!
//! `cargo test --no-default-features --features model --lib models`. With that feature `crate::sync` has locks that hand control
//! to the scheduler, so the other unit tests cannot run with it. The notify is tokio's and no lock of ours: a ring is one
//! step, between any two steps of the models.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use shuttle::{check_dfs, check_random, future, thread};

use crate::hub::Topic;
use crate::hub::connection_manager::{ConnectionManager, ConnectionRef};
use crate::hub::operation_queue_manager::{Operation, OperationQueue, Receivers};
use crate::hub::subscription_manager::{LocalSubscriptions, RoutingCounts, RoutingTable};
use crate::shard::service_options::ConnectionLimit;
use crate::shard::wake_queue::WakeQueue;
use crate::transport::encoded_message::EncodedMessage;
use crate::types::{BillId, ConnectionKey, ConnectionNumber, PeerRef, Priority, ShardId, UserId};
use tokio::sync::Notify;

const SCHEDULES: usize = 500;

fn operation(name: u8) -> Operation {
    let message = EncodedMessage::text(vec![name]);
    Operation { receivers: Receivers::All, message, priority: Priority::Normal, published: Instant::now() }
}

/// As a publisher does it: room at all queues, or at none.
fn publish(queues: &[Arc<OperationQueue>], name: u8) -> bool {
    let operation = operation(name);
    let permits: Option<Vec<_>> = queues.iter().map(|queue| queue.reserve(&operation.message)).collect();
    let Some(permits) = permits else { return false };
    permits.into_iter().for_each(|permit| permit.push(operation.clone()));
    true
}

fn take_all(queue: &OperationQueue) -> Vec<u8> {
    let mut taken = Vec::new();
    queue.take(usize::MAX, &mut taken);
    taken.iter().flat_map(|operation| operation.message.payload().to_vec()).collect()
}

/// Two publishers and two queues, each with room for two messages, one of which a shard empties meanwhile.
fn publishers_and_a_shard() {
    let bound = 2 * (128 + 1);
    let queues: Vec<_> = (0..2).map(|_| Arc::new(OperationQueue::new(bound, Arc::default()))).collect();
    let publishers: Vec<_> = (0..2_u8)
        .map(|publisher| {
            let queues = queues.clone();
            thread::spawn(move || {
                (0..2)
                    .filter(|number| publish(&queues, publisher * 2 + number))
                    .map(|number| publisher * 2 + number)
                    .collect::<HashSet<u8>>()
            })
        })
        .collect();
    let early = take_all(&queues[0]);
    let mut accepted = HashSet::new();
    for publisher in publishers {
        accepted.extend(publisher.join().expect("no panic"));
    }
    let first: Vec<u8> = early.into_iter().chain(take_all(&queues[0])).collect();
    let second = take_all(&queues[1]);
    for at in [&first, &second] {
        assert_eq!(at.iter().copied().collect::<HashSet<_>>(), accepted, "what is accepted is at every shard");
        assert_eq!(at.len(), accepted.len(), "once");
    }
    assert!(!accepted.is_empty() && second.len() <= 2);
    assert_eq!((queues[0].bytes(), queues[1].bytes()), (0, 0));
    // Nothing is left reserved: both have room for all they may hold.
    assert!(publish(&queues, 0) && publish(&queues, 1) && !publish(&queues, 2));
}

#[test]
fn a_publish_is_queued_at_all_shards_or_at_none_whoever_else_publishes() {
    check_random(publishers_and_a_shard, SCHEDULES);
}

/// A shard that sleeps when it finds nothing, as its loop does.
async fn sleep_until(notify: &Notify, mut is_found: impl FnMut() -> bool) {
    while !is_found() {
        notify.notified().await;
    }
}

#[test]
fn no_publish_is_slept_through() {
    check_dfs(
        || {
            let notify = Arc::new(Notify::new());
            let queue = Arc::new(OperationQueue::new(1 << 20, notify.clone()));
            let publishing = queue.clone();
            let publisher =
                thread::spawn(move || assert!(publish(&[publishing.clone()], 1) && publish(&[publishing], 2)));
            let mut taken = 0;
            // A schedule in which the notify is missed ends as a deadlock, which fails the model.
            future::block_on(sleep_until(&notify, || {
                taken += take_all(&queue).len();
                taken == 2
            }));
            publisher.join().expect("no panic");
        },
        Some(20_000),
    );
}

#[test]
fn no_connection_that_was_woken_is_slept_through() {
    check_random(
        || {
            let notify = Arc::new(Notify::new());
            let queue = Arc::new(WakeQueue::new(notify.clone()));
            let wakers: Vec<_> = (0..3_u32)
                .map(|key| {
                    let waker =
                        queue.waker(PeerRef { key: ConnectionKey(key), number: ConnectionNumber(u64::from(key)) });
                    thread::spawn(move || waker.wake())
                })
                .collect();
            let mut woken = HashSet::new();
            future::block_on(sleep_until(&notify, || {
                woken.extend(queue.take());
                woken.len() == 3
            }));
            wakers.into_iter().for_each(|waker| waker.join().expect("no panic"));
            assert!(queue.take().is_empty());
        },
        SCHEDULES,
    );
}

#[test]
fn handshakes_of_several_shards_never_pass_the_limit_and_leave_nothing() {
    check_random(
        || {
            let now = Instant::now();
            let manager = Arc::new(ConnectionManager::new(now));
            let most = Arc::new(AtomicUsize::new(0));
            let shards: Vec<_> = (0..3_u8)
                .map(|shard| {
                    let (manager, most) = (manager.clone(), most.clone());
                    thread::spawn(move || {
                        // A name of its own, as every token makes one.
                        let ann = UserId::new("ann");
                        let Some(reservation) = manager.reserve(&ann, 2, ConnectionLimit::Refuse) else { return };
                        if shard == 0 {
                            // The look-up says no.
                            return drop(reservation);
                        }
                        let number = ConnectionNumber(u64::from(shard));
                        reservation.open(ConnectionRef { number, key: ConnectionKey(0), shard: ShardId(shard) }, now);
                        most.fetch_max(manager.connection_count("ann"), SeqCst);
                        assert!(manager.oldest("ann").is_some() && manager.user_count() == 1);
                        manager.close(&ann, number, now);
                    })
                })
                .collect();
            shards.into_iter().for_each(|shard| shard.join().expect("no panic"));
            assert!(most.load(SeqCst) <= 2);
            assert_eq!((manager.user_count(), manager.connection_count("ann")), (0, 0));
            assert!(manager.reserve(&UserId::new("ann"), 2, ConnectionLimit::Refuse).is_some());
        },
        SCHEDULES,
    );
}

/// Two shards whose connections of one user follow a bill and leave it, while a publisher routes and a getter reads.
fn shards_and_a_publisher() {
    let topic = Topic::Bill(BillId::new(7).expect("a valid number"));
    let table = Arc::new(RoutingTable::default());
    let shards: Vec<_> = (0..2_u8)
        .map(|shard| {
            let (table, topic) = (table.clone(), topic.clone());
            thread::spawn(move || {
                let (mut index, user, id) = (LocalSubscriptions::default(), UserId::new("ann"), ShardId(shard));
                let mut change = |comes: bool, key: u32| {
                    let key = ConnectionKey(key);
                    let transition = match index.id(&topic) {
                        Some(id) if !comes => index.unsubscribe(id, key).map(|(_, transition)| transition),
                        _ => index.subscribe(&topic, key).map(|(_, transition)| transition),
                    };
                    let changes = [(topic.clone(), transition.expect("a change"))];
                    if comes { table.subscribe(&user, id, &changes) } else { table.unsubscribe(&user, id, &changes) }
                };
                change(true, 1);
                change(true, 2);
                change(false, 1);
                // After `subscribed` a client gets every publication.
                assert!(table.shards(&topic).contains(id));
                change(false, 2);
                assert!(!table.shards(&topic).contains(id));
                if shard == 0 {
                    change(true, 3);
                }
            })
        })
        .collect();
    for _ in 0..2 {
        let _ = table.shards(&topic);
        assert!(table.subscribers(&topic).len() <= 1 && table.subscriptions("ann").len() <= 1);
    }
    shards.into_iter().for_each(|shard| shard.join().expect("no panic"));
    assert!(table.shards(&topic).contains(ShardId(0)) && !table.shards(&topic).contains(ShardId(1)));
    assert_eq!(table.counts(), RoutingCounts { topics: 1, users: 1, pairs: 1 });
    assert_eq!((table.subscriptions("ann"), table.subscribers(&topic).len()), (vec![topic.clone()], 1));
}

#[test]
fn users_followers_and_routes_agree_whatever_shards_change_at_once() {
    check_random(shards_and_a_publisher, SCHEDULES);
}
