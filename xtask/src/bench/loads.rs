//! Starting a load and reading what it counted: the own one of this program, or `h2load` for HTTP/2 and TLS.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::process::LOAD_CPU;
use crate::shell;

/// Connections of a load, unless a row says otherwise.
pub(super) const CONNECTIONS: usize = 64;

/// A load with a fixed number of requests.
#[derive(Clone, Debug)]
pub(super) enum Load {
    /// Requests from a file, over HTTP/1.1.
    Closed { requests: PathBuf, connections: usize },
    /// `h2load` with these arguments.
    H2load { scheme: &'static str, path: &'static str, arguments: &'static [&'static str] },
    /// Messages over upgraded connections.
    Websocket,
    /// Connections with a full handshake and one request each, for a number of seconds instead of requests. `h2load` and
    /// `wrk` offer the last session again even after `Connection: close`; `openssl s_time -new` does not.
    Handshakes,
}

/// How many handshakes are under way at once.
const HANDSHAKERS: usize = 8;

/// What a load counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    /// Requests (or messages) that were answered.
    pub(super) completed: u64,
    /// Exchanges that the gateway must have counted.
    pub(super) exchanges: u64,
    pub(super) seconds: f64,
}

impl Load {
    /// The length of a run that only fills caches and pools, where a whole one has `count`.
    pub(super) fn warm_up(&self, count: u64) -> u64 {
        match self {
            Load::Handshakes => 1,
            Load::Closed { .. } | Load::H2load { .. } | Load::Websocket => (count / 20).max(CONNECTIONS as u64),
        }
    }

    /// Sends exactly `count` requests to `address`; an answer that is missing or not the expected one is an error.
    pub(super) fn run(&self, runner: &Path, address: SocketAddr, count: u64) -> Result<Count> {
        match self {
            Load::Closed { requests, connections } => {
                let mut command = own(runner, "closed", address);
                command.arg("--requests").arg(requests);
                command.args(["--connections", &connections.to_string(), "--count", &count.to_string()]);
                let result = result_of(&mut command)?;
                Ok(Count { exchanges: result.completed, ..result })
            }
            Load::Websocket => {
                let mut command = own(runner, "websocket", address);
                command.args(["--connections", &CONNECTIONS.to_string(), "--count", &count.to_string()]);
                Ok(Count { exchanges: CONNECTIONS as u64, ..result_of(&mut command)? })
            }
            Load::Handshakes => handshakes(address, count),
            Load::H2load { scheme, path, arguments } => {
                let mut command = Command::new("taskset");
                command.args(["-c", &LOAD_CPU.to_string(), "h2load", "-n", &count.to_string()]).args(*arguments);
                command.arg(format!("{scheme}://{address}{path}"));
                let said = shell::output(&mut command)?;
                let result = h2load_result(&said).with_context(|| format!("h2load said: {said}"))?;
                if result.completed != count {
                    bail!("of {count} requests {} succeeded", result.completed);
                }
                Ok(result)
            }
        }
    }
}

/// Full handshakes for `seconds`, after one look at whether the answer is the right one, which `s_time` does not check.
fn handshakes(address: SocketAddr, seconds: u64) -> Result<Count> {
    let target = address.to_string();
    let mut look = Command::new("openssl")
        .args(["s_client", "-quiet", "-ign_eof", "-connect", &target])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = look.stdin.take() {
        stdin.write_all(b"GET /items/4711 HTTP/1.0\r\n\r\n")?;
        let answer = look.wait_with_output()?.stdout;
        let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
        if line.split(' ').nth(1) != Some("200") {
            bail!("a request after a handshake is answered with `{line}`");
        }
    }
    let mut command = Command::new("taskset");
    command.args([
        "-c",
        &LOAD_CPU.to_string(),
        "openssl",
        "s_time",
        "-new",
        "-www",
        "/items/4711",
        "-connect",
        &target,
    ]);
    command.args(["-ciphersuites", "TLS_AES_128_GCM_SHA256", "-time", &seconds.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let running = (0..HANDSHAKERS).map(|_| command.spawn()).collect::<Result<Vec<_>, _>>()?;
    let mut completed = 0;
    for child in running {
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        completed +=
            connections(&said).filter(|_| output.status.success()).with_context(|| format!("s_time said: {said}"))?;
    }
    Ok(Count { completed, exchanges: completed + 1, seconds: start.elapsed().as_secs_f64() })
}

/// Reads `781 connections in 2 real seconds, 144 bytes read per connection`.
fn connections(said: &str) -> Option<u64> {
    said.lines().find_map(|line| {
        line.split_once(" connections in ").filter(|(_, rest)| rest.contains(" real "))?.0.parse().ok()
    })
}

/// A load of this program, on the core of loads, towards `address`.
pub(super) fn own(runner: &Path, kind: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(runner);
    command.args(["load", kind, "--cpu", &LOAD_CPU.to_string(), "--to", &address.to_string()]);
    command
}

/// What an own load of fixed length counted; it is an error when anything failed.
pub(super) fn result_of(command: &mut Command) -> Result<Count> {
    let result = json_of(command)?;
    let number = |key: &str| result.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    if number("failed") > 0.0 {
        bail!("requests failed: {result}");
    }
    Ok(Count { completed: number("completed") as u64, exchanges: 0, seconds: number("seconds") })
}

/// The line of JSON that an own load prints.
pub(super) fn json_of(command: &mut Command) -> Result<Value> {
    let text = shell::output(command.stderr(Stdio::piped()))?;
    serde_json::from_str(text.trim()).with_context(|| format!("a load printed `{text}`"))
}

/// Reads `requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, …` and `finished in 1.20s, …`.
fn h2load_result(said: &str) -> Option<Count> {
    let line = said.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let number = |word: &str| {
        line.split(", ").find_map(|part| part.strip_suffix(word)).and_then(|number| number.trim().parse::<u64>().ok())
    };
    let span = said.lines().find_map(|line| line.strip_prefix("finished in "))?.split(',').next()?;
    let seconds = match (span.strip_suffix("ms"), span.strip_suffix("us"), span.strip_suffix('s')) {
        (Some(number), ..) => number.parse::<f64>().ok()? / 1e3,
        (_, Some(number), _) => number.parse::<f64>().ok()? / 1e6,
        (.., number) => number?.parse().ok()?,
    };
    let statuses = said.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    let good = statuses.split(" 2xx").next()?.trim().parse::<u64>().ok()?;
    Some(Count { completed: number(" succeeded")?.min(good), exchanges: number(" done")?, seconds })
}

/// A request as a client of an API sends it.
pub(super) fn get(host: &str, path: &str) -> Vec<u8> {
    request("GET", host, path, "", &[])
}

/// A request with `fields` (each with its line end) and a body.
pub(super) fn request(method: &str, host: &str, path: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n{fields}{length}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Writes `requests` into a file as a load reads them.
pub(super) fn write_requests(file: &Path, requests: &[Vec<u8>]) -> Result<()> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend_from_slice(&u32::try_from(request.len())?.to_le_bytes());
        bytes.extend_from_slice(request);
    }
    std::fs::write(file, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_h2load_is_read() {
        let said = "finished in 35.20ms, 28409.09 req/s, 5.20MB/s\n\
            requests: 1000 total, 1000 started, 1000 done, 998 succeeded, 2 failed, 0 errored, 0 timeout\n\
            status codes: 998 2xx, 0 3xx, 2 4xx, 0 5xx\n";
        let result = h2load_result(said).unwrap();
        assert_eq!((result.completed, result.exchanges), (998, 1000));
        assert!((result.seconds - 0.0352).abs() < 1e-9);
    }

    #[test]
    fn the_result_of_s_time_is_read() {
        let said = "\n\n781 connections in 0.38s; 2055.26 connections/user sec, bytes read 112464\n\
            781 connections in 2 real seconds, 144 bytes read per connection\n";
        assert_eq!(connections(said), Some(781));
    }
}
