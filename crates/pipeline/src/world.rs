//! What a policy may ask of the world outside an exchange: calls over HTTP, work beside the workers, the time. Knows no policy.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use daemun_config::model::Server;

/// What will come to something later, on whichever runtime polls it.
pub type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A call that is made on the gateway's own behalf.
#[derive(Clone, Debug)]
pub struct OutCall {
    /// Who is called.
    pub server: Arc<Server>,
    /// Method.
    pub method: &'static str,
    /// Path and query; may hold a secret.
    pub target: String,
    /// Fields, without `Host` and framing; their values are secrets.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Body; empty for none.
    pub body: Bytes,
    /// Time for all of it, from connecting to the end of the answer.
    pub within: Duration,
    /// Bytes of the answer's body at most.
    pub most: usize,
}

/// What was answered, whole.
#[derive(Clone, Debug, Default)]
pub struct OutAnswer {
    /// Status.
    pub status: u16,
    /// Fields, names in lower case.
    pub fields: Vec<(String, Vec<u8>)>,
    /// Body.
    pub body: Bytes,
}

impl OutAnswer {
    /// The first field of a name, which is in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

/// Why there is no answer, in words, without anything secret.
#[derive(Clone, Debug)]
pub struct OutError {
    /// What went wrong.
    pub why: String,
    /// Whose fault it is, as far as that can be told.
    pub failure: OutFailure,
}

/// What became of a call that has no answer.
#[derive(Clone, Debug)]
pub enum OutFailure {
    /// Whoever was called is away: there was no connection, or it ended, or time was up, before there was a head.
    Away,
    /// Something was answered that cannot be gone by: it is malformed, too large, or does not end. With its head, where that could be read.
    Unusable(Option<Box<OutAnswer>>),
    /// It was not made: too many are under way, or it cannot be written.
    NotMade,
}

impl OutError {
    /// Whoever was called is away.
    #[must_use]
    pub fn away(why: impl Into<String>) -> OutError {
        OutError { why: why.into(), failure: OutFailure::Away }
    }

    /// What was answered cannot be gone by; with its head, where that could be read.
    #[must_use]
    pub fn unusable(why: impl Into<String>, head: Option<OutAnswer>) -> OutError {
        OutError { why: why.into(), failure: OutFailure::Unusable(head.map(Box::new)) }
    }

    /// The call was not made.
    #[must_use]
    pub fn not_made(why: impl Into<String>) -> OutError {
        OutError { why: why.into(), failure: OutFailure::NotMade }
    }
}

impl fmt::Display for OutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for OutError {}

/// More work is waiting than will be done in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// The world, as the process gives it to policies.
pub trait World: Send + Sync {
    /// Makes a call; connections are kept by the thread that polls it.
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>>;

    /// Runs work beside the workers to its end.
    fn spawn(&self, work: Later<()>);

    /// Runs what is heavy on the CPU on a few threads of low priority; done when it has run.
    fn compute(&self, job: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>>;

    /// Waits so long, or until a manual clock has moved.
    fn wait(&self, how_long: Duration) -> Later<()>;

    /// Wall clock, nanoseconds since the Unix epoch. Some 20 ns.
    fn now(&self) -> u64;

    /// Warns the operator; `text` holds no secret.
    fn tell(&self, subject: &'static str, text: String);
}

/// Runs what is heavy on the CPU as [`World::compute`] does, and gives what it comes to.
///
/// # Errors
/// [`Busy`] when too much waits already; then it does not run.
pub async fn compute<T: Send + 'static>(
    world: &dyn World,
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Busy> {
    let result = Arc::new(Mutex::new(None));
    let to = Arc::clone(&result);
    let job = Box::new(move || {
        let done = job();
        *to.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    });
    world.compute(job).await?;
    result.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(Busy)
}

/// A world where nothing can be asked and nothing runs: that of `check`, `explain` and previews.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Nowhere {
    /// It, as policies are given it.
    #[must_use]
    pub fn shared() -> Arc<dyn World> {
        Arc::new(Nowhere)
    }
}

impl World for Nowhere {
    fn call(&self, _: OutCall) -> Later<Result<OutAnswer, OutError>> {
        Box::pin(std::future::ready(Err(OutError::not_made("nothing is called from here"))))
    }

    fn spawn(&self, _: Later<()>) {}

    fn compute(&self, _: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        Box::pin(std::future::ready(Err(Busy)))
    }

    fn wait(&self, _: Duration) -> Later<()> {
        Box::pin(std::future::pending())
    }

    #[allow(clippy::disallowed_methods, reason = "commands that look at a configuration have no other clock")]
    fn now(&self) -> u64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    fn tell(&self, _: &'static str, _: String) {}
}
