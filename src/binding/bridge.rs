//! Node's end of `transport::bridge`: a socket of Node's, pumped both ways. Runs on Node's thread.
//!
//! The socket's listeners put what arrives into the pipe; what the shard wants done comes through the one thread-safe
//! function, see `events`. The socket is held until it has closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use napi::bindgen_prelude::{Buffer, FnArgs, JsValue, Object, ObjectRef, Unknown};
use napi::{Env, Result};

use crate::binding::events::{Courier, NodeHost};
use crate::binding::values;
use crate::transport::Source;
use crate::transport::bridge::{Bridge, Pipe, Signal, Work};

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
    socket: ObjectRef<false>,
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
pub fn open(env: &Env, courier: &Rc<Courier>, socket: &Object<'_>) -> Result<Source> {
    let id = BridgeId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
    let pipe = Pipe::new(Box::new(SignalNode { host: courier.host().clone(), id }));
    listen(env, courier, socket, id, &pipe)?;
    // An idle connection must not keep the process alive, nor a handshake in flight.
    values::call_method(socket, "unref", ())?;
    courier.bridges().open.borrow_mut().insert(id, NodeEnd { pipe: pipe.clone(), socket: socket.create_ref()? });
    values::call_method(socket, "resume", ())?;
    Ok(Source::Bridge(Bridge::new(pipe)))
}

fn listen(env: &Env, courier: &Rc<Courier>, socket: &Object<'_>, id: BridgeId, pipe: &Arc<Pipe>) -> Result<()> {
    let on = |event: &str, listener: Unknown<'_>| values::call_method(socket, "on", FnArgs::from((event, listener)));
    let data = env.create_function_from_closure::<(), (), _>("carillonData", {
        let pipe = pipe.clone();
        move |context| {
            let bytes: Buffer = context.first_arg()?;
            if !pipe.receive(&bytes) {
                values::call_method(&context.this::<Object<'_>>()?, "pause", ())?;
            }
            Ok(())
        }
    })?;
    on("data", data.to_unknown())?;
    let drain = env.create_function_from_closure::<(), (), _>("carillonDrain", {
        let pipe = pipe.clone();
        move |_| {
            pipe.flushed();
            Ok(())
        }
    })?;
    on("drain", drain.to_unknown())?;
    let end = env.create_function_from_closure::<(), (), _>("carillonEnd", {
        let pipe = pipe.clone();
        move |_| {
            pipe.peer_ended();
            Ok(())
        }
    })?;
    on("end", end.to_unknown())?;
    // What went wrong shows as the close that follows.
    let error = env.create_function_from_closure::<(), (), _>("carillonError", |_| Ok(()))?;
    on("error", error.to_unknown())?;
    let close = env.create_function_from_closure::<(), (), _>("carillonClose", {
        let (pipe, courier) = (pipe.clone(), Rc::downgrade(courier));
        move |_| {
            pipe.peer_gone();
            if let Some(courier) = courier.upgrade() {
                courier.bridges().open.borrow_mut().remove(&id);
            }
            Ok(())
        }
    })?;
    on("close", close.to_unknown())?;
    Ok(())
}

impl Bridges {
    /// Does what the shard has asked for.
    pub fn work(&self, env: &Env, id: BridgeId) -> Result<()> {
        let (pipe, socket) = {
            let open = self.open.borrow();
            let Some(end) = open.get(&id) else { return Ok(()) };
            (end.pipe.clone(), end.socket.get_value(env)?)
        };
        let Work { write, resume, end, destroy } = pipe.take_work();
        if destroy {
            values::call_method(&socket, "destroy", ())?;
            return Ok(());
        }
        if !write.is_empty() {
            let took_all = values::call_method(&socket, "write", FnArgs::from((Buffer::from(write),)))?;
            if took_all.coerce_to_bool()? {
                pipe.flushed();
            }
        }
        if resume {
            values::call_method(&socket, "resume", ())?;
        }
        if end {
            values::call_method(&socket, "end", ())?;
        }
        Ok(())
    }
}
