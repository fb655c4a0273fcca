//! The schedule by itself, and simulated with chance: targets come and go, checks take their time and come out as they like.

use std::collections::BTreeMap;

use daemun_seeded::{Random, seeds};

use super::*;

const S: u64 = 1_000_000_000;

fn settings() -> Settings {
    Settings { interval: 5 * S, jitter: 1_000, unhealthy_after: 3, healthy_after: 2, at_once: 4 }
}

fn following(keys: &[u32]) -> Schedule<u32> {
    let mut schedule = Schedule::new(settings());
    schedule.follow(keys.iter().map(|key| (*key, None)), 0);
    schedule
}

fn check(schedule: &mut Schedule<u32>, key: u32, passed: bool, now: u64) -> Option<Changed> {
    assert_eq!(schedule.take(now), Some(key));
    schedule.ended(&key, passed, now, 0)
}

#[test]
fn a_target_is_unhealthy_after_so_many_failures_and_healthy_after_so_many_successes() {
    let mut schedule = following(&[1]);
    let mut now = 0;
    let mut told = Vec::new();
    for passed in [true, false, false, true, false, false, false, false, true, false, true, true, true] {
        now = schedule.due().unwrap().max(now);
        told.push(check(&mut schedule, 1, passed, now));
    }
    let failing = |times| Some(Changed::Failing { times });
    let still = |passed, times| Some(Changed::StillUnhealthy { passed, times });
    let expected = [
        Some(Changed::FirstHealthy),
        failing(1),
        failing(2),
        Some(Changed::WellAgain),
        failing(1),
        failing(2),
        Some(Changed::Unhealthy { after: 3 }),
        still(false, 4),
        still(true, 1),
        still(false, 1),
        still(true, 1),
        Some(Changed::Healthy { after: 2 }),
        None,
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_new_target_is_checked_at_once_and_its_failures_count_from_the_first() {
    let mut schedule = following(&[1]);
    assert_eq!(check(&mut schedule, 1, false, 0), Some(Changed::Failing { times: 1 }));
    assert_eq!(check(&mut schedule, 1, false, 6 * S), Some(Changed::Failing { times: 2 }));
    assert_eq!(check(&mut schedule, 1, false, 12 * S), Some(Changed::Unhealthy { after: 3 }));
}

#[test]
fn what_is_known_of_a_target_holds_for_whoever_checks_it_next() {
    let mut schedule = Schedule::new(settings());
    schedule.follow([(1, Some(false))].into_iter(), 0);
    assert_eq!(check(&mut schedule, 1, true, 0), Some(Changed::StillUnhealthy { passed: true, times: 1 }));
    assert_eq!(check(&mut schedule, 1, true, 6 * S), Some(Changed::Healthy { after: 2 }));
}

#[test]
fn only_so_many_checks_are_under_way_at_once() {
    let mut schedule = following(&[1, 2, 3, 4, 5, 6]);
    let taken: Vec<u32> = std::iter::from_fn(|| schedule.take(0)).collect();
    assert_eq!(taken, [1, 2, 3, 4]);
    assert_eq!(schedule.due(), None);
    schedule.ended(&2, true, S, 0);
    assert_eq!(schedule.due(), Some(0));
    assert_eq!((schedule.take(S), schedule.take(S)), (Some(5), None));
}

#[test]
fn a_target_that_comes_back_while_it_is_checked_is_not_checked_twice_at_once() {
    let mut schedule = following(&[1]);
    assert_eq!(schedule.take(0), Some(1));
    schedule.follow(std::iter::empty(), S);
    schedule.follow([(1, None)].into_iter(), 2 * S);
    assert_eq!(schedule.take(2 * S), None);
    assert_eq!(schedule.ended(&1, true, 3 * S, 0), Some(Changed::FirstHealthy));
    assert_eq!(schedule.take(9 * S), Some(1));
}

#[test]
fn simulated_checks_keep_to_their_bounds() {
    for seed in seeds() {
        simulate(seed);
    }
}

/// What a target is like, for the simulation and for a count kept beside it.
#[derive(Default)]
struct Truth {
    row: (u32, bool),
    unhealthy: bool,
    last_start: Option<u64>,
    ended: u32,
}

fn simulate(seed: u64) {
    let mut chance = Random::new(seed);
    let settings = Settings {
        interval: S + chance.below(10 * S),
        jitter: u32::try_from(chance.below(5_001)).unwrap(),
        unhealthy_after: 1 + u32::try_from(chance.below(5)).unwrap(),
        healthy_after: 1 + u32::try_from(chance.below(5)).unwrap(),
        at_once: 1 + usize::try_from(chance.below(8)).unwrap(),
    };
    let spread = settings.interval * u64::from(settings.jitter) / 10_000;
    let mut schedule = Schedule::new(settings);
    let mut truth: BTreeMap<u32, Truth> = BTreeMap::new();
    let mut under_way: Vec<(u64, u32)> = Vec::new();
    let mut now = 0;
    for _ in 0..600 {
        if chance.below(20) == 0 {
            let keys: Vec<u32> = (0..12).filter(|_| chance.below(4) > 0).collect();
            truth.retain(|key, _| keys.contains(key));
            for key in &keys {
                truth.entry(*key).or_insert_with(|| Truth { row: (0, true), ..Truth::default() });
            }
            schedule.follow(keys.into_iter().map(|key| (key, None)), now);
        }
        while let Some(key) = schedule.take(now) {
            assert!(under_way.iter().all(|(_, other)| *other != key), "SEED={seed}: {key} is checked twice at once");
            let target = truth.get_mut(&key).unwrap_or_else(|| panic!("SEED={seed}: {key} is gone and checked"));
            target.last_start = Some(now);
            under_way.push((now + chance.below(3 * S), key));
        }
        assert!(under_way.len() <= settings.at_once, "SEED={seed}: too many checks at once");
        let next_end = under_way.iter().map(|(end, _)| *end).min();
        let next = [schedule.due(), next_end].into_iter().flatten().min().unwrap_or(now + S);
        now = next.max(now);
        while let Some(index) = under_way.iter().position(|(end, _)| *end <= now) {
            let (_, key) = under_way.swap_remove(index);
            let passed = chance.below(3) > 0;
            let told = schedule.ended(&key, passed, now, chance.next());
            let Some(target) = truth.get_mut(&key) else {
                assert_eq!(told, None, "SEED={seed}: {key} is gone");
                continue;
            };
            judge(&settings, target, passed, told, seed);
            let due = schedule.targets[&key].due.unwrap();
            let (least, most) = if target.ended == 0 {
                (now, now + settings.interval)
            } else {
                (now + settings.interval - spread, now + settings.interval + spread)
            };
            assert!((least..=most).contains(&due), "SEED={seed}: the next check is out of its interval");
            target.ended += 1;
        }
    }
}

fn judge(settings: &Settings, target: &mut Truth, passed: bool, told: Option<Changed>, seed: u64) {
    target.row = if target.row.1 == passed { (target.row.0 + 1, passed) } else { (1, passed) };
    match told {
        Some(Changed::Unhealthy { after }) => {
            assert!(!passed && !target.unhealthy, "SEED={seed}");
            assert_eq!((after, after >= settings.unhealthy_after), (target.row.0, true), "SEED={seed}");
            target.unhealthy = true;
        }
        Some(Changed::Healthy { after }) => {
            assert!(passed && target.unhealthy, "SEED={seed}");
            assert_eq!((after, after >= settings.healthy_after), (target.row.0, true), "SEED={seed}");
            target.unhealthy = false;
        }
        Some(Changed::FirstHealthy) => assert!(passed && !target.unhealthy, "SEED={seed}"),
        Some(Changed::StillUnhealthy { passed: told, times }) => {
            assert_eq!((told, times, true), (passed, target.row.0, target.unhealthy), "SEED={seed}");
            assert!(!passed || target.row.0 < settings.healthy_after, "SEED={seed}: kept out too long");
        }
        Some(Changed::Failing { times }) => {
            assert_eq!((passed, times, target.unhealthy), (false, target.row.0, false), "SEED={seed}");
            assert!(target.row.0 < settings.unhealthy_after, "SEED={seed}: called too long");
        }
        Some(Changed::WellAgain) => {
            assert_eq!((passed, target.row.0, target.unhealthy), (true, 1, false), "SEED={seed}")
        }
        None => assert!(passed && !target.unhealthy, "SEED={seed}"),
    }
}
