//! How a server under test is told what to do: JSON lines on its standard input, answers on its standard output.

use serde::{Deserialize, Serialize};

use crate::ledger::Topic;

#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Order {
    /// What fills the messages from now on.
    Filler { text: String },
    /// So many messages in one turn, numbered from `n`.
    Publish { topic: Topic, n: usize, count: usize },
    /// Answer how many connections and subscriptions there are.
    Usage,
}

/// The message with this number, as every server sends it.
pub fn message(topic: Topic, n: usize, filler: &str) -> String {
    const AT: &str = "2026-01-01T00:00:00.000Z";
    if topic == 0 {
        return format!(
            r#"{{"type":"bench","data":{{"n":{n},"filler":"{filler}"}},"timestamp":"{AT}","priority":"immediate"}}"#
        );
    }
    format!(
        r#"{{"type":"bill_update","bill_id":{topic},"update":{{"type":"status_change","data":{{"n":{n},"filler":"{filler}"}},"timestamp":"{AT}"}},"timestamp":"{AT}"}}"#
    )
}

pub const PONG: &str = r#"{"type":"pong","priority":"immediate"}"#;

pub fn greeting(user: &str) -> String {
    format!(
        r#"{{"type":"connected","message":"WebSocket connection established","data":{{"user_id":"{user}","connectionId":"{user}-0"}}}}"#
    )
}

/// The answer to what a client sends, and the topics it has subscribed to with that.
pub fn reply(text: &[u8]) -> Option<(String, Vec<Topic>)> {
    #[derive(Deserialize)]
    struct Request {
        r#type: String,
        #[serde(default)]
        data: Data,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Data {
        bill_id: Topic,
        bill_ids: Vec<Topic>,
    }
    let Request { r#type, data } = serde_json::from_slice(text).ok()?;
    match r#type.as_str() {
        "ping" => Some((PONG.to_owned(), Vec::new())),
        "subscribe" => {
            let id = data.bill_id;
            let message = format!(
                r#"{{"type":"subscribed","data":{{"bill_id":{id},"message":"Subscribed to bill {id} updates"}}}}"#
            );
            Some((message, vec![id]))
        }
        "batch_subscribe" => {
            let ids = serde_json::to_string(&data.bill_ids).ok()?;
            let message = format!(r#"{{"type":"batch_subscribed","data":{{"subscribed":{ids},"failed":[]}}}}"#);
            Some((message, data.bill_ids))
        }
        _ => None,
    }
}
