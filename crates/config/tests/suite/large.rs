//! A configuration of 100,000 routes.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::{VOCABULARY, World};
use daemun_config::load_text;

fn text(routes: usize) -> String {
    let mut text = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams:\n".to_owned();
    for number in 0..100 {
        let _ = writeln!(text, "  upstream-{number}: {{ targets: [\"http://10.0.0.{number}:9001\"] }}");
    }
    text.push_str("routes:\n");
    for number in 0..routes {
        let (host, upstream) = (number % 500, number % 100);
        let path = match number % 3 {
            0 => format!("/service-{number}/items"),
            1 => format!("/service-{number}/items/{{id}}"),
            _ => format!("/service-{number}/files/{{*rest}}"),
        };
        let _ = write!(
            text,
            "  - name: route-{number}\n    match: {{ hosts: [h{host}.example.com], path: \"{path}\", methods: [GET] }}\n    upstream: upstream-{upstream}\n    timeouts: {{ response: 5s }}\n"
        );
    }
    text
}

/// The time is printed, not judged: see it with `cargo test --release -- --nocapture large`.
#[test]
fn a_hundred_thousand_routes_are_read() {
    let routes = if cfg!(debug_assertions) { 10_000 } else { 100_000 };
    let text = text(routes);
    #[allow(clippy::disallowed_methods, reason = "measures itself")]
    let start = std::time::Instant::now();
    let loaded = load_text(Path::new("daemun.yaml"), &text, &World::default(), &VOCABULARY);
    let took = start.elapsed();
    assert_eq!(loaded.diagnostics.len(), 0);
    assert_eq!(loaded.config.unwrap().routes.len(), routes);
    println!("{routes} routes, {} MiB: {took:?}", text.len() >> 20);
}
