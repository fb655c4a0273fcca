//! What others notice when a great many tokens end at once: their latency while those are forgotten and before, on the same gateway.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::super::Bench;
use super::super::loads::get;
use super::super::process::{Process, free_addresses};
use super::super::stats::Spread;
use super::super::table::Line;
use super::callers;
use super::passwords::{self, RATE, latencies};
use crate::load::response::fetch;
use crate::shell;

/// How often tokens end, and how many then.
const TIMES: usize = 8;
const TOKENS: usize = 50_000;
/// Milliseconds from one time to the next, and until the first: the store is made and read meanwhile.
const APART: u64 = 15_000;
const FIRST: u64 = 75_000;
/// Tokens end just before a multiple of this many milliseconds, which is when they are looked at.
const SPAN: u64 = 5_000;
/// How long latencies are measured each time, seconds.
const MEASURED: f64 = 5.0;

const MOST: f64 = 1.10;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let tokens = if bench.quick { TOKENS / 10 } else { TOKENS };
    let folder = bench.folder.join("expiry");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let first = (now()? + FIRST).next_multiple_of(SPAN);
    let moment = |time: usize| first + time as u64 * APART;
    callers::fill(&folder.join("daemun.db"), tokens * TIMES, |caller| moment(caller % TIMES) - 1)?;
    let [listen, status] = free_addresses()?;
    let file = folder.join("daemun.yaml");
    let text = format!(
        "workers: 1\naccess_log: off\nlisteners: [{{ bind: \"{listen}\" }}]\nstatus: {{ bind: \"{status}\" }}\n\
         store: {{ path: daemun.db }}\ntokens: {{ bench: {{ max_tokens: 10000000 }} }}\n\
         upstreams: {{ origin: {{ targets: [\"http://{}\"] }} }}\n\
         routes: [{{ name: plain, match: {{ prefix: /items }}, upstream: origin }}]\n",
        bench.origin
    );
    let _running = Process::daemun(bench, "expiry", (&file, &text), listen)?;
    let plain = passwords::plain(&folder)?;
    let known = || -> Result<u64> {
        let (code, body) = fetch(status, &get("status.example", "/metrics"))?;
        let body = String::from_utf8_lossy(&body);
        let line = body.lines().find_map(|line| line.strip_prefix("daemun_tokens ")).filter(|_| code == 200);
        Ok(line.context("no count of tokens")?.parse()?)
    };
    let span = Duration::from_secs_f64(MEASURED).as_millis() as u64;
    let (mut halves, mut tails) = (Vec::new(), Vec::new());
    for time in 0..TIMES {
        until(moment(time) - span - SPAN / 5)?;
        let before = latencies(bench, listen, &plain, MEASURED)?;
        let (had, expected) = (known()?, (tokens * (TIMES - time)) as u64);
        if had != expected {
            bail!("there are {had} tokens instead of {expected} before the {}th time", time + 1);
        }
        until(moment(time))?;
        let during = latencies(bench, listen, &plain, MEASURED)?;
        // how long it takes is the machine's; that most of it fell into what was measured is looked at, and that all of them go
        let left = known()?;
        if left > expected - tokens as u64 * 9 / 10 {
            bail!("of {expected} tokens {left} are left: too few were forgotten while it was measured");
        }
        while known()? > expected - tokens as u64 {
            if now()? > moment(time) + APART - SPAN / 5 - span {
                bail!("of {expected} tokens {} are left: not all that ended are forgotten", known()?);
            }
            shell::pause(Duration::from_millis(50));
        }
        eprintln!("   median {:.0} and {:.0} µs, p99 {:.0} and {:.0} µs", before.0, during.0, before.1, during.1);
        halves.push(during.0 / before.0);
        tails.push(during.1 / before.1);
    }
    let what = |of: &str| format!("{of} of {RATE:.0} calls/s while {tokens} tokens that ended at once are forgotten");
    let mut half = Line { what: what("median latency"), unit: "ratio", ..Line::default() };
    half.ratio(Spread::of(&halves).context("no time")?, "before", Some(MOST));
    let mut tail = Line { what: what("p99"), unit: "ratio", ..Line::default() };
    tail.ratio(Spread::of(&tails).context("no time")?, "before", None);
    Ok(vec![half, tail])
}

/// Milliseconds since the Unix epoch.
fn now() -> Result<u64> {
    Ok(u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Waits for a moment, which must be to come.
fn until(moment: u64) -> Result<()> {
    let left = moment.checked_sub(now()?).context("the store took too long to make and to read")?;
    shell::pause(Duration::from_millis(left));
    Ok(())
}
