//! Reloads of 100,000 routes while requests are made: none may fail, new routes must answer, removed ones be gone.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::super::Bench;
use super::super::loads::{CONNECTIONS, Count, own, write_requests};
use super::super::peer::Peer;
use super::super::process::free_addresses;
use super::super::scenario::{Kind, Place, replaced_request, routes};
use super::super::stats::Spread;
use super::super::table::Line;
use crate::load::response::fetch;
use crate::shell;

const ROUTES: usize = 100_000;
const RELOADS: usize = 5;

/// How long a reload may take until its routes answer.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let [listen, status] = free_addresses()?;
    let place = Place { listen, status, origin: bench.origin };
    let folder = bench.folder.join("run/daemun-reload");
    let first = routes(bench, ROUTES, 0, place, &folder)?;
    let requests = bench.folder.join("reload.requests");
    write_requests(&requests, &first.stable)?;
    let peer = Peer::launch(bench, Kind::Daemun, place, &first.command, "daemun-reload")?;
    expect(listen, 0, 200)?;

    let counted = peer.counted()?;
    let (mut spans, mut asked, mut load) = (Vec::new(), 0, Running::start(bench, listen, &requests)?);
    for generation in 1..=RELOADS {
        routes(bench, ROUTES, generation, place, &folder)?;
        let since = Instant::now();
        peer.process.signal(Signal::HUP)?;
        loop {
            asked += 1;
            if fetch(listen, &replaced_request(generation))?.0 == 200 {
                break;
            }
            if since.elapsed() > PATIENCE {
                bail!("reload {generation} is not there after {} s", PATIENCE.as_secs());
            }
            shell::pause(Duration::from_millis(10));
        }
        spans.push(since.elapsed().as_secs_f64());
        asked += 1;
        expect(listen, generation - 1, 404)?;
    }
    let result = load.finish()?;
    let number = |key: &str| result.get(key).and_then(Value::as_u64).with_context(|| format!("no `{key}` in {result}"));
    let (completed, failed) = (number("completed")?, number("failed")?);
    peer.agree(counted, Count { completed, exchanges: completed + asked, seconds: 0.0 })?;

    let spread = Spread::of(&spans).context("no reload")?;
    let what = format!("{RELOADS} reloads of 100,000 routes under load: failed of {completed} requests");
    let mut line = Line { what, unit: "requests", ..Line::default() };
    line.cell(Kind::Daemun, failed.to_string());
    line.figure =
        format!("**{failed}**; new routes after {:.1} s ({:.1}–{:.1})", spread.median, spread.low, spread.high);
    line.against = "Daemun".to_owned();
    line.at_most(failed as f64, Some((0.0, "0".to_owned())));
    Ok(vec![line])
}

/// Asks for a route of `generation` and holds the answer against `status`.
fn expect(address: SocketAddr, generation: usize, status: u16) -> Result<()> {
    let (got, _) = fetch(address, &replaced_request(generation))?;
    if got != status {
        bail!("a route of generation {generation} answers {got}, not {status}");
    }
    Ok(())
}

/// A load that goes on until it is told to end.
struct Running(Child);

impl Running {
    fn start(bench: &Bench, address: SocketAddr, requests: &std::path::Path) -> Result<Running> {
        let mut command = own(&bench.runner, "closed", address);
        command.arg("--requests").arg(requests).args([
            "--connections",
            &CONNECTIONS.to_string(),
            "--until",
            "stdin-ends",
        ]);
        Ok(Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    fn finish(&mut self) -> Result<Value> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        if let Some(mut stdout) = self.0.stdout.take() {
            std::io::Read::read_to_string(&mut stdout, &mut text)?;
        }
        self.0.wait()?;
        serde_json::from_str(text.trim()).with_context(|| format!("a load printed `{text}`"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
