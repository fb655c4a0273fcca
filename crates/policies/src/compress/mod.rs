//! `compress`: answers in the content coding the caller likes best. Knows nothing of framing.

mod coders;
mod config;
mod negotiate;
#[cfg(test)]
mod tests;
mod types;

use daemun_pipeline::{
    Bodies, BuildContext, Coder, Exchange, Explanation, FieldId, Flow, Head, Method, Phase, Policy, PolicyConfig,
    Response, Verdict,
};

use crate::representation;

pub use config::{Coding, CompressConfig, CompressLevels};
pub use types::TypePattern;

impl PolicyConfig for CompressConfig {
    const NAME: &'static str = "compress";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let codings = config::built(&self);
        let small = |level: u64| u32::try_from(level).unwrap_or(1);
        let levels = Levels {
            gzip: small(self.levels.gzip.get()),
            br: small(self.levels.br.get()),
            zstd: i32::try_from(self.levels.zstd.get()).unwrap_or(3),
        };
        let compress = Compress { codings, types: self.types.0.into(), min_size: self.min_size.0, levels };
        Some(vec![(Phase::Admit, Box::new(compress))])
    }
}

/// How hard each coding tries, as its library counts.
struct Levels {
    gzip: u32,
    br: u32,
    zstd: i32,
}

struct Compress {
    /// The best one first.
    codings: Box<[Coding]>,
    types: Box<[TypePattern]>,
    min_size: u64,
    levels: Levels,
}

impl Compress {
    /// The coding for the caller of a request.
    fn agreed(&self, exchange: &Exchange) -> Option<Coding> {
        let request = &exchange.request;
        let coding = negotiate::choose(|| request.head.values("accept-encoding"), &self.codings)?;
        let may = !request.grpc && !says(&request.head, "cache-control", b"no-transform");
        may.then_some(coding)
    }

    /// Whether an answer may be coded for a caller that takes codings; of 304, whether the one that it stands for may be. That has mostly no
    /// type, and may then be of any.
    fn is_eligible(&self, exchange: &Exchange) -> bool {
        let response = &exchange.response;
        let head = &response.head;
        let kind = head.get_id(FieldId::ContentType);
        response.status >= 200
            && !matches!(response.status, 204 | 205)
            && !exchange.request.grpc
            && kind.map_or(response.status == 304, |value| self.types.iter().any(|known| known.is_of(value)))
            && head.get("content-encoding").is_none()
            && !says(head, "cache-control", b"no-transform")
    }

    /// Whether coding what is eligible would gain something and harm nothing.
    fn is_worth(&self, response: &Response, method: Method) -> bool {
        let length = match &response.body {
            // what answers HEAD tells of a body that is not here
            Some(body) if !body.is_empty() || method != Method::Head => u64::try_from(body.len()).ok(),
            Some(_) | None => response.head.get_id(FieldId::ContentLength).and_then(number),
        };
        response.status != 206
            && response.head.get("content-range").is_none()
            && length.is_none_or(|length| length > 0 && length >= self.min_size)
    }
}

impl Policy for Compress {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        exchange.coding = self.agreed(exchange).map(Coding::name);
        Flow::Now(Ok(()))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        let agreed = exchange.coding.take();
        if !self.is_eligible(exchange) {
            return Ok(());
        }
        // also where this caller gets it as it is: a cache must not give another what was made for this one
        vary(&mut exchange.response.head);
        if exchange.response.status == 304 {
            representation::weaken_as_asked(&exchange.request.head, &mut exchange.response.head);
            return Ok(());
        }
        let is_worth = self.is_worth(&exchange.response, exchange.request.method);
        let Some(coding) = agreed.filter(|_| is_worth) else { return Ok(()) };
        describe(&mut exchange.response.head, coding);
        exchange.coding = Some(coding);
        Ok(())
    }

    fn bodies(&self) -> Bodies {
        Bodies { coded: true, ..Bodies::default() }
    }

    fn coder(&self, exchange: &Exchange) -> Option<Box<dyn Coder>> {
        let name = exchange.coding?;
        let coding = self.codings.iter().find(|coding| coding.name() == name)?;
        Some(coders::coder(*coding, &self.levels))
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        exchange.coding = self.agreed(exchange).map(Coding::name);
        Explanation::pass(match exchange.coding {
            Some(coding) => format!("an answer that is worth it gets the coding `{coding}`"),
            None => "the caller takes none of the codings".to_owned(),
        })
    }
}

/// Whether a list of directives or names holds one.
fn says(head: &Head, field: &str, wanted: &[u8]) -> bool {
    let mut items = head.values(field).flat_map(|value| value.split(|&b| b == b','));
    items.any(|item| item.trim_ascii().eq_ignore_ascii_case(wanted))
}

/// Tells caches that a caller that takes other codings gets another answer.
fn vary(head: &mut Head) {
    if !says(head, "vary", b"accept-encoding") && !says(head, "vary", b"*") {
        head.append("vary", b"Accept-Encoding");
    }
}

/// Makes the head that of a coded answer.
fn describe(head: &mut Head, coding: &str) {
    head.remove("content-length");
    representation::forget_bytes(head);
    representation::weaken(head);
    head.append("content-encoding", coding.as_bytes());
}

/// A decimal number.
fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
