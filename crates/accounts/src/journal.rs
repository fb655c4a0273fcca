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
/// The same for a while after another process has changed something: it is likely to go on.
const ALERT: Duration = Duration::from_millis(5);
/// Idle turns of that while.
const ALERT_TURNS: u32 = 2_000;
/// Rows that are forgotten at once, and the time between two goes, milliseconds.
const FORGET: usize = 500;
const FORGET_EVERY: u64 = 1_000;

type Asked = (Vec<Change>, oneshot::Sender<Result<bool, StoreError>>);

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
    /// What should be written now and then, and whether more is due soon.
    fn due(&self) -> (Vec<Change>, bool);
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

    /// Hands changes over; the answer comes once they last, and says whether they were made ([`Store::apply`]).
    pub(crate) fn write(&self, changes: Vec<Change>) -> Result<oneshot::Receiver<Result<bool, StoreError>>, NotTaken> {
        let (answer, done) = oneshot::channel();
        self.0.try_send((changes, answer)).map_err(|_| NotTaken)?;
        Ok(done)
    }
}

fn run(mut store: Box<dyn Store>, asks: &Receiver<Asked>, around: &impl Around) {
    let mut fails = false;
    let mut turn = 0_u64;
    let mut alert = 0_u32;
    let mut forgot = 0;
    loop {
        let idle = match asks.recv_timeout(if alert > 0 { ALERT } else { IDLE }) {
            Ok(first) => {
                commit(&mut *store, first, asks);
                false
            }
            Err(RecvTimeoutError::Timeout) if around.is_gone() => return,
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // under load as well, but not with each commit
        turn += 1;
        if !(idle || fails || turn.is_multiple_of(8)) {
            continue;
        }
        let looked = look_around(&mut *store, around, &mut forgot);
        if let Err(error) = &looked
            && !fails
        {
            around.tell(format!("the store does not work: {error}"));
        }
        fails = looked.is_err();
        alert = if looked.unwrap_or(false) { ALERT_TURNS } else { alert.saturating_sub(u32::from(idle)) };
    }
}

/// Commits what is waiting.
fn commit(store: &mut dyn Store, first: Asked, asks: &Receiver<Asked>) {
    let mut count = first.0.len();
    let mut all = vec![first];
    while count < COMMIT
        && let Ok(more) = asks.try_recv()
    {
        count += more.0.len();
        all.push(more);
    }
    let changes: Vec<&[Change]> = all.iter().map(|(changes, _)| changes.as_slice()).collect();
    let done = store.apply(&changes);
    for (index, (_, answer)) in all.into_iter().enumerate() {
        let own = done.as_ref().map(|done| done.get(index).copied().unwrap_or(false));
        // whoever asked may have left
        let _ = answer.send(own.map_err(Clone::clone));
    }
}

/// Says whether there was anything new.
fn look_around(store: &mut dyn Store, around: &impl Around, forgot: &mut u64) -> Result<bool, StoreError> {
    let has_news = store.has_news()?;
    if has_news {
        let mut news = Vec::new();
        store.read(&mut |change| news.push(change))?;
        around.came(news);
    }
    let now = around.now();
    if now.abs_diff(*forgot) >= FORGET_EVERY {
        let (due, more) = around.due();
        if !due.is_empty() {
            store.apply(&[&due])?;
        }
        let more = store.forget(now, FORGET)? >= FORGET || more;
        *forgot = if more { 0 } else { now };
    }
    Ok(has_news)
}
