//! Taking connections from a Node server: its `upgrade` event, in the same turn, with what came along.
//!
//! Node's own bookkeeping of the socket ends here: the descriptor is duplicated, Node's copy destroyed without
//! shutting the connection down, and the rest happens on a shard. Runs on Node's thread.

use std::net::IpAddr;
use std::rc::Rc;

use napi::bindgen_prelude::{Buffer, FnArgs, Function, JsObjectValue, JsValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::bridge;
use crate::binding::events::Courier;
use crate::binding::guard;
use crate::binding::values::{self, Reference};
use crate::core::Arrival;
use crate::transport::Source;
use crate::transport::handshake::{self, Rejection, RequestHead};

/// The headers a handshake looks at. The others stay with Node.
const HEADERS: [&str; 10] = [
    "authorization",
    "connection",
    "host",
    "origin",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "upgrade",
    "x-forwarded-for",
];

/// Our listener on one server, until it is detached.
///
/// The server holds the listener and the listener the service, never the other way round: a server that nobody
/// refers to any more takes its service along.
pub struct Attachment {
    server: Reference,
    listener: Reference,
}

/// What the listener needs of the service.
pub trait Receptionist {
    fn path(&self) -> String;
    fn is_running(&self) -> bool;
    /// Whether sockets stay with Node even where they could be taken over.
    fn bridges_everything(&self) -> bool;
    fn courier(&self) -> &Rc<Courier>;
    fn receive(&self, env: &Env, arrival: Arrival);
    /// A request was refused before any shard saw it.
    fn note_refusal(&self, rejection: &Rejection);
}

impl Attachment {
    /// Adds our listener. The server may be listening or not.
    pub fn new<R: Receptionist + 'static>(env: &Env, server: &Object<'_>, receptionist: Rc<R>) -> Result<Self> {
        let listener = guard::function::<FnArgs<(Unknown<'static>, Unknown<'static>, Unknown<'static>)>>(
            env,
            "carillonUpgrade",
            move |context| {
                let server: Object<'_> = context.this()?;
                let request: Object<'_> = context.get(0)?;
                let socket: Object<'_> = context.get(1)?;
                let head: Unknown<'_> = context.get(2)?;
                let taken = guard::catch(context.env, "an upgrade", || {
                    on_upgrade(context.env, &server, &request, &socket, &head, &*receptionist)
                });
                let Some(taken) = taken else {
                    values::call_method(&socket, "destroy", ())?;
                    return Ok(());
                };
                if let Err(failure) = taken {
                    // Thrown from here it would end the process, for a peer's sake.
                    values::clear_exception(context.env);
                    receptionist.courier().logged(|| {
                        tracing::error!(failure = failure.reason, "an upgrade request could not be taken over");
                    });
                    values::call_method(&socket, "destroy", ())?;
                }
                Ok(())
            },
        )?;
        values::call_method(server, "on", FnArgs::from(("upgrade", listener.to_unknown())))?;
        Ok(Self {
            server: Reference::weak(env, &server.to_unknown())?,
            listener: Reference::weak(env, &listener.to_unknown())?,
        })
    }

    /// Removes our listener: later upgrade requests are the application's.
    pub fn detach(self, env: &Env) -> Result<()> {
        let server = self.server.get(env).and_then(|server| values::as_object(&server));
        if let (Some(server), Some(listener)) = (server, self.listener.get(env)) {
            values::call_method(&server, "removeListener", FnArgs::from(("upgrade", listener)))?;
        }
        Ok(())
    }
}

fn on_upgrade<R: Receptionist>(
    env: &Env,
    server: &Object<'_>,
    request: &Object<'_>,
    socket: &Object<'_>,
    head: &Unknown<'_>,
    receptionist: &R,
) -> Result<()> {
    let target = values::as_string(&values::property(request, "url")?).unwrap_or_default();
    if !handshake::path_matches(&target, &receptionist.path()) && listener_count(server)? > 1 {
        // Somebody else's path: not ours to answer.
        return Ok(());
    }
    let is_destroyed = values::property(socket, "destroyed")?.coerce_to_bool()?;
    if is_destroyed {
        return Ok(());
    }
    if !receptionist.is_running() {
        receptionist.note_refusal(&Rejection::STOPPING);
        return refuse(env, socket, &Rejection::STOPPING);
    }
    let head_of_request = RequestHead {
        method: values::as_string(&values::property(request, "method")?).unwrap_or_default(),
        target,
        headers: read_headers(request)?,
    };
    let early = if values::is_absent(head) { Vec::new() } else { values::read::<Buffer>(head)?.to_vec() };
    let taken = if receptionist.bridges_everything() { None } else { take_over(socket)? };
    let (source, peer) = match taken {
        Some(source) => (source, None),
        None => {
            let peer = values::as_string(&values::property(socket, "remoteAddress")?);
            let peer = peer.and_then(|peer| peer.parse::<IpAddr>().ok()).map(|peer| peer.to_canonical());
            (bridge::open(env, receptionist.courier(), socket)?, peer)
        }
    };
    receptionist.receive(env, Arrival { source, head: head_of_request, early, peer });
    Ok(())
}

fn read_headers(request: &Object<'_>) -> Result<Vec<(String, String)>> {
    let headers: Object<'_> = request.get_named_property("headers")?;
    let mut found = Vec::with_capacity(HEADERS.len());
    for name in HEADERS {
        if let Some(value) = values::as_string(&values::property(&headers, name)?) {
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}

fn listener_count(server: &Object<'_>) -> Result<u32> {
    let count = values::call_method(server, "listenerCount", FnArgs::from(("upgrade",)))?;
    values::read(&count)
}

/// Duplicates the socket's descriptor and lets Node close its own. `None` if there is no descriptor to take: a TLS
/// socket, or a system whose handles have none.
fn take_over(socket: &Object<'_>) -> Result<Option<Source>> {
    #[cfg(unix)]
    {
        use std::os::fd::BorrowedFd;

        let is_encrypted = values::property(socket, "encrypted")?.coerce_to_bool()?;
        let Some(handle) = values::as_object(&values::property(socket, "_handle")?).filter(|_| !is_encrypted) else {
            return Ok(None);
        };
        let descriptor = values::as_number(&values::property(&handle, "fd")?).unwrap_or(-1.0);
        if descriptor < 0.0 {
            return Ok(None);
        }
        // SAFETY: the handle is open, since the socket is not destroyed and this is its thread; the descriptor is
        // borrowed only for this call, which makes a duplicate (close-on-exec) of our own.
        let duplicate = unsafe { BorrowedFd::borrow_raw(descriptor as i32) }.try_clone_to_owned();
        match duplicate {
            Ok(duplicate) => {
                values::call_method(socket, "destroy", ())?;
                Ok(Some(Source::Descriptor(duplicate)))
            }
            Err(failure) => {
                tracing::error!(%failure, "a socket could not be taken over");
                Ok(None)
            }
        }
    }
    #[cfg(not(unix))]
    {
        let _ = socket;
        Ok(None)
    }
}

/// Answers through Node, for want of a shard.
fn refuse(env: &Env, socket: &Object<'_>, rejection: &Rejection) -> Result<()> {
    // Whatever goes wrong with this socket from here on concerns nobody.
    let ignore = guard::function::<()>(env, "carillonIgnore", |_| Ok(()))?;
    values::call_method(socket, "on", FnArgs::from(("error", ignore.to_unknown())))?;
    let finished: Function<'_, (), Unknown<'_>> = socket.get_named_property("destroySoon")?;
    let response = Buffer::from(rejection.response());
    values::call_method(socket, "write", FnArgs::from((response,)))?;
    finished.apply(*socket, ())?;
    Ok(())
}
