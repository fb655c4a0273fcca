//! Which target is checked when, and what its checks come to. Knows no network; time and chance are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use daemun_config::model::HealthCheck;

use super::super::names::nanos;

/// What a schedule keeps to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Nanoseconds between two checks of one target.
    pub(super) interval: u64,
    /// By how much, in hundredths of a per cent, that varies.
    pub(super) jitter: u32,
    pub(super) unhealthy_after: u32,
    pub(super) healthy_after: u32,
    /// Checks under way at once.
    pub(super) at_once: usize,
}

impl Settings {
    pub(super) fn of(check: &HealthCheck, at_once: usize) -> Self {
        Self {
            interval: nanos(check.interval.max(Duration::from_millis(1))),
            jitter: check.jitter,
            unhealthy_after: check.unhealthy_after,
            healthy_after: check.healthy_after,
            at_once,
        }
    }
}

/// The checks of some targets.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    settings: Settings,
    targets: BTreeMap<K, State>,
    /// Checks under way of targets that are still there or not.
    under_way: usize,
    /// Those under way of targets that are gone.
    gone: Vec<K>,
}

#[derive(Debug)]
struct State {
    /// When it is checked next; `None` while a check is under way.
    due: Option<u64>,
    /// Checks in a row that came out the same, and how.
    row: (u32, bool),
    /// What is known: `None` until one check succeeded or enough failed.
    healthy: Option<bool>,
    checked: bool,
}

/// What the end of a check changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Nothing was known of the target before, and its first check succeeded.
    FirstHealthy,
    /// It is healthy again, after so many checks.
    Healthy { after: u32 },
    /// It is unhealthy, after so many checks.
    Unhealthy { after: u32 },
    /// It is unhealthy as before; so many checks in a row came out this way.
    StillUnhealthy { passed: bool, times: u32 },
    /// It is called as before, though so many checks in a row failed.
    Failing { times: u32 },
    /// It is called as before, and the check succeeded behind one that failed.
    WellAgain,
}

impl<K: Ord + Clone> Schedule<K> {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, targets: BTreeMap::new(), under_way: 0, gone: Vec::new() }
    }

    /// Checks exactly these targets from now on; new ones at once, each with what is known of it.
    pub(super) fn follow(&mut self, keys: impl Iterator<Item = (K, Option<bool>)>, now: u64) {
        let mut before = std::mem::take(&mut self.targets);
        for (key, healthy) in keys {
            let state = before.remove(&key).unwrap_or_else(|| State {
                // one that left and came back while it was checked waits for the end of that
                due: if self.gone.contains(&key) { None } else { Some(now) },
                row: (0, true),
                healthy,
                checked: false,
            });
            self.gone.retain(|gone| *gone != key);
            self.targets.insert(key, state);
        }
        self.gone.extend(before.into_iter().filter(|(_, state)| state.due.is_none()).map(|(key, _)| key));
    }

    /// When the next check is due; `None` when only the end of one that is under way can tell.
    pub(super) fn due(&self) -> Option<u64> {
        if self.under_way >= self.settings.at_once {
            return None;
        }
        self.targets.values().filter_map(|state| state.due).min()
    }

    /// A target whose check is due, the longest first; it is under way from now on.
    pub(super) fn take(&mut self, now: u64) -> Option<K> {
        if self.under_way >= self.settings.at_once {
            return None;
        }
        let due = self.targets.iter_mut().filter(|(_, state)| state.due.is_some_and(|due| due <= now));
        let (key, state) = due.min_by_key(|(_, state)| state.due)?;
        state.due = None;
        self.under_way += 1;
        Some(key.clone())
    }

    /// Takes up how a check ended, and says what that changed.
    pub(super) fn ended(&mut self, key: &K, passed: bool, now: u64, chance: u64) -> Option<Changed> {
        self.under_way = self.under_way.saturating_sub(1);
        self.gone.retain(|gone| gone != key);
        let Settings { interval, jitter, unhealthy_after, healthy_after, .. } = self.settings;
        let state = self.targets.get_mut(key)?;
        // after its first check a target finds a place of its own in the interval, so that those that came together spread
        let wait = if state.checked { varied(interval, jitter, chance) } else { part(interval, chance) };
        state.checked = true;
        state.due = Some(now.saturating_add(wait));
        let failed_before = !state.row.1;
        state.row = if state.row.1 == passed { (state.row.0.saturating_add(1), passed) } else { (1, passed) };
        let (times, _) = state.row;
        match (passed, state.healthy) {
            (true, None) => {
                state.healthy = Some(true);
                Some(Changed::FirstHealthy)
            }
            (true, Some(false)) if times >= healthy_after => {
                state.healthy = Some(true);
                Some(Changed::Healthy { after: times })
            }
            (false, None | Some(true)) if times >= unhealthy_after => {
                state.healthy = Some(false);
                Some(Changed::Unhealthy { after: times })
            }
            (passed, Some(false)) => Some(Changed::StillUnhealthy { passed, times }),
            (false, _) => Some(Changed::Failing { times }),
            (true, _) => failed_before.then_some(Changed::WellAgain),
        }
    }
}

fn part(whole: u64, chance: u64) -> u64 {
    u64::try_from((u128::from(whole) * u128::from(chance)) >> 64).unwrap_or(whole)
}

/// An interval, shorter or longer by chance.
fn varied(interval: u64, jitter: u32, chance: u64) -> u64 {
    let spread = u64::try_from(u128::from(interval) * u128::from(jitter) / 10_000).unwrap_or(0);
    interval.saturating_sub(spread).saturating_add(part(spread.saturating_mul(2), chance))
}

#[cfg(test)]
mod tests;
