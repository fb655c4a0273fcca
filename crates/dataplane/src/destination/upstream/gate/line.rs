//! Who waits for an upstream, and who is next: by importance, and within it evenly among callers. A pure core: time is an argument. Knows
//! nothing of what waits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use daemun_config::model::Importance;

/// Classes of importance, the highest first.
pub(crate) const CLASSES: [Importance; 3] = [Importance::High, Importance::Normal, Importance::Low];
/// A class that waits while higher ones were served so many times is served.
const EVERY: u32 = 10;
/// This part of the places is kept for each class.
const KEPT: usize = 10;

/// Whose calls share a turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Caller {
    /// A consumer, by name.
    Consumer(Arc<str>),
    /// An address, or a network of them.
    Address(u128),
}

/// Where a call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    class: usize,
    caller: Caller,
    number: u64,
}

/// What comes of a call that wants to wait.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<T> {
    /// It waits.
    Waits(Ticket),
    /// It waits in place of this one.
    Instead(Ticket, T),
    /// There is no place for it.
    Refused(T),
}

struct Waiting<T> {
    since: u64,
    until: u64,
    what: T,
}

/// The calls of one caller, oldest first.
struct Flow<T> {
    calls: BTreeMap<u64, Waiting<T>>,
    turn: u64,
}

struct Class<T> {
    flows: HashMap<Caller, Flow<T>>,
    turns: BTreeMap<u64, Caller>,
    /// Callers by how many of their calls wait.
    longest: BTreeSet<(usize, Caller)>,
    len: usize,
    /// How often a higher class was served while this one waited.
    passed: u32,
}

/// Everything that waits for one upstream.
pub(super) struct Line<T> {
    classes: [Class<T>; CLASSES.len()],
    len: usize,
    next: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Line { classes: std::array::from_fn(|_| Class::default()), len: 0, next: 0 }
    }
}

impl<T> Line<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many of each class wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> [usize; CLASSES.len()] {
        self.classes.each_ref().map(|class| class.len)
    }

    /// Lets a call wait from `now` until `until`, of at most `most`. When all places are taken, the newest call of the caller with most
    /// goes, in the lowest class that has more than what is kept for it.
    pub(super) fn push(
        &mut self,
        importance: Importance,
        caller: Caller,
        now: u64,
        until: u64,
        most: usize,
        what: T,
    ) -> Pushed<T> {
        let class = importance as usize;
        let mut instead = None;
        if self.len >= most {
            match self.make_room(class, &caller, most) {
                Some(gone) => instead = Some(gone),
                None => return Pushed::Refused(what),
            }
        }
        self.next += 1;
        let number = self.next;
        let ticket = Ticket { class, caller: caller.clone(), number };
        let Some(class) = self.classes.get_mut(class) else { return Pushed::Refused(what) };
        class.push(caller, number, Waiting { since: now, until, what });
        self.len += 1;
        match instead {
            Some(gone) => Pushed::Instead(ticket, gone),
            None => Pushed::Waits(ticket),
        }
    }

    /// Takes a call out for one of `caller` in `class`; `None` when that is itself the one to go.
    fn make_room(&mut self, class: usize, caller: &Caller, most: usize) -> Option<T> {
        let kept = most / KEPT;
        let lengths = self.classes.each_ref().map(|class| class.len);
        let over = |(at, len): &(usize, usize)| *len + usize::from(*at == class) > kept;
        let (at, _) = lengths.into_iter().enumerate().rev().find(over)?;
        let from = self.classes.get_mut(at)?;
        let (longest, greediest) = from.longest.last().cloned()?;
        if at == class && from.flows.get(caller).map_or(0, |flow| flow.calls.len()) + 1 >= longest {
            return None;
        }
        let newest = *from.flows.get(&greediest)?.calls.last_key_value()?.0;
        let gone = from.take(&greediest, newest)?;
        self.len -= 1;
        Some(gone.what)
    }

    /// Who is next. Whoever waited too long is let go.
    pub(super) fn next(&mut self, now: u64) -> Option<T> {
        while self.len > 0 {
            let at = self.due()?;
            let class = self.classes.get_mut(at)?;
            let (_, caller) = class.turns.first_key_value()?;
            let caller = caller.clone();
            let calls = &class.flows.get(&caller)?.calls;
            let (oldest, first) = calls.first_key_value()?;
            // whoever waited that long is likely to be given up soon: who came last is served in time
            let late = now.saturating_sub(first.since) > first.until.saturating_sub(first.since) / 2;
            let expired = first.until <= now;
            let number = if late && !expired { *calls.last_key_value()?.0 } else { *oldest };
            let taken = class.take(&caller, number)?;
            self.len -= 1;
            if expired {
                continue;
            }
            self.next += 1;
            class.end_turn(&caller, self.next);
            self.served(at);
            return Some(taken.what);
        }
        None
    }

    /// The class to serve: the highest, but one that was passed over often enough before it.
    fn due(&self) -> Option<usize> {
        let waiting = || self.classes.iter().enumerate().filter(|(_, class)| class.len > 0);
        waiting().find(|(_, class)| class.passed >= EVERY).or_else(|| waiting().next()).map(|(at, _)| at)
    }

    fn served(&mut self, at: usize) {
        for (other, class) in self.classes.iter_mut().enumerate() {
            if other == at || class.len == 0 {
                class.passed = 0;
            } else if other > at {
                class.passed = class.passed.saturating_add(1);
            }
        }
    }

    /// Takes out a call that waits no more; nothing when it does not.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        let class = self.classes.get_mut(ticket.class);
        let left = class.and_then(|class| class.take(&ticket.caller, ticket.number)).is_some();
        self.len -= usize::from(left);
        left
    }
}

impl<T> Default for Class<T> {
    fn default() -> Self {
        Class { flows: HashMap::new(), turns: BTreeMap::new(), longest: BTreeSet::new(), len: 0, passed: 0 }
    }
}

impl<T> Class<T> {
    fn push(&mut self, caller: Caller, number: u64, waiting: Waiting<T>) {
        self.len += 1;
        let flow = self.flows.entry(caller.clone()).or_insert_with(|| {
            self.turns.insert(number, caller.clone());
            Flow { calls: BTreeMap::new(), turn: number }
        });
        self.longest.remove(&(flow.calls.len(), caller.clone()));
        flow.calls.insert(number, waiting);
        self.longest.insert((flow.calls.len(), caller));
    }

    /// Takes a call out; a caller without others is forgotten.
    fn take(&mut self, caller: &Caller, number: u64) -> Option<Waiting<T>> {
        let flow = self.flows.get_mut(caller)?;
        let before = flow.calls.len();
        let taken = flow.calls.remove(&number)?;
        self.len -= 1;
        self.longest.remove(&(before, caller.clone()));
        if before > 1 {
            self.longest.insert((before - 1, caller.clone()));
        } else {
            self.turns.remove(&flow.turn);
            self.flows.remove(caller);
        }
        Some(taken)
    }

    /// Puts a caller that was served behind the others.
    fn end_turn(&mut self, caller: &Caller, turn: u64) {
        if let Some(flow) = self.flows.get_mut(caller) {
            self.turns.remove(&flow.turn);
            flow.turn = turn;
            self.turns.insert(turn, caller.clone());
        }
    }
}
