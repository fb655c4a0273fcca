//! WebSockets between a real client and a real server, the library `ws` of Node.

use daemun_e2e::Gateway;
use serde_json::json;

use crate::programs::{Peer, run};

#[test]
fn a_websocket_library_talks_to_its_server_through_the_gateway() {
    let server = Peer::serve("websocket.js");
    let gateway = Gateway::start(&format!(
        "workers: 1\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  chat:\n    targets: [\"http://127.0.0.1:{}\"]\n\
         routes:\n  - name: chat\n    match: {{ path: /chat }}\n    upstream: chat\n",
        server.port
    ));
    let address = gateway.address().to_string();
    let seen = run("websocket.js", &["call", &format!("ws://{address}/chat?room=1")]);
    let expected = json!({
        "protocol": "chat.v2",
        "extensions": "",
        "text": "grüße 안녕",
        "url": "/chat?room=1",
        "forwarded": "http",
        "sizes": [0, 125, 126, 65535, 65536, 1_048_576, 8_388_608],
        "fragments": "one two three",
        "pong": "are you there",
        "burst": true,
        "close": [4321, "as asked"],
        "vanished": 1006,
        "own": [1000, "done"],
    });
    assert_eq!(seen, expected);
    let lines = daemun_e2e::wait_until("every connection was recorded", std::time::Duration::from_secs(10), || {
        let lines = gateway.access_log();
        (lines.len() == 3).then_some(lines)
    });
    assert!(lines.iter().all(|line| line["status"] == 101 && line["upgraded"] == true), "{lines:?}");
    assert!(lines[0]["bytes_out"].as_u64() > Some(9_000_000), "{}", lines[0]);
}
