//! A real browser, headless Chromium, over TLS and HTTP/2.

use daemun_e2e::gateway::Folder;
use daemun_e2e::{Gateway, Next, Origin};
use serde_json::json;

use crate::programs::{certificate, chromium, run};

/// Fetches forty things at once, posts one large body, and says in its title how it went.
const PAGE: &str = "<!doctype html><title>loading</title><script>
    const get = async (at) => (await (await fetch('/data/' + at)).text()) === 'data ' + at;
    const post = async () => (await (await fetch('/post', { method: 'POST', body: 'x'.repeat(500000) })).text()) === '500000';
    Promise.all([...Array(40).keys()].map(get).concat(post()))
      .then((all) => { document.title = all.every(Boolean) ? 'good' : 'bad'; })
      .catch((error) => { document.title = String(error); });
</script>";

#[test]
fn chromium_speaks_http2_over_tls() {
    let origin = Origin::serve(|peer, request| {
        let answer = match request.target.as_str() {
            "/page" => PAGE.to_owned(),
            "/post" => request.body.len().to_string(),
            other => other.trim_start_matches('/').replace('/', " "),
        };
        let kind = if request.target == "/page" { "text/html" } else { "text/plain" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", answer.len());
        if peer.send(format!("{head}{answer}")) { Next::Keep } else { Next::Close }
    });
    let folder = Folder::new();
    certificate(folder.path());
    let yaml = format!(
        "workers: 2\nlisteners:\n  - bind: 127.0.0.1:0\n    tls:\n      certificates: [{{ cert: a.crt, key: a.key }}]\n\
         upstreams:\n  origin:\n    targets: [\"{}\"]\nroutes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n",
        origin.url()
    );
    let gateway = Gateway::start_in(folder, &yaml);
    let url = format!("https://{}/page", gateway.address());
    let seen = run("browser.js", &[&url, &chromium().display().to_string()]);
    assert_eq!(seen["title"], "good", "{seen}");
    assert_eq!((&seen["status"], &seen["protocols"]), (&json!(200), &json!(["h2"])));
    let calls = |log: &[serde_json::Value]| {
        log.iter().filter(|line| line["path"].as_str().is_some_and(|path| path != "/favicon.ico")).count()
    };
    let log = daemun_e2e::wait_until("every call was recorded", std::time::Duration::from_secs(10), || {
        let log = gateway.access_log();
        (calls(&log) >= 42).then_some(log)
    });
    for line in &log {
        assert_eq!((&line["protocol"], &line["scheme"]), (&json!("HTTP/2"), &json!("https")), "{line}");
    }
}
