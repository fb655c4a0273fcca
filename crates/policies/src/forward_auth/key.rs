//! What tells one question from another, where a decision about one may count for the other: unambiguous, whatever a caller sends. Knows
//! no decision.

use aws_lc_rs::digest::{Context, SHA256};
use daemun_config::model::Spanned;
use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Exchange, Fault, FieldId};

use super::ask::{Question, host_told};
use super::config::{CacheConfig, is_computed};
use super::kept::Digest;

/// What a key is made of.
pub(super) struct Key {
    parts: Box<[Part]>,
    any_request: bool,
}

enum Part {
    Header(Box<str>),
    Text(Text),
}

impl Key {
    /// From settings; `None` only after an error was reported.
    pub(super) fn new(settings: &CacheConfig, ctx: &mut BuildContext<'_>) -> Option<Key> {
        let mut parts = Some(Vec::new());
        for part in &settings.key.0 {
            let text = &part.value.0;
            let part = if is_computed(text) {
                ctx.text("cache.key", &Spanned { value: text.clone(), at: part.at }, false).map(Part::Text)
            } else {
                Some(Part::Header(text.to_ascii_lowercase().into()))
            };
            parts = parts.zip(part).map(|(mut parts, part)| {
                parts.push(part);
                parts
            });
        }
        Some(Key { parts: parts?.into(), any_request: settings.any_request })
    }

    /// The digest of a question; `None` where nothing tells who asks: no header of the key is there, or where it has none, no text. Such
    /// calls must not share a decision, for what the service goes by is something else.
    pub(super) fn digest(&self, question: &Question, exchange: &Exchange) -> Result<Option<Digest>, Fault> {
        let mut context = Context::new(&SHA256);
        let mut put = |part: &[u8]| {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        };
        let (mut headers, mut headers_there, mut texts_there) = (false, false, false);
        for part in &self.parts {
            match part {
                Part::Header(name) => {
                    let values = || exchange.request.head.values(name);
                    headers = true;
                    headers_there |= values().any(|value| !value.is_empty());
                    put(&(values().count() as u64).to_le_bytes());
                    values().for_each(&mut put);
                }
                Part::Text(text) => {
                    let value = text.value(exchange)?;
                    texts_there |= !value.is_empty();
                    put(&value);
                }
            }
        }
        if !(if headers { headers_there } else { texts_there }) {
            return Ok(None);
        }
        // an authenticator before this one may have found somebody, whom the service is told of
        put(if exchange.is_known() { b"k" } else { b"" });
        put(exchange.consumer_bytes().unwrap_or_default());
        // and its roles, which another credential of it need not have
        exchange.request.head.values_id(FieldId::Identity).for_each(&mut put);
        put(b"");
        question.each_set(exchange, |_, value| {
            put(&value);
            Ok(())
        })?;
        if !self.any_request {
            let request = &exchange.request;
            put(request.head.bytes(request.method_span));
            put(if exchange.is_https() { b"s" } else { b"" });
            put(host_told(exchange));
            put(request.head.bytes(request.path));
            put(if request.query.is_some() { b"?" } else { b"" });
            put(request.query.map_or(&[], |query| request.head.bytes(query)));
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.finish().as_ref());
        Ok(Some(digest))
    }
}
