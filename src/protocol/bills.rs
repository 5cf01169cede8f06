//! Bills as peers name them: read as numbers, and written into replies as they were given. Pure.

use crate::protocol::json::{Characters, RawJson, write_string};
use crate::types::BillId;

/// A positive integer, or a string of the decimal digits of one.
pub fn bill_id(given: RawJson<'_>) -> Option<BillId> {
    match given.string() {
        Some(written) if written.contains('\\') => BillId::from_digits(&Characters::of(written).collect::<String>()),
        Some(written) => BillId::from_digits(written),
        None => bill_number(given),
    }
}

/// A positive integer that is a number, as batches demand.
pub fn bill_number(given: RawJson<'_>) -> Option<BillId> {
    match given.as_str().parse() {
        // Most are written so. A number that a double cannot hold exactly is none here either.
        Ok(number) => BillId::new(number),
        Err(_) => given.number().and_then(BillId::from_f64),
    }
}

/// A bill as the peer named it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenBill<'m>(pub RawJson<'m>);

impl GivenBill<'_> {
    /// Appends it as the peer wrote it, the number of a bill as JavaScript prints it.
    pub fn write(self, out: &mut Vec<u8>) {
        match bill_number(self.0).filter(|_| !self.is_plain()) {
            Some(number) => out.extend_from_slice(number.to_string().as_bytes()),
            None => out.extend_from_slice(self.0.as_str().as_bytes()),
        }
    }

    /// Appends a string in quotes that names it between two words.
    pub fn write_sentence(self, out: &mut Vec<u8>, before: &str, after: &str) {
        match bill_number(self.0) {
            Some(number) => out.extend_from_slice(format!("\"{before}{number}{after}\"").as_bytes()),
            None => write_string(out, &format!("{before}{}{after}", self.0.to_text())),
        }
    }

    /// Whether it is digits alone, which JavaScript prints as they stand while they are a bill.
    fn is_plain(self) -> bool {
        self.0.as_str().bytes().all(|byte| byte.is_ascii_digit())
    }
}
