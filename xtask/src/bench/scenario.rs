//! What a row asks of the proxies, and the configuration of each that does it.
//!
//! All are set up as their own documentation advises for a reverse proxy with keep-alive on both sides: one worker, logs
//! off unless the row is about them. Peers forward with the fewest fields they can.

mod daemun;
mod envoy;
mod haproxy;
mod nginx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Bench;

pub(super) use daemun::{replaced_request, routes};
pub(super) use nginx::{failing_origin, origin};

/// Consumers with a key each.
pub(super) const CONSUMERS: usize = 10_000;

/// What each consumer may send; the load stays far below.
const LIMIT_PER_SECOND: usize = 1_000;

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Daemun,
    Nginx,
    Haproxy,
    Envoy,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Daemun, Kind::Nginx, Kind::Haproxy, Kind::Envoy];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Daemun => "Daemun",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
            Kind::Envoy => "Envoy",
        }
    }
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    P256,
    Rsa2048,
}

/// What a proxy has to do in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scenario {
    /// TLS towards the client, with a certificate of this kind.
    pub(super) tls: Option<Key>,
    /// HTTP/2 without TLS towards the client, where a proxy needs to be told.
    pub(super) h2c: bool,
    /// Checks a key and limits each of [`CONSUMERS`].
    pub(super) keys: bool,
    /// Has six policies on the route; Daemun only.
    pub(super) policies: bool,
    /// Asks for a role, and for a condition in CEL, of whoever the key is of; Daemun only.
    pub(super) permission: bool,
    /// Verifies tokens with the key in this file; Daemun only.
    pub(super) jwt: Option<&'static str>,
    /// Writes a line to a file for each request.
    pub(super) access_log: bool,
    /// Passes WebSocket upgrades on.
    pub(super) websocket: bool,
    /// Learns how many calls the origin can work on at once; Daemun only.
    pub(super) adaptive: bool,
}

/// Where a proxy stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) listen: SocketAddr,
    /// The status listener; Daemun only.
    pub(super) status: SocketAddr,
    pub(super) origin: SocketAddr,
}

/// Writes the configuration of `kind` into `folder` and returns the command that starts it.
pub(super) fn configure(bench: &Bench, kind: Kind, scenario: Scenario, place: Place, folder: &Path) -> Result<Command> {
    std::fs::create_dir_all(folder)?;
    match kind {
        Kind::Daemun => daemun::configure(bench, scenario, place, folder),
        Kind::Nginx => nginx::configure(bench, scenario, place, folder),
        Kind::Haproxy => haproxy::configure(bench, scenario, place, folder),
        Kind::Envoy => envoy::configure(bench, scenario, place, folder),
    }
}

/// The key of consumer `index`.
pub(super) fn key(index: usize) -> String {
    // Spread over the whole text, as real keys are, so that no proxy can tell them apart by a prefix.
    let mixed = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:016x}", mixed.rotate_left(29) ^ 0x5bd1_e995)
}

/// Certificate, key, and both in one file, made at first use.
pub(super) struct Certificate {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) both: PathBuf,
}

impl Certificate {
    fn of(bench: &Bench, kind: Key) -> Result<Certificate> {
        let (name, make) = match kind {
            Key::P256 => ("p256", ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"].as_slice()),
            Key::Rsa2048 => ("rsa2048", ["-newkey", "rsa:2048"].as_slice()),
        };
        let file = |end: &str| bench.folder.join(format!("{name}.{end}"));
        let certificate = Certificate { cert: file("crt"), key: file("key"), both: file("pem") };
        if !certificate.both.is_file() {
            crate::shell::output(
                Command::new("openssl")
                    .args(["req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=bench.example"])
                    .args(["-addext", "subjectAltName=DNS:bench.example,DNS:localhost,IP:127.0.0.1"])
                    .args(make)
                    .arg("-keyout")
                    .arg(&certificate.key)
                    .arg("-out")
                    .arg(&certificate.cert),
            )?;
            let both = std::fs::read_to_string(&certificate.cert)? + &std::fs::read_to_string(&certificate.key)?;
            std::fs::write(&certificate.both, both)?;
        }
        Ok(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_long_and_all_different() {
        let keys: std::collections::BTreeSet<String> = (0..CONSUMERS).map(key).collect();
        assert_eq!(keys.len(), CONSUMERS);
        assert!(keys.iter().all(|key| key.len() == 32));
    }
}
