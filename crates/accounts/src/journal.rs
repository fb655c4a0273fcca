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

type Asked = (Vec<Change>, oneshot::Sender<Result<(), StoreError>>);

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Journal(SyncSender<Asked>);

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
        let (answer, done) = oneshot::channel();
        self.0.try_send((changes, answer)).map_err(|_| NotTaken)?;
        Ok(done)
    }
}

fn run(mut store: Box<dyn Store>, asks: &Receiver<Asked>, around: &impl Around) {
    let mut fails = false;
    let mut turn = 0_u64;
    loop {
        match asks.recv_timeout(IDLE) {
            Ok(first) => commit(&mut *store, first, asks),
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

/// Commits what is waiting.
fn commit(store: &mut dyn Store, first: Asked, asks: &Receiver<Asked>) {
    let (mut changes, mut answers) = (first.0, vec![first.1]);
    while changes.len() < COMMIT
        && let Ok((more, answer)) = asks.try_recv()
    {
        changes.extend(more);
        answers.push(answer);
    }
    let done = store.apply(&changes);
    for answer in answers {
        // whoever asked may have left
        let _ = answer.send(done.clone());
    }
}

fn look_around(store: &mut dyn Store, around: &impl Around) -> Result<(), StoreError> {
    if store.has_news()? {
        let mut news = Vec::new();
        store.read(&mut |change| news.push(change))?;
        around.came(news);
    }
    let due = around.due();
    if !due.is_empty() {
        store.apply(&due)?;
    }
    store.forget(around.now(), FORGET)?;
    Ok(())
}
