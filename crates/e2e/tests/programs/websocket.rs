//! A WebSocket client and server of the `ws` library, with the gateway between them.

use daemun_e2e::Gateway;
use daemun_e2e::gateway::Folder;
use serde_json::json;

use crate::peers::{Script, all_there, certificates, logged, of_case, port};

fn yaml(tls: &str, origin: u64) -> String {
    format!(
        "workers: 1\nlisteners:\n  - bind: 127.0.0.1:0\n{tls}upstreams:\n  echo: {{ targets: [\"http://127.0.0.1:{origin}\"] }}\n\
         routes:\n  - name: socket\n    match: {{ path: /socket }}\n    upstream: echo\n"
    )
}

/// Starts a server and a gateway, lets the client go through its cases, and judges what everyone saw.
fn converse(folder: Folder, scheme: &str) {
    let (server, origin) = Script::serve("websocket-server.mjs");
    let secure = scheme == "wss";
    let tls = if secure { "    tls: { certificates: [{ cert: server.crt, key: server.key }] }\n" } else { "" };
    let authority = folder.path().join("ca.crt").display().to_string();
    let gateway = Gateway::start_in(folder, &yaml(tls, origin));
    let url = format!("{scheme}://127.0.0.1:{}/socket?room=7", port(&gateway));
    let arguments = if secure { vec![url.as_str(), &authority] } else { vec![url.as_str()] };
    let said = Script::run("websocket-client.mjs", &arguments);

    let expected = [
        json!({ "case": "open", "protocol": "echo.v1", "extensions": "permessage-deflate" }),
        json!({ "case": "texts", "count": 1000, "equal": true }),
        json!({ "case": "binary", "length": 1024 * 1024, "binary": true, "equal": true }),
        json!({ "case": "ping", "payload": "hello" }),
        json!({ "case": "pinged", "answer": "pong are you there" }),
        json!({ "case": "close", "code": 4001, "reason": "enough" }),
        json!({ "case": "lengths", "extensions": "", "lengths": [0, 125, 126, 65535, 65536, 1_048_576, 8_388_608] }),
        json!({ "case": "fragments", "text": "one two three" }),
        json!({ "case": "done", "code": 1000, "reason": "done" }),
        json!({ "case": "close me", "code": 4002, "reason": "as asked" }),
        json!({ "case": "vanish", "code": 1006, "reason": "" }),
    ];
    for line in &expected {
        assert_eq!(of_case(&said, line["case"].as_str().unwrap()), line);
    }
    assert_eq!(said.len(), expected.len(), "{said:#?}");

    let opened = server.wait_for("the server was asked", |line| line.get("opened").is_some());
    let proto = if secure { "https" } else { "http" };
    let host = format!("127.0.0.1:{}", port(&gateway));
    assert_eq!(opened, json!({ "opened": "/socket?room=7", "host": host, "proto": proto }));
    for (code, reason) in [(4001, "enough"), (4002, "as asked"), (1000, "done")] {
        server.wait_for("the server saw the close", |line| line["closed"] == code && line["reason"] == reason);
    }
    let log = logged(&gateway, 4, |_| true);
    assert!(log.iter().any(|line| line["bytes_out"].as_u64() > Some(9_000_000)), "{log:#?}");
    for line in log {
        let found = ["upgraded", "status", "protocol", "scheme", "path"].map(|field| &line[field]);
        let wanted = [json!(true), json!(101), json!("HTTP/1.1"), json!(proto), json!("/socket")];
        assert_eq!(found.map(Clone::clone), wanted, "{line}");
    }
}

#[test]
fn a_websocket_library_talks_through_the_gateway() {
    if all_there(&["node"], &["ws"]) {
        converse(Folder::new(), "ws");
    }
}

#[test]
fn a_websocket_library_talks_through_the_gateway_over_tls() {
    if all_there(&["node", "openssl"], &["ws"]) {
        converse(certificates(), "wss");
    }
}
