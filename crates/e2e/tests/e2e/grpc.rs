//! gRPC between a real client and a real server, the library `@grpc/grpc-js` of Node.

use daemun_e2e::Gateway;
use serde_json::json;

use crate::programs::{Peer, run};

#[test]
fn a_grpc_library_talks_to_its_server_through_the_gateway() {
    let server = Peer::serve("grpc.js");
    let gateway = Gateway::start(&format!(
        "workers: 1\nlimits: {{ body: 1KiB }}\nlisteners:\n  - bind: 127.0.0.1:0\nupstreams:\n  shop:\n    \
         targets: [\"http://127.0.0.1:{}\"]\n    protocol: h2c\n\
         routes:\n  - name: orders\n    match: {{ prefix: /shop.Orders }}\n    upstream: shop\n",
        server.port
    ));
    let seen = run("grpc.js", &["call", &gateway.address().to_string()]);
    let expected = json!({
        "unary": [0, "hello you", 42],
        "metadata": ["yes", [0, 255, 10, 13], "7"],
        "large": 6_291_456,
        "failed": [9, "kein Verkauf: 없음 %", "not for sale"],
        "listed": [0, 2000, true],
        "broken": [15, "half way", 3],
        "summed": [125_250, "1500000"],
        "chatted": 0,
        "late": 4,
        "cancelled": 1,
        "cancelledCalls": 2,
        "unknown": [5, "no route matches this host and path"],
        "many": true,
    });
    assert_eq!(seen, expected);
    let log = gateway.access_log();
    assert!(log.iter().all(|line| line["protocol"] == "HTTP/2"), "{log:?}");
}
