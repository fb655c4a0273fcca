//! The head of a message as far as its body depends on it: media type, character set, codings. Knows no schema.

use daemun_pipeline::{FieldId, Head, expression};

/// A media type without its parameters, in lower case, and the character set it names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MediaType {
    pub(super) name: String,
    charset: Option<String>,
}

impl MediaType {
    /// Of a head; `None` where there is none, or more than one.
    pub(super) fn of(head: &Head) -> Option<MediaType> {
        let mut values = head.values_id(FieldId::ContentType);
        let value = values.next().filter(|_| values.next().is_none())?;
        MediaType::parse(std::str::from_utf8(value).ok()?)
    }

    pub(super) fn parse(text: &str) -> Option<MediaType> {
        let mut parts = text.split(';');
        let name = parts.next()?.trim().to_ascii_lowercase();
        let (kind, rest) = name.split_once('/')?;
        if kind.is_empty() || rest.is_empty() || name.bytes().any(|b| b == b' ' || b == b',') {
            return None;
        }
        let charset = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        Some(MediaType { name, charset })
    }

    /// Whether it is JSON, as conditions see it too.
    pub(super) fn is_json(&self) -> bool {
        expression::is_json(self.name.as_bytes())
    }

    pub(super) fn is_form(&self) -> bool {
        self.name == "application/x-www-form-urlencoded"
    }

    /// Whether its text is in UTF-8, of which ASCII is a part.
    pub(super) fn is_utf8(&self) -> bool {
        self.charset.as_deref().is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"))
    }

    /// Whether it is of a range: `application/json`, `application/*`, `*/*`.
    pub(super) fn is_of(&self, range: &str) -> bool {
        match range.strip_suffix('*') {
            Some("*/") => true,
            Some(prefix) => self.name.starts_with(prefix),
            None => self.name == range,
        }
    }
}

/// Whether the body is coded, such as with gzip.
pub(super) fn is_coded(head: &Head) -> bool {
    head.values("Content-Encoding").any(|value| !value.is_empty() && !value.eq_ignore_ascii_case(b"identity"))
}

/// Whether the head says that there is a body.
pub(super) fn has_body(head: &Head) -> bool {
    let length = head.get_id(FieldId::ContentLength);
    head.get_id(FieldId::TransferEncoding).is_some() || length.is_some_and(|length| length != b"0")
}
