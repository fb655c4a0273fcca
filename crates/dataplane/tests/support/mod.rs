//! A gateway in this process, on a free port, with an injected clock, and the simplest peers. Shared by the integration tests.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "it is only compiled into tests")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use daemun_config::{Diagnostics, PolicyDescription, System, Vocabulary, load_text};
use daemun_dataplane::record::{Metrics, Recorder, Setup};
use daemun_dataplane::{Clock, Gateway, IdSource, Options, Snapshot, Socket, Sockets};
use daemun_pipeline::{Carry, PolicyRow};

/// How long a peer waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Running {
    pub gateway: Option<Gateway>,
    pub address: SocketAddr,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub snapshot: Arc<Snapshot>,
}

/// Starts a gateway with one worker; `yaml` lacks listeners.
pub fn start(yaml: &str, clock: Clock) -> Running {
    start_with("", yaml, clock)
}

/// Starts a gateway with one worker, whose listener has these further lines.
pub fn start_with(listener: &str, yaml: &str, clock: Clock) -> Running {
    let setup = Setup { workers: 1, policies: Vec::new(), version: "test", commit: "test", started: 0 };
    let (metrics, recorders) = Metrics::new(setup);
    let snapshot = compile_with(&[], listener, yaml, &metrics);
    begin(snapshot, metrics, recorders, clock)
}

/// Starts a gateway with one worker, whose configuration may name these policies.
pub fn start_with_policies(rows: &'static [PolicyRow], yaml: &str, clock: Clock) -> Running {
    start_with_all(rows, "", yaml, clock)
}

/// Starts a gateway with one worker, with policies and further lines of the listener.
pub fn start_with_all(rows: &'static [PolicyRow], listener: &str, yaml: &str, clock: Clock) -> Running {
    let policies = rows.iter().map(|row| row.name).collect();
    let (metrics, recorders) =
        Metrics::new(Setup { workers: 1, policies, version: "test", commit: "test", started: 0 });
    let snapshot = compile_with(rows, listener, yaml, &metrics);
    begin(snapshot, metrics, recorders, clock)
}

fn begin(snapshot: Arc<Snapshot>, metrics: Arc<Metrics>, recorders: Vec<Recorder>, clock: Clock) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = vec![vec![Sockets { name: "127.0.0.1:0".into(), sockets: vec![Socket::Tcp(listener)] }]];
    let options = Options { clock: clock.clone(), ids: IdSource::fixed(7), recorders };
    let gateway = Gateway::start(Arc::clone(&snapshot), sockets, options).unwrap();
    Running { gateway: Some(gateway), address, clock, metrics, snapshot }
}

/// Compiles a configuration whose only listener has these further lines.
pub fn compile(listener: &str, yaml: &str, metrics: &Arc<Metrics>) -> Arc<Snapshot> {
    compile_with(&[], listener, yaml, metrics)
}

fn compile_with(rows: &'static [PolicyRow], listener: &str, yaml: &str, metrics: &Arc<Metrics>) -> Arc<Snapshot> {
    let described = rows.iter().map(|row| PolicyDescription {
        ends: row.ends,
        implied: row.implied,
        name: row.name,
        phase: "transform",
        doc: "",
        authenticator: false,
        unconditional: None,
        check: row.check,
        schema: row.schema,
    });
    let described: Vec<_> = described.collect();
    let text = format!("listeners:\n  - bind: 127.0.0.1:0\n{listener}access_log: off\n{yaml}");
    let loaded = load_text("test.yaml".as_ref(), &text, &System, &Vocabulary { policies: &described });
    let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.sources, false)));
    let mut diagnostics = Diagnostics::new();
    let snapshot = Snapshot::compile(
        &config,
        rows,
        &Carry::detached(),
        &daemun_pipeline::Nowhere::shared(),
        metrics,
        &mut diagnostics,
    );
    Arc::new(snapshot.unwrap_or_else(|| panic!("{}", diagnostics.render(&loaded.sources, false))))
}

/// A configuration with one upstream that takes everything.
pub fn proxy_to(origin: SocketAddr, more: &str) -> String {
    format!(
        "upstreams:\n  origin:\n    targets: [\"http://{origin}\"]\nroutes:\n  - name: all\n    match: {{ prefix: / }}\n    upstream: origin\n{more}"
    )
}

/// An origin that runs `serve` on a thread of its own for each connection.
pub fn origin(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Reads up to the end of a head; gives everything read, or `None` when the connection ended before.
pub fn read_head(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Option<usize> {
    let mut piece = [0u8; 4096];
    loop {
        if let Some(end) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
            return Some(end + 4);
        }
        match stream.read(&mut piece) {
            Ok(n) if n > 0 => buf.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
}

/// Connects and sends.
pub fn client(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// Everything until the connection ends.
pub fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut piece = [0u8; 4096];
    while let Ok(n) = stream.read(&mut piece) {
        if n == 0 {
            break;
        }
        all.extend_from_slice(&piece[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits until the metrics hold this line.
pub fn until_said(running: &Running, line: &str) {
    for _ in 0..4000 {
        if running.metrics.render().contains(line) {
            return;
        }
        let _ = std::sync::mpsc::sync_channel::<()>(0).1.recv_timeout(Duration::from_millis(5));
    }
    panic!("never said `{line}`: {}", running.metrics.render());
}

/// Moves the clock in steps until something can be read (or the connection ended); gives how far it was moved.
pub fn advance_until_readable(running: &Running, stream: &TcpStream, step: Duration, most: Duration) -> Duration {
    let mut moved = Duration::ZERO;
    let mut byte = [0u8; 1];
    stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    while moved < most {
        if stream.peek(&mut byte).is_ok() {
            break;
        }
        running.clock.advance(step);
        moved += step;
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    moved
}
