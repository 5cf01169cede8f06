//! Subscriptions: the order of their events, the limit, and their cost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use carillon::types::{BillId, UserId};
use serde_json::json;
use support::{Client, Service, TestHost, heap};

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

async fn follow_many(client: &mut Client, bills: std::ops::RangeInclusive<u64>) -> serde_json::Value {
    let bills: Vec<u64> = bills.collect();
    client.send_json(&json!({ "type": "batch_subscribe", "data": { "bill_ids": bills } })).await;
    client.json().await
}

fn bill(number: u64) -> BillId {
    BillId::new(number).unwrap()
}

#[tokio::test]
async fn users_are_listed_in_the_order_in_which_they_came_to_follow_a_bill() {
    let service = Service::with(TestHost::new(), |options| options.threads = 3).await;
    let names: Vec<String> = (0..40_u32).map(|number| format!("user-{}", number * 7919 % 101)).collect();
    let mut clients = Vec::new();
    for name in &names {
        clients.push(service.follow(name, 7).await);
    }
    let listed =
        || service.core.bill_subscribers(bill(7)).iter().map(|user: &UserId| user.to_string()).collect::<Vec<_>>();
    assert_eq!(listed(), names);
    // A second connection of a user leaves it in its place, as long as one of them follows the bill.
    let second = service.follow(&names[3], 7).await;
    drop(clients.remove(3));
    support::eventually(|| service.core.connection_count(&names[3]) == 1).await;
    assert_eq!(listed(), names);
    drop(second);
    support::eventually(|| service.core.connection_count(&names[3]) == 0).await;
    let _again = service.follow(&names[3], 7).await;
    let moved: Vec<String> = names[..3].iter().chain(&names[4..]).chain([&names[3]]).cloned().collect();
    assert_eq!(listed(), moved);
}

#[tokio::test]
async fn a_connection_follows_no_more_bills_than_the_option_says_and_may_exchange_them() {
    let service = Service::with(TestHost::new(), |options| options.max_subscriptions = 3).await;
    let mut client = service.join("ann").await;
    let reply = follow_many(&mut client, 1..=5).await;
    assert_eq!(reply["data"]["subscribed"], json!([1, 2, 3]));
    assert_eq!(reply["data"]["failed"], json!([4, 5]));
    client.send_json(&json!({ "type": "subscribe", "data": { "bill_id": 9 } })).await;
    assert_eq!(client.json().await, json!({ "type": "error", "message": "Subscription limit reached" }));
    client.send_json(&json!({ "type": "unsubscribe", "data": { "bill_id": 2 } })).await;
    assert_eq!(client.json().await["type"], "unsubscribed");
    client.subscribe(9).await;
    assert_eq!(service.core.user_subscriptions("ann"), [bill(1), bill(3), bill(9)]);
    // Another connection of the user has its own limit, and adds its bills behind.
    let mut other = service.join("ann").await;
    assert_eq!(follow_many(&mut other, 7..=9).await["data"]["subscribed"], json!([7, 8, 9]));
    assert_eq!(service.core.user_subscriptions("ann"), [1, 3, 9, 7, 8].map(bill));
}

#[tokio::test]
async fn the_most_that_one_user_follows_by_default_takes_less_than_a_mebibyte() {
    let service = Service::with(TestHost::deaf(), |options| options.base.max_payload = 1024 * 1024).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(service.join("villain").await);
    }
    let before = heap::in_use();
    for (client, first) in clients.iter_mut().zip((0..).step_by(1000)) {
        let reply = follow_many(client, first + 1..=first + 1001).await;
        assert_eq!(reply["data"]["failed"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(service.core.counts().subscriptions, 5000);
    let reported = service.core.sizes().subscriptions;
    assert!(reported < 1024 * 1024, "{reported} bytes told");
    support::eventually(|| heap::in_use() - before < 1024 * 1024).await;
    drop(clients);
    service.empties().await;
}
