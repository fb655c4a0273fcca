//! The status and admin listeners while the gateway runs: which are served, and what they are told of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemun_control::{Listener, Source, Waiting, serve_admin, serve_status};
use daemun_dataplane::Gateway;
use daemun_dataplane::record::{Events, Metrics, Recent};
use tokio::task::JoinHandle;

use super::sockets::{Bound, Role, Sockets, Table};

/// The running gateway, as the listeners ask it.
struct Running {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    ready: AtomicBool,
}

impl Source for Running {
    fn metrics(&self) -> String {
        self.metrics.render()
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
}

struct Served {
    bound: Arc<Bound>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Endpoints {
    pub(super) fn new(gateway: Arc<Gateway>, metrics: Arc<Metrics>, events: Events) -> Self {
        let running = Arc::new(Running { gateway, metrics, ready: AtomicBool::new(false) });
        Self { running, events, served: Vec::new() }
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
        self.served.retain(|served| sockets.has(&served.bound));
        for (bound, listener) in fresh {
            let task = self.start(bound.key.role, listener);
            self.served.push(Served { bound, task });
        }
        Ok(())
    }

    /// What `/readyz` says from now on.
    pub(super) fn set_ready(&self, ready: bool) {
        self.running.ready.store(ready, Ordering::Relaxed);
    }

    /// Serves none any more.
    pub(super) fn stop(&mut self) {
        self.served.clear();
    }

    fn start(&self, role: Role, listener: Listener) -> JoinHandle<()> {
        let source = Arc::clone(&self.running) as Arc<dyn Source>;
        match role {
            Role::Admin => {
                let events = self.events.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve_admin(listener, source).await {
                        events.error("admin", format_args!("the admin listener is not served: {error}"));
                    }
                })
            }
            Role::Status | Role::Listener => tokio::spawn(serve_status(listener, source)),
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
