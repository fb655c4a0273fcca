//! What may have been meant by a request that no route takes: routes that were not tried because its host is named elsewhere, and
//! paths a slip away.

use std::sync::Arc;

use daemun_config::Diagnostics;
use daemun_config::diagnostic::nearest;
use daemun_config::model::{Config, PathMatch};
use daemun_dataplane::Snapshot;
use daemun_dataplane::explain::{ExplainRequest, Explained, explain};
use daemun_dataplane::record::Metrics;
use daemun_dataplane::router::Verdict;
use daemun_pipeline::{Carry, Nowhere, Reason};
use daemun_policies::REGISTRY;

use crate::command::routes;
use crate::configuration::setup;

/// Most routes of a kind that are named.
const MOST: usize = 5;

/// What no route took, and which come near.
#[derive(Debug, Default)]
pub(super) struct Missed {
    /// Routes that would take it if hosts fell through, each with its host.
    pub(super) not_tried: Vec<(String, String)>,
    /// Routes whose path is a slip away, each with its path.
    pub(super) near: Vec<(String, String)>,
}

impl Missed {
    /// Looks for them; `path` is what was asked for, without its query.
    pub(super) fn of(
        config: &mut Config,
        snapshot: &Snapshot,
        request: &ExplainRequest,
        path: &str,
        explained: &Explained,
    ) -> Self {
        let reason = explained.fault.as_ref().map(|fault| fault.reason);
        let Some(considered) = explained.considered.as_ref().filter(|_| explained.route.is_none()) else {
            return Self::default();
        };
        let mut missed = Self::default();
        if matches!(reason, Some(Reason::NoRoute | Reason::MethodNotAllowed)) && !config.hosts_fall_through {
            missed.not_tried = not_tried(config, request, &considered.hosts);
        }
        if matches!(reason, Some(Reason::NoRoute)) {
            missed.near = near(config, snapshot, path, &considered.hosts);
        }
        missed
    }
}

/// The routes that would take the request under a host that was not looked under.
fn not_tried(config: &mut Config, request: &ExplainRequest, hosts: &[String]) -> Vec<(String, String)> {
    let (metrics, _) = Metrics::new(setup(1, 0));
    config.hosts_fall_through = true;
    let carry = Carry::detached();
    let snapshot =
        Snapshot::compile(config, REGISTRY, &carry, &Nowhere::shared(), &Arc::clone(&metrics), &mut Diagnostics::new());
    config.hosts_fall_through = false;
    let considered = snapshot.and_then(|snapshot| explain(&snapshot, request).considered);
    let all = considered.map(|considered| considered.considered).unwrap_or_default();
    let taking = |verdict: &Verdict| matches!(verdict, Verdict::Taken | Verdict::Outranked);
    all.into_iter()
        .filter(|one| taking(&one.verdict) && !hosts.contains(&one.host))
        .filter_map(|one| Some((config.routes.get(one.route as usize)?.name.value.clone(), one.host)))
        .take(MOST)
        .collect()
}

/// The routes under the request's hosts whose paths differ from its own by one slip.
fn near(config: &Config, snapshot: &Snapshot, path: &str, hosts: &[String]) -> Vec<(String, String)> {
    let rows = snapshot.router().table();
    rows.iter()
        .filter(|row| hosts.contains(&row.host))
        .filter_map(|row| config.routes.get(row.route as usize))
        .filter(|route| match route.matches.path.as_ref().map(|path| &path.value) {
            Some(PathMatch::Pattern(pattern)) => is_slip(path, pattern, false),
            Some(PathMatch::Prefix(prefix)) => is_slip(path, prefix, true),
            Some(PathMatch::Regex(_)) | None => false,
        })
        .map(|route| (route.name.value.clone(), routes::path(&route.matches)))
        .take(MOST)
        .collect()
}

/// Whether a path would match but for one segment that is misspelt, missing or too many, or a slash at its end.
fn is_slip(path: &str, pattern: &str, prefix: bool) -> bool {
    let segments = |text: &str| text.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
    let (mut path, pattern) = (segments(path), segments(pattern));
    if prefix {
        path.truncate(pattern.len());
    }
    let same = |typed: &str, written: &str| typed == written || written.contains('{');
    let close = |typed: &str, written: &str| nearest(typed, [written]).is_some();
    if path.len() == pattern.len() {
        let mut others = path.iter().zip(&pattern).filter(|(typed, written)| !same(typed, written));
        return others.next().is_none_or(|(typed, written)| close(typed, written)) && others.next().is_none();
    }
    let (shorter, longer) = if path.len() < pattern.len() { (&path, &pattern) } else { (&pattern, &path) };
    // a path of nothing but one parameter is near to everything, and tells nothing
    longer.len() == shorter.len() + 1
        && pattern.iter().any(|written| !written.contains('{'))
        && path.iter().zip(&pattern).all(|(typed, written)| same(typed, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_one_segment_or_a_slash_away() {
        for (path, pattern, prefix) in [
            ("/product/items/7", "/products/items/{id}", false),
            ("/products/items/7/", "/products/items/{id}", false),
            ("/products/items", "/products/items/{id}", false),
            ("/products/items/7/x", "/products/items/{id}", false),
            ("/prodcuts/a/b/c", "/products", true),
        ] {
            assert!(is_slip(path, pattern, prefix), "{path} {pattern}");
        }
        for (path, pattern, prefix) in [
            ("/orders", "/products/items/{id}", false),
            ("/product/item/7", "/products/items/{id}", false),
            ("/a/b", "/{id}", false),
            ("/health", "/products", true),
        ] {
            assert!(!is_slip(path, pattern, prefix), "{path} {pattern}");
        }
    }
}
