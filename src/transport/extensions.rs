//! The syntax of `Sec-WebSocket-Extensions` (RFC 6455 §9.1), read in time linear in the header. Pure.

/// One element of the header.
pub struct Extension<'h> {
    pub name: &'h str,
    pub parameters: Vec<(&'h str, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The elements in their order. An error is the last item.
pub fn parse(header: &str) -> impl Iterator<Item = Result<Extension<'_>, Malformed>> {
    Parser { rest: header, is_done: false }
}

struct Parser<'h> {
    rest: &'h str,
    is_done: bool,
}

impl<'h> Iterator for Parser<'h> {
    type Item = Result<Extension<'h>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let element = self.element();
        self.is_done |= element.is_err();
        Some(element)
    }
}

impl<'h> Parser<'h> {
    fn element(&mut self) -> Result<Extension<'h>, Malformed> {
        let mut extension = Extension { name: self.token()?, parameters: Vec::new() };
        loop {
            self.skip_blanks();
            match self.rest.as_bytes().first() {
                None => {
                    self.is_done = true;
                    return Ok(extension);
                }
                Some(b',') => {
                    self.advance(1);
                    self.skip_blanks();
                    return Ok(extension);
                }
                Some(b';') => {
                    self.advance(1);
                    self.skip_blanks();
                    let name = self.token()?;
                    let has_value = self.rest.starts_with('=');
                    self.advance(usize::from(has_value));
                    let value = if has_value { Some(self.value()?) } else { None };
                    extension.parameters.push((name, value));
                }
                Some(_) => return Err(Malformed),
            }
        }
    }

    fn token(&mut self) -> Result<&'h str, Malformed> {
        let length = self.rest.bytes().take_while(|byte| is_token_byte(*byte)).count();
        let token = self.rest.get(..length).filter(|token| !token.is_empty()).ok_or(Malformed)?;
        self.advance(length);
        Ok(token)
    }

    /// A token, or a quoted string that unquoted is one.
    fn value(&mut self) -> Result<String, Malformed> {
        if !self.rest.starts_with('"') {
            return self.token().map(str::to_owned);
        }
        self.advance(1);
        let mut value = String::new();
        let mut is_escaped = false;
        for (index, byte) in self.rest.bytes().enumerate() {
            match byte {
                b'\\' if !is_escaped => is_escaped = true,
                b'"' if !is_escaped && !value.is_empty() => {
                    self.advance(index + 1);
                    return Ok(value);
                }
                byte if is_token_byte(byte) => {
                    value.push(char::from(byte));
                    is_escaped = false;
                }
                _ => return Err(Malformed),
            }
        }
        Err(Malformed)
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn advance(&mut self, bytes: usize) {
        // Everything stepped over is ASCII.
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

/// RFC 7230 §3.2.6.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_with_their_parameters_unquoted() {
        let header = "a; b; c=1 , d;e=\"f\\g\"";
        let elements: Vec<_> = parse(header).map(|element| element.expect("well-formed")).collect();
        let names: Vec<_> = elements.iter().map(|element| element.name).collect();
        assert_eq!(names, ["a", "d"]);
        assert_eq!(elements[0].parameters, [("b", None), ("c", Some("1".into()))]);
        assert_eq!(elements[1].parameters, [("e", Some("fg".into()))]);
    }
}
