//! The payloads of an event as JavaScript values. Runs on Node's thread.

use napi::bindgen_prelude::{JsObjectValue, Object, Unknown};
use napi::{Env, Result};

use crate::application::event::{Event, Member, Members, Payload};
use crate::binding::error::describe;
use crate::binding::values;

/// The arguments of the listeners' calls: each listener is called once per element.
pub fn event_arguments<'env>(env: &'env Env, event: &Event) -> Result<Vec<Unknown<'env>>> {
    let argument = |payload| match payload {
        Payload::Error(error) => {
            let described = napi::Error::new(error.code().to_owned(), describe(error));
            Ok(napi::JsError::from(described).into_unknown(*env))
        }
        Payload::Object(members) => values::write(env, object(env, members)?),
    };
    event.payloads().into_iter().map(argument).collect()
}

fn object<'env>(env: &'env Env, members: Members<'_>) -> Result<Object<'env>> {
    let mut made = Object::new(env)?;
    for (name, member) in members {
        match member {
            Member::Boolean(value) => made.set_named_property(name, value)?,
            Member::Number(value) => made.set_named_property(name, value)?,
            Member::Object(members) => made.set_named_property(name, object(env, members)?)?,
            Member::Text(text) => made.set_named_property(name, &*text)?,
            Member::Texts(texts) => made.set_named_property(name, texts.to_vec())?,
        }
    }
    Ok(made)
}
