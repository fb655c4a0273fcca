//! How an upstream's targets are chosen among, compiled; what its calls tell, taken in. Knows no connection and no worker.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use daemun_config::diagnostic::{BAD_VALUE, Diagnostic, Diagnostics};
use daemun_config::model::{self, HashBy};
use daemun_pipeline::expression::{Scope, Text};
use daemun_pipeline::{Carry, Exchange, Fault, Reason, Side};

use super::balance::{Ring, hash, of_key};
use super::breaker::{Breaker, BreakerRules, Position};
use super::outliers::{Cause, OutlierRules};
use super::peers::Crowd;
use super::plan::{Plan, PlanRules, Seen, plan};
use super::state::{Standing, Verdict};
use super::sticky::Sticky;
use crate::clock::nanos;
use crate::snapshot::Route;
use crate::snapshot::upstream::{Target, Upstream};

/// How often it is looked at whether a target hangs, nanoseconds.
const LOOKS: u64 = 100_000_000;
/// Statuses of failed calls, unless it is said otherwise.
const FAILED: [u16; 4] = [500, 502, 503, 504];

/// How targets are chosen among.
pub(crate) struct Choice {
    pub(crate) balance: Balance,
    rules: PlanRules,
    zone: Option<String>,
    /// Whether active checks are made, so that what they came to counts.
    checked: bool,
    pub(crate) outliers: Option<OutlierRules>,
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// Whether calls are counted at their targets.
    pub(crate) counts: bool,
    /// Round robin, and nothing is to be told of a call.
    pub(crate) plain: bool,
}

/// How a target is picked.
pub(crate) enum Balance {
    RoundRobin,
    LeastRequests,
    Latency,
    Hash(HashKey),
    Sticky(Box<Sticky>),
}

/// What is hashed.
pub(crate) enum HashKey {
    ClientIp,
    Consumer,
    Header(String),
    Cookie(String),
    Query(String),
    /// The one that the route says.
    Param,
    Expression(Box<Text>),
}

impl HashKey {
    /// `None` only after an error was reported.
    fn compile(by: &HashBy, upstream: &str, diagnostics: &mut Diagnostics) -> Option<HashKey> {
        Some(match by {
            HashBy::ClientIp => HashKey::ClientIp,
            HashBy::Consumer => HashKey::Consumer,
            HashBy::Header(name) => HashKey::Header(name.clone()),
            HashBy::Cookie(name) => HashKey::Cookie(name.clone()),
            HashBy::Query(name) => HashKey::Query(name.clone()),
            HashBy::Param(_) => HashKey::Param,
            HashBy::Expression(text) => {
                // of whichever route sends a call here
                let scope = Scope { any_params: true, consumer: true, ..Scope::default() };
                match Text::expression(&text.value, &scope) {
                    Ok(compiled) => HashKey::Expression(Box::new(compiled)),
                    Err(error) => {
                        let at = text.at.within(&text.value, error.offset);
                        let found = Diagnostic::error(BAD_VALUE, at, error.message);
                        let found = found.path(format!("upstreams.{upstream}.balance.hash.expression"));
                        diagnostics.push(match error.help {
                            Some(help) => found.help(help),
                            None => found,
                        });
                        return None;
                    }
                }
            }
        })
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The head of an answer came, with this status.
    Answered(u16),
    /// There was none, for the target's sake.
    Failed,
    /// Another attempt, which began later, was answered first.
    Overtaken,
    /// Nobody knows: the client left, or the attempt was given up.
    Cancelled,
}

impl Outcome {
    /// Of an attempt that failed.
    pub(crate) fn of(fault: &Fault) -> Outcome {
        // a name without an address is the target's
        let of_target = fault.reason == Reason::NoTarget || fault.reason.side() == Side::Upstream;
        if of_target { Outcome::Failed } else { Outcome::Cancelled }
    }

    fn is_failed(self, statuses: &[u16]) -> bool {
        match self {
            // sorted, and most answers are none of them
            Outcome::Answered(status) => {
                statuses.first().is_some_and(|least| status >= *least) && statuses.contains(&status)
            }
            Outcome::Failed => true,
            Outcome::Overtaken | Outcome::Cancelled => false,
        }
    }
}

impl Choice {
    pub(crate) fn compile(
        config: &model::Upstream,
        zone: Option<&str>,
        carry: &Carry,
        diagnostics: &mut Diagnostics,
    ) -> Option<Choice> {
        let name = config.name.value.as_str();
        let balance = match &config.balance {
            model::Balance::RoundRobin => Balance::RoundRobin,
            model::Balance::LeastRequests => Balance::LeastRequests,
            model::Balance::Latency => Balance::Latency,
            model::Balance::Hash(by) => Balance::Hash(HashKey::compile(by, name, diagnostics)?),
            model::Balance::Sticky(sticky) => match Sticky::new(sticky, carry) {
                Some(sticky) => Balance::Sticky(Box::new(sticky)),
                None => {
                    let message = "the system gives no random numbers for a key of the cookie; write a `secret`";
                    diagnostics.error(BAD_VALUE, format!("upstreams.{name}.balance"), config.name.at, message);
                    return None;
                }
            },
        };
        let outliers = config.outliers.as_ref().map(outlier_rules);
        let breaker = config.breaker.as_ref().map(|breaker| {
            let rules = breaker_rules(breaker);
            carry.get_or(&format!("breaker of {name}"), &format!("{rules:?}"), || Breaker::new(rules))
        });
        let counts = outliers.is_some() || matches!(balance, Balance::LeastRequests | Balance::Latency);
        Some(Choice {
            plain: matches!(balance, Balance::RoundRobin) && !counts && breaker.is_none(),
            balance,
            rules: PlanRules {
                panic: config.panic_threshold,
                slow_start: config.slow_start.map_or(0, nanos),
                zoned: zone.is_some(),
            },
            zone: zone.map(str::to_owned),
            checked: config.health.is_some(),
            outliers,
            breaker,
            counts,
        })
    }

    /// The share of healthy weight below which all are called.
    pub(super) fn panic(&self) -> Option<u32> {
        self.rules.panic
    }

    /// Whether exchanges must know the names of their path parameters.
    pub(crate) fn names_params(&self) -> bool {
        matches!(&self.balance, Balance::Hash(HashKey::Expression(text)) if text.names_params())
    }

    /// The cookie that tells a client's target, if one does.
    pub(crate) fn sticky(&self) -> Option<&Sticky> {
        if let Balance::Sticky(sticky) = &self.balance { Some(sticky) } else { None }
    }

    /// Whether what is counted of calls is of no use while there is one target, which is called: there is none to prefer to it, and passive
    /// ejection never takes the last.
    pub(crate) fn is_idle_alone(&self) -> bool {
        self.breaker.is_none() && self.sticky().is_none()
    }

    /// How targets are picked, as it is written.
    pub(crate) fn word(&self) -> &'static str {
        match &self.balance {
            Balance::RoundRobin => "round_robin",
            Balance::LeastRequests => "least_requests",
            Balance::Latency => "latency",
            Balance::Hash(_) => "hash",
            Balance::Sticky(_) => "sticky",
        }
    }

    /// The number of the value by which a request is hashed; `None` when it has none.
    pub(crate) fn key(by: &HashKey, exchange: &Exchange, route: &Route) -> Option<u64> {
        if let HashKey::ClientIp = by {
            return Some(match exchange.client.ip {
                std::net::IpAddr::V4(ip) => hash(&ip.octets()),
                std::net::IpAddr::V6(ip) => hash(&ip.octets()),
            });
        }
        Choice::value(by, exchange, route).map(|value| hash(&value))
    }

    /// The value by which a request is hashed; `None` when it has none, or it is an address.
    fn value<'e>(by: &'e HashKey, exchange: &'e Exchange, route: &Route) -> Option<Cow<'e, [u8]>> {
        let request = &exchange.request;
        let value = match by {
            HashKey::ClientIp => None,
            HashKey::Consumer => exchange.consumer_bytes(),
            HashKey::Header(name) => request.head.get(name),
            HashKey::Cookie(name) => request.cookie(name),
            HashKey::Query(name) => request.query_value(name).map(str::as_bytes),
            HashKey::Param => route.own.hash_param.and_then(|index| {
                exchange.params.iter().find(|(own, _)| *own == index).map(|(_, span)| request.head.bytes(*span))
            }),
            HashKey::Expression(text) => {
                // one that would cost too much is none
                let value = text.value(exchange).unwrap_or_default();
                return (!value.is_empty()).then_some(value);
            }
        };
        value.filter(|value| !value.is_empty()).map(Cow::Borrowed)
    }

    /// What of a request keeps it at one target, as text; `None` where nothing does, or the request has none.
    pub(crate) fn kept_by(&self, exchange: &Exchange, route: &Route) -> Option<String> {
        let value = match &self.balance {
            Balance::RoundRobin | Balance::LeastRequests | Balance::Latency => None,
            Balance::Hash(HashKey::ClientIp) => return Some(exchange.client.ip.to_string()),
            Balance::Hash(by) => Choice::value(by, exchange, route),
            Balance::Sticky(sticky) => exchange.request.cookie(&sticky.cookie).map(Cow::Borrowed),
        };
        value.map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// The plan of this moment.
    pub(crate) fn plan(&self, targets: &[Arc<Target>], now: u64) -> Plan {
        let seen: Vec<Seen> = targets.iter().map(|target| self.seen(target)).collect();
        plan(&seen, &self.rules, now)
    }

    /// The target that a request would go to first, as far as the request and what is known now tell it.
    pub(crate) fn expect(
        &self,
        targets: &[Arc<Target>],
        exchange: &Exchange,
        route: &Route,
        now: u64,
    ) -> Option<usize> {
        let plan = self.plan(targets, now);
        let key = match &self.balance {
            Balance::Hash(by) => Choice::key(by, exchange, route),
            Balance::RoundRobin | Balance::LeastRequests | Balance::Latency | Balance::Sticky(_) => None,
        };
        let Some(key) = key else { return Some(plan.groups.get(plan.group(0))?.members.first()?.index) };
        let ring = Ring::new(targets.iter().map(|target| (target.url.as_str(), target.weight)));
        of_key(&ring, &plan, key, |_| false)
    }

    fn seen(&self, target: &Target) -> Seen {
        let state = target.state();
        Seen {
            weight: target.weight,
            tier: target.tier,
            near: self.zone.is_some() && self.zone == target.zone,
            up: !self.checked || state.verdict() != Verdict::Unhealthy,
            drain: target.drain || state.is_draining(),
            ejected: if self.outliers.is_some() { state.told.ejected() } else { 0 },
            risen: state.risen(),
        }
    }

    fn is_failed(&self, outcome: Outcome) -> bool {
        outcome.is_failed(self.outliers.as_ref().map_or(&FAILED[..], |rules| &rules.statuses))
    }

    pub(crate) fn breaker_end(&self, outcome: Outcome, nanos: Option<u64>) -> super::breaker::End {
        use super::breaker::End;
        let statuses = self.breaker.as_ref().map_or(&FAILED[..], |breaker| &breaker.rules.statuses);
        match outcome {
            Outcome::Overtaken | Outcome::Cancelled => End::Unknown,
            outcome if outcome.is_failed(statuses) => End::Failed,
            Outcome::Answered(_) | Outcome::Failed => End::Good(nanos.unwrap_or(0)),
        }
    }
}

fn outlier_rules(config: &model::Outliers) -> OutlierRules {
    OutlierRules {
        failures: config.consecutive_failures,
        ratio: config.failure_ratio,
        window: nanos(config.window),
        min_requests: config.min_requests.into(),
        slower_than: config.slower_than.map(nanos),
        peers: config.slower_than_peers,
        statuses: sorted(&config.statuses),
        eject_for: nanos(config.eject_for),
        max_eject_for: nanos(config.max_eject_for),
        max_ejected: config.max_ejected,
    }
}

fn breaker_rules(config: &model::Breaker) -> BreakerRules {
    BreakerRules {
        failure_ratio: config.failure_ratio,
        consecutive: config.consecutive,
        slow: config.slow.map(|(limit, share)| (nanos(limit), share)),
        window: nanos(config.window),
        min_requests: config.min_requests.into(),
        statuses: sorted(&config.statuses),
        open_for: nanos(config.open_for),
        half_open_requests: config.half_open_requests,
    }
}

fn sorted(statuses: &[u16]) -> Vec<u16> {
    let mut sorted = statuses.to_vec();
    sorted.sort_unstable();
    sorted
}

/// How a target stands, for whoever operates the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// As written, or as found.
    pub url: String,
    /// How it stands.
    pub standing: Standing,
    /// Why, in words; may be empty.
    pub reason: String,
    /// Its share of the calls among targets of its tier and zone, as configured.
    pub weight: u32,
    /// Its tier.
    pub tier: u8,
    /// Its zone.
    pub zone: Option<String>,
    /// Calls under way, where they are counted.
    pub in_flight: Option<u64>,
    /// How often it was ejected.
    pub ejections: u64,
}

impl TargetStatus {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut told = serde_json::json!({
            "url": self.url,
            "state": self.standing.as_str(),
            "reason": self.reason,
            "weight": self.weight,
            "tier": self.tier,
            "zone": self.zone,
            "ejections": self.ejections,
        });
        if let (Some(calls), Some(told)) = (self.in_flight, told.as_object_mut()) {
            told.insert("in_flight".to_owned(), calls.into());
        }
        told
    }
}

/// How targets are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong with where they are found, in words.
    pub trouble: Option<String>,
}

/// How an upstream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// How targets are picked.
    pub balance: &'static str,
    /// `closed`, `open` or `half_open`; `None` without a breaker.
    pub breaker: Option<&'static str>,
    /// All targets are called because too few are healthy.
    pub panic: bool,
    /// Whether that can be, since a threshold is set.
    pub may_panic: bool,
    /// How its targets are found; `None` where they are all written down.
    pub finding: Option<Finding>,
    /// Its targets.
    pub targets: Vec<TargetStatus>,
}

impl UpstreamStatus {
    /// Several, as a JSON text.
    #[must_use]
    pub fn list(upstreams: &[UpstreamStatus]) -> String {
        let all: Vec<_> = upstreams.iter().map(UpstreamStatus::to_json).collect();
        format!("{:#}\n", serde_json::json!({ "upstreams": all }))
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.name,
            "balance": self.balance,
            "breaker": self.breaker,
            "panic": self.panic,
            "discovery": self.finding.as_ref().map(|finding| serde_json::json!({
                "ok": finding.trouble.is_none(),
                "trouble": finding.trouble,
            })),
            "targets": self.targets.iter().map(TargetStatus::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Upstream {
    /// How it and its targets stand. `now` is a time of the gateway's clock.
    #[must_use]
    pub fn status(&self, now: u64) -> UpstreamStatus {
        let choice = &self.choice;
        let targets = self.targets();
        UpstreamStatus {
            name: self.name.clone(),
            balance: choice.word(),
            breaker: choice.breaker.as_ref().map(|breaker| match breaker.position(now) {
                Position::Closed => "closed",
                Position::Open(_) => "open",
                Position::HalfOpen => "half_open",
            }),
            panic: choice.plan(&targets, now).panic,
            may_panic: choice.panic().is_some(),
            finding: self.finding(),
            targets: targets.iter().map(|target| self.target_status(target, now)).collect(),
        }
    }

    fn target_status(&self, target: &Target, now: u64) -> TargetStatus {
        let choice = &self.choice;
        let state = target.state();
        let standing = state.standing(choice.checked, choice.outliers.is_some(), target.drain, now);
        let counted = choice.counts && !(choice.is_idle_alone() && self.targets().len() == 1);
        TargetStatus {
            url: target.url.clone(),
            standing,
            reason: if choice.checked || standing != Standing::Healthy {
                state.why(standing, now)
            } else if target.name_to_resolve().is_some() && target.resolved.load().is_empty() {
                "its name has no address".to_owned()
            } else {
                String::new()
            },
            weight: target.weight,
            tier: target.tier,
            zone: target.zone.clone(),
            in_flight: counted.then(|| state.told.in_flight()),
            ejections: state.told.ejections(),
        }
    }

    /// Lets the target of this URL, and any other at its address, get no new call from now on, or again some. How it stands then, and
    /// whether that is new; `None` when it has no such target.
    #[must_use]
    pub fn drain(&self, url: &str, on: bool, now: u64) -> Option<(TargetStatus, bool)> {
        let targets = self.targets();
        let target = targets.iter().find(|target| target.url == url)?;
        let is_new = target.state().drain(on);
        Some((self.target_status(target, now), is_new))
    }

    /// Takes in what an attempt at a target came to, and ejects it or lets it back where that says so.
    pub(crate) fn take(&self, target: &Target, outcome: Outcome, nanos: Option<u64>, trial: bool, now: u64) {
        use super::outliers::Finding;
        let choice = &self.choice;
        let state = target.state();
        match outcome {
            Outcome::Answered(_) | Outcome::Failed => {}
            Outcome::Overtaken | Outcome::Cancelled => {
                if outcome == Outcome::Overtaken {
                    state.told.overtaken(now);
                }
                if trial {
                    state.told.unanswered(now);
                }
                return;
            }
        }
        let failed = choice.is_failed(outcome);
        let peaks = matches!(choice.balance, Balance::Latency);
        if let Outcome::Answered(_) = outcome {
            state.told.answered(nanos, peaks, now);
        }
        if failed && peaks {
            state.told.latency.penalty(now);
        }
        let Some(rules) = &choice.outliers else { return };
        match state.told.report(failed, nanos, trial, rules, now) {
            Finding::Nothing => {}
            Finding::Outlier(cause) => self.eject(target, cause, rules, now),
            Finding::Back => {
                if state.readmit(now) {
                    self.tell_back(target);
                }
            }
        }
    }

    /// Looks, now and then, whether a target hangs or is far slower than the others.
    pub(crate) fn watch(&self, now: u64) {
        let Some(rules) = &self.choice.outliers else { return };
        let looked = &self.set.known().looked;
        let last = looked.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= LOOKS;
        if !due || looked.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let targets = self.targets();
        let crowd = Crowd::of(targets.iter().map(|target| &target.state().told), now);
        for target in targets.iter() {
            let told = &target.state().told;
            if !told.is_watched(now) {
                continue;
            }
            if let Some(cause) = told.look(&crowd.others(told, now), rules, now) {
                self.eject(target, cause, rules, now);
            }
        }
    }

    fn eject(&self, target: &Target, cause: Cause, rules: &OutlierRules, now: u64) {
        let ejecting = &self.set.known().ejecting;
        // one at a time, so that no two workers eject the last two; whoever comes second finds cause again with the next call
        if ejecting.swap(true, Ordering::AcqRel) {
            return;
        }
        let state = target.state();
        let own = state.told.ejected();
        let (mut all, mut ejected) = (0, 0);
        for other in self.targets().iter() {
            let seen = self.choice.seen(other);
            if seen.weight > 0 && !seen.drain && seen.up {
                all += 1;
                ejected += usize::from(seen.ejected > 0 && !std::ptr::eq(other.state(), state));
            }
        }
        if own > 0 && own <= now || own == 0 && rules.may_eject(ejected, all) {
            state.eject(cause, rules, now);
            self.tell_ejected(target, cause, now);
        }
        ejecting.store(false, Ordering::Release);
    }
}
