//! Settings by name: bounds, defaults, and errors that say what would be right. Used by both configurations.

use crate::error::{Error, ErrorKind};

/// One setting as the design spells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    pub name: &'static str,
    pub default: f64,
    pub min: f64,
    pub max: f64,
}

impl Setting {
    pub const fn new(name: &'static str, default: f64, min: f64, max: f64) -> Self {
        Self { name, default, min, max }
    }

    /// The value, if it is an integer within the bounds.
    pub fn check(&self, value: f64, kind: ErrorKind) -> Result<f64, Error> {
        if value.fract() == 0.0 && (self.min..=self.max).contains(&value) {
            return Ok(value);
        }
        let Self { name, min, max, .. } = self;
        let mut text = ryu_js::Buffer::new();
        let value = text.format(value);
        Err(Error::new(kind, format!("\"{name}\" must be an integer from {min} to {max}. Received {value}")))
    }
}

/// The name among `known` that was probably meant, if one is near enough.
pub fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= 2.max(known.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// An error for a name that no setting has.
pub fn unknown<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let hint = closest(name, known).map(|known| format!(". Did you mean \"{known}\"?")).unwrap_or_default();
    Error::new(ErrorKind::InvalidOption, format!("Unknown setting \"{name}\"{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found_and_none_where_nothing_is_near() {
        let known = ["maxBackpressure", "maxQueueBytes", "path"];
        assert_eq!(closest("maxBackPresure", known), Some("maxBackpressure"));
        assert_eq!(closest("MAXQUEUEBYTES", known), Some("maxQueueBytes"));
        assert_eq!(closest("pth", known), Some("path"));
        assert_eq!(closest("somethingElse", known), None);
    }

    #[test]
    fn only_integers_within_the_bounds_pass() {
        let setting = Setting::new("SIZE", 10.0, 1.0, 100.0);
        for value in [1.0, 100.0] {
            assert_eq!(setting.check(value, ErrorKind::OutOfRange).ok(), Some(value));
        }
        for (value, text) in [
            (0.0, "0"),
            (101.0, "101"),
            (1.5, "1.5"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (1e21, "1e+21"),
        ] {
            let error = setting.check(value, ErrorKind::OutOfRange).expect_err("out of bounds");
            assert_eq!(error.code(), "ERR_OUT_OF_RANGE");
            assert_eq!(error.to_string(), format!("\"SIZE\" must be an integer from 1 to 100. Received {text}"));
        }
    }
}
