//! The functions of `bridge.js`, and the table of numbers through which one call of them serves many sockets.
//!
//! Belongs to Node's thread.

use napi::bindgen_prelude::{BufferSlice, FunctionCallContext, Int32Array, JsValue, Unknown};
use napi::{Env, Result};

use crate::binding::reference::Reference;
use crate::binding::{guard, values};

use super::batch::{Batch, FIELDS, FLUSHED, MAX_SOCKETS};

/// What becomes of a socket whose bytes were received. The default follows a panic.
#[derive(Clone, Copy, Default)]
#[repr(u32)]
pub enum Received {
    #[default]
    Destroy = 0,
    Continue = 1,
    Pause = 2,
}

/// What the events of sockets call. `usize` is a socket's place.
pub trait Events: 'static {
    fn received(&self, place: usize, bytes: Option<&[u8]>) -> Received;
    fn drained(&self, place: usize);
    fn ended(&self, place: usize);
    /// A method of the socket has thrown.
    fn failed(&self, place: usize, failure: &napi::Error);
    fn closed(&self, place: usize);
}

pub struct Script {
    open: Reference,
    serve: Reference,
    table: Reference,
}

impl Script {
    /// `events` returns the receiver of the sockets' events, if it still exists.
    pub fn new<T: Events>(env: &Env, events: impl Fn() -> Option<std::rc::Rc<T>> + Clone + 'static) -> Result<Self> {
        let receive = events.clone();
        let receive = guard::returning::<u32>(env, "carillonReceive", move |context| {
            let Some(events) = receive() else { return Ok(Received::Destroy as u32) };
            let bytes = context.get::<BufferSlice<'_>>(1).ok();
            Ok(events.received(place(&context)?, bytes.as_deref()) as u32)
        })?;
        let forward = |name, notify: fn(&T, usize)| {
            let events = events.clone();
            guard::function::<()>(env, name, move |context| {
                if let Some(events) = events() {
                    notify(&events, place(&context)?);
                }
                Ok(())
            })
        };
        let drained = forward("carillonDrained", T::drained)?;
        let ended = forward("carillonEnded", T::ended)?;
        let failing = events.clone();
        let failed = guard::function::<()>(env, "carillonFailed", move |context| {
            let failure = napi::Error::from(context.get::<Unknown<'_>>(1)?);
            if let Some(events) = failing() {
                events.failed(place(&context)?, &failure);
            }
            Ok(())
        })?;
        let closed = forward("carillonClosed", T::closed)?;
        let table = values::write(env, Int32Array::new(vec![0; MAX_SOCKETS * FIELDS]))?;
        let make: Unknown<'_> = env.run_script(include_str!("../bridge.js"))?;
        let arguments = [
            receive.to_unknown(),
            drained.to_unknown(),
            ended.to_unknown(),
            failed.to_unknown(),
            closed.to_unknown(),
            table,
        ];
        let functions = values::apply(env, &make, &values::undefined(env)?, &arguments)?;
        let functions = values::read(&functions)?;
        let function = |name: &str| Reference::strong(env, &values::property(&functions, name)?);
        Ok(Self { open: function("open")?, serve: function("serve")?, table: Reference::strong(env, &table)? })
    }

    pub fn open(&self, env: &Env, socket: &Unknown<'_>, place: usize) -> Result<()> {
        let arguments = [*socket, values::write(env, place as u32)?];
        values::apply(env, &self.open.live(env)?, &values::undefined(env)?, &arguments)?;
        Ok(())
    }

    /// Has the work of a batch carried out. Tells for each entry whether Node holds none of the socket's bytes.
    pub fn serve(&self, env: &Env, batch: Batch) -> Result<Vec<bool>> {
        let (entries, bytes) = batch.into_parts();
        let table = self.table.live(env)?;
        let mut table: Int32Array = values::read(&table)?;
        // SAFETY: JavaScript, which has the table as well, does not run while it is borrowed.
        let numbers = unsafe { table.as_mut() };
        for (place, entry) in numbers.chunks_exact_mut(FIELDS).zip(&entries) {
            place.copy_from_slice(entry);
        }
        // Memory of JavaScript's own: an external buffer costs more than the copy.
        let bytes = BufferSlice::copy_from(env, &bytes)?;
        let arguments = [values::write(env, entries.len() as u32)?, bytes.to_unknown()];
        values::apply(env, &self.serve.live(env)?, &values::undefined(env)?, &arguments)?;
        let is_flushed = |entry: &[i32]| entry.last() == Some(&FLUSHED);
        Ok(table.chunks_exact(FIELDS).take(entries.len()).map(is_flushed).collect())
    }
}

fn place(context: &FunctionCallContext<'_>) -> Result<usize> {
    Ok(context.get::<u32>(0)? as usize)
}
