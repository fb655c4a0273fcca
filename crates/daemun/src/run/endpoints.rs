//! The status and admin listeners while the gateway runs: which are served, and what they are told of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemun_accounts::Accounts;
use daemun_config::model::{CredentialName, Terms};
use daemun_control::{Listener, Source, Waiting, serve_admin, serve_status};
use daemun_dataplane::record::{Events, Metrics, OfAccounts, Recent};
use daemun_dataplane::{Clock, Gateway, TargetStatus, Unknown, UpstreamStatus};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::sockets::{Bound, Role, Sockets, Table};

/// The running gateway, as the listeners ask it.
struct Running {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    accounts: Arc<Accounts>,
    clock: Clock,
    events: Events,
    ready: AtomicBool,
}

impl Source for Running {
    fn metrics(&self) -> String {
        let (tokens, checks) = (self.accounts.tokens(), self.accounts.checks());
        let of_accounts = OfAccounts { tokens, hashes: checks.hashes(), binds: checks.binds() };
        self.metrics.render_with(&self.gateway.upstreams(), &of_accounts)
    }

    fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.gateway.upstreams()
    }

    fn drain(&self, upstream: &str, target: &str, on: bool) -> Result<TargetStatus, Unknown> {
        let (status, is_new) = self.gateway.drain_target(upstream, target, on)?;
        if is_new {
            let what = if on { "drains and gets no new call" } else { "no longer drains" };
            self.events.info("drain", format_args!("target `{target}` of upstream `{upstream}` {what}"));
        }
        Ok(status)
    }

    fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    fn declares(&self, consumer: &str) -> bool {
        self.gateway.snapshot().has_consumer(consumer)
    }

    fn declares_user(&self, name: &str) -> bool {
        self.gateway.snapshot().has_user(name)
    }

    fn declares_credential(&self, credential: &CredentialName) -> bool {
        self.gateway.snapshot().has_credential(credential)
    }

    fn declared(&self, consumer: &str) -> Vec<(CredentialName, Terms)> {
        self.gateway.snapshot().credentials_of(consumer)
    }

    fn plans_of(&self, consumer: &str) -> Vec<String> {
        self.gateway.snapshot().plans_of(consumer)
    }

    fn now(&self) -> u64 {
        self.clock.wall(self.clock.now()) / 1_000_000
    }

    fn audit(&self, what: &str) {
        self.events.info("audit", format_args!("{what}"));
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn recent(&self, n: usize) -> Waiting<'_, Vec<Recent>> {
        Box::pin(self.gateway.latest(n))
    }

    fn find<'a>(&'a self, id: &'a [u8]) -> Waiting<'a, Option<Recent>> {
        Box::pin(self.gateway.find(id))
    }
}

/// Status and admin listeners that are served; all end when it is dropped.
pub(super) struct Endpoints {
    running: Arc<Running>,
    events: Events,
    served: Vec<Served>,
    /// Those that only answer what was asked before.
    ending: Vec<Task>,
}

struct Served {
    bound: Arc<Bound>,
    task: Task,
    /// Dropped, the listener is closed.
    _stop: oneshot::Sender<()>,
}

struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Endpoints {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        metrics: Arc<Metrics>,
        accounts: Arc<Accounts>,
        clock: Clock,
        events: Events,
    ) -> Self {
        let ready = AtomicBool::new(false);
        let running = Arc::new(Running { gateway, metrics, accounts, clock, events: events.clone(), ready });
        Self { running, events, served: Vec::new(), ending: Vec::new() }
    }

    /// Serves exactly the status and admin addresses of `sockets` from now on. Those served already go on undisturbed.
    ///
    /// # Errors
    /// When a socket cannot be copied; then everything stays as it is.
    pub(super) fn serve(&mut self, sockets: &Table) -> io::Result<()> {
        let mut fresh = Vec::new();
        for bound in sockets.iter().filter(|bound| bound.key.role != Role::Listener) {
            if !self.served.iter().any(|served| Arc::ptr_eq(&served.bound, bound)) {
                fresh.push((Arc::clone(bound), listener(&bound.sockets)?));
            }
        }
        self.ending.retain(|task| !task.0.is_finished());
        let gone = self.served.extract_if(.., |served| !sockets.has(&served.bound));
        self.ending.extend(gone.map(|served| served.task));
        for (bound, listener) in fresh {
            let (stop, stopped) = oneshot::channel();
            let task = self.start(bound.key.role, listener, stopped);
            self.served.push(Served { bound, task: Task(task), _stop: stop });
        }
        Ok(())
    }

    /// What `/readyz` says from now on.
    pub(super) fn set_ready(&self, ready: bool) {
        self.running.ready.store(ready, Ordering::Relaxed);
    }

    /// Listens no more; what was asked before is answered.
    pub(super) fn stop(&mut self) {
        self.ending.extend(self.served.drain(..).map(|served| served.task));
    }

    /// Waits until all that was asked before [`Endpoints::stop`] is answered, which takes some seconds at most.
    pub(super) async fn ended(&mut self) {
        for task in &mut self.ending {
            let _ = (&mut task.0).await;
        }
        self.ending.clear();
    }

    fn start(&self, role: Role, listener: Listener, stopped: oneshot::Receiver<()>) -> JoinHandle<()> {
        let source = Arc::clone(&self.running) as Arc<dyn Source>;
        let stop = async move { drop(stopped.await) };
        match role {
            Role::Admin => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_admin(listener, source, stop).await {
                        events.error("admin", format_args!("the admin listener is not served: {error}"));
                    }
                })
            }
            Role::Status | Role::Listener => tokio::spawn(serve_status(listener, source, stop)),
        }
    }
}

fn listener(sockets: &Sockets) -> io::Result<Listener> {
    match sockets {
        Sockets::Tcp(all) => {
            let first = all.first().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(tokio::net::TcpListener::from_std(first.try_clone()?)?.into())
        }
        Sockets::Unix(socket) => Ok(tokio::net::UnixListener::from_std(socket.try_clone()?)?.into()),
    }
}
