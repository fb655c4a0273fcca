//! The signature a request presents: the one that is meant for here, and what it says of itself (RFC 9421, section 4). Knows no key.

use daemun_pipeline::Head;
use sfv::{Dictionary, InnerList, ListEntry, Parser};

/// Longest values that are looked at, in bytes.
const MAX: usize = 16 * 1024;
/// Most signatures of a request.
const MOST: usize = 16;

/// Why a request has no signature to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// None is there that is meant for here.
    None,
    /// Several are.
    Several,
    /// What is there is not well-formed, or lacks what it needs.
    Malformed,
}

/// A signature and what it says of itself.
#[derive(Debug)]
pub(super) struct Presented {
    /// What it covers, and its parameters.
    pub(super) input: InnerList,
    pub(super) signature: Vec<u8>,
    /// When it was made, seconds since the Unix epoch.
    pub(super) created: u64,
    /// When it ends, likewise.
    pub(super) expires: Option<u64>,
}

impl Presented {
    /// The one signature with this tag, or the only one at all.
    pub(super) fn find(head: &Head, tag: Option<&str>) -> Result<Presented, Absent> {
        if head.get("signature-input").is_none() && head.get("signature").is_none() {
            return Err(Absent::None);
        }
        let inputs = dictionary(head, "signature-input").ok_or(Absent::Malformed)?;
        let signatures = dictionary(head, "signature").ok_or(Absent::Malformed)?;
        let mut found = None;
        for (label, entry) in inputs {
            let ListEntry::InnerList(input) = entry else { return Err(Absent::Malformed) };
            let is_meant = tag.is_none_or(|tag| text(&input, "tag") == Some(tag));
            if is_meant && found.replace((label, input)).is_some() {
                return Err(Absent::Several);
            }
        }
        let (label, input) = found.ok_or(Absent::None)?;
        let signature = match signatures.get(label.as_str()) {
            Some(ListEntry::Item(item)) => item.bare_item.as_byte_sequence(),
            Some(ListEntry::InnerList(_)) | None => None,
        };
        Presented::of(input, signature).ok_or(Absent::Malformed)
    }

    fn of(input: InnerList, signature: Option<&[u8]>) -> Option<Presented> {
        let seconds = |name: &str| match input.params.get(name) {
            None => Some(None),
            Some(value) => u64::try_from(i64::from(value.as_integer()?)).ok().map(Some),
        };
        let (created, expires) = (seconds("created")??, seconds("expires")?);
        let well = text(&input, "keyid").is_some()
            && ["alg", "nonce", "tag"]
                .iter()
                .all(|name| !input.params.contains_key(*name) || text(&input, name).is_some());
        let signature = signature.filter(|_| well)?.to_vec();
        Some(Presented { input, signature, created, expires })
    }

    /// A parameter that is a text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        text(&self.input, name)
    }
}

fn text<'a>(input: &'a InnerList, name: &str) -> Option<&'a str> {
    Some(input.params.get(name)?.as_string()?.as_str())
}

/// A field that is a dictionary; all its lines are one.
fn dictionary(head: &Head, name: &str) -> Option<Dictionary> {
    let mut joined = Vec::new();
    for value in head.values(name) {
        if joined.len() + value.len() > MAX {
            return None;
        }
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value);
    }
    read(&joined)
}

/// A dictionary of at most as many members as signatures may be.
pub(super) fn read(text: &[u8]) -> Option<Dictionary> {
    let read: Dictionary = Parser::new(text).parse().ok()?;
    (!read.is_empty() && read.len() <= MOST).then_some(read)
}
