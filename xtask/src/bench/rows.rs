//! The rows of the table, each with the measurement that fills it.

mod callers;
mod cpu;
mod expiry;
mod faults;
mod idle;
mod latency;
mod overload;
mod passwords;
mod publish;
mod reload;
mod resources;
mod routes;
mod tokens;
mod transform;

use anyhow::Result;

use super::Bench;
use super::table::Line;

/// A measurement, by the name it is asked for with `--only`.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) measure: fn(&Bench) -> Result<Vec<Line>>,
}

pub(super) const ROWS: [Row; 30] = [
    Row { name: "plain", title: "plain proxying", measure: cpu::plain },
    Row { name: "logs", title: "with access logs", measure: cpu::logs },
    Row { name: "keys", title: "10,000 keys, a limit per consumer", measure: cpu::keys },
    Row { name: "policies", title: "six policies on one route", measure: cpu::policies },
    Row { name: "permission", title: "key, role and a condition", measure: cpu::permission },
    Row { name: "jwt", title: "JWTs that were seen before", measure: cpu::jwt },
    Row { name: "tokens", title: "what a JWT costs", measure: tokens::measure },
    Row { name: "callers", title: "keys and tokens, ten and a million", measure: callers::measure },
    Row { name: "issue", title: "tokens given out", measure: callers::issue },
    Row { name: "passwords", title: "a flood of passwords", measure: passwords::measure },
    Row { name: "expiry", title: "tokens that end at once", measure: expiry::measure },
    Row { name: "routes", title: "many routes", measure: routes::measure },
    Row { name: "tls", title: "TLS 1.3, keep-alive", measure: cpu::tls },
    Row { name: "handshake-p256", title: "TLS 1.3, full handshakes, P-256", measure: cpu::handshake_p256 },
    Row { name: "handshake-rsa", title: "TLS 1.3, full handshakes, RSA-2048", measure: cpu::handshake_rsa },
    Row { name: "http2", title: "HTTP/2 in, 8 × 16 streams", measure: cpu::http2 },
    Row { name: "body-1k", title: "1 KiB answers", measure: cpu::body_1k },
    Row { name: "body-64k", title: "64 KiB answers", measure: cpu::body_64k },
    Row { name: "body-10m", title: "10 MiB answers", measure: cpu::body_10m },
    Row { name: "post", title: "POST of 4 KiB", measure: cpu::post },
    Row { name: "websocket", title: "WebSocket messages of 64 bytes", measure: cpu::websocket },
    Row { name: "resources", title: "memory and start", measure: resources::memory_and_start },
    Row { name: "syscalls", title: "system calls per request, one connection", measure: resources::system_calls },
    Row { name: "latency", title: "p99 at half load", measure: latency::measure },
    Row { name: "overload", title: "an upstream offered twice what it can do", measure: overload::measure },
    Row { name: "faults", title: "one of three targets at fault", measure: faults::measure },
    Row { name: "idle", title: "features with nothing to do", measure: idle::measure },
    Row { name: "transform", title: "JSON transform of 4 KiB", measure: transform::measure },
    Row { name: "publish", title: "100,000 routes, until they are live", measure: publish::measure },
    Row { name: "reload", title: "reload of 100,000 routes under load", measure: reload::measure },
];
