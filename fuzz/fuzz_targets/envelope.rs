//! Any bytes as a message of the application's protocol: whatever is answered is JSON, and nobody without a user does
//! anything but prove who it is.
#![no_main]

use carillon::core::message_handler::{Action, Context, handle};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: (bool, bool, u8, &[u8])| {
    let (authenticated, preference_hooks, room, bytes) = input;
    let subscription_room = usize::from(room);
    let context = Context { now_ms: 1.7e12, authenticated, preference_hooks, subscription_room };
    let inbound = handle(bytes, &context);
    assert!(inbound.latency_ms.is_none_or(|latency| (0.0..60_000.0).contains(&latency)));
    for action in &inbound.actions {
        match action {
            Action::Reply(reply) => {
                let message: Value = serde_json::from_slice(&reply.json).expect("a reply is JSON");
                assert!(message["type"].is_string());
            }
            Action::Authenticate { .. } => {}
            Action::Subscribe(bills) => assert!(authenticated && bills.len() <= subscription_room),
            Action::Unsubscribe(_) | Action::LoadPreferences | Action::SavePreferences(_) => assert!(authenticated),
        }
    }
    assert_eq!(handle(bytes, &context), inbound);
});
