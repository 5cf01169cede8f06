//! Node's end of `transport::bridge`: pumps the bytes of a socket that stays with Node. Runs on Node's thread.
//!
//! The socket's listeners put received bytes into the channel; the shard's work arrives as a task of `event_dispatcher`. The socket is
//! held until it has closed.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{Buffer, FnArgs, Function, FunctionCallContext, JsValue, JsValuesTupleIntoVec, Object};
use napi::{Env, Result};
use tracing::Dispatch;

use crate::binding::js_task::BridgeId;
use crate::binding::node_application::NodeApplication;
use crate::binding::reference::Reference;
use crate::binding::{guard, values};
use crate::transport::Source;
use crate::transport::bridge::{Bridge, Channel, Notifier, SocketAction, Work};

/// Milliseconds without progress that a peer may take to read the remaining bytes before an orderly end.
const CLOSE_TIMEOUT: u32 = 5000;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The bridges whose sockets are open.
pub struct Bridges {
    application: Arc<NodeApplication>,
    log: Dispatch,
    open: RefCell<HashMap<BridgeId, JsSocket>>,
}

struct JsSocket {
    channel: Arc<Channel>,
    socket: Reference,
}

struct NotifyNode {
    application: Arc<NodeApplication>,
    id: BridgeId,
}

impl Notifier for NotifyNode {
    fn notify(&self) {
        self.application.serve_bridge(self.id);
    }
}

impl Bridges {
    pub fn new(application: Arc<NodeApplication>, log: Dispatch) -> Rc<Self> {
        Rc::new(Self { application, log, open: RefCell::default() })
    }

    /// Opens a bridge to a socket of Node's and returns the shard's end.
    ///
    /// The socket remains one of its server's connections, whose `close()` waits for it: Node has no way to remove it. It holds `server`,
    /// which calls [`Bridges::serve`], until it has closed: sockets may outlive the service's object.
    pub fn open(self: &Rc<Self>, env: &Env, socket: &Object<'_>, server: Rc<dyn Any>) -> Result<Source> {
        let id = BridgeId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let channel = Channel::new(Box::new(NotifyNode { application: self.application.clone(), id }));
        let bridge = Bridge::new(channel.clone());
        self.add_listeners(env, socket, id, &channel, server)?;
        // The server's settings for requests do not apply to the connection. A stream that is no socket has none of these methods.
        call_if_present(socket, "setTimeout", FnArgs::from((0,)))?;
        call_if_present(socket, "setNoDelay", FnArgs::from((true,)))?;
        // Neither an idle connection nor a handshake keeps the process alive.
        call_if_present(socket, "unref", ())?;
        let js_socket = JsSocket { channel, socket: Reference::strong(env, &socket.to_unknown())? };
        self.open.borrow_mut().insert(id, js_socket);
        values::call_method(socket, "resume", ())?;
        Ok(Source::Bridge(bridge))
    }

    fn add_listeners(
        self: &Rc<Self>,
        env: &Env,
        socket: &Object<'_>,
        id: BridgeId,
        channel: &Arc<Channel>,
        server: Rc<dyn Any>,
    ) -> Result<()> {
        on(env, socket, "data", {
            let (channel, log) = (channel.clone(), self.log.clone());
            move |context| {
                let socket: Object<'_> = context.this()?;
                let Ok(bytes) = context.first_arg::<Buffer>() else {
                    // The application has set an encoding. The bytes are lost, so the connection is ended.
                    tracing::dispatcher::with_default(&log, || {
                        tracing::warn!("a bridged socket does not deliver bytes");
                    });
                    values::call_method(&socket, "destroy", ())?;
                    return Ok(());
                };
                if !channel.receive(&bytes) {
                    values::call_method(&socket, "pause", ())?;
                }
                Ok(())
            }
        })?;
        on(env, socket, "drain", {
            let channel = channel.clone();
            move |_| {
                channel.flushed();
                Ok(())
            }
        })?;
        on(env, socket, "end", {
            let channel = channel.clone();
            move |_| {
                channel.peer_ended();
                Ok(())
            }
        })?;
        // A failure is followed by `close`.
        on(env, socket, "error", |_| Ok(()))?;
        on(env, socket, "close", {
            let (channel, bridges) = (channel.clone(), self.clone());
            move |_| {
                let _server = &server;
                channel.peer_closed();
                bridges.open.borrow_mut().remove(&id);
                Ok(())
            }
        })
    }

    /// Does what the shard has asked for. A socket that fails is destroyed.
    pub fn serve(&self, env: &Env, id: BridgeId) {
        let (channel, socket) = {
            let open = self.open.borrow();
            let Some(end) = open.get(&id) else { return };
            let Some(socket) = end.socket.object(env) else { return };
            (end.channel.clone(), socket)
        };
        if let Err(failure) = carry_out(env, &socket, &channel) {
            channel.peer_closed();
            values::clear_exception(env);
            tracing::debug!(failure = failure.reason, "a bridged socket failed");
            if values::call_method(&socket, "destroy", ()).is_err() {
                values::clear_exception(env);
            }
        }
    }
}

fn on(
    env: &Env,
    socket: &Object<'_>,
    event: &str,
    listener: impl Fn(FunctionCallContext<'_>) -> Result<()> + 'static,
) -> Result<()> {
    let listener: Function<'_, (), ()> = guard::function(env, "carillonBridge", listener)?;
    values::call_method(socket, "on", FnArgs::from((event, listener.to_unknown())))?;
    Ok(())
}

fn call_if_present(socket: &Object<'_>, method: &str, args: impl JsValuesTupleIntoVec) -> Result<()> {
    if values::kind(&values::property(socket, method)?) == "function" {
        values::call_method(socket, method, args)?;
    }
    Ok(())
}

fn carry_out(env: &Env, socket: &Object<'_>, channel: &Channel) -> Result<()> {
    let Work { write, resume, action } = channel.take_work();
    if action == SocketAction::Destroy {
        values::call_method(socket, "destroy", ())?;
        return Ok(());
    }
    if !write.is_empty() {
        let took_all = values::call_method(socket, "write", FnArgs::from((Buffer::from(write),)))?;
        if took_all.coerce_to_bool()? {
            channel.flushed();
        }
    }
    if resume {
        values::call_method(socket, "resume", ())?;
    }
    match action {
        SocketAction::Keep | SocketAction::Destroy => {}
        SocketAction::End => {
            values::call_method(socket, "end", ())?;
        }
        SocketAction::Close => {
            let destroy: Function<'_, (), ()> = guard::function(env, "carillonClosing", |context| {
                values::call_method(&context.this::<Object<'_>>()?, "destroy", ())?;
                Ok(())
            })?;
            call_if_present(socket, "setTimeout", FnArgs::from((CLOSE_TIMEOUT, destroy.to_unknown())))?;
            values::call_method(socket, "end", ())?;
            call_if_present(socket, "destroySoon", ())?;
        }
    }
    Ok(())
}
