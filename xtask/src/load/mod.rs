//! The benchmark's own load: a process of its own on its own core, that counts exactly what it sent and what came back.
//!
//! It ends only when every request it started was answered, so that its count and the gateway's can be compared one for
//! one. It knows nothing of gateways: it is given an address and the bytes of the requests.

mod closed;
mod echo;
mod idle;
mod open;
mod poller;
pub(crate) mod response;
mod slots;
mod websocket;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Runs the load that `arguments` describe and prints its result on stdout as one line of JSON.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((kind, rest)) = arguments.split_first() else { bail!("`load` is for the benchmark") };
    let options = Options::parse(rest)?;
    options.settle()?;
    match kind.as_str() {
        "closed" => closed::run(&options),
        "open" => open::run(&options),
        "websocket" => websocket::run(&options),
        "idle" => idle::run(&options),
        "echo" => echo::run(&options),
        "slots" => slots::run(&options),
        other => bail!("there is no load `{other}`"),
    }
}

/// `--name value` pairs.
struct Options(BTreeMap<String, String>);

impl Options {
    fn parse(arguments: &[String]) -> Result<Options> {
        let mut options = BTreeMap::new();
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { bail!("an option without a value") };
            let name = name.strip_prefix("--").with_context(|| format!("`{name}` is not an option"))?;
            options.insert(name.to_owned(), value.clone());
        }
        Ok(Options(options))
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.0.get(name).map(String::as_str).with_context(|| format!("`--{name}` is needed"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().with_context(|| format!("`--{name} {text}` is not a number")),
        }
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(self.text("to")?.parse()?)
    }

    /// The requests to send in turn: the file holds each with its length before it, as 32 bits, little-endian.
    fn requests(&self) -> Result<Vec<Vec<u8>>> {
        let bytes = std::fs::read(Path::new(self.text("requests")?))?;
        let mut requests = Vec::new();
        let mut rest = bytes.as_slice();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let (request, tail) = tail.split_at_checked(length).context("the file of requests is cut short")?;
            requests.push(request.to_vec());
            rest = tail;
        }
        if requests.is_empty() {
            bail!("the file of requests is empty");
        }
        Ok(requests)
    }

    /// Pins this process to `--cpu` and takes all descriptors it may have.
    fn settle(&self) -> Result<()> {
        if self.0.contains_key("cpu") {
            let mut set = CpuSet::new();
            set.set(self.number("cpu", 0)?);
            sched_setaffinity(None, &set)?;
        }
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        Ok(())
    }
}

/// A new connection that does not block once it is established.
fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
