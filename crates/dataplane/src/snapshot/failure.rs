//! What is done when a call fails, or beside it, compiled.

use std::collections::HashMap;
use std::sync::Arc;

use daemun_config::model::{self, RetryOn};
use daemun_pipeline::{Answer, Carry, Fault, Reason, Side};

use super::answer;
use crate::clock::nanos;
use crate::destination::upstream::retry_budget::RetryBudget;
use crate::kept::store::Store;

/// When a call that failed is made again.
#[derive(Clone)]
pub(crate) struct Retry {
    pub(crate) retries: u8,
    connect_failure: bool,
    reset: bool,
    timeout: bool,
    statuses: Box<[u16]>,
    pub(crate) budget: Arc<RetryBudget>,
    /// Bytes of a body that are kept.
    pub(crate) buffer: usize,
    /// Nanoseconds.
    pub(crate) backoff: u64,
}

impl Retry {
    /// `owner` finds the budget again over reloads.
    pub(super) fn compile(config: &model::Retry, owner: &str, carry: &Carry) -> Retry {
        let statuses = config.on.iter().filter_map(|on| match on {
            RetryOn::Status(status) => Some(*status),
            RetryOn::ConnectFailure | RetryOn::Reset | RetryOn::Timeout => None,
        });
        Retry {
            retries: config.retries,
            connect_failure: config.on.contains(&RetryOn::ConnectFailure),
            reset: config.on.contains(&RetryOn::Reset),
            timeout: config.on.contains(&RetryOn::Timeout),
            statuses: statuses.collect(),
            budget: budget(&format!("{owner} retry"), config.budget, carry),
            buffer: usize::try_from(config.buffer).unwrap_or(usize::MAX),
            backoff: nanos(config.backoff),
        }
    }

    /// Whether it is for a call that failed so.
    pub(crate) fn takes(&self, fault: &Fault) -> bool {
        let is = |reasons: &[Reason]| reasons.contains(&fault.reason);
        self.connect_failure && is(&[Reason::ConnectFailed, Reason::ConnectTimeout, Reason::NoTarget])
            || self.reset && is(&[Reason::UpstreamReset])
            || self.timeout && is(&[Reason::UpstreamTimeout])
    }

    /// Whether it is for a call that was not answered in time.
    pub(crate) fn takes_timeouts(&self) -> bool {
        self.timeout
    }

    /// Whether it is for a call that was answered so.
    pub(crate) fn takes_status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }
}

/// What an upstream's calls are given.
pub(crate) struct Failure {
    pub(crate) retry: Option<Retry>,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) fallback: Option<Fallback>,
}

impl Failure {
    pub(super) fn compile(config: &model::Upstream, upstreams: &Names<'_>, carry: &Carry) -> Failure {
        let owner = format!("upstream {}", config.name.value);
        let fallback = |fallback: &model::Fallback| Fallback::compile(fallback, &owner, upstreams, carry);
        Failure {
            retry: config.retry.as_ref().map(|retry| Retry::compile(retry, &owner, carry)),
            hedge: config.hedge.map(|hedge| Hedge::compile(hedge, &owner, carry)),
            fallback: config.fallback.as_ref().and_then(fallback),
        }
    }
}

/// What a route's calls are given in its place.
#[derive(Clone, Default)]
pub(crate) struct OwnFailure {
    /// `Some(None)`: none.
    #[allow(clippy::option_option, reason = "outer: given; inner: on")]
    pub(crate) retry: Option<Option<Retry>>,
    /// `Some(None)`: none.
    #[allow(clippy::option_option, reason = "outer: given; inner: on")]
    pub(crate) fallback: Option<Option<Fallback>>,
    pub(crate) mirror: Option<Mirror>,
}

impl OwnFailure {
    /// `None` where the route has nothing of its own.
    pub(super) fn compile(config: &model::Route, upstreams: &Names<'_>, carry: &Carry) -> Option<Box<OwnFailure>> {
        if config.retry.is_none() && config.fallback.is_none() && config.mirror.is_none() {
            return None;
        }
        let owner = format!("route {}", config.name.value);
        let retry = |retry: &model::Retry| Retry::compile(retry, &owner, carry);
        // what one upstream answered is not given for another
        let of = match config.destination {
            model::Destination::Upstream(index) => upstreams.name(index),
            model::Destination::Answer(_)
            | model::Destination::Redirect(_)
            | model::Destination::Files(_)
            | model::Destination::Policy(_) => "",
        };
        let kept = format!("{owner} to {of}");
        let fallback = |fallback: &model::Fallback| Fallback::compile(fallback, &kept, upstreams, carry);
        Some(Box::new(OwnFailure {
            retry: config.retry.as_ref().map(|own| own.as_ref().map(retry)),
            fallback: config.fallback.as_ref().map(|own| own.as_ref().and_then(fallback)),
            mirror: config.mirror.as_ref().and_then(|mirror| Mirror::compile(mirror, upstreams)),
        }))
    }
}

/// A second call when the first takes long.
pub(crate) struct Hedge {
    /// Nanoseconds.
    pub(crate) after: u64,
    pub(crate) budget: Arc<RetryBudget>,
}

impl Hedge {
    pub(super) fn compile(config: model::Hedge, owner: &str, carry: &Carry) -> Hedge {
        Hedge { after: nanos(config.after), budget: budget(&format!("{owner} hedge"), config.budget, carry) }
    }
}

fn budget(owner: &str, share: u32, carry: &Carry) -> Arc<RetryBudget> {
    carry.get_or(owner, &share.to_string(), || RetryBudget::new(share))
}

/// What is done in place of a call that failed.
#[derive(Clone)]
pub(crate) struct Fallback {
    on_failure: bool,
    on_status: Box<[u16]>,
    /// Where good answers are kept, the last of which is given first.
    pub(crate) cached: Option<Arc<Store>>,
    pub(crate) to: Option<FallbackTo>,
}

/// Where a call that failed goes.
#[derive(Clone)]
pub(crate) enum FallbackTo {
    /// Index into [`super::Snapshot::upstreams`].
    Upstream(usize),
    /// A fixed answer.
    Answer(Box<Answer>),
}

impl Fallback {
    /// `None` where its upstream is not there, which has been reported. `owner` finds what is kept again over reloads.
    pub(super) fn compile(
        config: &model::Fallback,
        owner: &str,
        upstreams: &Names<'_>,
        carry: &Carry,
    ) -> Option<Fallback> {
        let to = match &config.to {
            None => None,
            Some(model::FallbackTo::Upstream(name)) => Some(FallbackTo::Upstream(upstreams.get(name)?)),
            Some(model::FallbackTo::Answer(config)) => Some(FallbackTo::Answer(Box::new(answer(config)))),
        };
        let cached = config
            .cached
            .as_ref()
            .map(|cached| carry.get_or(&format!("{owner} fallback"), &format!("{cached:?}"), || Store::new(cached)));
        Some(Fallback { on_failure: config.on_failure, on_status: config.on_status.clone().into(), cached, to })
    }

    /// Whether it is for a call that failed so.
    pub(crate) fn takes(&self, fault: &Fault) -> bool {
        self.on_failure && (fault.reason.side() == Side::Upstream || fault.reason.is_unsent())
    }

    /// Whether it is for a call that was answered so.
    pub(crate) fn takes_status(&self, status: u16) -> bool {
        self.on_status.contains(&status)
    }
}

/// Calls that are sent elsewhere as well.
#[derive(Clone)]
pub(crate) struct Mirror {
    /// Index into [`super::Snapshot::upstreams`].
    pub(crate) upstream: usize,
    /// In hundredths of a per cent.
    pub(crate) share: u32,
    /// Bytes of a body.
    pub(crate) buffer: usize,
}

impl Mirror {
    /// `None` where its upstream is not there, which has been reported.
    pub(super) fn compile(config: &model::Mirror, upstreams: &Names<'_>) -> Option<Mirror> {
        let upstream = upstreams.get(&config.upstream)?;
        let buffer = usize::try_from(config.buffer).unwrap_or(usize::MAX);
        Some(Mirror { upstream, share: config.share, buffer })
    }
}

/// Where each upstream stands among all.
pub(crate) struct Names<'a> {
    all: &'a [model::Upstream],
    places: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    pub(super) fn of(all: &'a [model::Upstream]) -> Names<'a> {
        let places = all.iter().enumerate().map(|(index, upstream)| (upstream.name.value.as_str(), index)).collect();
        Names { all, places }
    }

    fn get(&self, name: &model::Spanned<String>) -> Option<usize> {
        self.places.get(name.value.as_str()).copied()
    }

    fn name(&self, index: usize) -> &'a str {
        self.all.get(index).map_or("", |upstream| &upstream.name.value)
    }
}
