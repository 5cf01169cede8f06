//! Node's end of `transport::bridge`: a socket of Node's, pumped both ways. Runs on Node's thread.
//!
//! The socket's listeners put what arrives into the pipe; what the shard wants done comes through the one thread-safe
//! function, see `events`. The socket is held until it has closed, and holds the courier as long.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{Buffer, FnArgs, Function, FunctionCallContext, JsValue, JsValuesTupleIntoVec, Object};
use napi::{Env, Result};

use crate::binding::events::{Courier, NodeHost};
use crate::binding::guard;
use crate::binding::values::{self, Reference};
use crate::transport::Source;
use crate::transport::bridge::{Bridge, Fate, Pipe, Signal, Work};

/// Milliseconds without progress that a peer may take to read what was written before an orderly end.
const CLOSING_TIMEOUT: u32 = 5000;

/// Tells bridges apart; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BridgeId(u64);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The bridges whose sockets are open.
#[derive(Default)]
pub struct Bridges {
    open: RefCell<HashMap<BridgeId, NodeEnd>>,
}

struct NodeEnd {
    pipe: Arc<Pipe>,
    socket: Reference,
}

struct SignalNode {
    host: Arc<NodeHost>,
    id: BridgeId,
}

impl Signal for SignalNode {
    fn signal(&self) {
        self.host.bridge_has_work(self.id);
    }
}

/// Opens a bridge to a socket of Node's and returns the shard's end.
///
/// The socket stays one of its server's connections, whose `close()` waits for it: Node offers no way to take it out.
pub fn open(env: &Env, courier: &Rc<Courier>, socket: &Object<'_>) -> Result<Source> {
    let id = BridgeId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
    let pipe = Pipe::new(Box::new(SignalNode { host: courier.host().clone(), id }));
    let bridge = Bridge::new(pipe.clone());
    listen(env, courier, socket, id, &pipe)?;
    // What the server has set for requests does not apply any more. A stream that is no socket knows none of these.
    call_if_there(socket, "setTimeout", FnArgs::from((0,)))?;
    call_if_there(socket, "setNoDelay", FnArgs::from((true,)))?;
    // An idle connection must not keep the process alive, nor a handshake in flight.
    call_if_there(socket, "unref", ())?;
    courier
        .bridges()
        .open
        .borrow_mut()
        .insert(id, NodeEnd { pipe, socket: Reference::strong(env, &socket.to_unknown())? });
    values::call_method(socket, "resume", ())?;
    Ok(Source::Bridge(bridge))
}

fn listen(env: &Env, courier: &Rc<Courier>, socket: &Object<'_>, id: BridgeId, pipe: &Arc<Pipe>) -> Result<()> {
    on(env, socket, "data", {
        let (pipe, courier) = (pipe.clone(), courier.clone());
        move |context| {
            let socket: Object<'_> = context.this()?;
            let Ok(bytes) = context.first_arg::<Buffer>() else {
                // Somebody has set an encoding: the bytes are lost, and the connection with them.
                courier.logged(|| tracing::warn!("a bridged socket does not deliver bytes"));
                values::call_method(&socket, "destroy", ())?;
                return Ok(());
            };
            if !pipe.receive(&bytes) {
                values::call_method(&socket, "pause", ())?;
            }
            Ok(())
        }
    })?;
    on(env, socket, "drain", {
        let pipe = pipe.clone();
        move |_| {
            pipe.flushed();
            Ok(())
        }
    })?;
    on(env, socket, "end", {
        let pipe = pipe.clone();
        move |_| {
            pipe.peer_ended();
            Ok(())
        }
    })?;
    // What went wrong shows as the close that follows.
    on(env, socket, "error", |_| Ok(()))?;
    on(env, socket, "close", {
        // Strong: a service that goes leaves sockets behind, which its courier has still to close.
        let (pipe, courier) = (pipe.clone(), courier.clone());
        move |_| {
            pipe.peer_gone();
            courier.bridges().open.borrow_mut().remove(&id);
            Ok(())
        }
    })
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

fn call_if_there(socket: &Object<'_>, method: &str, args: impl JsValuesTupleIntoVec) -> Result<()> {
    if values::kind(&values::property(socket, method)?) == "function" {
        values::call_method(socket, method, args)?;
    }
    Ok(())
}

impl Bridges {
    /// Does what the shard has asked for. A socket that fails at it is destroyed.
    pub fn work(&self, env: &Env, id: BridgeId) -> Result<()> {
        let (pipe, socket) = {
            let open = self.open.borrow();
            let Some(end) = open.get(&id) else { return Ok(()) };
            let Some(socket) = end.socket.object(env) else { return Ok(()) };
            (end.pipe.clone(), socket)
        };
        let result = carry_out(env, &socket, &pipe);
        if result.is_err() {
            pipe.peer_gone();
            values::clear_exception(env);
            values::call_method(&socket, "destroy", ())?;
        }
        result
    }
}

fn carry_out(env: &Env, socket: &Object<'_>, pipe: &Pipe) -> Result<()> {
    let Work { write, resume, fate } = pipe.take_work();
    if fate == Fate::Destroy {
        values::call_method(socket, "destroy", ())?;
        return Ok(());
    }
    if !write.is_empty() {
        let took_all = values::call_method(socket, "write", FnArgs::from((Buffer::from(write),)))?;
        if took_all.coerce_to_bool()? {
            pipe.flushed();
        }
    }
    if resume {
        values::call_method(socket, "resume", ())?;
    }
    match fate {
        Fate::Keep | Fate::Destroy => {}
        Fate::End => {
            values::call_method(socket, "end", ())?;
        }
        Fate::Close => {
            let destroy: Function<'_, (), ()> = guard::function(env, "carillonClosing", |context| {
                values::call_method(&context.this::<Object<'_>>()?, "destroy", ())?;
                Ok(())
            })?;
            call_if_there(socket, "setTimeout", FnArgs::from((CLOSING_TIMEOUT, destroy.to_unknown())))?;
            values::call_method(socket, "end", ())?;
            call_if_there(socket, "destroySoon", ())?;
        }
    }
    Ok(())
}
