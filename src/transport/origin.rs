//! Which pages may connect: what an `Origin` header must say (RFC 6454).
//!
//! Owns the allowed origins. Pure. Read with the options, asked once per handshake.

use super::authority::Authority;
use crate::error::{Error, ErrorKind};

/// Which pages may connect. A request without an origin does not come from a page and passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    Any,
    /// The origin's host and port are those of the `Host` header.
    SameHost,
    /// Exactly one of these.
    List(Vec<String>),
}

impl Origins {
    /// Origins as browsers write them. Another spelling would match no request, and is an error that says so.
    pub fn list(origins: Vec<String>) -> Result<Self, Error> {
        match origins.iter().find_map(|origin| fault(origin).map(|fault| (origin, fault))) {
            None => Ok(Self::List(origins)),
            Some((origin, fault)) => {
                let message = format!(
                    "allowedOrigins: {origin:?} matches no page, since {fault}. An origin is written as browsers send it: \
                     \"https://example.com\", \"http://localhost:3000\" or \"null\""
                );
                Err(Error::new(ErrorKind::InvalidOption, message))
            }
        }
    }

    pub(super) fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Self::Any => true,
            Self::SameHost => host.is_some_and(|host| is_same_host(origin, host)),
            Self::List(origins) => origins.iter().any(|allowed| allowed == origin),
        }
    }
}

/// What is wrong with an origin; nothing if a browser may send it (RFC 6454 §6.2).
fn fault(origin: &str) -> Option<&'static str> {
    if origin == "null" {
        return None;
    }
    let Some((scheme, host)) = origin.split_once("://") else { return Some("it has no scheme") };
    if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return Some("its scheme is none");
    }
    if host.contains(['/', '?', '#']) {
        return Some("it has a path: leave out what follows the host and port");
    }
    if origin.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("it is not in lower case");
    }
    if host.contains('*') {
        return Some("origins have no wildcards: list each one");
    }
    if host.bytes().any(|b| !(b'!'..=b'~').contains(&b)) {
        return Some("its host is not in ASCII (punycode)");
    }
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        // Pages of extensions and apps: their hosts are names of other kinds.
        _ => return None,
    };
    if Authority::parse(host).is_none() || host.ends_with(':') {
        return Some("its host is none");
    }
    host.ends_with(default_port).then_some("browsers leave out the port that the scheme implies")
}

fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return false,
    };
    match (Authority::parse(authority), Authority::parse(host)) {
        (Some(authority), Some(host)) => authority.equals(&host, default_port),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_taken_as_browsers_write_them() {
        for origin in [
            "https://example.com",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "https://[::1]:8443",
            "https://xn--bcher-kva.example",
            "http://example.com:443",
            "null",
            "file://",
            "app://.",
            "capacitor://localhost",
            "chrome-extension://mhjfbmdgcfjbbpaeojofohoefgiehjai",
        ] {
            assert_eq!(Origins::list(vec![origin.into()]).ok(), Some(Origins::List(vec![origin.into()])), "{origin}");
        }
    }

    #[test]
    fn an_origin_that_would_never_match_is_an_error_that_names_it() {
        for (origin, why) in [
            ("https://a/", "path"),
            ("https://example.com/app", "path"),
            ("https://example.com?x", "path"),
            ("example.com", "scheme"),
            ("://example.com", "scheme"),
            ("localhost:3000", "scheme"),
            ("*", "scheme"),
            ("", "scheme"),
            ("https://Example.com", "lower case"),
            ("HTTPS://example.com", "lower case"),
            ("https://*.example.com", "wildcards"),
            ("https://bücher.example", "ASCII"),
            ("https://example.com ", "ASCII"),
            ("https://example.com:443", "port"),
            ("http://example.com:80", "port"),
            ("https://", "host"),
            ("https://example.com:", "host"),
            ("https://user@example.com", "host"),
            ("https://example.com:99999", "host"),
        ] {
            let error = Origins::list(vec!["https://fine.example".into(), origin.into()]).unwrap_err();
            assert_eq!(error.code(), "ERR_INVALID_OPTION");
            let message = error.to_string();
            let start = format!("allowedOrigins: {origin:?} matches no page, since ");
            assert!(message.strip_prefix(&start).is_some_and(|rest| rest.contains(why)), "{message}");
        }
    }
}
