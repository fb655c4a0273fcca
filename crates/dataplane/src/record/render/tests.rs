//! The text of metrics, names and bounds, and that the manual tells of each.

use std::collections::HashSet;
use std::path::Path;

use daemun_pipeline::Fault;

use super::super::metrics::MOST_NAMES;
use super::super::tests::{exchange, finished, metrics, sample, total};
use super::super::{Called, Finished};
use super::*;

#[test]
fn the_text_is_as_it_was_agreed() {
    let (metrics, recorders) = metrics(2);
    let route = metrics.route("get-item");
    let strange = metrics.route("with \"quotes\"\\\n");
    let target = metrics.target("catalog", "http://10.0.0.11:9001");
    let exchange = exchange("a");
    for recorder in &recorders {
        recorder.connection_opened();
        recorder.connected(&target, true);
        let called = Called { metrics: &target, upstream: "catalog", url: "http://10.0.0.11:9001", status: 200 };
        recorder.finish(&Finished {
            route: Some((&route, "get-item")),
            target: Some(called),
            ..finished(&exchange, 200)
        });
    }
    let fault = Fault::new(Reason::RateLimited, "too many");
    recorders[0].finish(&Finished {
        route: Some((&strange, "strange")),
        fault: Some(&fault),
        verdicts: &[(0, PolicyVerdict::Passed), (1, PolicyVerdict::Refused)],
        ..finished(&exchange, 429)
    });
    metrics.published(1, 1_767_225_600_500_000_000);
    metrics.published(2, 1_767_225_700_000_000_000);
    metrics.reload_failed();
    // reasons that did not occur are left out: the text stays as it is when one is added
    let shown = |line: &&str| !(line.contains("{reason=") && line.ends_with(" 0"));
    let text: String = metrics.render().lines().filter(shown).map(|line| format!("{line}\n")).collect();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/record/render/metrics.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap(), "UPDATE=1 rewrites it");
}

#[test]
fn every_sample_belongs_to_a_family_told_before_it_and_no_series_comes_twice() {
    let (metrics, _recorders) = metrics(1);
    let text = metrics.render();
    let (mut seen, mut family) = (HashSet::new(), "");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(family.starts_with("daemun_"));
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(series.starts_with(family), "{line} under {family}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
            value.parse::<f64>().unwrap();
        }
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn routes_beyond_the_bound_share_their_counters_and_nothing_is_lost() {
    let (metrics, recorders) = metrics(1);
    let exchange = exchange("a");
    let count = |name: &str| {
        let route = metrics.route(name);
        recorders[0].finish(&Finished { route: Some((&route, name)), ..finished(&exchange, 200) });
        route
    };
    let kept: Vec<_> = (0..MOST_NAMES + 5).map(|n| count(&format!("r{n}"))).collect();
    let text = metrics.render();
    assert_eq!(total(&text, "daemun_requests_total"), MOST_NAMES as u64 + 5);
    assert_eq!(sample(&text, "daemun_requests_total{route=\"(other)\",code=\"200\"}"), Some(5));
    assert_eq!(sample(&text, "daemun_requests_total{route=\"r1999\",code=\"200\"}"), Some(1));
    // a reload keeps the first ten: their counters go on, and there is room for others
    let kept: Vec<_> = kept.into_iter().take(10).collect();
    metrics.sweep();
    let again = metrics.route("r3");
    assert!(std::sync::Arc::ptr_eq(&again, &kept[3]));
    drop(count("r3"));
    drop(count("new"));
    let text = metrics.render();
    assert_eq!(sample(&text, "daemun_requests_total{route=\"r3\",code=\"200\"}"), Some(2));
    assert_eq!(sample(&text, "daemun_requests_total{route=\"new\",code=\"200\"}"), Some(1));
    assert_eq!(sample(&text, "daemun_requests_total{route=\"(removed)\",code=\"200\"}"), Some(MOST_NAMES as u64 - 10));
    assert_eq!(total(&text, "daemun_requests_total"), MOST_NAMES as u64 + 7);
}

#[test]
fn targets_are_bounded_like_routes() {
    let (metrics, recorders) = metrics(1);
    let kept: Vec<_> = (0..MOST_NAMES + 3).map(|n| metrics.target("u", &format!("http://{n}"))).collect();
    kept.iter().for_each(|target| recorders[0].connected(target, true));
    let text = metrics.render();
    assert_eq!(total(&text, "daemun_upstream_connects_total"), MOST_NAMES as u64 + 3);
    let other = "daemun_upstream_connects_total{upstream=\"(other)\",target=\"(other)\"}";
    assert_eq!(sample(&text, other), Some(3));
    drop(kept);
    metrics.sweep();
    assert_eq!(total(&metrics.render(), "daemun_upstream_connects_total"), MOST_NAMES as u64 + 3);
}

#[test]
fn names_are_unique_and_the_manual_tells_of_each_with_its_labels() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut names = HashSet::new();
    for family in FAMILIES {
        assert!(names.insert(family.name), "{} twice", family.name);
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", family.name)));
        let row = row.unwrap_or_else(|| panic!("{} is not documented", family.name));
        for label in family.labels {
            assert!(row.contains(&format!("`{label}`")), "label {label} of {}", family.name);
        }
    }
    for line in page.lines().filter_map(|line| line.strip_prefix("| `daemun_")) {
        let name = format!("daemun_{}", line.split('`').next().unwrap());
        assert!(names.contains(name.as_str()), "{name} does not exist");
    }
}
