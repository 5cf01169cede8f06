//! Answers requests on the own port that ask for no upgrade: the health of the service, and directions to it.
//!
//! Pure. Called by the shard that has read the head. The connection is closed after each answer.

use super::request_head::{RequestHead, path_matches};

const HEALTH_PATH: &str = "/health";

/// Whether the service wants connections, as a load balancer asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Serving,
    /// It keeps its connections and refuses new ones, because memory is low.
    Overloaded,
    Stopping,
}

/// The whole response. `path` is where the WebSocket service is.
pub fn answer(head: &RequestHead, path: &str, availability: Availability) -> Vec<u8> {
    let is_read = matches!(head.method.as_str(), "GET" | "HEAD");
    let text = "Content-Type: text/plain\r\n";
    let (status, headers, body) = if path_matches(&head.target, HEALTH_PATH) && is_read {
        let json = "Content-Type: application/json\r\nCache-Control: no-store\r\n";
        match availability {
            Availability::Serving => ("200 OK", json, r#"{"status":"healthy"}"#),
            Availability::Overloaded => ("503 Service Unavailable", json, r#"{"status":"unhealthy"}"#),
            Availability::Stopping => ("503 Service Unavailable", json, r#"{"status":"stopping"}"#),
        }
    } else if path_matches(&head.target, HEALTH_PATH) {
        ("405 Method Not Allowed", "Allow: GET, HEAD\r\nContent-Type: text/plain\r\n", "Method Not Allowed")
    } else if path_matches(&head.target, path) && !is_read {
        ("405 Method Not Allowed", "Allow: GET\r\nContent-Type: text/plain\r\n", "Method Not Allowed")
    } else if path_matches(&head.target, path) {
        // RFC 9110 §15.5.22: the answer names the protocol to ask for.
        ("426 Upgrade Required", "Upgrade: websocket\r\nContent-Type: text/plain\r\n", "Upgrade Required")
    } else {
        ("404 Not Found", text, "Not Found")
    };
    let connection = if status.starts_with("426") { "close, Upgrade" } else { "close" };
    let length = body.len();
    let body = if head.method == "HEAD" { "" } else { body };
    format!("HTTP/1.1 {status}\r\nConnection: {connection}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &str, target: &str, availability: Availability) -> String {
        let head = RequestHead { method: method.into(), target: target.into(), headers: Vec::new() };
        String::from_utf8(answer(&head, "/ws", availability)).unwrap()
    }

    #[test]
    fn tells_load_balancers_how_the_service_is() {
        let healthy = ask("GET", "/health", Availability::Serving);
        assert_eq!(
            healthy,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
             Content-Length: 20\r\n\r\n{\"status\":\"healthy\"}"
        );
        for availability in [Availability::Overloaded, Availability::Stopping] {
            assert!(ask("GET", "/health?probe=1", availability).starts_with("HTTP/1.1 503 "));
        }
        let head = ask("HEAD", "/health", Availability::Serving);
        assert!(healthy.starts_with(&head) && head.ends_with("\r\n\r\n"));
    }

    #[test]
    fn sends_everybody_else_away() {
        let upgrade = ask("GET", "/ws?token=x", Availability::Serving);
        assert!(
            upgrade
                .starts_with("HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n")
        );
        for (method, target) in [("GET", "/"), ("GET", "/ws/"), ("POST", "/"), ("GET", "/healthy"), ("OPTIONS", "*")] {
            assert!(ask(method, target, Availability::Serving).starts_with("HTTP/1.1 404 "), "{method} {target}");
        }
    }

    #[test]
    fn names_the_methods_that_are_allowed() {
        for (method, target, allowed) in [
            ("POST", "/health", "GET, HEAD"),
            ("DELETE", "/health?probe=1", "GET, HEAD"),
            ("POST", "/ws", "GET"),
            ("OPTIONS", "/ws?token=x", "GET"),
        ] {
            let answer = ask(method, target, Availability::Serving);
            let expected = format!("HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nAllow: {allowed}\r\n");
            assert!(answer.starts_with(&expected), "{answer}");
        }
    }
}
