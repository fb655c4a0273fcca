//! Credentials as an upstream is shown them. Made once, or once per token; what is secret in them is never printed.

use std::fmt;

use daemun_pipeline::{Credentials, Outgoing};

/// A field whose value is the same for every call.
pub(super) struct Fixed {
    /// In lower case.
    pub(super) name: Box<str>,
    pub(super) value: Box<[u8]>,
}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixed").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Credentials for Fixed {
    fn fields(&self, _: &Outgoing<'_>, add: &mut dyn FnMut(&[u8], &[u8])) {
        add(self.name.as_bytes(), &self.value);
    }
}

/// A parameter of the query.
pub(super) struct Parameter(Box<[u8]>);

impl Parameter {
    /// The value is encoded; the name needs no encoding.
    pub(super) fn new(name: &str, value: &str) -> Parameter {
        let mut text = name.as_bytes().to_vec();
        text.push(b'=');
        super::sigv4::encode(value.as_bytes(), false, &mut text);
        Parameter(text.into())
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parameter(…)")
    }
}

impl Credentials for Parameter {
    fn fields(&self, _: &Outgoing<'_>, _: &mut dyn FnMut(&[u8], &[u8])) {}

    fn query(&self) -> &[u8] {
        &self.0
    }
}
