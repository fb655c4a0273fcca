//! A world for tests: calls are answered by a script, work runs on threads of its own, and time moves when the test says so.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_pipeline::world::Busy;
use daemun_pipeline::{Later, OutAnswer, OutCall, OutError, World};
use tokio::sync::watch;

use crate::testing::{WALL, wait};

type Script = Box<dyn Fn(&OutCall) -> Result<OutAnswer, OutError> + Send + Sync>;

/// The world.
pub(crate) struct Scripted {
    script: Mutex<Arc<Script>>,
    /// Nanoseconds.
    clock: watch::Sender<u64>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What happened so far.
#[derive(Default)]
pub(crate) struct Seen {
    /// Method, host and target of each call.
    pub(crate) calls: Vec<String>,
    /// Calls that were answered.
    pub(crate) answered: usize,
    /// What the operator was told.
    pub(crate) told: Vec<String>,
    /// How many wait for the clock.
    pub(crate) waiting: usize,
    /// How many ever did.
    pub(crate) waits: usize,
}

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(&OutCall) -> Result<OutAnswer, OutError> + Send + Sync + 'static,
    ) -> Arc<Scripted> {
        Arc::new(Scripted {
            script: Mutex::new(Arc::new(Box::new(script))),
            clock: watch::Sender::new(WALL),
            seen: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Another script from now on.
    pub(crate) fn answers(&self, script: impl Fn(&OutCall) -> Result<OutAnswer, OutError> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(Box::new(script));
    }

    /// Moves the clock.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.send_modify(|now| *now += time.as_nanos() as u64);
    }

    /// What happened so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what happened is as wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen();
        while !wanted(&seen) {
            seen = self.changed.wait(seen).unwrap();
        }
    }

    fn note(&self, what: impl FnOnce(&mut Seen)) {
        what(&mut self.seen());
        self.changed.notify_all();
    }
}

/// An answer with a body.
pub(crate) fn ok(body: impl Into<String>) -> Result<OutAnswer, OutError> {
    Ok(OutAnswer { status: 200, fields: Vec::new(), body: body.into().into() })
}

/// No answer.
pub(crate) fn away() -> Result<OutAnswer, OutError> {
    Err(OutError::away("no connection"))
}

/// The world as policies are given it.
pub(crate) struct Given(pub(crate) Arc<Scripted>);

impl World for Given {
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>> {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            let line = format!("{} {}{}", call.method, call.server.authority, call.target);
            world.note(|seen| seen.calls.push(line));
            let script = Arc::clone(&world.script.lock().unwrap());
            let answer = script(&call);
            world.note(|seen| seen.answered += 1);
            answer
        })
    }

    fn spawn(&self, work: Later<()>) {
        std::thread::spawn(|| wait(work));
    }

    fn compute(&self, job: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        job();
        Box::pin(std::future::ready(Ok(())))
    }

    fn wait(&self, how_long: Duration) -> Later<()> {
        let until = *self.0.clock.borrow() + how_long.as_nanos() as u64;
        let (world, mut clock) = (Arc::clone(&self.0), self.0.clock.subscribe());
        Box::pin(async move {
            world.note(|seen| {
                seen.waiting += 1;
                seen.waits += 1;
            });
            let _ = clock.wait_for(|now| *now >= until).await;
            world.note(|seen| seen.waiting -= 1);
        })
    }

    fn now(&self) -> u64 {
        *self.0.clock.borrow()
    }

    fn tell(&self, subject: &'static str, text: String) {
        self.0.note(|seen| seen.told.push(format!("{subject}: {text}")));
    }
}
