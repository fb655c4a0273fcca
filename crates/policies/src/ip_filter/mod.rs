//! `ip_filter`: which addresses may call. Decides from the caller's address alone, before anything else is known of the caller.

mod config;
mod list;
mod ranges;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;

use daemun_config::decode::OneOrMany;
use daemun_config::diagnostic;
use daemun_config::model::IpNet;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, FieldId, Flow, Phase, Policy, PolicyConfig, Reason, Stop, Verdict,
};

pub use config::{Caller, IpFilterConfig};

use ranges::{Ranges, holds};

impl PolicyConfig for IpFilterConfig {
    const NAME: &'static str = "ip_filter";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let limited = self.allow.is_some() || self.allow_file.is_some();
        let allow = Callers::build(self.allow, self.allow_file.as_deref(), ctx);
        let deny = Callers::build(self.deny, self.deny_file.as_deref(), ctx);
        let (allow, deny) = (allow?, deny?);
        if limited && allow.nets.is_empty() && !allow.unix {
            let help = "the file of `allow_file` holds no address; every call is refused";
            ctx.warning(diagnostic::NO_EFFECT, "nobody may call", Some(help.to_owned()));
        }
        let policy = IpFilter { allow: limited.then_some(allow), deny };
        Some(vec![(Phase::Admit, Box::new(policy))])
    }
}

/// Some callers.
struct Callers {
    ranges: Ranges,
    /// As written, to be named in explanations.
    nets: Box<[IpNet]>,
    unix: bool,
}

impl Callers {
    /// `None` after what is wrong with the file was reported.
    fn build(list: Option<OneOrMany<Caller>>, file: Option<&Path>, ctx: &mut BuildContext<'_>) -> Option<Callers> {
        let list = list.map(|list| list.0).unwrap_or_default();
        let written = list.iter().filter_map(|caller| match caller {
            Caller::Net(net) => Some(*net),
            Caller::Unix => None,
        });
        let mut nets: Vec<IpNet> = written.collect();
        match file.map(list::read).transpose() {
            Ok(more) => nets.extend(more.into_iter().flatten()),
            Err(errors) => {
                errors.into_iter().for_each(|error| ctx.error(diagnostic::BAD_VALUE, error, None));
                return None;
            }
        }
        Some(Callers { ranges: Ranges::new(&nets), nets: nets.into(), unix: list.contains(&Caller::Unix) })
    }

    #[inline]
    fn contain(&self, from: Source) -> bool {
        match from {
            Source::Address(ip) | Source::Behind(ip) => self.ranges.contain(ip),
            Source::Nowhere => self.unix,
        }
    }

    /// The narrowest entry that a caller falls under, as written.
    fn entry(&self, from: Source) -> Option<String> {
        match from {
            Source::Address(ip) | Source::Behind(ip) => {
                let nets = self.nets.iter().filter(|net| holds(**net, ip));
                nets.max_by_key(|net| net.prefix).map(|net| format!("{}/{}", net.addr, net.prefix))
            }
            Source::Nowhere => self.unix.then(|| "unix".to_owned()),
        }
    }
}

/// Where a call comes from.
#[derive(Clone, Copy)]
enum Source {
    Address(IpAddr),
    /// From a Unix socket, and no trusted proxy says for whom.
    Nowhere,
    /// From a caller of whom trusted proxies say what cannot be read; the nearest of these is at this address.
    Behind(IpAddr),
}

impl Source {
    #[inline]
    fn of(exchange: &Exchange) -> Source {
        let client = &exchange.client;
        if client.unreadable {
            return Source::Behind(client.ip);
        }
        let is_said = || client.trusted && exchange.request.head.get_id(FieldId::XForwardedFor).is_some();
        // what a proxy says can be no address, or that of none, and is not the proxy all the same
        let nowhere = client.peer.is_none() && client.ip.is_unspecified() && !is_said();
        if nowhere { Source::Nowhere } else { Source::Address(client.ip) }
    }
}

struct IpFilter {
    /// `None`: all that are not denied.
    allow: Option<Callers>,
    deny: Callers,
}

impl IpFilter {
    #[inline]
    fn judge(&self, exchange: &Exchange) -> Verdict {
        let from = Source::of(exchange);
        if self.deny.contain(from) {
            return Err(refusal("the address is denied"));
        }
        match &self.allow {
            // that the proxy may call says nothing of whom it calls for
            Some(_) if matches!(from, Source::Behind(_)) => Err(refusal("the caller's address cannot be read")),
            Some(allow) if !allow.contain(from) => Err(refusal("the address is not among those allowed")),
            Some(_) | None => Ok(()),
        }
    }
}

impl Policy for IpFilter {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(self.judge(exchange))
    }

    fn sees_answers(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let from = Source::of(exchange);
        let who = match from {
            Source::Address(ip) => format!("`{}`", ip.to_canonical()),
            Source::Nowhere => "a caller over a Unix socket".to_owned(),
            Source::Behind(ip) => format!("a caller behind `{}`, whose address cannot be read,", ip.to_canonical()),
        };
        let denied = self.deny.entry(from);
        let known = !matches!(from, Source::Behind(_));
        let allowed = self.allow.as_ref().map(|allow| allow.entry(from).filter(|_| known));
        let detail = match (denied, allowed) {
            (Some(entry), _) => format!("{who} is denied by `{entry}`"),
            (None, Some(Some(entry))) => format!("{who} is allowed by `{entry}`"),
            (None, Some(None)) => format!("{who} is not among those allowed"),
            (None, None) => format!("{who} is not denied"),
        };
        match self.judge(exchange) {
            Ok(()) => Explanation::pass(detail),
            Err(stop) => Explanation::stop(&stop, detail),
        }
    }
}

#[cold]
fn refusal(cause: &str) -> Stop {
    Stop::Fault(Fault::new(Reason::Forbidden, "calls from this address are not allowed").cause(cause))
}
