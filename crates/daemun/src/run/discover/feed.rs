//! What a source says becomes the targets of its upstream, and what an operator should know of it is told. Knows no kind of source.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daemun_config::model::{self, Discover};
use daemun_dataplane::record::Events;
use daemun_dataplane::{FoundTarget, Upstream};
use tokio::sync::watch;

use super::super::names::Names;
use super::{MOST_TARGETS, World};
use crate::output::count;

/// The way from one source to one upstream.
pub(super) struct Feed {
    kind: &'static str,
    may_be_empty: bool,
    events: Events,
    names: Arc<Names>,
    upstream: Mutex<Arc<Upstream>>,
    state: Mutex<State>,
    answered: watch::Sender<bool>,
}

/// What was found last, and what was told of it.
#[derive(Default)]
struct State {
    /// Nothing before the first answer.
    found: Option<Vec<FoundTarget>>,
    trouble: Option<Trouble>,
    /// What the source said last while it fails.
    why: String,
    /// The trouble with what was found last, which is there again when a silent source says that nothing changed.
    beneath: Option<Trouble>,
}

impl State {
    fn count(&self) -> usize {
        self.found.as_ref().map_or(0, Vec::len)
    }

    /// What is wrong, in words.
    fn trouble(&self) -> Option<&str> {
        Some(match self.trouble? {
            Trouble::Silent => &self.why,
            Trouble::Empty => "no target is known there",
            Trouble::TooMany => "too many targets are known there",
        })
    }
}

/// Why what is there is not what should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The source does not answer.
    Silent,
    /// It knows no target.
    Empty,
    /// It knows too many.
    TooMany,
}

impl Feed {
    pub(super) fn new(settings: &Discover, upstream: Arc<Upstream>, world: &World) -> Self {
        Self {
            kind: settings.source.kind(),
            may_be_empty: settings.may_be_empty,
            events: world.events.clone(),
            names: Arc::clone(&world.names),
            upstream: Mutex::new(upstream),
            state: Mutex::default(),
            answered: watch::Sender::new(false),
        }
    }

    /// The source knows these targets, and so many more that were left out.
    pub(super) fn found(&self, targets: Vec<FoundTarget>, left_out: usize) {
        let (targets, more) = bounded(targets);
        let left_out = left_out + more;
        let mut state = locked(&self.state);
        let (before, is_first) = (state.trouble, state.found.is_none());
        let trouble = match targets.len() {
            0 => Some(Trouble::Empty),
            _ if left_out > 0 => Some(Trouble::TooMany),
            _ => None,
        };
        state.trouble = trouble;
        state.beneath = trouble;
        let kept = trouble == Some(Trouble::Empty) && !self.may_be_empty;
        let changed = !kept && state.found.as_ref() != Some(&targets);
        if changed {
            state.found = Some(targets);
        }
        let (now, upstream) = (state.count(), Arc::clone(&locked(&self.upstream)));
        drop(state);
        self.note(&upstream);
        if changed {
            self.fill(&upstream);
            self.names.look();
        }
        self.tell(&upstream.name, (before, trouble), (changed, is_first), now, left_out);
        self.answered.send_replace(true);
    }

    /// The source says that nothing has changed.
    pub(super) fn unchanged(&self) {
        let mut state = locked(&self.state);
        if state.trouble == Some(Trouble::Silent) {
            state.trouble = state.beneath;
            let now = state.count();
            drop(state);
            let upstream = Arc::clone(&locked(&self.upstream));
            self.note(&upstream);
            let name = &upstream.name;
            let (kind, targets) = (self.kind, count(now, "target"));
            self.events.info(
                "discover",
                format_args!("`{name}` has {targets} by `{kind}`, which answers again: nothing changed"),
            );
        }
    }

    /// The source does not answer, or not sensibly. What was found stays. `why` holds nothing secret.
    pub(super) fn failed(&self, why: &str) {
        let mut state = locked(&self.state);
        let silent = state.trouble.replace(Trouble::Silent) == Some(Trouble::Silent);
        let told = silent && state.why == why;
        if !told {
            why.clone_into(&mut state.why);
        }
        let now = state.count();
        drop(state);
        if !told {
            let upstream = Arc::clone(&locked(&self.upstream));
            self.note(&upstream);
            let name = &upstream.name;
            let stays = if now > 0 { format!("; the last {now} stay") } else { String::new() };
            let kind = self.kind;
            self.events
                .warning("discover", format_args!("targets of `{name}` are not found by `{kind}`: {why}{stays}"));
        }
        self.answered.send_replace(true);
    }

    /// Gives what was found to an upstream.
    pub(super) fn fill(&self, upstream: &Upstream) {
        if let Some(found) = &locked(&self.state).found {
            upstream.replace_targets(found);
        }
    }

    /// Lets an upstream show what is wrong.
    fn note(&self, upstream: &Upstream) {
        upstream.found_with(locked(&self.state).trouble());
    }

    /// Gives what is found to this upstream from now on.
    pub(super) fn follow(&self, upstream: Arc<Upstream>) {
        self.fill(&upstream);
        self.note(&upstream);
        let before = std::mem::replace(&mut *locked(&self.upstream), Arc::clone(&upstream));
        drop(before);
        // what was found between the two
        self.fill(&upstream);
        self.note(&upstream);
    }

    /// Waits until the source has answered or failed.
    pub(super) async fn answered(&self) {
        let _ = self.answered.subscribe().wait_for(|answered| *answered).await;
    }

    fn tell(
        &self,
        name: &str,
        (before, trouble): (Option<Trouble>, Option<Trouble>),
        (changed, is_first): (bool, bool),
        now: usize,
        left_out: usize,
    ) {
        let kind = self.kind;
        match trouble {
            Some(Trouble::Empty) if before != trouble => {
                let stays = match (self.may_be_empty, now) {
                    (true, _) => ": calls get 503".to_owned(),
                    (false, 0) => String::new(),
                    (false, now) => format!("; the last {now} stay"),
                };
                let when = if is_first { "yet" } else { "any more" };
                self.events.warning("discover", format_args!("`{name}` has no target {when} by `{kind}`{stays}"));
            }
            Some(Trouble::TooMany) if before != trouble => {
                self.events.warning(
                    "discover",
                    format_args!(
                        "`{name}` has too many targets by `{kind}`: the first {now} are called, {left_out} are not"
                    ),
                );
            }
            None if before.is_some() || changed => {
                let targets = count(now, "target");
                let again = if before == Some(Trouble::Silent) { ", which answers again" } else { "" };
                self.events.info("discover", format_args!("`{name}` has {targets} by `{kind}`{again}"));
            }
            Some(Trouble::Silent | Trouble::Empty | Trouble::TooMany) | None => {}
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each address once, the first so many, and how many there are beyond them.
fn bounded(targets: Vec<FoundTarget>) -> (Vec<FoundTarget>, usize) {
    let mut seen = HashSet::new();
    let fresh = |target: &FoundTarget| seen.insert((target.address.clone(), target.tls, target.base_path.clone()));
    let mut targets: Vec<FoundTarget> = targets.into_iter().filter(fresh).collect();
    let more = targets.len().saturating_sub(MOST_TARGETS);
    targets.truncate(MOST_TARGETS);
    (targets, more)
}

/// A target of a list, as one that was found.
pub(super) fn listed(target: model::Target) -> FoundTarget {
    FoundTarget {
        url: target.url.value,
        address: target.address,
        tls: target.tls,
        base_path: target.base_path,
        weight: target.weight,
        tier: target.tier,
        zone: target.zone,
        drain: target.drain,
    }
}

/// A target at a host and a port, with the usual weight.
pub(super) fn at(host: &str, port: u16, tls: bool) -> FoundTarget {
    let (scheme, host) = (if tls { "https" } else { "http" }, host.to_ascii_lowercase());
    let url =
        if host.contains(':') { format!("{scheme}://[{host}]:{port}") } else { format!("{scheme}://{host}:{port}") };
    FoundTarget {
        url,
        address: model::TargetAddress::Tcp { host, port },
        tls,
        base_path: String::new(),
        weight: 1,
        tier: 0,
        zone: None,
        drain: false,
    }
}

/// In an order that does not depend on that of the answer.
pub(super) fn sort(targets: &mut [FoundTarget]) {
    targets.sort_by(|a, b| (a.tier, &a.url).cmp(&(b.tier, &b.url)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what is told.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            locked(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn feed(events: &Events) -> Feed {
        let text = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams: { u: { targets: [\"http://127.0.0.1:9\"] } }\n\
                    routes: [{ name: a, upstream: u }]\n";
        let path = std::env::temp_dir().join(format!("daemun-feed-{}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let (_, snapshot) = crate::configuration::Compiled::detached(Some(&path)).sound.unwrap();
        std::fs::remove_file(&path).unwrap();
        let clock = daemun_dataplane::Clock::system();
        let lookup = Arc::new(super::super::super::lookup::Lookup::system(clock.clone()));
        Feed {
            kind: "http",
            may_be_empty: false,
            events: events.clone(),
            names: Arc::new(Names::new(clock, events.clone(), lookup)),
            upstream: Mutex::new(Arc::clone(snapshot.upstreams().next().unwrap())),
            state: Mutex::default(),
            answered: watch::Sender::new(false),
        }
    }

    #[tokio::test]
    async fn each_kind_of_trouble_is_told_once_and_so_is_its_end() {
        let kept = Kept::default();
        let events = Events::to(daemun_dataplane::Clock::system(), kept.clone()).unwrap();
        let told = || {
            assert!(events.flush(std::time::Duration::from_secs(10)));
            let text = String::from_utf8(std::mem::take(&mut *locked(&kept.0))).unwrap();
            text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        let feed = feed(&events);
        feed.found(vec![at("10.0.0.1", 80, false)], 0);
        assert_eq!(told(), ["info discover: `u` has 1 target by `http`"]);
        (0..3).for_each(|_| feed.failed("no connection"));
        feed.failed("it answers 500");
        let failing = |why| format!("warning discover: targets of `u` are not found by `http`: {why}; the last 1 stay");
        assert_eq!(told(), [failing("no connection"), failing("it answers 500")]);
        (0..2).for_each(|_| feed.unchanged());
        assert_eq!(told(), ["info discover: `u` has 1 target by `http`, which answers again: nothing changed"]);
        feed.failed("no connection");
        feed.found(vec![at("10.0.0.1", 80, false)], 0);
        assert_eq!(
            told(),
            [failing("no connection"), "info discover: `u` has 1 target by `http`, which answers again".into()]
        );
        feed.found(Vec::new(), 0);
        feed.failed("no connection");
        feed.unchanged();
        assert_eq!(told().len(), 3);
        // it still knows none, which was told
        feed.found(Vec::new(), 0);
        assert_eq!(told(), Vec::<String>::new());
        feed.found(vec![at("10.0.0.1", 80, false)], 0);
        assert_eq!(told(), ["info discover: `u` has 1 target by `http`"]);
    }

    #[test]
    fn of_too_many_targets_the_first_count_and_each_counts_once() {
        let mut targets: Vec<FoundTarget> = (0..1_003).map(|port| at("10.0.0.1", 1_000 + port, false)).collect();
        targets.push(at("10.0.0.1", 1_000, false));
        let (kept, more) = bounded(targets);
        assert_eq!((kept.len(), more), (MOST_TARGETS, 3));
        assert_eq!(kept[999].url, "http://10.0.0.1:1999");
    }

    #[test]
    fn an_address_of_version_6_stands_in_brackets() {
        let target = at("2001:db8::1", 80, true);
        assert_eq!(target.url, "https://[2001:db8::1]:80");
        assert_eq!(target.address, model::TargetAddress::Tcp { host: "2001:db8::1".into(), port: 80 });
    }
}
