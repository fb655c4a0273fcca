//! Envoy with one worker thread.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Bench, CONSUMERS, Certificate, LIMIT_PER_SECOND, Place, Scenario, key};

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.http";

pub(super) fn configure(bench: &Bench, scenario: Scenario, place: Place, folder: &Path) -> Result<Command> {
    let binary = bench.envoy.as_ref().context("Envoy is not to be had")?;
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "codec_type": "AUTO",
        "generate_request_id": false,
        "stream_idle_timeout": "0s",
        // The load of full handshakes speaks HTTP/1.0.
        "http_protocol_options": { "accept_http_10": true, "default_host_for_http_10": "bench.example" },
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route(scenario)] }] },
        "http_filters": filters(scenario),
    });
    if scenario.access_log {
        let file = json!({
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": folder.join("access.log"),
        });
        set(&mut manager, "access_log", json!([{ "name": "file", "typed_config": file }]));
    }
    if scenario.websocket {
        set(&mut manager, "upgrade_configs", json!([{ "upgrade_type": "websocket" }]));
    }
    let mut chain = json!({ "filters": [{ "name": "http", "typed_config": manager }] });
    if let Some(kind) = scenario.tls {
        let Certificate { cert, key, .. } = Certificate::of(bench, kind)?;
        let certificate = json!({ "certificate_chain": { "filename": cert }, "private_key": { "filename": key } });
        let context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": { "tls_certificates": [certificate], "alpn_protocols": ["h2", "http/1.1"] },
        });
        set(&mut chain, "transport_socket", json!({ "name": "tls", "typed_config": context }));
    }
    let endpoint = json!({ "endpoint": { "address": address(place.origin) } });
    let config = json!({ "static_resources": {
        "listeners": [{ "name": "in", "address": address(place.listen), "filter_chains": [chain] }],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "connect_timeout": "5s",
            "circuit_breakers": { "thresholds": [{ "max_connections": 20_000, "max_pending_requests": 20_000, "max_requests": 20_000 }] },
            "load_assignment": { "cluster_name": "origin", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        }],
    } });
    let file = folder.join("envoy.json");
    std::fs::write(&file, format!("{config:#}"))?;
    let mut command = Command::new(binary);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
    Ok(command)
}

fn route(scenario: Scenario) -> Value {
    let mut route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "origin", "timeout": "0s" } });
    if scenario.keys {
        let consumer = json!({ "request_headers": { "header_name": "x-consumer", "descriptor_key": "consumer" } });
        let bucket = json!({
            "max_tokens": LIMIT_PER_SECOND, "tokens_per_fill": LIMIT_PER_SECOND, "fill_interval": "1s",
        });
        let limit = json!({
            "@type": format!("{HTTP}.local_ratelimit.v3.LocalRateLimit"),
            "stat_prefix": "limit",
            "filter_enabled": { "default_value": { "numerator": 100 } },
            "filter_enforced": { "default_value": { "numerator": 100 } },
            "token_bucket": { "max_tokens": 100_000_000, "tokens_per_fill": 100_000_000, "fill_interval": "1s" },
            "max_dynamic_descriptors": 20_000,
            "rate_limits": [{ "actions": [consumer] }],
            // An entry without a value gives each consumer a bucket of its own.
            "descriptors": [{ "entries": [{ "key": "consumer" }], "token_bucket": bucket }],
        });
        set(&mut route, "typed_per_filter_config", json!({ "envoy.filters.http.local_ratelimit": limit }));
    }
    route
}

fn filters(scenario: Scenario) -> Value {
    let mut filters = Vec::new();
    if scenario.keys {
        let credentials: Vec<Value> =
            (0..CONSUMERS).map(|index| json!({ "key": key(index), "client": format!("consumer-{index}") })).collect();
        filters.push(json!({ "name": "envoy.filters.http.api_key_auth", "typed_config": {
            "@type": format!("{HTTP}.api_key_auth.v3.ApiKeyAuth"),
            "credentials": credentials,
            "key_sources": [{ "header": "x-api-key" }],
            "forwarding": { "header": "x-consumer" },
        } }));
        filters.push(json!({ "name": "envoy.filters.http.local_ratelimit", "typed_config": {
            "@type": format!("{HTTP}.local_ratelimit.v3.LocalRateLimit"), "stat_prefix": "limit",
        } }));
    }
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": {
        "@type": format!("{HTTP}.router.v3.Router"), "suppress_envoy_headers": true,
    } }));
    Value::Array(filters)
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn set(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}
