//! A headless Chromium that loads a page through the gateway.

use std::collections::BTreeSet;

use daemun_e2e::Gateway;
use serde_json::json;

use crate::peers::{Script, all_there, certificates, find, logged, port};

#[test]
fn a_browser_loads_a_page_and_its_parts_over_http2() {
    if !all_there(&["node", "openssl", "chromium"], &["playwright-core"]) {
        return;
    }
    let (_server, origin) = Script::serve("page-server.mjs");
    let gateway = Gateway::start_in(
        certificates(),
        &format!(
            "workers: 1\nlisteners:\n  - bind: 127.0.0.1:0\n    tls: {{ certificates: [{{ cert: server.crt, key: server.key }}] }}\n\
             upstreams:\n  pages: {{ targets: [\"http://127.0.0.1:{origin}\"] }}\n\
             routes:\n  - name: pages\n    match: {{ prefix: / }}\n    upstream: pages\n"
        ),
    );
    let executable = find("chromium").unwrap().display().to_string();
    let url = format!("https://localhost:{}/", port(&gateway));
    let said = Script::run("browser.mjs", &[&executable, &url]);

    let page = &said[0];
    assert_eq!(page["failures"], json!([]), "{page}");
    assert_eq!((&page["status"], &page["title"], &page["sum"]), (&json!(200), &json!("Sum"), &json!("820")), "{page}");
    assert_eq!(page["tls"], "TLS 1.3", "{page}");
    assert_eq!(page["protocols"], json!(vec!["h2"; 42]), "{page}");

    let log = logged(&gateway, 42, |_| true);
    let paths: BTreeSet<&str> = log.iter().filter_map(|line| line["path"].as_str()).collect();
    assert_eq!(paths.len(), 42, "{paths:?}");
    for line in &log {
        let found = ["protocol", "scheme", "status", "route"].map(|field| line[field].clone());
        assert_eq!(found, [json!("HTTP/2"), json!("https"), json!(200), json!("pages")], "{line}");
    }
}
