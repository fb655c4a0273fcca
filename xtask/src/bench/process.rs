//! A program under measurement: started on its core, its processor time and memory read from `/proc`, ended when dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Bench;
use crate::load::response::fetch;
use crate::shell;

/// The core of the proxy.
pub(super) const PROXY_CPU: u32 = 0;

/// The core of load and origin.
pub(super) const LOAD_CPU: u32 = 1;

/// Clock ticks a second in `/proc/PID/stat`; fixed by Linux for user space.
const TICKS: f64 = 100.0;

/// Processor time, in microseconds.
#[derive(Clone, Copy, Default)]
pub(super) struct Cpu {
    pub(super) user: f64,
    pub(super) system: f64,
}

/// A started program with its children.
pub(super) struct Process {
    child: Child,
    pub(super) name: String,
    log: std::path::PathBuf,
}

impl Process {
    /// Starts `command` pinned to `cpu`, its output going to a file in `logs`.
    pub(super) fn start(name: &str, cpu: u32, command: &Command, logs: &Path) -> Result<Process> {
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let mut pinned = Command::new("taskset");
        pinned.args(["-c", &cpu.to_string()]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                pinned.env(key, value);
            }
        }
        let child = pinned
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} did not start"))?;
        Ok(Process { child, name: name.to_owned(), log })
    }

    /// Starts the gateway with a configuration, which is written to a file first, and waits until it listens.
    pub(super) fn daemun(
        bench: &Bench,
        name: &str,
        (file, text): (&Path, &str),
        listen: SocketAddr,
    ) -> Result<Process> {
        std::fs::write(file, text)?;
        let mut command = Command::new(&bench.daemun);
        command.args(["run", "-c"]).arg(file);
        let mut process = Process::start(name, PROXY_CPU, &command, &bench.logs())?;
        process.listening(listen)?;
        Ok(process)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process and everything it started, itself first.
    pub(super) fn family(&self) -> Vec<u32> {
        let mut family = vec![self.id()];
        let mut parents = Vec::new();
        for entry in Path::new("/proc").read_dir().into_iter().flatten().flatten() {
            if let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
                && let Some(parent) = stat(id).and_then(|fields| fields.get(1)?.parse::<u32>().ok())
            {
                parents.push((id, parent));
            }
        }
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
            at += 1;
        }
        family
    }

    /// Processor time used so far by all of the family's threads.
    pub(super) fn cpu(&self) -> Cpu {
        let mut sum = Cpu::default();
        for fields in self.family().into_iter().filter_map(stat) {
            // Fields 14 and 15 of the file; the first two, number and name, are cut off.
            let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            sum.user += ticks(11) * 1e6 / TICKS;
            sum.system += ticks(12) * 1e6 / TICKS;
        }
        sum
    }

    /// Kibibytes of `key` (`Rss`, `Pss`, …) in the family's mappings.
    pub(super) fn memory(&self, key: &str) -> Result<f64> {
        let mut sum = 0.0;
        for id in self.family() {
            let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            let value = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
            sum += value.with_context(|| format!("no `{key}` for process {id}"))?;
        }
        Ok(sum)
    }

    /// What it has written so far, to stdout and stderr.
    pub(super) fn said(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.id())?).context("a process without a number")?;
        kill_process(id, signal).with_context(|| format!("{} cannot be signalled", self.name))
    }

    /// Waits until `GET /` is answered with 200, and returns how long that took since `since`.
    pub(super) fn first_answer(&mut self, address: SocketAddr, request: &[u8], since: Instant) -> Result<Duration> {
        loop {
            if matches!(fetch(address, request), Ok((200 | 401, _))) {
                return Ok(since.elapsed());
            }
            self.check_alive(since, Duration::from_secs(120))?;
            shell::pause(Duration::from_micros(500));
        }
    }

    /// Waits until something listens on `address`.
    pub(super) fn listening(&mut self, address: SocketAddr) -> Result<()> {
        let since = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            self.check_alive(since, Duration::from_secs(120))?;
            shell::pause(Duration::from_millis(2));
        }
        Ok(())
    }

    fn check_alive(&mut self, since: Instant, limit: Duration) -> Result<()> {
        let ended = self.child.try_wait()?;
        if ended.is_some() || since.elapsed() > limit {
            let said = std::fs::read_to_string(&self.log).unwrap_or_default();
            let said = said.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n");
            bail!("{} is not ready{}: {said}", self.name, if ended.is_some() { " and ended" } else { "" });
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = self.family();
        let _ = self.signal(Signal::TERM);
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if since.elapsed() > Duration::from_secs(3) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            shell::pause(Duration::from_millis(5));
        }
        for id in family.into_iter().skip(1) {
            if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }
}

/// The fields of `/proc/ID/stat` behind the name.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Addresses on the loopback that were free a moment ago, all different.
pub(super) fn free_addresses<const N: usize>() -> Result<[SocketAddr; N]> {
    let mut held = Vec::new();
    let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); N];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address)?;
        *address = listener.local_addr()?;
        held.push(listener);
    }
    Ok(addresses)
}
