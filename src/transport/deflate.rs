//! To be written.

#[derive(Clone, Debug)]
pub struct Policy {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacceptable;

pub fn negotiate(_header: &str, _policy: &Policy) -> Result<Option<Negotiated>, Unacceptable> {
    Ok(None)
}

impl Negotiated {
    pub fn response(&self) -> String {
        String::new()
    }
}
