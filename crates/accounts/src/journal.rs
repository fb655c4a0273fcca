//! One thread owns the store. What is asked of it meanwhile is committed together: the more there is, the less each costs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::change::Change;
use crate::plan::Used;
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
/// What is forgotten at once at least and at most, and the time between two goes, milliseconds. Little, since calls on the same core wait
/// meanwhile.
const LEAST: usize = 32;
const MOST: usize = 4_000;
const FORGET_EVERY: u64 = 1_000;
/// The time between two goes while more is due: short enough to keep up, long enough to leave others most of a processor.
const MORE: Duration = Duration::from_millis(2);

/// What comes of what is asked.
type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the thread is asked.
enum Ask {
    /// That changes last, and whether they were made.
    Write(Vec<Change>, Answer<bool>),
    /// That what other processes did be looked at now.
    Look(Answer<()>),
    /// What a consumer has used, of all processes.
    Usage(String, Answer<Vec<Used>>),
}

/// The way to the thread.
#[derive(Debug)]
pub(crate) struct Journal(SyncSender<Ask>);

/// What the thread tells of beside its answers.
pub(crate) trait Around: Send + 'static {
    /// Another process made these changes. Gives what is to be written for that.
    fn came(&self, changes: Vec<Change>) -> Vec<Change>;
    /// Wall clock, milliseconds since the Unix epoch.
    fn now(&self) -> u64;
    /// Something does not work.
    fn tell(&self, what: String);
    /// What should be written now and then, with so much forgotten at most; and whether more of that is due.
    fn due(&self, most: usize) -> (Vec<Change>, bool);
    /// Counts again what was due and could not be written.
    fn not_written(&self, changes: &[Change]);
    /// What was counted of a consumer and is not written yet.
    fn counted_of(&self, consumer: &str) -> Vec<Used>;
    /// Whether another process is likely to change something.
    fn others(&self) -> bool;
    /// Says so.
    fn set_others(&self, others: bool);
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
        self.ask(|answer| Ask::Write(changes, answer))
    }

    /// Has what other processes did taken in; the answer comes behind it.
    pub(crate) fn look(&self) -> Result<oneshot::Receiver<Result<(), StoreError>>, NotTaken> {
        self.ask(Ask::Look)
    }

    /// Asks what a consumer has used, in no order: what the store has of it, and what is not written yet.
    pub(crate) fn usage(&self, consumer: String) -> Result<oneshot::Receiver<Result<Vec<Used>, StoreError>>, NotTaken> {
        self.ask(|answer| Ask::Usage(consumer, answer))
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
    let mut alert = 0_u32;
    // whose place this process takes, for one
    around.set_others(true);
    let mut forgetting = Forgetting::default();
    loop {
        if alert == 0 && around.others() {
            alert = ALERT_TURNS;
        }
        let pause = if alert > 0 { ALERT } else { IDLE };
        let idle = match asks.recv_timeout(if forgetting.more { pause.min(MORE) } else { pause }) {
            Ok(first) => {
                serve(&mut *store, first, asks, around, &mut forgetting.written);
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
        let looked = look_around(&mut *store, around, &mut forgetting);
        if let Err(error) = &looked
            && !fails
        {
            around.tell(format!("the store does not work: {error}"));
        }
        fails = looked.is_err();
        let before = alert;
        alert = if looked.unwrap_or(false) { ALERT_TURNS } else { alert.saturating_sub(u32::from(idle)) };
        if (before == 0) != (alert == 0) {
            around.set_others(alert > 0);
        }
    }
}

/// Does what is asked and what is waiting behind it: what is to be written in one commit, and one look for all who ask for it, so that those
/// who look do not make commits small. Whoever asked may have left.
fn serve(store: &mut dyn Store, first: Ask, asks: &Receiver<Ask>, around: &impl Around, written: &mut usize) {
    let (mut count, mut writes, mut looks) = (0, Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(ask) = next {
        match ask {
            Ask::Write(changes, answer) => {
                count += changes.len();
                writes.push((changes, answer));
            }
            Ask::Look(answer) => looks.push(answer),
            Ask::Usage(consumer, answer) => {
                // nothing is written meanwhile: that is this thread's
                let all = store.usage(&consumer).map(|mut all| {
                    all.extend(around.counted_of(&consumer));
                    all
                });
                let _ = answer.send(all);
            }
        }
        next = if count < COMMIT && looks.len() < QUEUE { asks.try_recv().ok() } else { None };
    }
    if !looks.is_empty() {
        let looked = look(store, around).map(drop);
        for answer in looks {
            let _ = answer.send(looked.clone());
        }
    }
    if !writes.is_empty() {
        *written += count;
        commit(store, writes);
    }
}

/// Commits what several ask for.
fn commit(store: &mut dyn Store, all: Vec<(Vec<Change>, Answer<bool>)>) {
    let changes: Vec<&[Change]> = all.iter().map(|(changes, _)| changes.as_slice()).collect();
    let done = store.apply(&changes);
    for (index, (_, answer)) in all.into_iter().enumerate() {
        let own = done.as_ref().map(|done| done.get(index).copied().unwrap_or(false));
        let _ = answer.send(own.map_err(Clone::clone));
    }
}

/// Takes in what other processes did; says whether there was anything that is told: what they count is not.
fn look(store: &mut dyn Store, around: &impl Around) -> Result<bool, StoreError> {
    let mut news = Vec::new();
    if store.has_news()? {
        store.read(&mut |change| news.push(change))?;
    }
    let has_news = !news.is_empty();
    if has_news {
        let more = around.came(news);
        if !more.is_empty() {
            store.apply(&[&more])?;
        }
    }
    Ok(has_news)
}

/// How far what has ended is forgotten.
#[derive(Default)]
struct Forgetting {
    /// When it was last looked for, milliseconds since the Unix epoch; 0 while more is due.
    last: u64,
    more: bool,
    /// Changes that were written since.
    written: usize,
}

impl Forgetting {
    /// How much may go now: more than what came, so that it does not pile up however much comes.
    fn most(&self) -> usize {
        (2 * self.written).clamp(LEAST, MOST)
    }
}

/// Looks for news, and forgets what has ended; says whether there was anything new.
fn look_around(store: &mut dyn Store, around: &impl Around, forgetting: &mut Forgetting) -> Result<bool, StoreError> {
    let has_news = look(store, around)?;
    let now = around.now();
    if now.abs_diff(forgetting.last) >= FORGET_EVERY {
        let most = forgetting.most();
        let (due, more) = around.due(most);
        if !due.is_empty()
            && let Err(error) = store.apply(&[&due])
        {
            around.not_written(&due);
            return Err(error);
        }
        let more = store.forget(now, most)? >= most || more;
        *forgetting = Forgetting { last: if more { 0 } else { now }, more, written: 0 };
    }
    Ok(has_news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_forgotten_than_came_and_never_much_at_once() {
        let most = |written| Forgetting { written, ..Forgetting::default() }.most();
        assert_eq!((most(0), most(1_500), most(usize::MAX / 2)), (LEAST, 3_000, MOST));
    }
}
