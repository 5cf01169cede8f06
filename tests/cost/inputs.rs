//! What one connection may send to cost as much as it can, made before anything is measured.

use crate::support::client::{PING, RSV1, TEXT, close, deflate, frame, text};

/// What a message may be long by default.
const LARGEST: usize = 100 * 1024;

pub struct Input {
    pub name: &'static str,
    /// Frames, the last of which is a close frame: the end of the stream says that everything was handled.
    pub bytes: Vec<u8>,
    pub deflate: bool,
    pub bound: Bound,
}

/// What an input may cost at the most.
#[derive(Clone, Copy)]
pub struct Bound {
    /// Bytes of heap, whatever the transport and however many bytes are sent.
    pub heap: usize,
    /// Nanoseconds of the shard per byte that is sent, in an optimised build.
    pub time_per_byte: f64,
}

/// How often a message is sent that is sent this often in an optimised build.
fn times(count: usize) -> usize {
    if cfg!(optimised) { count } else { count.div_ceil(10) }
}

/// `unit` as often as a message may hold it between the two ends.
fn filled(before: &str, unit: &str, after: &str) -> String {
    let count = (LARGEST - before.len() - after.len()) / unit.len();
    [before, &unit.repeat(count), after].concat()
}

fn nested(depth: usize) -> String {
    ["[".repeat(depth), "]".repeat(depth)].concat()
}

fn deflated(message: &str) -> Vec<u8> {
    frame(TEXT | RSV1, &deflate(message.as_bytes()))
}

/// One message for each kind of value that no member expects.
fn wrong_types() -> Vec<u8> {
    let values = ["null", "7", r#""x""#, "true", "[1,2]", r#"{"a":1}"#];
    let message = |value| {
        let members = ["type", "data", "messageId", "timestamp", "bill_id"].map(|name| format!(r#""{name}":{value}"#));
        text(&format!("{{{}}}", members.join(",")))
    };
    values.map(message).concat()
}

pub fn inputs() -> Vec<Input> {
    let array = filled(r#"{"type":"none","data":[0"#, ",0", "]}");
    let spaces = filled(r#"{"type":"ping"}"#, " ", "");
    let preferences = filled(r#"{"type":"update_preferences","data":{"preferences":{"a":""#, "x", r#""}}}"#);
    let members = filled(r#"{"type":"update_preferences","data":{"preferences":{"a":0"#, r#","b":0"#, "}}}");
    let follow = filled(r#"{"type":"batch_subscribe","data":{"bill_ids":[1"#, ",12345", "]}}");
    let leave = filled(r#"{"type":"batch_unsubscribe","data":{"bill_ids":[1"#, ",1", "]}}");
    let follow_one = text(r#"{"type":"subscribe","data":{"bill_id":1}}"#);
    let leave_one = text(r#"{"type":"unsubscribe","data":{"bill_id":1}}"#);
    let fragments = [frame(0x01, b""), frame(0x00, b"").repeat(16_000)].concat();
    // Far behind the end of the message that is not finished: it cannot be answered before.
    let unfinished = frame(0x01, &[b' '; 1000]);
    let parts = [unfinished, frame(0x00, &[b' '; 1000]).repeat(101)].concat();
    [
        ("compressed repetitions", deflated(&spaces).repeat(times(400)), 400, 10000.0),
        ("compressed arrays", deflated(&array).repeat(times(100)), 300, 16000.0),
        ("compressed preferences, one long text", deflated(&preferences).repeat(times(100)), 1200, 12000.0),
        ("compressed preferences, many members", deflated(&members).repeat(times(60)), 900, 35000.0),
        ("deep nesting", text(&format!(r#"{{"type":{}}}"#, nested(120))).repeat(times(1000)), 300, 60.0),
        (
            "nesting as deep as a message is long",
            text(&format!(r#"{{"type":{}}}"#, nested(50_000))).repeat(20),
            700,
            50.0,
        ),
        ("huge arrays", text(&array).repeat(times(20)), 600, 40.0),
        ("many ids in one batch", [text(&follow), text(&leave)].concat().repeat(times(20)), 900, 160.0),
        ("subscriptions that come and go", [follow_one, leave_one].concat().repeat(times(3000)), 500, 300.0),
        ("10 000 tiny messages in one write", text(r#"{"type":"ping"}"#).repeat(times(10_000)), 300, 150.0),
        ("10 000 pings in one write", frame(PING, b"").repeat(times(10_000)), 200, 300.0),
        ("wrong types in every member", wrong_types().repeat(times(800)), 350, 150.0),
        ("no JSON", text("{").repeat(times(5000)), 200, 450.0),
        ("a type that is a long text", text(&filled(r#"{"type":""#, "x", r#""}"#)).repeat(times(20)), 600, 10.0),
        ("requests of hooks", text(r#"{"type":"get_preferences"}"#).repeat(times(1500)), 250, 900.0),
        ("empty fragments", fragments, 150, 80.0),
        ("a message that outgrows its limit", parts, 350, 15.0),
    ]
    .map(|(name, bytes, kibibytes, time_per_byte)| Input {
        name,
        bytes: [bytes, close(1000, "")].concat(),
        deflate: name.starts_with("compressed"),
        bound: Bound { heap: kibibytes * 1024, time_per_byte },
    })
    .into()
}
