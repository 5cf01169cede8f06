//! The application's logger: the object of the option `logger`, and how a log line is passed to it.
//!
//! Belongs to Node's thread. Log lines are made by `logging`, on every thread.

use std::cell::RefCell;
use std::rc::Rc;

use napi::bindgen_prelude::Unknown;
use napi::{Env, Result};
use serde_json::{Map, Value};

use crate::binding::glue::{Glue, Scope, Target};
use crate::binding::js_task::LogLevel;
use crate::binding::reference::Reference;
use crate::binding::values;

/// What the options say about the logger.
pub struct LoggerOption {
    pub object: Reference,
    pub order: ArgumentOrder,
}

/// The order of the arguments of a logger's methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentOrder {
    /// `(message, context)`: console, winston.
    MessageFirst,
    /// `(context, message)`: pino, bunyan.
    ContextFirst,
}

/// The logger in use, if there is one.
#[derive(Default)]
pub struct Logger(RefCell<Option<Rc<Methods>>>);

/// The logger's methods, `None` for those that it does not have.
struct Methods {
    targets: [Option<Target>; LogLevel::ALL.len()],
    order: ArgumentOrder,
    scope: Scope,
}

impl Logger {
    /// Replaces the logger. Its methods are called in the async context of this call.
    pub fn set(&self, env: &Env, glue: &Glue, option: Option<LoggerOption>) -> Result<()> {
        let methods = match option {
            None => None,
            Some(LoggerOption { object, order }) => {
                let object = object.live(env)?;
                let mut targets = [const { None }; LogLevel::ALL.len()];
                for level in LogLevel::ALL {
                    let method = Target::method(env, &object, level.method())?;
                    targets[level as usize] = method.is_function(env).then_some(method);
                }
                Some(Rc::new(Methods { targets, order, scope: glue.scope(env) }))
            }
        };
        let previous = self.0.replace(methods);
        drop(previous);
        Ok(())
    }

    pub fn has_method(&self, level: LogLevel) -> bool {
        self.0.borrow().as_ref().is_some_and(|methods| methods.targets[level as usize].is_some())
    }

    pub fn write(
        &self,
        env: &Env,
        glue: &Glue,
        level: LogLevel,
        message: &str,
        context: Map<String, Value>,
    ) -> Result<()> {
        let Some(methods) = self.0.borrow().clone() else { return Ok(()) };
        let Some(method) = &methods.targets[level as usize] else { return Ok(()) };
        let context = values::from_json(env, &Value::Object(context).to_string())?;
        let message = values::write(env, message)?;
        let arguments: [Unknown<'_>; 2] = match methods.order {
            ArgumentOrder::MessageFirst => [message, context],
            ArgumentOrder::ContextFirst => [context, message],
        };
        let returned = method.call(env, &methods.scope, &arguments)?;
        // A rejection must not end the process, and is not logged: the logger would reject again.
        glue.watch(env, &returned, &values::undefined(env)?, "")
    }
}
