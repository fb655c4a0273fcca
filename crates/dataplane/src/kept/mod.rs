//! Answers that are kept to be given again: what may be kept, what tells one call from another, and where answers are within their bounds.
//! Knows neither when one is given nor how it is sent.

pub(crate) mod copying;
mod key;
mod rules;
pub(crate) mod store;

use bytes::Bytes;
use daemun_pipeline::head::Field;
use daemun_pipeline::{Exchange, FieldId, Head, Span};

use rules::Terms;

const SECOND: u64 = 1_000_000_000;

/// An answer of an upstream, whole, as it came: policies run over it each time it is given.
pub(crate) struct Kept {
    pub(crate) status: u16,
    /// Without what is of one connection or one exchange, and without `Age`.
    pub(crate) head: Head,
    pub(crate) body: Bytes,
    /// When its request was there: its age counts from then, so that it never seems younger than it is.
    received: u64,
    /// When it may no longer be given.
    until: u64,
    terms: Terms,
    /// What it is an answer about, whoever asks and however.
    resource: u64,
}

impl Kept {
    /// Of the answer that stands in an exchange, but for its body; to be given no later than `keep` nanoseconds from when it was asked for.
    fn of(exchange: &Exchange, terms: Terms, keep: u64, resource: u64) -> Kept {
        let received = exchange.times.start;
        Kept {
            status: exchange.response.status,
            head: lasting(&exchange.response.head),
            body: Bytes::new(),
            received,
            until: received.saturating_add(terms.usable.unwrap_or(keep).min(keep)),
            terms,
            resource,
        }
    }

    /// Its age in seconds (RFC 9111, section 4.2.3).
    pub(crate) fn age(&self, now: u64) -> u64 {
        self.terms.age.saturating_add(self.seconds_kept(now))
    }

    /// How long it has been here.
    pub(crate) fn seconds_kept(&self, now: u64) -> u64 {
        now.saturating_sub(self.received) / SECOND
    }

    /// Bytes that it takes.
    fn size(&self) -> usize {
        let fields = self.head.fields.len() * size_of::<Field>();
        self.body.len() + self.head.buf.len() + fields + size_of::<Kept>()
    }

    /// Whether a request with these fields may be given it.
    fn is_for(&self, request: &Head) -> bool {
        (self.terms.public || request.get_id(FieldId::Cookie).is_none())
            && (self.terms.authorized || request.get_id(FieldId::Authorization).is_none())
    }
}

/// The fields of an answer that may be given again.
fn lasting(head: &Head) -> Head {
    let mut out = Head::default();
    for field in &head.fields {
        let (name, value) = (head.bytes(field.name), head.bytes(field.value));
        let passes = field.removed || field.id.is_hop_by_hop() || field.id == FieldId::XRequestId;
        if passes || name.eq_ignore_ascii_case(b"age") {
            continue;
        }
        let name = out.store(name);
        out.store(b": ");
        let value: Span = out.store(value);
        out.store(b"\r\n");
        out.fields.push(Field { name, value, id: field.id, removed: false });
    }
    out.buf.shrink_to_fit();
    out.fields.shrink_to_fit();
    out
}
