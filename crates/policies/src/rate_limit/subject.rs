//! Who a limit counts: finds the bucket of an exchange. Knows nothing of rates.

use std::hash::{BuildHasher as _, DefaultHasher, Hash, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Directory, Exchange};

use super::buckets::{Buckets, Key};
use super::config::{By, LimitConfig};
use crate::per_directory::PerDirectory;
use daemun_accounts::gcra::{Gcra, Taken};

/// Whose bucket, and the buckets.
pub(super) enum Subject {
    /// One bucket for all callers of the one route that has the limit.
    Route(Arc<AtomicU64>),
    /// One per route, of a limit that several routes share.
    Routes(Arc<Callers>),
    /// One per consumer.
    Consumer {
        /// Each consumer's key, by position in the directory.
        keys: Arc<PerDirectory<Box<[Key]>>>,
        /// Their buckets; keyed by name, so that they outlive the directory.
        callers: Arc<Callers>,
    },
    /// One per client address.
    ClientIp {
        /// Bits of an IPv6 address that count.
        mask: u128,
        /// Their buckets.
        callers: Arc<Callers>,
    },
    /// One per value of a header.
    Header {
        /// Name of the header.
        name: Box<str>,
        /// Their buckets.
        callers: Arc<Callers>,
    },
    /// One per text that an expression gives.
    Computed {
        /// The expression.
        text: Text,
        /// Their buckets.
        callers: Arc<Callers>,
    },
}

/// The buckets of one limit and the secret that spreads callers over them: nobody can aim at another's.
pub(super) struct Callers {
    buckets: Buckets,
    tag: RandomState,
    place: RandomState,
}

impl Callers {
    fn new(max_keys: u64, expected: usize) -> Callers {
        Callers { buckets: Buckets::new(max_keys, expected), tag: RandomState::new(), place: RandomState::new() }
    }

    fn key(&self, caller: impl Hash) -> Key {
        Key::new(self.tag.hash_one(&caller), self.place.hash_one(&caller))
    }

    fn header_key(&self, name: &str, exchange: &Exchange) -> Key {
        let (mut tag, mut place) = (self.tag.build_hasher(), self.place.build_hasher());
        let mut values = exchange.request.head.values(name);
        // a repeated field could be varied at will beside the value that counts, so all who repeat it share one bucket
        match (values.next(), values.next()) {
            (Some(value), None) => {
                value.hash(&mut tag);
                value.hash(&mut place);
            }
            (first, _) => {
                first.is_some().hash(&mut tag);
                first.is_some().hash(&mut place);
            }
        }
        Key::new(tag.finish(), place.finish())
    }
}

impl Subject {
    /// Finds the state of a limit again, or begins it. What is written once, under the global `policies`, is counted once over all
    /// routes; only a limit by route is each route's own.
    /// `None` only after an error was reported.
    pub(super) fn build(settings: &LimitConfig, ctx: &mut BuildContext<'_>) -> Option<Subject> {
        let text = match &settings.by {
            By::Expression(text) => Some(ctx.expression("by.expression", &text.0)?),
            By::Consumer | By::ClientIp | By::Route | By::Header(_) => None,
        };
        Some(Subject::build_with(settings, text, ctx))
    }

    fn build_with(settings: &LimitConfig, text: Option<Text>, ctx: &BuildContext<'_>) -> Subject {
        if let Some(text) = text {
            let (owner, shape) = (format!("{}.{}", ctx.path, settings.name()), settings.shape());
            let callers = ctx.carry.get_or(&owner, &shape, || Callers::new(settings.max_keys.get(), 0));
            return Subject::Computed { text, callers };
        }
        let owner = format!("{}.{}", ctx.path, settings.name());
        let shape = settings.shape();
        let expected = if settings.by == By::Consumer { ctx.directory.len() } else { 0 };
        let callers = || ctx.carry.get_or(&owner, &shape, || Callers::new(settings.max_keys.get(), expected));
        match &settings.by {
            By::Route if ctx.route.is_none() => Subject::Routes(callers()),
            By::Route | By::Expression(_) => Subject::Route(ctx.carry.get_or(&owner, &shape, AtomicU64::default)),
            By::Consumer => {
                let keys = PerDirectory::of(ctx, "rate_limit.consumers", consumer_keys);
                Subject::Consumer { keys, callers: callers() }
            }
            By::ClientIp => {
                let spare = u32::try_from(128_u64.saturating_sub(settings.ipv6_prefix.get())).unwrap_or(0);
                Subject::ClientIp { mask: u128::MAX.checked_shl(spare).unwrap_or(0), callers: callers() }
            }
            By::Header(name) => Subject::Header { name: name.0.clone().into(), callers: callers() },
        }
    }

    /// Takes a token of the caller's; `Err` is how long to wait, in units.
    pub(super) fn take(&self, gcra: Gcra, exchange: &Exchange, now: u64) -> Result<Taken<'_>, u64> {
        match self {
            Subject::Route(bucket) => gcra.take(bucket, 0, now),
            Subject::Routes(callers)
            | Subject::Consumer { callers, .. }
            | Subject::ClientIp { callers, .. }
            | Subject::Header { callers, .. }
            | Subject::Computed { callers, .. } => callers.buckets.take(gcra, self.key(callers, exchange), now),
        }
    }

    /// When the caller's bucket is full, in units; takes nothing.
    pub(super) fn full_at(&self, exchange: &Exchange) -> u64 {
        match self {
            Subject::Route(bucket) => bucket.load(Ordering::Acquire),
            Subject::Routes(callers)
            | Subject::Consumer { callers, .. }
            | Subject::ClientIp { callers, .. }
            | Subject::Header { callers, .. }
            | Subject::Computed { callers, .. } => callers.buckets.full_at(self.key(callers, exchange)),
        }
    }

    fn key(&self, callers: &Callers, exchange: &Exchange) -> Key {
        match self {
            Subject::Consumer { keys, .. } => {
                let position = exchange.consumer.map(|id| id.0 as usize);
                match position.and_then(|position| keys.value.get(position)) {
                    Some(key) => *key,
                    // one beyond the configuration, by the name it is told by; nobody is one caller
                    None => exchange.consumer_name().map_or(Key::new(0, 0), subject_key),
                }
            }
            Subject::ClientIp { mask, .. } => callers.key(network(exchange.client.ip, *mask)),
            Subject::Header { name, .. } => callers.header_key(name, exchange),
            Subject::Computed { text, .. } => {
                let mut value = Vec::new();
                if text.push(exchange, &mut value).is_err() {
                    // what would cost too much to tell apart is one caller
                    value.clear();
                }
                callers.key(value.as_slice())
            }
            Subject::Routes(_) => callers.key(exchange.route_key),
            Subject::Route(_) => Key::new(0, 0),
        }
    }
}

/// An address as one number, IPv4 as IPv4-mapped IPv6, IPv6 cut to its prefix.
fn network(ip: IpAddr, mask: u128) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits() & mask,
    }
}

fn consumer_keys(directory: &Directory) -> Box<[Key]> {
    directory.iter().map(|(_, consumer)| consumer_key(&consumer.name)).collect()
}

/// The same for one name in every process, so that a consumer keeps its bucket wherever it is declared.
fn consumer_key(name: &str) -> Key {
    Key::new(half(0, name), half(1, name))
}

/// Of a caller beyond the configuration: one that has a consumer's name is another caller, and uses up nothing of the consumer's.
fn subject_key(name: &str) -> Key {
    Key::new(half(2, name), half(3, name))
}

fn half(which: u8, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (which, name).hash(&mut hasher);
    hasher.finish()
}
