//! The control plane's listeners: status, which only tells whether the gateway is well and how much it does, and admin, which also tells
//! of single requests and drains targets, and therefore answers nobody but this machine. Knows the data plane through [`Source`] alone.

mod answer;
mod origin;
mod server;
mod status;
mod drain;
mod accounts;
mod admin;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use daemun_accounts::Accounts;
use daemun_config::model::{CredentialName, Terms};
use daemun_dataplane::record::Recent;
use daemun_dataplane::{TargetStatus, Unknown, UpstreamStatus};

pub use server::Listener;

/// A reply that is waited for.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running gateway, as the listeners ask it.
pub trait Source: Send + Sync + 'static {
    /// Every metric, in the Prometheus text format.
    fn metrics(&self) -> String;

    /// How the upstreams that are in use stand, and their targets.
    fn upstreams(&self) -> Vec<UpstreamStatus>;

    /// Lets a target get no new call, or again some, and tells how it stands then.
    ///
    /// # Errors
    /// When there is none of this name.
    fn drain(&self, upstream: &str, target: &str, on: bool) -> Result<TargetStatus, Unknown>;

    /// Consumers, credentials and tokens.
    fn accounts(&self) -> &Arc<Accounts>;

    /// Whether the configuration has a consumer of this name.
    fn declares(&self, consumer: &str) -> bool;

    /// Whether the configuration has a user of this name, who is no consumer.
    fn declares_user(&self, name: &str) -> bool;

    /// Whether a consumer of the configuration has this credential.
    fn declares_credential(&self, credential: &CredentialName) -> bool;

    /// The credentials of a consumer of the configuration, and what is said of each.
    fn declared(&self, consumer: &str) -> Vec<(CredentialName, Terms)>;

    /// Names of the plans that a consumer of the configuration is on.
    fn plans_of(&self, consumer: &str) -> Vec<String>;

    /// Wall clock, milliseconds since the Unix epoch.
    fn now(&self) -> u64;

    /// Tells the operator's log who may call now; never a secret.
    fn audit(&self, what: &str);

    /// Whether requests are served: not while it starts, and not once it drains.
    fn ready(&self) -> bool;

    /// The newest `n` requests of all workers, newest first; `n` is at most [`MOST_RECENT`].
    fn recent(&self, n: usize) -> Waiting<'_, Vec<Recent>>;

    /// The newest request with this id that a worker still has.
    fn find<'a>(&'a self, id: &'a [u8]) -> Waiting<'a, Option<Recent>>;
}

/// Requests that are told at once.
pub const MOST_RECENT: usize = 1_000;

/// Serves `/metrics`, `/upstreams`, `/healthz` and `/readyz`, to anybody, until `stop` is done and the calls under way are answered, which takes five
/// seconds at most. Dropped, it closes the listener and its connections.
pub async fn serve_status(listener: impl Into<Listener>, source: Arc<dyn Source>, stop: impl Future<Output = ()>) {
    let answer = move |request: http::Request<hyper::body::Incoming>| {
        let answer = status::answer(&request, &*source);
        async move { answer.unwrap_or_else(answer::not_found) }
    };
    server::serve(listener.into(), answer, stop).await;
}

/// Serves recent requests, the draining of targets and all that status shows, to callers on this machine whose request names this machine; ends like [`serve_status`].
///
/// # Errors
/// `InvalidInput` at once, when the listener is not bound to a loopback address or a Unix socket.
pub async fn serve_admin(
    listener: impl Into<Listener>,
    source: Arc<dyn Source>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = listener.into();
    let here = listener.here()?;
    let answer = move |request| {
        let source = Arc::clone(&source);
        async move { admin::answer(request, here, &source).await }
    };
    server::serve(listener, answer, stop).await;
    Ok(())
}
