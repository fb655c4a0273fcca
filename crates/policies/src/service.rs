//! A service that policies ask, played for tests: what it was asked, and answers in the order they were given.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemun_pipeline::world::Busy;
use daemun_pipeline::{Later, OutAnswer, OutCall, OutError, World};

/// A world with one service in it.
#[derive(Default)]
pub(crate) struct Service {
    answers: Mutex<VecDeque<Result<OutAnswer, OutError>>>,
    asked: Mutex<Vec<OutCall>>,
}

impl Service {
    /// Answers the next question with the text of an answer; what stands behind an empty line is its body.
    pub(crate) fn answer(&self, text: &str) {
        let mut lines = text.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("`{line}` is a field"));
            (name.to_ascii_lowercase(), value.trim().as_bytes().to_vec())
        };
        let fields = lines.by_ref().take_while(|line| !line.is_empty()).map(field).collect();
        let body = lines.collect::<Vec<_>>().join("\n");
        self.give(Ok(OutAnswer { status, fields, body: body.into() }));
    }

    /// Does not answer the next question.
    pub(crate) fn fail(&self, why: &str) {
        self.give(Err(OutError::away(why)));
    }

    pub(crate) fn give(&self, answer: Result<OutAnswer, OutError>) {
        lock(&self.answers).push_back(answer);
    }

    /// What it was asked since this was last called, each question as its lines.
    pub(crate) fn asked(&self) -> Vec<Vec<String>> {
        let asked = std::mem::take(&mut *lock(&self.asked));
        let lines = |call: OutCall| {
            let fields = call.fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
            std::iter::once(format!("{} {} HTTP/1.1", call.method, call.target)).chain(fields).collect()
        };
        asked.into_iter().map(lines).collect()
    }

    /// Whether answers are left that nobody asked for.
    pub(crate) fn is_done(&self) -> bool {
        lock(&self.answers).is_empty()
    }
}

impl World for Service {
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>> {
        lock(&self.asked).push(call);
        let none = || Err(OutError::away("no answer was expected"));
        Box::pin(std::future::ready(lock(&self.answers).pop_front().unwrap_or_else(none)))
    }

    fn spawn(&self, _: Later<()>) {}

    fn compute(&self, job: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        job();
        Box::pin(std::future::ready(Ok(())))
    }

    fn wait(&self, _: Duration) -> Later<()> {
        Box::pin(std::future::ready(()))
    }

    fn now(&self) -> u64 {
        0
    }

    fn tell(&self, _: &'static str, _: String) {}
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
