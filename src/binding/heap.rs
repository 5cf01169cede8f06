//! Reads how much of V8's heap is in use. `memory::heap_limit` interprets the limits.
//!
//! Called by `event_dispatcher` and `health` on Node's thread.

use napi::Env;
use napi::bindgen_prelude::{Array, FnArgs, Function, JsObjectValue, Object, Unknown};

use crate::binding::values;
use crate::memory::heap_limit::{HeapSettings, MEBIBYTE};
use crate::memory::sources::Usage;

/// Absent where Node has no `process.getBuiltinModule` (before 20.16 and 22.3).
pub fn usage(env: &Env) -> Option<Usage> {
    let usage = read(env);
    if usage.is_none() {
        values::clear_exception(env);
    }
    usage
}

fn read(env: &Env) -> Option<Usage> {
    let process: Object<'_> = env.get_global().ok()?.get_named_property("process").ok()?;
    let v8 = builtin(&process, "v8")?;
    let statistics = values::as_object(&values::call_method(&v8, "getHeapStatistics", ()).ok()?)?;
    let limit = bytes(&statistics, "heap_size_limit")?;
    match old_generation_used(&v8) {
        Some(used) => Usage::new(used, settings(&process).old_generation_limit(limit)),
        // Another engine than V8: the figures of the whole heap.
        None => Usage::new(bytes(&statistics, "used_heap_size")?, limit),
    }
}

/// Bytes in use outside of the young generation and of what is part of the program.
fn old_generation_used(v8: &Object<'_>) -> Option<u64> {
    let spaces = values::call_method(v8, "getHeapSpaceStatistics", ()).ok()?;
    if values::kind(&spaces) != "array" {
        return None;
    }
    let spaces: Array<'_> = values::read(&spaces).ok()?;
    let mut used = None;
    for index in 0..spaces.len() {
        let space: Object<'_> = spaces.get(index).ok()??;
        let name = values::as_string(&values::property(&space, "space_name").ok()?)?;
        if !name.starts_with("new_") && name != "read_only_space" {
            used = Some(used.unwrap_or(0) + bytes(&space, "space_used_size")?);
        }
    }
    used
}

fn settings(process: &Object<'_>) -> HeapSettings {
    if let Some(old) = worker_limit(process) {
        return HeapSettings { old: Some(old), semi_space: None };
    }
    let mut flags = environment_flags(process);
    flags.extend(command_line_flags(process).unwrap_or_default());
    HeapSettings::from_flags(flags.iter().map(String::as_str), || available_memory(process))
}

/// A worker's heap has limits of its own, whatever the flags of the process are.
fn worker_limit(process: &Object<'_>) -> Option<u64> {
    let worker = builtin(process, "worker_threads")?;
    let limits = values::as_object(&values::property(&worker, "resourceLimits").ok()?)?;
    let mebibytes = values::as_number(&values::property(&limits, "maxOldGenerationSizeMb").ok()?)?;
    (mebibytes > 0.0).then_some((mebibytes as u64).saturating_mul(MEBIBYTE))
}

fn environment_flags(process: &Object<'_>) -> Vec<String> {
    let environment = values::property(process, "env").ok().and_then(|value| values::as_object(&value));
    let flags = environment.and_then(|object| values::as_string(&values::property(&object, "NODE_OPTIONS").ok()?));
    flags.unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

fn command_line_flags(process: &Object<'_>) -> Option<Vec<String>> {
    let flags = values::property(process, "execArgv").ok().filter(|flags| values::kind(flags) == "array")?;
    let flags: Array<'_> = values::read(&flags).ok()?;
    Some((0..flags.len()).filter_map(|index| values::as_string(&flags.get(index).ok()??)).collect())
}

/// Bytes that Node takes a percentage of.
fn available_memory(process: &Object<'_>) -> Option<u64> {
    let os = builtin(process, "os")?;
    let total = values::as_number(&values::call_method(&os, "totalmem", ()).ok()?)?;
    let constrained = values::call_method(process, "constrainedMemory", ()).ok();
    let constrained = constrained.and_then(|value| values::as_number(&value)).filter(|bytes| *bytes > 0.0);
    Some(constrained.map_or(total, |constrained| constrained.min(total)) as u64)
}

fn builtin<'env>(process: &Object<'env>, name: &str) -> Option<Object<'env>> {
    let get = values::property(process, "getBuiltinModule").ok().filter(|get| values::kind(get) == "function")?;
    let get: Function<'_, FnArgs<(&str,)>, Unknown<'env>> = values::read(&get).ok()?;
    values::as_object(&get.apply(*process, FnArgs::from((name,))).ok()?)
}

fn bytes(object: &Object<'_>, name: &str) -> Option<u64> {
    Some(values::as_number(&values::property(object, name).ok()?)? as u64)
}
