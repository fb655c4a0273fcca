//! The pages that are generated from the same descriptions.

use crate::support::VOCABULARY;
use daemun_config::diagnostic::CODES;
use daemun_config::{codes_markdown, reference_markdown};

#[test]
fn the_reference_page_has_every_section() {
    let page = reference_markdown(&VOCABULARY);
    if let Some(path) = std::env::var_os("PAGE_OUT") {
        std::fs::write(path, &page).unwrap();
    }
    for heading in [
        "## Top level",
        "## `listeners[]`",
        "## `listeners[].tls`",
        "## `upstreams.NAME`",
        "## `routes[]`",
        "## `routes[].match`",
        "## `routes[].rewrite`",
        "## `consumers[]`",
        "### `rate_limit`",
        "### `headers`",
    ] {
        assert!(page.contains(&format!("{heading}\n")), "{heading}\n{page}");
    }
    assert!(page.contains("| `body_idle` | time limit | `30s` | Between two pieces of a request body. |"), "{page}");
    assert!(page.contains("| `name` | name | **required** |"), "{page}");
    assert!(!page.contains("Text`") && !page.contains("$ref"), "{page}");
}

#[test]
fn the_page_of_findings_has_every_code() {
    let page = codes_markdown();
    for code in CODES {
        assert!(page.contains(&format!("\n## {}\n", code.name)));
    }
}
