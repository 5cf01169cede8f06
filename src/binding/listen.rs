//! The parts of `listen()`: reads its argument, binds the port on another thread, and keeps the process alive while it is open.
//!
//! Runs on Node's thread, except the name resolution and the bind.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;

use napi::bindgen_prelude::{Buffer, Function, JsValue, Object, Unknown};
use napi::threadsafe_function::ThreadsafeFunction;
use napi::{Env, Result, Status};

use crate::binding::{guard, values};
use crate::error::{Error, ErrorKind};
use crate::transport::listener;
use crate::transport::tls::{self, TlsError};

/// The argument of `listen()`, checked.
pub struct Request {
    pub port: u16,
    pub host: Option<String>,
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// The state of the service's own port.
#[derive(Default)]
pub struct Port(RefCell<State>);

#[derive(Default)]
enum State {
    #[default]
    Closed,
    /// Being bound, by the attempt with this number.
    Opening(u64),
    Open(#[expect(dead_code, reason = "dropping it lets the process end")] KeepAlive),
}

/// A reference that Node's event loop counts, and that keeps what its function holds.
pub type KeepAlive = ThreadsafeFunction<(), Unknown<'static>, (), Status, false>;

impl Port {
    /// Begins an attempt.
    pub fn open(&self, attempt: u64) -> std::result::Result<(), Error> {
        let mut state = self.0.borrow_mut();
        match *state {
            State::Closed => {
                *state = State::Opening(attempt);
                Ok(())
            }
            State::Opening(_) | State::Open(_) => {
                Err(Error::new(ErrorKind::AlreadyRunning, "the service has a port already, or is about to"))
            }
        }
    }

    pub fn is_opening(&self, attempt: u64) -> bool {
        matches!(*self.0.borrow(), State::Opening(current) if current == attempt)
    }

    pub fn opened(&self, keep_alive: KeepAlive) {
        self.set(State::Open(keep_alive));
    }

    /// Also cancels the current attempt.
    pub fn close(&self) {
        self.set(State::Closed);
    }

    fn set(&self, state: State) {
        // The last reference to the service may be dropped here.
        let before = self.0.replace(state);
        drop(before);
    }
}

/// Keeps the process alive, and `kept` with it, until it is dropped.
pub fn keep_alive<T: 'static>(env: &Env, kept: Rc<T>) -> Result<KeepAlive> {
    let nothing = guard::function::<()>(env, "carillonListening", move |_| {
        let _kept = &kept;
        Ok(())
    })?;
    let nothing: Function<'_, (), Unknown<'static>> = values::read(&nothing.to_unknown())?;
    nothing.build_threadsafe_function::<()>().build()
}

/// Binds the port on a thread of its own, since the name resolution may block.
pub fn bind_elsewhere(
    request: &Request,
    done: impl FnOnce(std::result::Result<TcpListener, Error>) + Send + 'static,
) -> std::result::Result<(), Error> {
    let (host, port) = (request.host.clone(), request.port);
    let thread = std::thread::Builder::new().name("carillon-bind".into());
    let spawned = thread.spawn(move || done(listener::bind(host.as_deref(), port)));
    spawned
        .map(|_thread| ())
        .map_err(|cause| Error::new(ErrorKind::ListenFailed, "the port could not be opened").caused_by(cause))
}

pub fn parse(given: &Unknown<'_>) -> Result<std::result::Result<Request, Error>> {
    let Some(options) = values::as_object(given) else {
        return Ok(Err(wrong("options", "an object", values::kind(given))));
    };
    for key in Object::keys(&options)? {
        if !["host", "port", "tls"].contains(&key.as_str()) {
            return Ok(Err(wrong("options", "an object with port, host and tls", &format!("one with {key}"))));
        }
    }
    let port = values::property(&options, "port")?;
    let range = 0.0..=f64::from(u16::MAX);
    let Some(number) = values::as_number(&port).filter(|number| number.fract() == 0.0 && range.contains(number)) else {
        let received = values::as_number(&port).map(|number| number.to_string());
        return Ok(Err(wrong(
            "port",
            "an integer from 0 to 65535",
            received.as_deref().unwrap_or(values::kind(&port)),
        )));
    };
    let host = values::property(&options, "host")?;
    let host = match values::as_string(&host) {
        Some(host) if !host.is_empty() => Some(host),
        None if values::is_absent(&host) => None,
        given => {
            let received = given.map_or(values::kind(&host), |_| "an empty string");
            return Ok(Err(wrong("host", "a name or an address", received)));
        }
    };
    let tls = values::property(&options, "tls")?;
    let tls = if values::is_absent(&tls) {
        None
    } else {
        match read_tls(&tls)? {
            Ok(config) => Some(config),
            Err(error) => return Ok(Err(error)),
        }
    };
    Ok(Ok(Request { port: number as u16, host, tls }))
}

fn read_tls(given: &Unknown<'_>) -> Result<std::result::Result<Arc<rustls::ServerConfig>, Error>> {
    let Some(tls) = values::as_object(given) else {
        return Ok(Err(wrong("tls", "an object with cert and key", values::kind(given))));
    };
    let [cert, key] = [values::property(&tls, "cert")?, values::property(&tls, "key")?];
    let Some(certificates) = bytes(&cert) else {
        return Ok(Err(wrong("tls.cert", "a string or a Buffer", values::kind(&cert))));
    };
    let Some(private_key) = bytes(&key) else {
        return Ok(Err(wrong("tls.key", "a string or a Buffer", values::kind(&key))));
    };
    Ok(tls::server_config(&certificates, &private_key).map_err(|fault| match fault {
        TlsError::Certificate(cause) => wrong("tls.cert", "a certificate in PEM", "another text").caused_by(cause),
        TlsError::Key(cause) => {
            wrong("tls.key", "the private key in PEM of the certificate", "another text").caused_by(cause)
        }
    }))
}

fn bytes(value: &Unknown<'_>) -> Option<Vec<u8>> {
    if let Some(text) = values::as_string(value) {
        return Some(text.into_bytes());
    }
    values::as_object(value).filter(|_| value.is_buffer().unwrap_or(false))?;
    values::read::<Buffer>(value).ok().map(|buffer| buffer.to_vec())
}

fn wrong(name: &str, expected: &str, received: &str) -> Error {
    let message = format!("The argument \"{name}\" must be {expected}. Received {received}");
    Error::new(ErrorKind::InvalidArgument, message)
}
