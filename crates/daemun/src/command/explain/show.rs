//! An explanation as people and programs read it.

use std::fmt::Write as _;
use std::net::IpAddr;

use daemun_config::model::Config;
use daemun_dataplane::explain::Explained;
use daemun_dataplane::router::{Considered, FailedCondition, Verdict};
use daemun_dataplane::{Standing, UpstreamStatus};
use daemun_pipeline::Outcome;
use serde_json::{Value, json};

use super::call::Line;
use super::mask::Mask;
use super::missed::Missed;
use super::request::Asked;
use crate::command::routes::columns;

pub(super) fn text(
    asked: &Asked,
    from: IpAddr,
    config: &Config,
    explained: &Explained,
    call: &[Line],
    missed: &Missed,
    mask: &Mask,
) -> String {
    let mut page = format!("{} {}  from {from}\n", asked.method, mask.target(&asked.url()));
    let _ = writeln!(page, "\nroute: {}", explained.route.as_deref().unwrap_or("none"));
    if let Some(method) = &explained.preflight {
        let _ = writeln!(page, "  as the preflight of `{method}`: headers, query and cookies do not count");
    }
    let considered = explained.considered.as_ref().map(|all| all.considered.as_slice()).unwrap_or_default();
    if explained.considered.as_ref().is_some_and(|all| all.hosts.is_empty()) {
        page.push_str("  no route has this host\n");
    }
    let lines: Vec<[String; 3]> =
        considered.iter().map(|one| [name(config, one), one.host.clone(), why(&one.verdict)]).collect();
    push_indented(&mut page, &columns(&lines));
    let hosts = explained.considered.as_ref().map(|all| all.hosts.as_slice()).unwrap_or_default();
    for (route, host) in &missed.not_tried {
        let _ = writeln!(
            page,
            "  {route}  {host}  not tried, though it would take it: other routes name {}, and `hosts_fall_through` is off",
            hosts.first().map_or_else(|| "the host".to_owned(), |host| format!("`{host}`"))
        );
    }
    for (route, path) in &missed.near {
        let _ = writeln!(page, "  near: {route}  {path}");
    }
    for (name, value) in &explained.params {
        let _ = writeln!(page, "  {{{name}}} = {value}");
    }
    if !explained.verdicts.is_empty() {
        page.push_str("\npolicies:\n");
        let lines: Vec<[String; 3]> = explained
            .verdicts
            .iter()
            .map(|(name, verdict)| [(*name).to_owned(), outcome(&verdict.outcome), verdict.detail.clone()])
            .collect();
        push_indented(&mut page, &columns(&lines));
    }
    if let Some(destination) = &explained.destination {
        let _ = writeln!(page, "\ndestination: {}", mask.target(destination));
    }
    if let Some(target) = &explained.target {
        let _ = writeln!(page, "  target: {target}");
    }
    for (what, how) in call {
        let _ = writeln!(page, "  {what}: {how}");
    }
    if let Some(upstream) = &explained.upstream {
        push_upstream(&mut page, upstream);
    }
    if let Some(head) = &explained.upstream_head {
        page.push_str(if explained.over_http2 {
            "\nsent upstream over HTTP/2, here as HTTP/1.1 writes it:\n"
        } else {
            "\nsent upstream:\n"
        });
        push_indented(&mut page, &mask.head(head));
    }
    if let Some(fault) = &explained.fault {
        let _ = writeln!(page, "\nrefused: {} ({})", fault.detail, fault.reason.code());
        for (name, value) in &fault.fields {
            let _ = writeln!(page, "  {name}: {value}");
        }
    }
    if let Some(status) = explained.status {
        let _ = writeln!(page, "\nanswer: {status}");
    }
    page.truncate(page.trim_end().len());
    page
}

pub(super) fn json(config: &Config, explained: &Explained, call: &[Line], missed: &Missed, mask: &Mask) -> Value {
    let considered = explained.considered.as_ref().map(|all| all.considered.as_slice()).unwrap_or_default();
    let considered: Vec<Value> = considered
        .iter()
        .map(|one| json!({ "route": name(config, one), "host": one.host, "verdict": why(&one.verdict) }))
        .collect();
    let verdicts: Vec<Value> = explained
        .verdicts
        .iter()
        .map(|(policy, verdict)| {
            let (outcome, status, reason) = match verdict.outcome {
                Outcome::Skip => ("skip", None, None),
                Outcome::Pass => ("pass", None, None),
                Outcome::Answer(status) => ("answer", Some(status), None),
                Outcome::Refuse(status, reason) => ("refuse", Some(status), Some(reason)),
            };
            json!({ "policy": policy, "outcome": outcome, "status": status, "reason": reason, "detail": verdict.detail })
        })
        .collect();
    let params: serde_json::Map<String, Value> =
        explained.params.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    let fault = explained.fault.as_ref().map(|fault| {
        let fields: serde_json::Map<String, Value> =
            fault.fields.iter().map(|(name, value)| (name.to_string(), Value::from(value.as_str()))).collect();
        json!({ "reason": fault.reason.code(), "detail": fault.detail, "fields": fields })
    });
    json!({
        "route": explained.route,
        "considered": considered,
        "not_tried": missed.not_tried.iter().map(|(route, host)| json!({ "route": route, "host": host })).collect::<Value>(),
        "near": missed.near.iter().map(|(route, path)| json!({ "route": route, "path": path })).collect::<Value>(),
        "preflight": explained.preflight,
        "params": params,
        "policies": verdicts,
        "destination": explained.destination.as_deref().map(|destination| mask.target(destination)),
        "target": explained.target,
        "upstream": explained.upstream.as_ref().map(UpstreamStatus::to_json),
        "call": call.iter().map(|(what, how)| ((*what).to_owned(), Value::from(how.as_str()))).collect::<serde_json::Map<_, _>>(),
        "over_http2": explained.over_http2,
        "upstream_head": explained.upstream_head.as_deref().map(|head| mask.head(head)),
        "fault": fault,
        "status": explained.status,
    })
}

/// Which targets get no share of the calls.
fn push_upstream(page: &mut String, upstream: &UpstreamStatus) {
    for target in upstream.targets.iter().filter(|target| target.standing != Standing::Healthy) {
        let _ = writeln!(page, "  not called: {} is {}, {}", target.url, target.standing.as_str(), target.reason);
    }
}

fn name(config: &Config, one: &Considered) -> String {
    config.routes.get(one.route as usize).map(|route| route.name.value.clone()).unwrap_or_default()
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Taken => "takes it".to_owned(),
        Verdict::Outranked => "matches too, but stands behind".to_owned(),
        Verdict::Method => "does not take the method".to_owned(),
        Verdict::Condition(FailedCondition::Header(name)) => format!("wants another header `{name}`"),
        Verdict::Condition(FailedCondition::Query(name)) => format!("wants another query parameter `{name}`"),
        Verdict::Condition(FailedCondition::Cookie(name)) => format!("wants another cookie `{name}`"),
        Verdict::Condition(FailedCondition::ClientIp) => "wants another client address".to_owned(),
        Verdict::Condition(FailedCondition::When(text)) => format!("its `when` does not hold: `{text}`"),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Skip => "does not run".to_owned(),
        Outcome::Pass => "passes".to_owned(),
        Outcome::Answer(status) => format!("answers {status}"),
        Outcome::Refuse(status, reason) => format!("refuses {status} {reason}"),
    }
}

fn push_indented(page: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(page, "  {line}");
    }
}
