//! Typed access to the members of the options object, with an error that says what the value must be.
//!
//! An absent option and `undefined` mean the default.

use napi::bindgen_prelude::{JsObjectValue, Object, Unknown};
use napi::{Env, Result};

use crate::binding::error::exception;
use crate::binding::values;
use crate::error::{Error, ErrorKind};

pub struct Reader<'a> {
    pub env: &'a Env,
    /// `None`: all options have their defaults.
    pub object: Option<Object<'a>>,
}

impl Reader<'_> {
    pub fn get(&self, name: &str) -> Result<Option<Unknown<'_>>> {
        let Some(object) = &self.object else { return Ok(None) };
        Ok(Some(values::property(object, name)?).filter(|value| values::kind(value) != "undefined"))
    }

    pub fn string(&self, name: &str) -> Result<Option<String>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        match values::as_string(&given) {
            Some(text) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string that is not empty", "an empty string")),
            None => Err(self.wrong(name, "a string", values::kind(&given))),
        }
    }

    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        let expected = "a list of strings";
        if values::kind(&given) != "array" {
            return Err(self.wrong(name, expected, values::kind(&given)));
        }
        let array: Object<'_> = values::read(&given)?;
        let mut strings = Vec::new();
        for index in 0..array.get_array_length()? {
            let element: Unknown<'_> = array.get_element(index)?;
            let kind = values::kind(&element);
            strings.push(
                values::as_string(&element)
                    .ok_or_else(|| self.wrong(name, expected, &format!("a list with {kind}")))?,
            );
        }
        Ok(Some(strings))
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        if values::kind(&given) != "boolean" {
            return Err(self.wrong(name, "a boolean", values::kind(&given)));
        }
        Ok(Some(values::read(&given)?))
    }

    pub fn integer(&self, name: &str, min: f64, max: f64) -> Result<Option<f64>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        let expected = format!("an integer from {min} to {max}");
        match values::as_number(&given) {
            Some(number) if number.fract() == 0.0 && (min..=max).contains(&number) => Ok(Some(number)),
            Some(number) => Err(self.wrong(name, &expected, &format!("{number}"))),
            None => Err(self.wrong(name, &expected, values::kind(&given))),
        }
    }

    pub fn one_of<T>(&self, name: &str, choices: &[&str], parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(given) = self.get(name)? else { return Ok(None) };
        let parsed = values::as_string(&given).and_then(|text| parse(&text));
        let expected = || choices.iter().map(|choice| format!("'{choice}'")).collect::<Vec<_>>().join(" or ");
        parsed.map(Some).ok_or_else(|| self.wrong(name, &expected(), values::kind(&given)))
    }

    /// The members of an object of numbers.
    pub fn numbers(&self, name: &str) -> Result<Vec<(String, f64)>> {
        let Some(given) = self.get(name)? else { return Ok(Vec::new()) };
        let object =
            values::as_object(&given).ok_or_else(|| self.wrong(name, "an object of numbers", values::kind(&given)))?;
        let mut pairs = Vec::new();
        for key in Object::keys(&object)? {
            let member = values::property(&object, &key)?;
            match (values::as_number(&member), values::kind(&member)) {
                (Some(number), _) => pairs.push((key, number)),
                (None, "undefined") => {}
                (None, kind) => return Err(self.wrong(&format!("{name}.{key}"), "a number", kind)),
            }
        }
        Ok(pairs)
    }

    pub fn wrong(&self, name: &str, expected: &str, given: &str) -> napi::Error {
        invalid(self.env, format!("The option \"{name}\" must be {expected}. Received {given}"))
    }
}

pub fn invalid(env: &Env, message: String) -> napi::Error {
    exception(*env, &Error::new(ErrorKind::InvalidOption, message))
}
