//! Garbage collection, the allocator, and the application's reports of memory pressure and leaks.
//!
//! Runs on Node's thread, except [`trim_allocator`].

use napi::bindgen_prelude::{Array, Function, JsObjectValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::error::invalid_argument;
use crate::binding::values;
use crate::memory::leak_detector_handler::{Leak, Severity};

pub struct PressureReport {
    pub pressure: f64,
    pub threshold: f64,
}

pub fn pressure_report(env: Env, data: &Unknown<'_>) -> Result<PressureReport> {
    let data = object(env, "data", data)?;
    let ratio = |member: &str| -> Result<f64> {
        let name = format!("data.{member}");
        let value = values::property(&data, member)?;
        let number = number(env, &name, &value)?;
        if (0.0..=1.0).contains(&number) {
            return Ok(number);
        }
        Err(invalid_argument(env, &name, "a number from 0 to 1", &number.to_string()))
    };
    Ok(PressureReport { pressure: ratio("pressure")?, threshold: ratio("threshold")? })
}

pub fn leak_report(env: Env, data: &Unknown<'_>) -> Result<Leak> {
    let data = object(env, "data", data)?;
    let severity = values::property(&data, "severity")?;
    let severity = values::as_string(&severity).and_then(|name| Severity::from_name(&name)).ok_or_else(|| {
        let known = Severity::ALL.map(Severity::as_str).join(", ");
        invalid_argument(env, "data.severity", &format!("one of {known}"), values::kind(&severity))
    })?;
    let analysis = object(env, "data.analysis", &values::property(&data, "analysis")?)?;
    Ok(Leak {
        severity,
        recommendations: strings(env, "data.recommendations", &values::property(&data, "recommendations")?)?,
        growth_rate: number(env, "data.analysis.growthRate", &values::property(&analysis, "growthRate")?)?,
        retained_increase: number(
            env,
            "data.analysis.retainedIncrease",
            &values::property(&analysis, "retainedIncrease")?,
        )?,
    })
}

/// Has V8 collect garbage now. Does nothing unless Node was started with `--expose-gc`.
pub fn collect_garbage(env: &Env) {
    let collected = env.get_global().and_then(|global| {
        let gc: Unknown<'_> = global.get_named_property_unchecked("gc")?;
        if values::kind(&gc) == "function" {
            values::read::<Function<'_, (), Unknown<'_>>>(&gc)?.call(())?;
        }
        Ok(())
    });
    if let Err(failure) = collected {
        values::clear_exception(env);
        tracing::debug!(failure = failure.reason, "garbage could not be collected");
    }
}

/// Has the allocator return unused memory to the system. On any thread.
pub fn trim_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc's own function, of this signature, callable on any thread at any time.
        unsafe { malloc_trim(0) };
    }
}

fn object<'env>(env: Env, name: &str, value: &Unknown<'env>) -> Result<Object<'env>> {
    values::as_object(value).ok_or_else(|| invalid_argument(env, name, "an object", values::kind(value)))
}

fn number(env: Env, name: &str, value: &Unknown<'_>) -> Result<f64> {
    let number = values::as_number(value).filter(|number| number.is_finite());
    number.ok_or_else(|| invalid_argument(env, name, "a finite number", values::kind(value)))
}

fn strings(env: Env, name: &str, value: &Unknown<'_>) -> Result<Vec<String>> {
    let wrong = |value: &Unknown<'_>| invalid_argument(env, name, "an array of strings", values::kind(value));
    if values::kind(value) != "array" {
        return Err(wrong(value));
    }
    let array: Array<'_> = values::read(value)?;
    let mut strings = Vec::new();
    for index in 0..array.len() {
        let element: Unknown<'_> = array.get(index)?.ok_or_else(|| wrong(value))?;
        strings.push(values::as_string(&element).ok_or_else(|| wrong(&element))?);
    }
    Ok(strings)
}
