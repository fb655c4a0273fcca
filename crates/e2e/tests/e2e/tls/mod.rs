//! TLS on both sides: who may come, which certificate is shown, what is resumed, and which upstreams are trusted.

mod callers;
mod clients;
mod certificates;
mod names;
mod revocation;
mod sessions;
mod upstreams;

use std::time::Duration;

use daemun_e2e::gateway::Signal;
use daemun_e2e::{Client, Gateway, TlsClient, wait_until};

/// The host clients ask for unless a test is about names.
const HOST: &str = "a.test";

/// A configuration whose listeners have these settings of TLS, one each, and whose only route answers `ok`.
fn yaml(listeners: &[&str]) -> String {
    let listeners: String =
        listeners.iter().map(|tls| format!("  - {{ bind: \"127.0.0.1:0\", tls: {{ {tls} }} }}\n")).collect();
    format!(
        "workers: 1\naccess_log: off\nstatus: {{ bind: \"127.0.0.1:0\" }}\nlisteners:\n{listeners}\
         routes:\n  - name: all\n    match: {{ prefix: / }}\n    answer: {{ body: ok }}\n"
    )
}

fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway.metrics().sum("daemun_config_reloads_total", &[&format!("result=\"{result}\"")])
}

/// Has the configuration read again, and waits until that has come to `result`.
fn reload(gateway: &Gateway, result: &str) {
    let before = reloads(gateway, result);
    gateway.signal(Signal::HUP);
    wait_until(&format!("a reload was {result}"), Duration::from_secs(10), || {
        (reloads(gateway, result) > before).then_some(())
    });
}

/// Status of a GET over a connection of its own; `None` when the gateway does not answer this client.
fn outcome(client: &TlsClient, gateway: &Gateway) -> Option<u16> {
    let mut client = Client::over(client.try_connect(gateway.address(), HOST).ok()?);
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    Some(client.response().ok()?.status)
}
