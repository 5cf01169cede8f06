//! The head of an HTTP request, as a listener or Node has read it.
//!
//! Owned by the code that handles the request. Pure.

use std::fmt;

/// Method, target and headers of a request. Names are in lower case, repeated headers joined as Node joins them.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl RequestHead {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the request asks for a WebSocket (RFC 9110 §7.8): `Upgrade` counts only if `Connection` names it, and what it does not
    /// name is ignored. Node has seen to that already.
    pub fn asks_for_websocket(&self) -> bool {
        let mut options = self.header("connection").unwrap_or_default().split(',');
        options.any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
            && self.header("upgrade").is_some_and(names_websocket)
    }
}

/// Shows no header and no query: both may hold a token.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("path", &self.target.split('?').next())
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// Byte by byte up to the `?`. A target in absolute form never matches.
pub fn path_matches(target: &str, path: &str) -> bool {
    target.split('?').next() == Some(path)
}

/// Whether an `Upgrade` header offers the protocol that is spoken here (RFC 9110 §7.8). Others are not ours to answer.
pub fn names_websocket(upgrade: &str) -> bool {
    upgrade.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}
