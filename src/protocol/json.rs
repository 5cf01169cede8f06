//! JSON as JavaScript reads and writes it: values where they stand (`raw`), text conversion (`text`), strings and
//! timestamps. Pure.

use serde::Serialize;
use serde_json::ser::Serializer;

mod characters;
mod raw;
mod text;

pub use characters::Characters;
pub use raw::{Kind, Member, RawJson, SharedJson};
pub use text::MAX_TEXT;

/// Milliseconds of one day.
const DAY_MS: f64 = 86_400_000.0;

/// The furthest a `Date` reaches from 1970 either way (ECMA-262 §21.4.1.1).
const MAX_DATE_MS: f64 = 8.64e15;

/// Appends a string in quotes.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = text.serialize(&mut Serializer::new(out));
}

/// `new Date(millis).toISOString()` (ECMA-262 §21.4.1.32). What no `Date` can hold becomes the nearest it can.
pub fn iso_timestamp(millis: f64) -> String {
    let millis = millis.clamp(-MAX_DATE_MS, MAX_DATE_MS).trunc();
    let days = (millis / DAY_MS).floor();
    let of_day = (millis - days * DAY_MS) as u32;
    let (year, month, day) = civil_date(days as i64);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        year if year < 0 => format!("-{:06}", -year),
        year => format!("+{year:06}"),
    };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970. Counts in eras of 400 years that
/// begin on 1 March, so that the leap day is the last of its year.
fn civil_date(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, u32::try_from(month).unwrap_or(1), u32::try_from(day).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_a_date() {
        for (millis, expected) in [
            (0.0, "1970-01-01T00:00:00.000Z"),
            (-1.0, "1969-12-31T23:59:59.999Z"),
            (1_709_164_800_123.0, "2024-02-29T00:00:00.123Z"),
            (951_782_400_000.0, "2000-02-29T00:00:00.000Z"),
            (4_107_542_400_000.0, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999.0, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000.0, "+010000-01-01T00:00:00.000Z"),
            (8.64e15, "+275760-09-13T00:00:00.000Z"),
            (-8.64e15, "-271821-04-20T00:00:00.000Z"),
            (-62_198_755_200_000.0, "-000001-01-01T00:00:00.000Z"),
            (-0.5, "1970-01-01T00:00:00.000Z"),
            (1.999, "1970-01-01T00:00:00.001Z"),
            (f64::INFINITY, "+275760-09-13T00:00:00.000Z"),
            (f64::MIN, "-271821-04-20T00:00:00.000Z"),
            (f64::NAN, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso_timestamp(millis), expected);
        }
    }
}
