//! Input that is too much: nesting, aliases, size.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::{VOCABULARY, World, load};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::{Format, parse};

fn codes(text: &str, format: Format) -> Vec<&'static str> {
    let mut diagnostics = Diagnostics::new();
    let _ = parse(text, format, 0, &mut diagnostics);
    diagnostics.iter().map(|found| found.code).collect()
}

#[test]
fn nesting_ends_at_64() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for format in [Format::Yaml, Format::Json] {
        assert_eq!(codes(&nested(64), format), [""; 0]);
        assert_eq!(codes(&nested(65), format), ["limit"]);
        assert_eq!(codes(&"{\"a\":".repeat(65), format), ["limit"]);
    }
    assert_eq!(codes(&format!("a = {}", nested(63)), Format::Toml), [""; 0]);
    assert_eq!(codes(&format!("a = {}", nested(64)), Format::Toml), ["limit"]);
    // An alias may not carry its value deeper either.
    let text = format!("a: &a {}\nb: {}*a{}\n", nested(40), "[".repeat(30), "]".repeat(30));
    assert_eq!(codes(&text, Format::Yaml), ["limit"]);
}

#[test]
fn nesting_without_end_is_refused_at_once() {
    for (text, format, code) in [
        ("[".repeat(1_000_000), Format::Yaml, "limit"),
        ("- ".repeat(1_000_000), Format::Yaml, "limit"),
        ("a: {".repeat(1_000_000), Format::Yaml, "limit"),
        // a key may not even begin a list or mapping
        ("? ".repeat(1_000_000), Format::Yaml, "syntax"),
        ("[".repeat(1_000_000), Format::Json, "limit"),
        (format!("a = {}", "[".repeat(1_000_000)), Format::Toml, "limit"),
        (format!("{}a = 1", "a.".repeat(100_000)), Format::Toml, "limit"),
    ] {
        assert_eq!(codes(&text, format), [code], "{format:?} {}", &text[..10]);
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = level - 1;
        let _ = writeln!(text, "a{level}: &a{level} [{}]", vec![format!("*a{below}"); 10].join(", "));
    }
    assert_eq!(codes(&text, Format::Yaml), ["alias_limit"]);
    let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 17].join(", "));
    assert_eq!(codes(&long, Format::Yaml), ["alias_limit"]);
    assert_eq!(codes("a: &a [*a]\n", Format::Yaml).len(), 1);
}

#[test]
fn more_than_100_mib_is_refused() {
    let half = vec![b'#'; 60 << 20];
    let world = World::default().file("etc/a.yaml", &half).file("etc/b.yaml", &half);
    let loaded = daemun_config::load(Some(Path::new("etc")), &world, &VOCABULARY);
    assert!(
        loaded.diagnostics.iter().any(|found| found.code == "limit" && found.message.contains("larger than 100 MiB"))
    );
}

#[test]
fn a_large_configuration_full_of_mistakes_is_checked_in_linear_time() {
    let mut text = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams:\n".to_owned();
    for number in 0..5_000 {
        let _ = writeln!(text, "  upstream-{number}: {{ targets: [\"http://h\"] }}");
    }
    text.push_str("routes:\n");
    for number in 0..5_000 {
        let _ = writeln!(text, "  - {{ name: route-{number}, upstream: upstraem-{number} }}");
    }
    let loaded = load(&text);
    assert_eq!(loaded.diagnostics.error_count(), 5_000);
    // an upstream that was probably meant is not told to be unused as well, as long as names are compared
    assert!((5_001..10_000).contains(&loaded.diagnostics.len()), "{}", loaded.diagnostics.len());
    let shown = loaded.diagnostics.render(&loaded.sources, false);
    assert_eq!(shown.matches("error[").count(), 100);
    assert!(shown.contains("\n… and ") && shown.len() < 100_000, "{}", shown.len());
    let all = loaded.diagnostics.to_json(&loaded.sources);
    assert_eq!(all["diagnostics"].as_array().unwrap().len(), loaded.diagnostics.len().min(100_000));
}
