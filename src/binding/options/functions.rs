//! The functions of the application among the options: hooks and the logger.

use std::collections::HashMap;

use napi::Result;
use napi::bindgen_prelude::{JsValue, Object};

use super::reader::Reader;
use crate::binding::glue::Target;
use crate::binding::js_task::LogLevel;
use crate::binding::logger::{ArgumentOrder, LoggerOption};
use crate::binding::reference::Reference;
use crate::binding::values;
use crate::types::HookKind;

/// Reads every hook of [`HookKind`] from the option that its label names. An option that is an object must have all its functions.
pub fn hooks(reader: &Reader<'_>) -> Result<HashMap<HookKind, Target>> {
    let mut hooks = HashMap::new();
    for kind in HookKind::ALL {
        let (option, member) = kind.option();
        let Some(given) = reader.get(option)? else { continue };
        let target = match member {
            None => {
                let function = values::as_function(&given)
                    .ok_or_else(|| reader.wrong(option, "a function", values::kind(&given)))?;
                Target::Function(Reference::strong(reader.env, &function.to_unknown())?)
            }
            Some(member) => {
                let functions = values::as_object(&given).ok_or_else(|| {
                    let expected = format!("an object with the functions {}", members(option).join(" and "));
                    reader.wrong(option, &expected, values::kind(&given))
                })?;
                let function = values::property(&functions, member)?;
                if values::kind(&function) != "function" {
                    return Err(reader.wrong(kind.label(), "a function", values::kind(&function)));
                }
                Target::method(reader.env, &functions.to_unknown(), member)?
            }
        };
        hooks.insert(kind, target);
    }
    Ok(hooks)
}

/// The names of the options that have hooks.
pub fn hook_options() -> impl Iterator<Item = &'static str> {
    HookKind::ALL.into_iter().map(|kind| kind.option().0)
}

/// The functions of an option that is an object.
fn members(option: &str) -> Vec<&'static str> {
    let options = HookKind::ALL.into_iter().map(HookKind::option);
    options.filter(|(name, _)| *name == option).filter_map(|(_, member)| member).collect()
}

pub fn logger(reader: &Reader<'_>) -> Result<Option<LoggerOption>> {
    let style = reader.one_of("loggerStyle", &LOGGER_STYLES, argument_order)?.flatten();
    let Some(given) = reader.get("logger")? else { return Ok(None) };
    let logger = values::as_object(&given)
        .or_else(|| values::as_function(&given).and_then(|function| values::read(&function.to_unknown()).ok()))
        .ok_or_else(|| {
            reader.wrong("logger", "an object with functions such as info and error", values::kind(&given))
        })?;
    for level in LogLevel::ALL {
        let method = values::property(&logger, level.method())?;
        if !matches!(values::kind(&method), "function" | "undefined") {
            return Err(reader.wrong(&format!("logger.{}", level.method()), "a function", values::kind(&method)));
        }
    }
    let order = match style {
        Some(order) => order,
        None => detect_order(&logger)?,
    };
    Ok(Some(LoggerOption { object: Reference::strong(reader.env, &logger.to_unknown())?, order }))
}

fn detect_order(logger: &Object<'_>) -> Result<ArgumentOrder> {
    let has_method = |name: &str| Ok::<_, napi::Error>(values::kind(&values::property(logger, name)?) == "function");
    // The methods of pino, and of bunyan.
    let is_context_first = has_method("child")? && (has_method("bindings")? || has_method("addStream")?);
    Ok(if is_context_first { ArgumentOrder::ContextFirst } else { ArgumentOrder::MessageFirst })
}

const LOGGER_STYLES: [&str; 3] = ["auto", "message-first", "context-first"];

/// `Some(None)` for `auto`.
fn argument_order(style: &str) -> Option<Option<ArgumentOrder>> {
    match style {
        "auto" => Some(None),
        "message-first" => Some(Some(ArgumentOrder::MessageFirst)),
        "context-first" => Some(Some(ArgumentOrder::ContextFirst)),
        _ => None,
    }
}
