//! A load of many small requests that goes on while something is done to the gateway, and counts what fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::Client;
use crate::wait::wait_until;
use crate::wire::{Address, Broken};

/// How a load treats its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each is used until the gateway closes it.
    Kept,
    /// One for each request.
    Fresh,
}

/// A running load. Its threads stop when it is dropped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// How a load makes a connection.
type Connect = dyn Fn() -> std::io::Result<Client> + Send + Sync;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    good: AtomicUsize,
    stale: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What a load came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Requests answered as they should be.
    pub good: usize,
    /// Requests that met a kept connection being closed, before a byte of an answer, and were sent again, as any client may.
    pub stale: usize,
    /// Everything else.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts `threads` clients that GET `target` again and again and expect 200 with `body`.
    #[must_use]
    pub fn start(address: &Address, threads: usize, connections: Connections, target: &str, body: &str) -> Self {
        let address = address.clone();
        Self::start_over(move || Client::try_connect(&address), threads, connections, target, body)
    }

    /// Like [`Load::start`], over connections made so.
    #[must_use]
    pub fn start_over(
        connect: impl Fn() -> std::io::Result<Client> + Send + Sync + 'static,
        threads: usize,
        connections: Connections,
        target: &str,
        body: &str,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let connect: Arc<Connect> = Arc::new(connect);
        let threads = (0..threads)
            .map(|_| {
                let (shared, connect) = (Arc::clone(&shared), Arc::clone(&connect));
                let (target, body) = (target.to_owned(), body.to_owned());
                std::thread::spawn(move || drive(&shared, &*connect, connections, &target, &body))
            })
            .collect();
        Self { shared, threads }
    }

    /// Waits until `count` more requests have been answered.
    pub fn wait_for(&self, count: usize) {
        let goal = self.good() + count;
        wait_until(&format!("{count} more requests were answered"), Duration::from_secs(30), || {
            let failed = !self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
            (failed || self.good() >= goal).then_some(())
        });
    }

    /// Requests answered so far.
    #[must_use]
    pub fn good(&self) -> usize {
        self.shared.good.load(Ordering::SeqCst)
    }

    /// Ends the load.
    #[must_use]
    pub fn stop(mut self) -> Tally {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        Tally {
            good: self.good(),
            stale: self.shared.stale.load(Ordering::SeqCst),
            failures: self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn drive(shared: &Shared, connect: &Connect, connections: Connections, target: &str, body: &str) {
    let request = match connections {
        Connections::Kept => format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n\r\n"),
        Connections::Fresh => format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\nConnection: close\r\n\r\n"),
    };
    let mut kept: Option<Client> = None;
    while !shared.stop.load(Ordering::SeqCst) {
        let used = kept.is_some();
        let mut client = match kept.take().map_or_else(connect, Ok) {
            Ok(client) => client,
            Err(error) => {
                fail(shared, format!("connect: {error}"));
                continue;
            }
        };
        client.send(&request);
        match client.response() {
            Ok(answer) if answer.status == 200 && answer.broken.is_none() && answer.text() == body => {
                shared.good.fetch_add(1, Ordering::SeqCst);
                if connections == Connections::Kept && !answer.closes() {
                    kept = Some(client);
                }
            }
            Ok(answer) => fail(shared, format!("{} {:?} `{}`", answer.status, answer.broken, answer.text())),
            Err(Broken::Closed | Broken::Reset) if used => {
                shared.stale.fetch_add(1, Ordering::SeqCst);
            }
            Err(broken) => fail(shared, format!("{broken} on a {} connection", if used { "kept" } else { "fresh" })),
        }
    }
}

fn fail(shared: &Shared, what: String) {
    let mut failures = shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
    failures.push(what);
    if failures.len() > 50 {
        shared.stop.store(true, Ordering::SeqCst);
    }
}
