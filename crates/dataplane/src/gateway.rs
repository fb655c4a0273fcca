//! The running data plane as the control plane sees it: workers, one slot for the snapshot, a mailbox each.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::{Clock, nanos};
use crate::destination::upstream::budget::Budget;
use crate::destination::upstream::choice::{TargetStatus, UpstreamStatus};
use crate::ids::IdSource;
use crate::listener::Sockets;
use crate::record::{AccessLog, Recent, Recorder};
use crate::snapshot::Snapshot;
use crate::worker::{self, Message, Shared, Worker};

/// Messages a worker may have waiting.
const MAILBOX: usize = 64;
/// Events a worker takes from the kernel in one look at most, twelve bytes each; more connections than any should have ready at once.
const EVENTS_MOST: usize = 65_536;
/// Threads of a worker that may wait for disks.
const WAITING_MOST: usize = 16;

/// What a gateway is started with.
pub struct Options {
    /// Time.
    pub clock: Clock,
    /// Request and trace ids.
    pub ids: IdSource,
    /// One recorder per worker; their number is the number of workers.
    pub recorders: Vec<Recorder>,
}

/// Running workers.
pub struct Gateway {
    clock: Clock,
    mailboxes: Vec<mpsc::Sender<Message>>,
    threads: Vec<JoinHandle<()>>,
    running: ArcSwap<Snapshot>,
    lost: Arc<Lost>,
}

/// What a name does not lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// There is no such upstream.
    Upstream,
    /// The upstream has no such target.
    Target,
}

/// Which worker ended though nobody asked it to.
#[derive(Default)]
struct Lost {
    index: AtomicUsize,
    told: Notify,
}

/// Lives as long as a worker's thread; tells when that ended otherwise than it should.
struct Watch {
    lost: Arc<Lost>,
    index: usize,
    orderly: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.orderly {
            self.lost.index.store(self.index, Ordering::Relaxed);
            self.lost.told.notify_one();
        }
    }
}

/// A worker's runtime. Each look at the kernel takes all there is, which those rely on who count looks; only what is taken costs memory.
fn runtime(descriptors: u64) -> io::Result<tokio::runtime::Runtime> {
    let events = usize::try_from(descriptors).unwrap_or(EVENTS_MOST).clamp(1, EVENTS_MOST);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_io_events_per_tick(events).max_blocking_threads(WAITING_MOST).build()
}

impl Gateway {
    /// Starts one thread per recorder. `sockets` holds, per worker, the listeners it serves.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(snapshot: Arc<Snapshot>, sockets: Vec<Vec<Sockets>>, options: Options) -> io::Result<Gateway> {
        // where the limit cannot be learned, that of a system which sets none itself
        let (descriptors, _) = daemun_sys::raise_nofile().unwrap_or((1024, 1024));
        let shared = Arc::new(Shared {
            clock: options.clock.clone(),
            ids: options.ids,
            connections: AtomicUsize::new(0),
            budget: Budget::new(options.recorders.len(), descriptors),
            gates: Arc::default(),
        });
        let mut gateway = Gateway {
            clock: options.clock,
            mailboxes: Vec::new(),
            threads: Vec::new(),
            running: ArcSwap::new(Arc::clone(&snapshot)),
            lost: Arc::default(),
        };
        let mut sockets = sockets.into_iter();
        for (index, recorder) in options.recorders.into_iter().enumerate() {
            let (sender, mailbox) = mpsc::channel(MAILBOX);
            let shared = Arc::clone(&shared);
            let snapshot = Arc::clone(&snapshot);
            let own = sockets.next().unwrap_or_default();
            let runtime = runtime(descriptors)?;
            let watch = Watch { lost: Arc::clone(&gateway.lost), index, orderly: false };
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let mut watch = watch; // the whole of it lives here
                let local = tokio::task::LocalSet::new();
                watch.orderly = local.block_on(&runtime, async move {
                    let worker = Worker::new(index, shared, Rc::new(recorder), snapshot);
                    worker::run(worker, own, mailbox).await
                });
            })?;
            gateway.mailboxes.push(sender);
            gateway.threads.push(thread);
        }
        Ok(gateway)
    }

    /// The snapshot that was published last.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.running.load_full()
    }

    /// How the upstreams of that snapshot stand, and their targets.
    #[must_use]
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        let now = self.clock.now();
        self.snapshot().upstreams.iter().map(|upstream| upstream.status(now)).collect()
    }

    /// Lets a target of that snapshot get no new call from any worker, or again some, until it is told otherwise: over every snapshot to
    /// come, as long as the upstream has it. How it stands then, and whether that is new.
    ///
    /// # Errors
    /// When there is no such upstream, or it has no target of this URL.
    pub fn drain_target(&self, upstream: &str, url: &str, on: bool) -> Result<(TargetStatus, bool), Unknown> {
        let snapshot = self.snapshot();
        let upstream = snapshot.upstreams.iter().find(|own| own.name == upstream).ok_or(Unknown::Upstream)?;
        upstream.drain(url, on, self.clock.now()).ok_or(Unknown::Target)
    }

    /// Workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// Waits until a worker ends though nobody asked it to, and gives its number; its connections and sockets are closed.
    pub async fn lost(&self) -> usize {
        self.lost.told.notified().await;
        self.lost.index.load(Ordering::Relaxed)
    }

    /// Makes a worker end as an error of its own would, for tests.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub async fn break_worker(&self, index: usize) {
        if let Some(mailbox) = self.mailboxes.get(index) {
            let _ = mailbox.send(Message::Break).await;
        }
    }

    /// Publishes a snapshot; returns when every worker runs it. `sockets`: per worker, the listeners it serves from now on, with an empty
    /// list of sockets for those it already has. The replaced snapshot is dropped here, off the workers, once its last exchange ended.
    pub async fn publish(&self, snapshot: Arc<Snapshot>, sockets: Vec<Vec<Sockets>>) {
        let old = self.running.swap(Arc::clone(&snapshot));
        let mut sockets = sockets.into_iter();
        let mut waiting = Vec::new();
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            let sockets = sockets.next().unwrap_or_default();
            if mailbox.send(Message::Publish { snapshot: Arc::clone(&snapshot), sockets, done }).await.is_ok() {
                waiting.push(wait);
            }
        }
        for wait in waiting {
            let _ = wait.await;
        }
        let clock = self.clock.clone();
        tokio::spawn(async move {
            // a worker must not be the last to hold it: freeing 100,000 routes takes milliseconds
            while Arc::strong_count(&old) > 1 {
                clock.wait(clock.now().saturating_add(200_000_000)).await;
            }
            drop(old);
        });
    }

    /// Stops accepting; with `empty_queue`, after what waits in the kernel's queues was accepted. Without it, the sockets must live on elsewhere.
    pub async fn stop_accepting(&self, empty_queue: bool) {
        let mut waiting = Vec::new();
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            if mailbox.send(Message::StopAccepting { empty_queue, done }).await.is_ok() {
                waiting.push(wait);
            }
        }
        for wait in waiting {
            let _ = wait.await;
        }
    }

    /// Lets every exchange end, for at most `limit`, then ends the workers. Gives how many connections were cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        let until = self.clock.now().saturating_add(nanos(limit));
        let mut waiting = Vec::new();
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            if mailbox.send(Message::Drain { until, done }).await.is_ok() {
                waiting.push(wait);
            }
        }
        let mut left = 0;
        for wait in waiting {
            left += wait.await.unwrap_or(0);
        }
        left
    }

    /// Waits for the workers' threads, after a drain.
    pub fn join(self) {
        drop(self.mailboxes);
        for thread in self.threads {
            let _ = thread.join();
        }
    }

    /// The latest `most` exchanges of all workers, newest first.
    pub async fn latest(&self, most: usize) -> Vec<Recent> {
        let mut all = Vec::new();
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            if mailbox.send(Message::Latest { most, done }).await.is_ok() {
                all.extend(wait.await.unwrap_or_default());
            }
        }
        Recent::newest(all, most)
    }

    /// A recent exchange by its request id.
    pub async fn find(&self, id: &[u8]) -> Option<Recent> {
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            if mailbox.send(Message::Find { id: id.to_vec(), done }).await.is_ok()
                && let Ok(Some(found)) = wait.await
            {
                return Some(found);
            }
        }
        None
    }

    /// Lets every worker write to this access log from now on, or to none.
    pub async fn use_log(&self, log: Option<AccessLog>) {
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            if mailbox.send(Message::UseLog { log: log.clone(), done }).await.is_ok() {
                let _ = wait.await;
            }
        }
    }

    /// Hands the access-log lines the workers still hold to the writer.
    pub async fn flush_log(&self) {
        for mailbox in &self.mailboxes {
            let (done, wait) = oneshot::channel();
            if mailbox.send(Message::FlushLog { done }).await.is_ok() {
                let _ = wait.await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::runtime;

    #[test]
    fn one_look_at_the_kernel_tells_of_every_connection_that_is_ready() {
        const READY: usize = 1100;
        let (descriptors, _) = daemun_sys::raise_nofile().unwrap();
        runtime(descriptors).unwrap().block_on(async {
            let (mut other, own) = UnixStream::pair().unwrap();
            own.set_nonblocking(true).unwrap();
            let ready = |stream: UnixStream| tokio::net::UnixStream::from_std(stream).unwrap();
            let all: Vec<_> = (0..READY).map(|_| ready(own.try_clone().unwrap())).collect();
            // as they are once told that there is room to write
            tokio::task::yield_now().await;
            other.write_all(b"a").unwrap();
            tokio::task::yield_now().await;
            // that asks only those the kernel was heard to have something for
            let told = all.iter().filter(|stream| !crate::socket::is_quiet(*stream)).count();
            assert_eq!(told, READY);
        });
    }
}
