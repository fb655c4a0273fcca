//! Closed-loop load: each connection sends its next request when the last one is answered. Exact counts, and a
//! processor load that does not depend on how fast the other side is.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;

use super::poller::Poller;
use super::response::{Done, Reader};
use super::{Options, connect};

/// How long nothing may happen while answers are due; longer than the kernel probes a window it took for closed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The token of stdin.
const ORDERS: usize = usize::MAX;

/// Sends `--count` requests over `--connections`, each to be answered with `--expect` (0: with any status). With
/// `--until stdin-ends` it goes on until then.
pub(super) fn run(options: &Options) -> Result<()> {
    let mut load = Load {
        address: options.address()?,
        requests: options.requests()?,
        limit: options.number("count", u64::MAX)?,
        expected: options.number("expect", 200)?,
        tally: Tally::default(),
    };
    let mut connections = Vec::new();
    let mut poller = Poller::new()?;
    for token in 0..options.number("connections", 64)? {
        let connection = Connection::open(load.address)?;
        poller.add(&connection.stream, token)?;
        connections.push(connection);
    }
    if options.0.contains_key("until") {
        poller.add(std::io::stdin(), ORDERS)?;
    }
    let start = Instant::now();
    for connection in &mut connections {
        load.start_next(connection)?;
    }
    let mut ready = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    while load.tally.started > load.tally.ended {
        poller.wait(PATIENCE, &mut ready)?;
        if ready.is_empty() {
            bail!("{} requests are not answered", load.tally.started - load.tally.ended);
        }
        for token in &ready {
            if *token == ORDERS {
                load.limit = 0;
                continue;
            }
            let Some(connection) = connections.get_mut(*token) else { continue };
            load.progress(connection, &mut buffer)?;
            if connection.broken {
                *connection = Connection::open(load.address)?;
                poller.add(&connection.stream, *token)?;
                load.start_next(connection)?;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let Tally { ended, failed, statuses, .. } = load.tally;
    println!("{}", json!({ "completed": ended, "failed": failed, "seconds": seconds, "statuses": statuses }));
    Ok(())
}

/// What is sent, and what has become of it.
struct Load {
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    limit: u64,
    expected: u16,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    started: u64,
    ended: u64,
    /// Answered with another status than expected, or not at all.
    failed: u64,
    statuses: BTreeMap<u16, u64>,
}

impl Tally {
    fn count(&mut self, done: Option<Done>, expected: u16) {
        self.ended += 1;
        let status = done.map_or(0, |done| done.status);
        if status == 0 || (expected != 0 && status != expected) {
            self.failed += 1;
        }
        *self.statuses.entry(status).or_default() += 1;
    }
}

/// One connection, with at most one request on it.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) reader: Reader,
    /// The request being sent, and how much of it was.
    sending: Option<(usize, usize)>,
    pub(super) waiting: bool,
    /// To be replaced by a new one.
    pub(super) broken: bool,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Connection> {
        let stream = connect(address)?;
        Ok(Connection { stream, reader: Reader::default(), sending: None, waiting: false, broken: false })
    }

    /// Begins to send the request at `index`.
    pub(super) fn start(&mut self, requests: &[Vec<u8>], index: usize) {
        self.sending = Some((index, 0));
        self.waiting = true;
        self.send(requests);
    }

    /// Sends on, as far as the socket takes it.
    pub(super) fn send(&mut self, requests: &[Vec<u8>]) {
        while let Some((index, sent)) = self.sending {
            let rest = requests.get(index).and_then(|request| request.get(sent..)).unwrap_or_default();
            if rest.is_empty() {
                self.sending = None;
                return;
            }
            match self.stream.write(rest) {
                Ok(written) => self.sending = Some((index, sent + written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    // What the other side said before it stopped reading may still be there to be read.
                    self.sending = None;
                    return;
                }
            }
        }
    }

    /// Reads until an answer is complete or nothing is left: `Some(None)` when the connection ended without one.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Option<Option<Done>> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => 0,
            };
            let done = match buffer.get(..read) {
                Some(bytes) if read > 0 => self.reader.feed(bytes),
                _ => Ok(self.reader.end()),
            };
            let Ok(done) = done else {
                self.broken = true;
                return Some(None);
            };
            if read == 0 || done.is_some_and(|done| done.closes) {
                self.broken = true;
            }
            if done.is_some() || read == 0 {
                return Some(done);
            }
        }
    }
}

impl Load {
    fn start_next(&mut self, connection: &mut Connection) -> Result<()> {
        if self.tally.started >= self.limit {
            return Ok(());
        }
        let index = usize::try_from(self.tally.started)? % self.requests.len();
        self.tally.started += 1;
        connection.start(&self.requests, index);
        Ok(())
    }

    /// Sends and receives what is ready; the next request starts where an answer is complete.
    fn progress(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<()> {
        connection.send(&self.requests);
        let Some(done) = connection.receive(buffer) else { return Ok(()) };
        if std::mem::take(&mut connection.waiting) {
            self.tally.count(done, self.expected);
        }
        if connection.broken { Ok(()) } else { self.start_next(connection) }
    }
}
