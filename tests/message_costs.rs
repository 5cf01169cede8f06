//! What one message may cost per byte received: heap and time of decoding and encoding, and what others notice of it.
//!
//! The bytes of heap are those of the whole process, so the tests of this file run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use carillon::protocol::message_handler::{
    Command, Outcome, RequestError, Verdicts, bill_id, bill_number, decode, encode,
};
use support::client::{RSV1, TEXT, deflate, frame, text};
use support::{Service, TestHost, heap};
use tokio::sync::Mutex;

#[global_allocator]
static ALLOCATOR: heap::Counting = heap::Counting;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What a message may be long by default.
const MAX_MESSAGE: usize = 100 * 1024;

/// Heap at the most while a message is dealt with, per byte of it, that of its replies included.
const HEAP_PER_BYTE: usize = 6;

/// The same for what does not depend on the message's length.
const HEAP_OF_ANY: usize = 8 * 1024;

/// Messages of about this length, of every kind that might be dear.
fn dear_messages(length: usize) -> Vec<(String, String)> {
    let fill = |unit: &str| unit.repeat(length.saturating_sub(200) / unit.len());
    let list = |unit: &str| format!("[{}0]", fill(unit));
    let deep = |open: &str, close: &str| {
        let depth = length.saturating_sub(200) / (open.len() + close.len());
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    };
    let values = [
        ("a long string", format!("\"{}\"", fill("x"))),
        ("a string of two-byte characters", format!("\"{}\"", fill("é"))),
        ("a string of escapes", format!("\"{}\"", fill(r"\u0001"))),
        ("a string of lone surrogates", format!("\"{}\"", fill(r"\ud800"))),
        ("a string of digits", format!("\"{}7\"", fill("0"))),
        ("a long number", fill("9")),
        ("a long fraction", format!("0.{}1", fill("0"))),
        ("many small numbers", list("1,")),
        ("many different bills", {
            let numbers: Vec<_> = (1..length / 6).map(|number| (number + 10_000).to_string()).collect();
            format!("[{}]", numbers.join(","))
        }),
        ("many large numbers", list("1e15,")),
        ("many numbers beyond a double", list("1e999,")),
        ("many empty lists", list("[],")),
        ("many empty objects", list("{},")),
        ("many strings", list(r#""","#)),
        ("deep lists", deep("[", "]")),
        ("deep lists with siblings", deep("[0,", "]")),
        ("deep objects", deep(r#"{"a":"#, "}")),
        ("an object with many members", format!("{{{}\"z\":0}}", fill(r#""a":0,"#))),
        ("an object of times", format!("{{{}\"z\":0}}", fill(r#""lastUpdated":0,"#))),
        ("an object of names with escapes", format!("{{{}\"z\":0}}", fill(r#""\u006castUpdated":0,"#))),
    ];
    let mut messages = Vec::new();
    for (what, value) in values {
        for (kind, member) in [
            ("subscribe", "bill_id"),
            ("unsubscribe", "bill_id"),
            ("batch_subscribe", "bill_ids"),
            ("batch_unsubscribe", "bill_ids"),
            ("update_preferences", "preferences"),
            ("auth", "token"),
        ] {
            let message = format!(r#"{{"type":"{kind}","data":{{"{member}":{value}}}}}"#);
            messages.push((format!("{kind} with {what}"), message));
        }
        messages.push((format!("a type that is {what}"), format!(r#"{{"type":{value}}}"#)));
        messages.push((
            format!("a messageId that is {what}"),
            format!(r#"{{"type":"get_preferences","messageId":{value}}}"#),
        ));
        messages.push((format!("a timestamp that is {what}"), format!(r#"{{"type":"pong","timestamp":{value}}}"#)));
    }
    messages.push(("many members".into(), format!(r#"{{{}"type":"ping"}}"#, fill(r#""type":"x","#))));
    messages.push(("no JSON".into(), fill("[")));
    messages
}

/// Everything that is done for one message, and how long its replies are. The bills are a set beside.
fn deal_with(message: &str, followed: &mut HashSet<u64>) -> usize {
    let request = decode(message, true);
    let mut follow = |bill: Option<u64>| {
        bill.is_some_and(|bill| followed.contains(&bill) || (followed.len() < 1000 && followed.insert(bill)))
    };
    let outcome = match request.command.clone() {
        Ok(Command::BatchSubscribe { bills }) => {
            let elements = bills.elements().unwrap();
            let verdicts: Verdicts = elements.map(|one| follow(bill_number(one).map(|bill| bill.get()))).collect();
            Outcome::BatchSubscribed { bills, verdicts }
        }
        Ok(Command::BatchUnsubscribe { bills }) => {
            let found =
                bills.elements().unwrap().filter_map(bill_id).filter(|bill| followed.contains(&bill.get())).count();
            assert!(found <= MAX_MESSAGE);
            Outcome::BatchUnsubscribed { bills }
        }
        Ok(Command::Subscribe { given, .. }) => Outcome::Subscribed { bill: given },
        Ok(Command::Unsubscribe { given, .. }) => Outcome::Unsubscribed { bill: given },
        Ok(Command::SavePreferences { preferences }) => Outcome::PreferencesSaved { preferences },
        Ok(Command::LoadPreferences) => Outcome::Failed(RequestError::PreferencesNotLoaded),
        Ok(Command::Authenticate { .. }) => Outcome::Failed(RequestError::AuthenticationFailed),
        Ok(Command::Ping | Command::Nothing) => Outcome::Silent,
        Err(error) => Outcome::Failed(error),
    };
    let replies = [request.ack(), encode(&outcome, request.message_id, 1.7e12)];
    replies.iter().flatten().map(|reply| reply.json.len()).sum()
}

#[tokio::test]
async fn heap_is_linear_in_the_bytes_of_a_message() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut worst = (0, String::new());
    for (what, message) in dear_messages(MAX_MESSAGE) {
        let mut followed = HashSet::with_capacity(1001);
        let before = heap::reset_peak();
        let replies = deal_with(&message, &mut followed);
        let used = usize::try_from(heap::peak() - before).unwrap();
        assert!(used <= HEAP_PER_BYTE * message.len() + HEAP_OF_ANY, "{what}: {used} bytes for {}", message.len());
        assert!(replies <= 4 * message.len() + 2048, "{what}: {replies} bytes in reply to {}", message.len());
        worst = worst.max((used, what));
    }
    println!("at most {} bytes of heap for a message of {MAX_MESSAGE}: {}", worst.0, worst.1);
}

#[tokio::test]
async fn time_is_linear_in_the_bytes_of_a_message() {
    let _alone = ONE_AT_A_TIME.lock().await;
    const PARTS: usize = 16;
    let time = |message: &str, count: usize| {
        let start = Instant::now();
        for _ in 0..count {
            deal_with(message, &mut HashSet::new());
        }
        start.elapsed()
    };
    let mut slowest = (Duration::ZERO, String::new());
    let short = dear_messages(MAX_MESSAGE / PARTS);
    for ((what, short), (_, long)) in short.into_iter().zip(dear_messages(MAX_MESSAGE)) {
        // As many bytes both times. Other programs of the machine disturb single rounds, not all of them.
        let (mut parts, mut whole) = (Duration::MAX, Duration::MAX);
        for _ in 0..50 {
            parts = parts.min(time(&short, PARTS).max(Duration::from_micros(200)));
            whole = whole.min(time(&long, 1));
            // Linear: as long. Quadratic: 16 times as long.
            if whole < 5 * parts {
                break;
            }
        }
        assert!(whole < 5 * parts, "{what}: {whole:?}, and {parts:?} in {PARTS} messages");
        slowest = slowest.max((whole, what));
    }
    println!("at most {:?} for a message of {MAX_MESSAGE}: {}", slowest.0, slowest.1);
}

/// A bystander's ping while one peer sends what is dear, on the same shard: the shortest of several rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bystander_is_served_while_one_peer_sends_deep_nesting() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let service = Service::with(TestHost::deaf(), |_| {}).await;
    let (mut villain, mut villain_writer) = service.join_deflated("villain").await.split();
    let reader = tokio::spawn(async move { while villain.next().await.is_some() {} });
    let mut bystander = service.join("ann").await;
    // 300 small messages, each as deep as 146 bytes allow, and two as deep as a message may be.
    let small = text(&format!(r#"{{"type":{}1{}}}"#, "[".repeat(65), "]".repeat(65))).repeat(300);
    let deepest = format!(r#"{{"type":{}1{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let large = frame(TEXT | RSV1, &deflate(deepest.as_bytes())).repeat(2);
    let mut shortest = Duration::MAX;
    for _ in 0..8 {
        tokio::io::AsyncWriteExt::write_all(&mut villain_writer, &[small.as_slice(), &large].concat()).await.unwrap();
        let start = Instant::now();
        bystander.is_served().await;
        shortest = shortest.min(start.elapsed());
        // Its own replies come after everything it has sent.
        bystander.is_served().await;
    }
    assert!(shortest < Duration::from_millis(20), "{shortest:?}");
    reader.abort();
}
