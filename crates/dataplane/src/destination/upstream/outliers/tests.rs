//! Tests of what calls tell of a target, simulations among them.

use super::super::peers::{Crowd, Peers};
use super::*;
use daemun_seeded::{Random, seeds};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn rules() -> OutlierRules {
    OutlierRules {
        failures: 5,
        ratio: None,
        window: 10 * SECOND,
        min_requests: 10,
        slower_than: None,
        peers: None,
        statuses: Vec::new(),
        eject_for: 10 * SECOND,
        max_eject_for: 60 * SECOND,
        max_ejected: 5_000,
    }
}

/// What others tell who answer so fast, and did last at this time.
fn peers(mean: Option<u64>, heard: u64) -> Peers {
    Peers { mean, heard, forsaken: 0, lasting: 0 }
}

/// A call of a simulation ended so.
fn ended(told: &Told, finding: Finding, trial: bool, rules: &OutlierRules, now: u64) {
    match finding {
        Finding::Outlier(cause) => told.eject(cause, rules, now),
        Finding::Back => drop(told.readmit(now)),
        Finding::Nothing => {}
    }
    if trial {
        told.tried();
    }
}

/// Looks at the target before the next call of a simulation; whether that may try it.
fn next(told: &Told, peers: &Peers, rules: &OutlierRules, now: u64) -> bool {
    if told.is_watched(now)
        && let Some(cause) = told.look(peers, rules, now)
    {
        told.eject(cause, rules, now);
    }
    told.may_try(now)
}

fn report(told: &Told, failed: bool, rules: &OutlierRules, now: u64) -> Finding {
    told.report(failed, (!failed).then_some(MS), false, rules, now)
}

#[test]
fn failures_in_a_row_are_cause_to_eject_and_a_success_begins_anew() {
    let told = Told::default();
    for failed in [true, true, true, true, false, true, true, true, true] {
        assert_eq!(report(&told, failed, &rules(), SECOND), Finding::Nothing);
    }
    assert_eq!(report(&told, true, &rules(), SECOND), Finding::Outlier(Cause::Failures(5)));
}

#[test]
fn a_share_of_failures_is_cause_to_eject_from_enough_calls_on() {
    let rules = OutlierRules { failures: 0, ratio: Some(5_000), ..rules() };
    let told = Told::default();
    let found: Vec<Finding> = (0..10).map(|i| report(&told, i % 2 == 1, &rules, SECOND)).collect();
    assert_eq!(found.last(), Some(&Finding::Outlier(Cause::Ratio(5_000))));
    assert!(found.iter().take(9).all(|found| *found == Finding::Nothing));
}

#[test]
fn answers_that_take_too_long_count_as_failures() {
    let rules = OutlierRules { slower_than: Some(2 * SECOND), failures: 1, ..rules() };
    let told = Told::default();
    assert_eq!(told.report(false, Some(2 * SECOND), false, &rules, SECOND), Finding::Nothing);
    assert!(matches!(told.report(false, Some(3 * SECOND), false, &rules, SECOND), Finding::Outlier(_)));
}

#[test]
fn it_is_ejected_for_longer_each_time_it_fails_at_once_and_tried_by_one_call_at_a_time() {
    let told = Told::default();
    let mut now = SECOND;
    for length in [10, 20, 40, 60, 60] {
        told.eject(Cause::Failures(5), &rules(), now);
        assert_eq!(told.ejected(), now + length * SECOND);
        assert!(!told.may_try(now + length * SECOND - 1));
        now += length * SECOND;
        assert!(told.may_try(now) && !told.may_try(now));
        assert_eq!(told.report(true, None, true, &rules(), now), Finding::Outlier(Cause::Again));
        told.tried();
    }
    now += SECOND;
    assert!(told.may_try(now));
    assert_eq!(told.report(false, Some(MS), true, &rules(), now), Finding::Back);
    assert!(told.readmit(now) && !told.readmit(now));
    told.eject(Cause::Failures(5), &rules(), now + 100 * SECOND);
    assert_eq!(told.ejected(), now + 110 * SECOND);
}

#[test]
fn a_target_that_hangs_is_found_by_its_calls_under_way() {
    let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
    let told = Told::default();
    told.wait(false, SECOND);
    assert_eq!(told.look(&peers(None, 0), &rules, 3 * SECOND), None);
    assert_eq!(told.look(&peers(None, 0), &rules, 3 * SECOND + MS), Some(Cause::Silent(2_001)));
    told.waited();
    assert_eq!(told.look(&peers(None, 0), &rules, 9 * SECOND), None);
}

#[test]
fn a_target_that_hangs_while_others_answer_is_found_without_a_limit() {
    let told = Told::default();
    told.wait(false, SECOND);
    told.wait(false, SECOND);
    // nobody answers: it is not the target
    assert_eq!(told.look(&peers(Some(10 * MS), SECOND / 2), &rules(), 5 * SECOND), None);
    assert_eq!(told.look(&peers(Some(10 * MS), 4 * SECOND), &rules(), 2 * SECOND), None);
    assert!(matches!(told.look(&peers(Some(10 * MS), 4 * SECOND), &rules(), 5 * SECOND), Some(Cause::Silent(_))));
    // the others take long as well
    assert_eq!(told.look(&peers(Some(SECOND), 4 * SECOND), &rules(), 5 * SECOND), None);
    // the call that tries it begins anew
    told.eject(Cause::Silent(1), &rules(), 5 * SECOND);
    told.wait(true, 15 * SECOND);
    assert_eq!(told.look(&peers(Some(10 * MS), 15 * SECOND + 1), &rules(), 16 * SECOND), None);
    assert!(told.look(&peers(Some(10 * MS), 16 * SECOND), &rules(), 16 * SECOND + MS).is_some());
}

#[test]
fn one_call_that_takes_long_among_quick_ones_ejects_nobody() {
    let told = Told::default();
    let look = |now: u64| told.look(&peers(Some(5 * MS), now - MS), &rules(), now);
    told.wait(false, SECOND);
    // alone for long, and then not for a moment
    assert_eq!(look(4 * SECOND), None);
    told.wait(false, 4 * SECOND);
    assert_eq!(look(4 * SECOND + 5 * MS), None);
    assert!(look(5 * SECOND + 5 * MS).is_some());
}

#[test]
fn a_limit_on_slowness_holds_in_place_of_the_usual_one() {
    let told = Told::default();
    let rules = OutlierRules { slower_than: Some(6 * SECOND), peers: None, ..rules() };
    told.wait(false, SECOND);
    told.wait(false, SECOND);
    assert_eq!(told.look(&peers(Some(5 * MS), 5 * SECOND), &rules, 6 * SECOND), None);
    assert!(told.look(&peers(Some(5 * MS), 7 * SECOND), &rules, 8 * SECOND).is_some());
}

#[test]
fn the_silence_of_calls_that_tried_it_and_ended_unanswered_adds_up() {
    let told = Told::default();
    told.eject(Cause::Failures(5), &rules(), SECOND);
    let look = |now: u64| told.look(&peers(Some(10 * MS), now - 1), &rules(), now);
    for second in 11..15 {
        let now = second * SECOND;
        assert!(told.may_try(now));
        told.wait(true, now);
        assert_eq!(look(now + 240 * MS), None, "{second}");
        told.waited();
        told.unanswered(now + 240 * MS);
        told.tried();
        assert!(!told.is_watched(now + 300 * MS) && !told.may_try(now + 999 * MS));
    }
    // one that found no connection does not count
    assert!(told.may_try(15 * SECOND));
    told.unanswered(15 * SECOND + 900 * MS);
    told.tried();
    assert!(told.may_try(16 * SECOND));
    told.wait(true, 16 * SECOND);
    assert_eq!(look(16 * SECOND + 40 * MS), None);
    assert_eq!(look(16 * SECOND + 50 * MS), Some(Cause::Silent(1_010)));
}

#[test]
fn calls_that_hang_since_before_it_was_ejected_tell_nothing_of_it_when_it_is_tried() {
    let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
    let told = Told::default();
    told.wait(false, SECOND);
    told.eject(Cause::Silent(1), &rules, 4 * SECOND);
    assert!(told.may_try(14 * SECOND) && told.is_watched(14 * SECOND));
    assert_eq!(told.look(&peers(None, 0), &rules, 14 * SECOND + MS), None);
}

#[test]
fn a_target_that_hangs_behind_second_calls_is_found_too() {
    let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
    let told = Told::default();
    (0..3).for_each(|i| told.overtaken(SECOND + i * MS));
    assert_eq!(told.look(&peers(None, 0), &rules, 3 * SECOND), None);
    assert!(matches!(told.look(&peers(None, 0), &rules, 3 * SECOND + MS), Some(Cause::Silent(_))));
    told.answered(Some(MS), false, 3 * SECOND);
    assert_eq!(told.look(&peers(None, 0), &rules, 9 * SECOND), None);
}

#[test]
fn a_target_far_slower_than_the_others_is_found() {
    let rules = OutlierRules { peers: Some(5), ..rules() };
    let told = Told::default();
    (0..8).for_each(|i| told.answered(Some(100 * MS), false, i * MS));
    assert_eq!(told.look(&peers(Some(10 * MS), 0), &rules, SECOND), Some(Cause::Peers(10)));
    assert_eq!(told.look(&peers(Some(30 * MS), 0), &rules, SECOND), None);
}

#[test]
fn of_several_targets_one_may_always_be_ejected_and_never_the_last() {
    let rules = rules();
    let most = |all: usize| (0..10).filter(|ejected| rules.may_eject(*ejected, all)).count();
    assert_eq!([1, 2, 3, 4, 5, 10].map(most), [0, 1, 1, 2, 2, 5]);
    let all = OutlierRules { max_ejected: 10_000, ..rules };
    assert!(all.may_eject(2, 4) && !all.may_eject(3, 4));
}

/// A target hangs for a while: it gets few calls meanwhile, and calls as before soon behind that.
#[test]
fn a_target_that_hangs_gets_two_calls_a_second_at_most_after_three_seconds() {
    let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
    for seed in seeds() {
        let mut random = Random::new(seed);
        let (told, limit) = (Told::default(), 30 * SECOND);
        let (from, until) = (5 * SECOND, (35 + random.below(20)) * SECOND);
        // end, whether it is answered, whether it tries
        let mut calls: Vec<(u64, bool, bool, u64)> = Vec::new();
        let (mut now, mut ill, mut last) = (0, 0, 0);
        while now < 200 * SECOND {
            now += 10 * MS + random.below(20 * MS);
            calls.retain(|(end, answered, trial, begun)| {
                let end = if *answered { *end } else { (*begun + limit).min((*end).max(until)) };
                if end > now {
                    return true;
                }
                let took = end - begun;
                told.waited();
                if took < limit {
                    told.answered(Some(took), false, now);
                }
                let finding = told.report(took >= limit, (took < limit).then_some(took), *trial, &rules, now);
                ended(&told, finding, *trial, &rules, now);
                false
            });
            let trial = next(&told, &peers(None, 0), &rules, now);
            if trial || told.ejected() == 0 {
                told.wait(trial, now);
                let hangs = (from..until).contains(&now);
                ill += u64::from(hangs && now > from + 3 * SECOND);
                calls.push((now + MS, !hangs, trial, now));
                last = now;
            }
        }
        let seconds = (until - from) / SECOND - 3;
        assert!(ill <= 2 * seconds, "seed {seed}: {ill} in {seconds} s");
        assert!(now - last < SECOND, "seed {seed}: not back");
    }
}

/// Calls that hang for a while end as callers and second calls let them: nothing of that makes it called more.
#[test]
fn a_target_that_hangs_gets_few_calls_whoever_gives_them_up() {
    let rules = rules();
    for seed in seeds() {
        let mut random = Random::new(seed);
        let (hedge, patience) = match seed % 4 {
            0 => (Some(50 * MS), None),
            1 => (None, Some(300 * MS)),
            2 => (Some(50 * MS), Some(300 * MS)),
            _ => (None, None),
        };
        let told = Told::default();
        let (from, until) = (5 * SECOND, (35 + random.below(20)) * SECOND);
        let given_up = [hedge, patience, Some(30 * SECOND)].into_iter().flatten().min().unwrap();
        // when it began, whether it is answered, whether it tries
        let mut calls: Vec<(u64, bool, bool)> = Vec::new();
        let (mut now, mut ill, mut last) = (0, 0, 0);
        while now < until + 70 * SECOND {
            now += 10 * MS + random.below(20 * MS);
            calls.retain(|(begun, answered, trial)| {
                let end = if *answered { begun + MS } else { begun + given_up };
                if end > now {
                    return true;
                }
                told.waited();
                let finding = if *answered || given_up == 30 * SECOND {
                    if *answered {
                        told.answered(Some(MS), false, now);
                    }
                    told.report(!answered, answered.then_some(MS), *trial, &rules, now)
                } else {
                    if hedge.is_some() {
                        told.overtaken(now);
                    }
                    if *trial {
                        told.unanswered(now);
                    }
                    Finding::Nothing
                };
                ended(&told, finding, *trial, &rules, now);
                false
            });
            let trial = next(&told, &peers(Some(MS), now), &rules, now);
            if trial || told.ejected() == 0 {
                told.wait(trial, now);
                let hangs = (from..until).contains(&now);
                ill += u64::from(hangs && now > from + 3 * SECOND);
                calls.push((now, !hangs, trial));
                last = now;
            }
        }
        assert!(told.ejections() >= 2, "seed {seed}: it is left alone for longer when it hangs again");
        // a few for each time it was ejected, not one a second
        assert!(ill <= 15, "seed {seed}: {ill} calls");
        assert!(now - last < SECOND, "seed {seed}: not back");
    }
}

#[test]
fn a_busy_target_that_hangs_is_found_however_many_calls_it_had() {
    let told = Told::default();
    // eight calls are always under way
    (0..8).for_each(|i| told.wait(false, SECOND + i * MS));
    told.answered(Some(5 * MS), false, 2 * SECOND);
    told.waited();
    // from here on nothing is answered, and calls go on coming
    (0..30).for_each(|i| told.wait(false, 2 * SECOND + i * 10 * MS + 1));
    let look = |now: u64| told.look(&peers(Some(5 * MS), now - MS), &rules(), now);
    assert_eq!(look(3 * SECOND), None);
    assert!(look(3 * SECOND + MS).is_some());
}

#[test]
fn calls_given_up_one_by_one_add_up_to_a_silence_until_one_is_answered() {
    let told = Told::default();
    let look = |now: u64| told.look(&peers(Some(5 * MS), now - 1), &rules(), now);
    let give_up = |sent: u64, millis: u64| {
        told.wait(false, sent);
        told.waited();
        told.gave_up(sent, sent + millis * MS);
    };
    for second in 1..4 {
        give_up(second * 10 * SECOND, 300);
        assert_eq!(look(second * 10 * SECOND + SECOND), None);
    }
    give_up(40 * SECOND, 300);
    assert_eq!(look(41 * SECOND), Some(Cause::Silent(1_200)));
    // the others answer nothing either
    assert_eq!(told.look(&peers(Some(5 * MS), 30 * SECOND), &rules(), 41 * SECOND), None);
    // their callers give up as well, now and then
    let alike = Peers { forsaken: 200, ..peers(Some(5 * MS), 41 * SECOND) };
    assert_eq!(told.look(&alike, &rules(), 41 * SECOND), None);
    told.wait(false, 41 * SECOND);
    told.waited();
    told.answered(Some(5 * MS), false, 41 * SECOND + 5 * MS);
    assert_eq!(look(42 * SECOND), None);
    assert_eq!(told.forsaken(), 8_399);
    (0..1_000).for_each(|_| told.answered(Some(5 * MS), false, 42 * SECOND));
    // one given up sooner than it answers tells nothing
    (0..1_000).for_each(|i| give_up(50 * SECOND + i * 10 * MS, 4));
    assert_eq!(look(70 * SECOND), None);
    told.answered(Some(5 * MS), false, 70 * SECOND);
    assert_eq!(told.forsaken(), 156);
}

#[test]
fn a_limit_on_slowness_holds_for_calls_given_up_as_well() {
    let rules = OutlierRules { slower_than: Some(2 * SECOND), ..rules() };
    let told = Told::default();
    let found = |from: u64| {
        (0..).find(|i| {
            let sent = from + i * SECOND;
            told.wait(false, sent);
            told.waited();
            told.gave_up(sent, sent + 500 * MS);
            told.look(&peers(None, sent + 1), &rules, sent + 900 * MS).is_some()
        })
    };
    assert_eq!(found(SECOND), Some(4));
}

#[test]
fn calls_of_grpc_that_wait_count_unless_they_wait_at_others_as_well() {
    let told = Told::default();
    let peers = |now: u64, lasting: u64| Peers { lasting, ..peers(Some(5 * MS), now - 1) };
    assert!(told.wait_lasting(false, SECOND));
    // one alone may be a stream
    assert_eq!(told.look(&peers(100 * SECOND, 0), &rules(), 100 * SECOND), None);
    assert!(!told.wait_lasting(false, 100 * SECOND));
    assert_eq!(told.look(&peers(105 * SECOND, 0), &rules(), 105 * SECOND), None);
    let now = 106 * SECOND;
    assert_eq!(told.look(&peers(now, 0), &rules(), now), Some(Cause::Silent(6_000)));
    // one of another target waits for long as well
    assert_eq!(told.look(&peers(now, 3 * SECOND), &rules(), now), None);
    // a limit on slowness is none on streams, but on what others answer
    let limit = OutlierRules { slower_than: Some(8 * SECOND), ..rules() };
    assert_eq!(told.look(&peers(now, 0), &limit, now), None);
    // an answer says that it does not hang, whatever still waits
    told.answered(Some(5 * MS), false, now);
    assert_eq!(told.look(&peers(200 * SECOND, 0), &rules(), 200 * SECOND), None);
    assert_eq!(told.age_of_lasting(now), 105 * SECOND);
    told.waited_lasting(true);
    assert_eq!(told.age_of_lasting(now), 0);
}

#[test]
fn a_call_of_grpc_that_tries_a_target_and_waits_for_long_fails_it() {
    let told = Told::default();
    told.eject(Cause::Silent(1), &rules(), SECOND);
    assert!(told.may_try(11 * SECOND));
    let looked_at = told.wait_lasting(true, 11 * SECOND);
    let look = |now: u64| told.look(&peers(Some(5 * MS), now - 1), &rules(), now);
    assert_eq!(look(15 * SECOND), None);
    // given up, and the next one
    told.waited_lasting(looked_at);
    told.unanswered(15 * SECOND);
    told.tried();
    assert_eq!(look(20 * SECOND), None);
    assert!(told.may_try(21 * SECOND));
    told.wait_lasting(true, 21 * SECOND);
    assert_eq!(look(22 * SECOND), None);
    assert_eq!(look(22 * SECOND + MS), Some(Cause::Silent(5_001)));
}

/// A call of the simulation of several targets.
struct SimCall {
    target: usize,
    sent: u64,
    end: u64,
    answered: bool,
    trial: bool,
}

/// Targets in turn, of which some hang from a time on, and calls that their clients give up after a while.
struct Sim {
    targets: Vec<Told>,
    calls: Vec<SimCall>,
    rules: OutlierRules,
    now: u64,
    next: usize,
}

impl Sim {
    fn new(targets: usize) -> Sim {
        let targets = (0..targets).map(|_| Told::default()).collect();
        Sim { targets, calls: Vec::new(), rules: rules(), now: SECOND, next: 0 }
    }

    /// Time passes: calls end, and it is looked at whether a target hangs.
    fn pass(&mut self, nanos: u64) {
        let until = self.now + nanos;
        while let Some(at) = (0..self.calls.len()).min_by_key(|at| self.calls[*at].end)
            && self.calls[at].end <= until
        {
            let call = self.calls.swap_remove(at);
            self.now = call.end;
            let told = &self.targets[call.target];
            told.waited();
            if call.answered {
                let took = call.end - call.sent;
                told.answered(Some(took), false, self.now);
                if told.report(false, Some(took), call.trial, &self.rules, self.now) == Finding::Back {
                    let _ = told.readmit(self.now);
                }
            } else if call.trial {
                told.unanswered(self.now);
            } else {
                told.gave_up(call.sent, self.now);
            }
            if call.trial {
                told.tried();
            }
        }
        self.now = until;
        let crowd = Crowd::of(self.targets.iter(), self.now);
        for told in &self.targets {
            let peers = crowd.others(told, self.now);
            if told.is_watched(self.now)
                && let Some(cause) = told.look(&peers, &self.rules, self.now)
            {
                told.eject(cause, &self.rules, self.now);
            }
        }
    }

    /// The next call: the target it goes to takes so long, and the client has so much patience. The target.
    fn call(&mut self, takes: impl Fn(usize) -> u64, patience: u64) -> usize {
        let trial = (0..self.targets.len()).find(|at| self.targets[*at].may_try(self.now));
        let target = trial.unwrap_or_else(|| {
            self.next += 1;
            let called = |at: &usize| self.targets[*at].ejected() == 0;
            (0..self.targets.len()).map(|at| (at + self.next) % self.targets.len()).find(called).unwrap()
        });
        let (sent, takes) = (self.now, takes(target));
        self.targets[target].wait(trial.is_some(), sent);
        let end = sent + takes.min(patience);
        self.calls.push(SimCall { target, sent, end, answered: takes <= patience, trial: trial.is_some() });
        target
    }
}

/// Never two at once at the target that hangs, as the next call comes once the one before was given up.
#[test]
fn a_target_that_hangs_is_found_by_impatient_clients_one_at_a_time() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let count = 2 + random.below(5);
        let mut sim = Sim::new(usize::try_from(count).unwrap());
        let (patience, quick) = ((50 + random.below(850)) * MS, (1 + random.below(20)) * MS);
        // a part of all calls takes long everywhere, and is given up everywhere
        let slow = random.below(4) * 10;
        let (from, mut lost) = (120 * SECOND, 0);
        while sim.targets[0].ejections() == 0 {
            let is_slow = random.below(100) < slow;
            let hangs = sim.now >= from;
            let takes = |target: usize| match (target, is_slow) {
                (0, _) if hangs => 3_600 * SECOND,
                (_, true) => 20 * SECOND,
                (_, false) => quick,
            };
            lost += u64::from(sim.call(takes, patience) == 0 && hangs);
            sim.pass(patience + random.below(100 * MS));
            assert!(lost < 100, "seed {seed}: {lost} calls of {patience} ns at a target that hangs");
        }
        assert!(sim.now >= from, "seed {seed}: it was ejected before it hung");
        assert!(sim.targets[1..].iter().all(|told| told.ejections() == 0), "seed {seed}: a healthy one was ejected");
    }
}

/// Most clients ask for what takes long, and none of these waits for it.
#[test]
fn clients_that_always_give_up_eject_no_target_that_is_well() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let mut sim = Sim::new(usize::try_from(2 + random.below(5)).unwrap());
        let (patience, quick) = ((50 + random.below(900)) * MS, (1 + random.below(20)) * MS);
        let (given_up, between) = (random.below(98), (1 + random.below(20)) * 100 * MS);
        while sim.now < 1_200 * SECOND {
            let takes = if random.below(100) < given_up { 20 * SECOND } else { quick };
            sim.call(|_| takes, patience);
            sim.pass(random.below(2 * between));
            let ejected = sim.targets.iter().position(|told| told.ejections() > 0);
            assert_eq!(ejected, None, "seed {seed}: {given_up} % given up after {patience} ns, at {}", sim.now);
        }
    }
}
