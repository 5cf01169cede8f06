//! Takes connections from a Node server in its `upgrade` event, in the same turn, with the bytes that were read already.
//!
//! `claim` decides which requests belong to the service before any other listener sees them, `take_over` takes the socket from Node, and
//! `answer` rejects requests that no shard sees. Runs on Node's thread.

mod answer;
mod claim;
mod take_over;

use std::net::IpAddr;
use std::rc::Rc;

use napi::bindgen_prelude::{Buffer, FnArgs, JsObjectValue, JsValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::event_dispatcher::EventDispatcher;
use crate::binding::guard;
use crate::binding::values;
use crate::shard::command::UpgradeRequest;
use crate::transport::forwarded::Peer;
use crate::transport::handshake::{Rejection, RequestHead};
use claim::Claim;

/// The headers a handshake looks at. The others stay with Node.
const HEADERS: [&str; 13] = [
    "authorization",
    "connection",
    "content-length",
    "host",
    "origin",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-origin",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
];

/// A service that is attached to a server. Belongs to one run of the service.
pub struct Attachment {
    claim: Claim,
}

/// What an attachment needs of the service.
pub trait UpgradeHandler {
    fn path(&self) -> String;
    fn is_running(&self) -> bool;
    /// Whether sockets stay with Node even where they could be taken over.
    fn uses_bridge_always(&self) -> bool;
    fn dispatcher(&self) -> &Rc<EventDispatcher>;
    fn handle(&self, env: &Env, request: UpgradeRequest);
    /// The response to a request that no shard sees.
    fn rejection(&self, head: &RequestHead, rejection: &Rejection) -> Vec<u8>;
}

impl Attachment {
    /// Attaches to a server, which may be listening or not.
    pub fn new<H: UpgradeHandler + 'static>(env: &Env, server: &Object<'_>, handler: Rc<H>) -> Result<Self> {
        let path = handler.path();
        let handle = guard::function::<FnArgs<(Unknown<'static>, Unknown<'static>, Unknown<'static>, Unknown<'static>)>>(
            env,
            "carillonHandle",
            move |context| {
                let claim: Object<'_> = context.this()?;
                let request: Object<'_> = context.get(0)?;
                let socket: Object<'_> = context.get(1)?;
                let given = Given { head: context.get(2)?, address: context.get(3)? };
                let taken = guard::catch(context.env, "an upgrade", || {
                    on_upgrade(context.env, &claim, &request, &socket, &given, &*handler)
                });
                let Some(taken) = taken else {
                    values::call_method(&socket, "destroy", ())?;
                    return Ok(());
                };
                if let Err(failure) = taken {
                    // An exception thrown from here would end the process.
                    values::clear_exception(context.env);
                    handler.dispatcher().logged(|| {
                        tracing::error!(failure = failure.reason, "an upgrade request could not be taken over");
                    });
                    values::call_method(&socket, "destroy", ())?;
                }
                Ok(())
            },
        )?;
        Ok(Self { claim: Claim::new(env, server, &path, &handle.to_unknown())? })
    }

    /// Later upgrade requests go to the application.
    pub fn detach(self, env: &Env) -> Result<()> {
        self.claim.release(env)
    }
}

/// What the server passes along with a request and its socket.
struct Given {
    /// Bytes behind the request.
    head: Unknown<'static>,
    /// Where Node says the peer is, if that may differ from what the system says.
    address: Unknown<'static>,
}

fn on_upgrade<H: UpgradeHandler>(
    env: &Env,
    claim: &Object<'_>,
    request: &Object<'_>,
    socket: &Object<'_>,
    given: &Given,
    handler: &H,
) -> Result<()> {
    let is_destroyed = values::property(socket, "destroyed")?.coerce_to_bool()?;
    if is_destroyed {
        return Ok(());
    }
    let head_of_request = RequestHead {
        method: values::as_string(&values::property(request, "method")?).unwrap_or_default(),
        target: values::as_string(&values::property(request, "url")?).unwrap_or_default(),
        headers: read_headers(request)?,
    };
    if !handler.is_running() {
        return answer::refuse(env, socket, handler.rejection(&head_of_request, &Rejection::STOPPING));
    }
    let early = if values::is_absent(&given.head) { Vec::new() } else { values::read::<Buffer>(&given.head)?.to_vec() };
    let dispatcher = handler.dispatcher();
    let mut peer = parse_peer(&given.address);
    let taken = if handler.uses_bridge_always() { None } else { take_over::descriptor(socket)? };
    let source = match taken {
        Some(source) => source,
        None => {
            // Only a descriptor can be asked later.
            peer = match peer {
                Some(peer) => Some(peer),
                None => peer_of_bridged(claim, request)?,
            };
            dispatcher.bridges().open(env, socket, dispatcher.clone())?
        }
    };
    handler.handle(env, UpgradeRequest { source, head: head_of_request, early, peer });
    Ok(())
}

/// `None` if it is not an address: then the system is asked.
fn parse_peer(address: &Unknown<'_>) -> Option<Peer> {
    let address = values::as_string(address)?;
    let without_zone = address.split('%').next().unwrap_or_default();
    without_zone.parse::<IpAddr>().ok().map(Peer::from)
}

fn peer_of_bridged(claim: &Object<'_>, request: &Object<'_>) -> Result<Option<Peer>> {
    // Not of what the event hands out, which with an unread body (Node 26) is a stream in front of the socket.
    let carrier: Object<'_> = request.get_named_property("socket")?;
    match parse_peer(&values::property(&carrier, "remoteAddress")?) {
        Some(peer) => Ok(Some(peer)),
        None => Ok(claim::listens_on_path(claim)?.then_some(Peer::UnixSocket)),
    }
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
