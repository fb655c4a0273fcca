//! What is configured and has nothing to do adds no allocation and no system call to a plain proxied request. A test binary of its own,
//! since the allocator counts the whole process, and without a harness, which would allocate when it tells that a test takes long.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod features;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemun_config::{Diagnostics, PolicyDescription, System, Vocabulary, load_text};
use daemun_dataplane::record::{AccessLog, Events, Metrics, Setup};
use daemun_dataplane::{Clock, Gateway, IdSource, Options, Snapshot, Socket, Sockets};
use daemun_e2e::gateway::{self, Folder};
use daemun_e2e::trace::system_calls;
use daemun_pipeline::{Carry, PolicyRow};
use daemun_policies::REGISTRY;
use daemun_sys::CountingAllocator;

use features::{Feature, LOG, REQUEST, TOGETHER, configuration};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::system();

const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
/// As many targets as an upstream has, in turn.
const TARGETS: [usize; 2] = [1, 3];

fn main() {
    what_has_nothing_to_do_allocates_nothing();
    what_has_nothing_to_do_makes_no_system_call();
}

/// An origin that answers every piece it reads, and allocates nothing for it.
fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buf = [0u8; 8192];
                while matches!(stream.read(&mut buf), Ok(n) if n > 0) {
                    if stream.write_all(ANSWER).is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}")
}

/// A client on one connection, with the cookie that the gateway gave it.
struct Client {
    stream: TcpStream,
    request: String,
    buf: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { stream, request: format!("{REQUEST}\r\n"), buf: vec![0; 8192] };
        let answer = String::from_utf8_lossy(client.call()).to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
        if let Some(cookie) = cookie {
            client.request.clear();
            write!(client.request, "{REQUEST}Cookie: {cookie}\r\n\r\n").unwrap();
            let answer = String::from_utf8_lossy(client.call()).to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 200") && !answer.contains("set-cookie"), "{answer}");
        }
        client
    }

    /// One exchange; gives the answer.
    fn call(&mut self) -> &[u8] {
        self.stream.write_all(self.request.as_bytes()).unwrap();
        let mut got = 0;
        while !self.buf[..got].ends_with(b"hello") {
            let n = self.stream.read(&mut self.buf[got..]).unwrap();
            assert!(n > 0, "the connection ended: {}", String::from_utf8_lossy(&self.buf[..got]));
            got += n;
        }
        &self.buf[..got]
    }
}

/// A gateway in this process, with every policy there is.
fn start(text: &str, folder: &Path) -> (Gateway, SocketAddr) {
    let text = text.replace("access.log", &folder.join("access.log").display().to_string());
    let policies = REGISTRY.iter().map(|row| row.name).collect();
    let (metrics, recorders) =
        Metrics::new(Setup { workers: 1, policies, version: "test", commit: "test", started: 0 });
    let described: Vec<PolicyDescription> = REGISTRY.iter().map(PolicyRow::describe).collect();
    let loaded = load_text("idle.yaml".as_ref(), &text, &System, &Vocabulary { policies: &described });
    let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.sources, false)));
    let mut diagnostics = Diagnostics::new();
    let snapshot = Snapshot::compile(
        &config,
        REGISTRY,
        &Carry::detached(),
        &daemun_pipeline::Nowhere::shared(),
        &metrics,
        &mut diagnostics,
    );
    let snapshot = snapshot.unwrap_or_else(|| panic!("{}", diagnostics.render(&loaded.sources, false)));
    if let Some(wanted) = &config.access_log {
        let log = AccessLog::open(
            wanted,
            None,
            metrics.log_counters(),
            &Events::to(Clock::system(), std::io::sink()).unwrap(),
        )
        .unwrap();
        recorders.iter().for_each(|recorder| recorder.use_log(Some(log.clone())));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = vec![vec![Sockets { name: "127.0.0.1:0".into(), sockets: vec![Socket::Tcp(listener)] }]];
    let options = Options { clock: Clock::system(), ids: IdSource::fixed(7), recorders };
    (Gateway::start(Arc::new(snapshot), sockets, options).unwrap(), address)
}

/// Allocations in `calls` exchanges of a gateway that is warm.
fn allocations(features: &[Feature], targets: &[String]) -> u64 {
    const CALLS: usize = 1_000;
    let folder = Folder::new();
    let (gateway, address) = start(&configuration(features, targets), folder.path());
    let mut client = Client::connect(address);
    for _ in 0..2 * CALLS {
        client.call();
    }
    let before = CountingAllocator::allocations();
    for _ in 0..CALLS {
        client.call();
    }
    let count = CountingAllocator::allocations() - before;
    drop((client, gateway));
    count
}

/// Which of `features` cost something by themselves, as `cost` tells it; all of them where only together they do.
fn culprits(features: &[Feature], cost: impl Fn(&[Feature]) -> Option<String>) -> Option<String> {
    let together = cost(features)?;
    let mut alone = String::new();
    for feature in features {
        if let Some(cost) = cost(&[*feature]) {
            let _ = writeln!(alone, "  {}: {cost}", feature.name);
        }
    }
    let names: Vec<_> = features.iter().map(|feature| feature.name).collect();
    Some(format!("{together} with {}; each alone:\n{alone}", names.join(", ")))
}

fn what_has_nothing_to_do_allocates_nothing() {
    let origins = [origin(), origin(), origin()];
    let mut report = String::new();
    // a log has a buffer more whenever its writer is further behind than it ever was
    let rows = TOGETHER.iter().map(|row| (*row, 0)).chain([(&[LOG][..], 10)]);
    for ((features, most), count) in rows.flat_map(|row| TARGETS.map(|count| (row, count))) {
        let cost = |features: &[Feature]| {
            let allocations = allocations(features, &origins[..count]);
            (allocations > most).then(|| format!("{allocations} allocations in 1,000 exchanges, {count} targets,"))
        };
        report.extend(culprits(features, cost));
    }
    assert!(report.is_empty(), "{report}");
}

/// System calls of an exchange.
fn calls_of_an_exchange(features: &[Feature], targets: &[String]) -> (f64, String) {
    const CALLS: u32 = 500;
    let gateway = gateway::Gateway::start(&configuration(features, targets));
    let daemun_e2e::wire::Address::Tcp(address) = gateway.address() else { panic!("not a TCP listener") };
    let mut client = Client::connect(*address);
    for _ in 0..100 {
        client.call();
    }
    let (count, text) = system_calls(gateway.pid(), || {
        for _ in 0..CALLS {
            client.call();
        }
    });
    (count as f64 / f64::from(CALLS), text)
}

fn what_has_nothing_to_do_makes_no_system_call() {
    let origins = [origin(), origin(), origin()];
    let mut report = String::new();
    for count in TARGETS {
        let (plain, text) = calls_of_an_exchange(&[], &origins[..count]);
        assert!(plain >= 4.0, "nothing was counted:\n{text}");
        // a check of a target's health, or a timer, may fall into either count
        let cost = |features: &[Feature]| {
            let (calls, text) = calls_of_an_exchange(features, &origins[..count]);
            (calls > plain + 0.25).then(|| format!("{calls} system calls, {plain} without, {count} targets\n{text}"))
        };
        report.extend(TOGETHER.iter().filter_map(|features| culprits(features, cost)));
    }
    assert!(report.is_empty(), "{report}");
}
