//! One thread owns the store. What is asked of it meanwhile is committed together: the more there is, the less each costs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::change::Change;
use crate::store::{Store, StoreError};

/// Askers that may wait.
const QUEUE: usize = 8_192;
/// Changes of one commit at most.
const COMMIT: usize = 4_096;
/// How long nothing need be asked before other work is done: looking for news, forgetting.
const IDLE: Duration = Duration::from_millis(100);
/// Rows that are forgotten at once.
const FORGET: usize = 500;

/// What comes of what is asked.
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked.
enum Ask {
    /// That changes last.
    Write(Vec<Change>, Answer<()>),
    /// That a token be used up, and whether it was not before.
    Take(i64, Answer<bool>),
    /// That what other processes did be looked at now.
    Look(Answer<()>),
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Journal(SyncSender<Ask>);

/// What the thread tells of beside its answers.
pub(crate) trait Around: Send + 'static {
    /// Another process made these changes.
    fn came(&self, changes: Vec<Change>);
    /// Wall clock, milliseconds since the Unix epoch.
    fn now(&self) -> u64;
    /// Something does not work.
    fn tell(&self, what: String);
    /// What should be written now and then.
    fn due(&self) -> Vec<Change>;
    /// Whether nobody uses it any more.
    fn is_gone(&self) -> bool;
}

/// Changes that are not to be had back: the queue is full, or the thread has ended.
pub(crate) struct NotTaken;

impl Journal {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(store: Box<dyn Store>, around: impl Around) -> std::io::Result<Journal> {
        let (asked, asks) = sync_channel(QUEUE);
        std::thread::Builder::new().name("daemun-store".into()).spawn(move || run(store, &asks, &around))?;
        Ok(Journal(asked))
    }

    /// Hands changes over; the answer comes once they last.
    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<oneshot::Receiver<Result<(), StoreError>>, NotTaken> {
        self.ask(|answer| Ask::Write(changes, answer))
    }

    /// Uses up a token; the answer, whether it was not used before, comes once that lasts.
    pub(crate) fn take(&self, token: i64) -> Result<oneshot::Receiver<Result<bool, StoreError>>, NotTaken> {
        self.ask(|answer| Ask::Take(token, answer))
    }

    /// Has what other processes did taken in; the answer comes behind it.
    pub(crate) fn look(&self) -> Result<oneshot::Receiver<Result<(), StoreError>>, NotTaken> {
        self.ask(Ask::Look)
    }

    fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<oneshot::Receiver<Result<T, StoreError>>, NotTaken> {
        let (answer, done) = oneshot::channel();
        self.0.try_send(ask(answer)).map_err(|_| NotTaken)?;
        Ok(done)
    }
}

fn run(mut store: Box<dyn Store>, asks: &Receiver<Ask>, around: &impl Around) {
    let mut fails = false;
    let mut turn = 0_u64;
    loop {
        match asks.recv_timeout(IDLE) {
            Ok(first) => {
                let mut next = Some(first);
                while let Some(ask) = next {
                    next = serve(&mut *store, ask, asks, around);
                }
            }
            Err(RecvTimeoutError::Timeout) if around.is_gone() => return,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // under load as well, but not with each commit
        turn += 1;
        if turn.is_multiple_of(8) || fails {
            let looked = look_around(&mut *store, around);
            if let Err(error) = &looked
                && !fails
            {
                around.tell(format!("the store does not work: {error}"));
            }
            fails = looked.is_err();
        }
    }
}

/// Does what is asked; gives what was found waiting behind it and is no part of it. Whoever asked may have left.
fn serve(store: &mut dyn Store, ask: Ask, asks: &Receiver<Ask>, around: &impl Around) -> Option<Ask> {
    match ask {
        Ask::Write(changes, answer) => return commit(store, changes, answer, asks),
        Ask::Take(token, answer) => {
            let _ = answer.send(store.take(token));
        }
        Ask::Look(answer) => {
            let _ = answer.send(look(store, around));
        }
    }
    None
}

/// Commits what is waiting to be written.
fn commit(store: &mut dyn Store, mut changes: Vec<Change>, first: Answer<()>, asks: &Receiver<Ask>) -> Option<Ask> {
    let (mut answers, mut behind) = (vec![first], None);
    while changes.len() < COMMIT
        && let Ok(ask) = asks.try_recv()
    {
        match ask {
            Ask::Write(more, answer) => {
                changes.extend(more);
                answers.push(answer);
            }
            other @ (Ask::Take(..) | Ask::Look(_)) => {
                behind = Some(other);
                break;
            }
        }
    }
    let done = store.apply(&changes);
    for answer in answers {
        // whoever asked may have left
        let _ = answer.send(done.clone());
    }
    behind
}

/// Takes in what other processes did.
fn look(store: &mut dyn Store, around: &impl Around) -> Result<(), StoreError> {
    if store.has_news()? {
        let mut news = Vec::new();
        store.read(&mut |change| news.push(change))?;
        around.came(news);
    }
    Ok(())
}

fn look_around(store: &mut dyn Store, around: &impl Around) -> Result<(), StoreError> {
    look(store, around)?;
    let due = around.due();
    if !due.is_empty() {
        store.apply(&due)?;
    }
    store.forget(around.now(), FORGET)?;
    Ok(())
}
