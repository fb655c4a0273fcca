//! What the admission holds: order and fairness of the line, what the limiter learns, and that no place is lost among threads.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use daemun_config::model::Importance::{self, High, Low, Normal};
use daemun_seeded::{Random, seeds};

use super::limiter::{Limiter, Outcome};
use super::line::{CLASSES, Caller, Line, Pushed, Ticket};
use super::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Until the next of calls that come by chance, `mean` apart.
fn gap(random: &mut Random, mean: f64) -> u64 {
    (-random.unit().ln() * mean) as u64
}

/// Around 1: seldom under a half or over the double.
fn noise(random: &mut Random, width: f64) -> f64 {
    let normal: f64 = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
    (normal * width).exp()
}

fn of(name: &str) -> Caller {
    Caller::Consumer(Arc::from(name))
}

/// A server with slots and a queue of its own before them, which has no end.
struct Server {
    slots: usize,
    busy: usize,
    waiting: VecDeque<Call>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    arrived: u64,
    begun: u64,
    caller: u64,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(u64),
    Served(Call),
}

/// What came of an offer.
#[derive(Default)]
struct Tally {
    /// Calls answered, by the 100 ms they were answered in.
    answered: HashMap<u64, u64>,
    refused: u64,
    /// Calls in flight at each arrival.
    in_flight: Vec<(u64, usize)>,
    most_waited: u64,
    limits: Vec<(u64, usize)>,
}

impl Tally {
    fn answered_between(&self, from: u64, to: u64) -> u64 {
        (from / (100 * MS)..to / (100 * MS)).filter_map(|at| self.answered.get(&at)).sum()
    }

    fn mean_in_flight(&self, from: u64, to: u64) -> f64 {
        let seen: Vec<_> = self.in_flight.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, n)| *n).collect();
        seen.iter().sum::<usize>() as f64 / seen.len().max(1) as f64
    }
}

/// An open loop of calls through the cores of a gate to a server.
struct Simulation<R, W> {
    random: Random,
    slots: usize,
    /// Calls a second at a moment.
    rate: R,
    /// How long the work of a call takes at a moment.
    work: W,
    noise: f64,
    end: u64,
}

impl<R: Fn(u64) -> f64, W: Fn(u64) -> u64> Simulation<R, W> {
    fn run(mut self, limiter: &mut Limiter) -> Tally {
        let mut line = Line::default();
        let mut server = Server { slots: self.slots, busy: 0, waiting: VecDeque::new() };
        let mut events = BinaryHeap::from([Reverse((SECOND, Event::Arrives(0)))]);
        let (mut tally, mut in_flight) = (Tally::default(), 0);
        while let Some(Reverse((now, event))) = events.pop() {
            match event {
                Event::Arrives(number) => {
                    let next = now + gap(&mut self.random, 1e9 / (self.rate)(now));
                    if next < self.end {
                        events.push(Reverse((next, Event::Arrives(number + 1))));
                    }
                    tally.in_flight.push((now, in_flight));
                    let call = Call { arrived: now, begun: 0, caller: number % 7 };
                    let caller = of(&call.caller.to_string());
                    let pushed = line.push(Normal, caller, now, now + SECOND, 100, call);
                    tally.refused += u64::from(!matches!(pushed, Pushed::Waits(_)));
                }
                Event::Served(call) => {
                    *tally.answered.entry(now / (100 * MS)).or_default() += 1;
                    if limiter.observe(now, call.begun, in_flight, Outcome::Answered(now - call.begun)) {
                        tally.limits.push((now, limiter.limit()));
                    }
                    in_flight -= 1;
                    server.busy -= 1;
                }
            }
            while in_flight < limiter.limit() {
                let Some(call) = line.next(now) else { break };
                tally.most_waited = tally.most_waited.max(now - call.arrived);
                in_flight += 1;
                server.waiting.push_back(Call { begun: now, ..call });
            }
            while server.busy < server.slots {
                let Some(call) = server.waiting.pop_front() else { break };
                server.busy += 1;
                let work = ((self.work)(now) as f64 * noise(&mut self.random, self.noise)) as u64;
                events.push(Reverse((now + work, Event::Served(call))));
            }
        }
        tally
    }
}

#[test]
fn a_server_that_becomes_ten_times_slower_is_kept_at_work_and_not_flooded() {
    for seed in seeds() {
        let slower = 4 * SECOND;
        // the capacity is 3,200 a second, then 320; each offered twice over, or 640 all the time
        let twice = seed % 2 == 0;
        let rate = move |now| if twice && now < slower { 6_400.0 } else { 640.0 };
        let work = move |now| if now < slower { 10 * MS } else { 100 * MS };
        let noise = [0.0, 0.1, 0.3][seed as usize % 3];
        let end = 14 * SECOND;
        let simulation = Simulation { random: Random::new(seed), slots: 32, rate, work, noise, end };
        let mut limiter = Limiter::new(8, 1_000);
        let tally = simulation.run(&mut limiter);
        // the noise makes the mean of the work longer
        let mean = (noise * noise / 2.0).exp();
        let capacity = 320.0 / mean;
        let answered = tally.answered_between(slower, end) as f64 / 10.0;
        assert!(answered >= 0.9 * capacity, "SEED={seed}: {answered} of {capacity} a second; {:?}", tally.limits);
        let before = tally.answered_between(2 * SECOND, slower) as f64 / 2.0;
        let offered = if twice { 3_200.0 / mean } else { 640.0 };
        assert!(before >= 0.9 * offered, "SEED={seed}: {before} of {offered} a second at first; {:?}", tally.limits);
        let in_flight = tally.mean_in_flight(slower + 3 * SECOND, end);
        assert!(in_flight <= 64.0, "SEED={seed}: {in_flight} in flight; {:?}", tally.limits);
        assert!(tally.most_waited <= SECOND, "SEED={seed}");
    }
}

#[test]
fn a_fast_server_is_not_throttled() {
    for seed in seeds() {
        // 120 slots of 50 ms, of which 90 per cent are offered
        let simulation = Simulation {
            random: Random::new(seed),
            slots: 120,
            rate: |_| 2_160.0,
            work: |_| 50 * MS,
            noise: 0.2,
            end: 4 * SECOND,
        };
        let mut limiter = Limiter::new(8, 1_000);
        let tally = simulation.run(&mut limiter);
        let answered = tally.answered_between(3 * SECOND, 4 * SECOND) as f64;
        assert!(answered >= 0.93 * 2_160.0, "SEED={seed}: {answered}; {:?}", tally.limits);
    }
}

#[test]
fn latency_that_drifts_is_followed() {
    for seed in seeds() {
        // 25 ms that become 100 within 10 seconds
        let work = |now: u64| 25 * MS + 75 * (now.saturating_sub(SECOND) / 10_000) * MS / 1_000_000;
        let rate = move |now| 2.0 * 32.0 * 1e9 / work(now) as f64;
        let simulation = Simulation { random: Random::new(seed), slots: 32, rate, work, noise: 0.2, end: 11 * SECOND };
        let mut limiter = Limiter::new(8, 1_000);
        let tally = simulation.run(&mut limiter);
        let second = |at: u64| 32.0 * 1e9 / (work(at * SECOND + SECOND / 2) as f64 * 1.02);
        let capacity: f64 = (2..11).map(second).sum();
        let answered = tally.answered_between(2 * SECOND, 11 * SECOND) as f64;
        assert!(answered >= 0.9 * capacity, "SEED={seed}: {answered} of {capacity}; {:?}", tally.limits);
        let in_flight = tally.mean_in_flight(5 * SECOND, 11 * SECOND);
        assert!(in_flight <= 64.0, "SEED={seed}: {in_flight} in flight; {:?}", tally.limits);
    }
}

#[test]
fn few_samples_change_nothing() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let mut limiter = Limiter::new(8, 1_000);
        let before = limiter.limit();
        for n in 1..40 {
            let begun = n * SECOND;
            let took = random.below(SECOND);
            assert!(!limiter.observe(begun + took, begun, 64, Outcome::Answered(took)), "SEED={seed}");
        }
        assert_eq!(limiter.limit(), before);
    }
}

#[test]
fn an_upstream_that_refuses_calls_gets_fewer_of_them() {
    let mut limiter = Limiter::new(8, 1_000);
    for n in 0..2_000 {
        let now = SECOND + n * MS;
        limiter.observe(now, now - MS / 2, limiter.limit(), Outcome::Refused);
    }
    assert!(limiter.limit() < 32, "{}", limiter.limit());
    for n in 0..20_000 {
        let now = 10 * SECOND + n * MS;
        limiter.observe(now, now - MS / 2, 0, Outcome::Refused);
    }
    assert_eq!(limiter.limit(), 8);
}

#[test]
fn the_limit_stays_within_its_bounds_whatever_is_observed() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let (min, max) = (1 + random.below(20) as usize, 20 + random.below(200) as usize);
        let mut limiter = Limiter::new(min, max);
        for _ in 0..5_000 {
            let begun = random.below(1_000 * SECOND);
            let outcome = match random.below(10) {
                0 => Outcome::Refused,
                1 => Outcome::Unanswered(random.next()),
                _ => Outcome::Answered(random.next() >> random.below(64)),
            };
            limiter.observe(begun.saturating_add(random.below(SECOND)), begun, random.below(300) as usize, outcome);
            assert!((min..=max).contains(&limiter.limit()), "SEED={seed}");
        }
    }
}

/// A waiting call of a model that does what the line says in the plainest way.
type Model = Vec<(Ticket, Importance, u64)>;

#[test]
fn the_line_keeps_its_bound_and_loses_nothing() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let most = 1 + random.below(40) as usize;
        let mut line = Line::default();
        let mut model: Model = Vec::new();
        for number in 0..2_000_u64 {
            let now = SECOND + number * MS;
            match random.below(5) {
                0 | 1 => {
                    let class = CLASSES[random.below(3) as usize];
                    let caller = of(&random.below(5).to_string());
                    match line.push(class, caller, now, now + random.below(100 * MS), most, number) {
                        Pushed::Waits(ticket) => model.push((ticket, class, number)),
                        Pushed::Instead(ticket, gone) => {
                            model.retain(|(.., other)| *other != gone);
                            model.push((ticket, class, number));
                        }
                        Pushed::Refused(back) => assert_eq!(back, number),
                    }
                }
                2 | 3 => {
                    let next = line.next(now);
                    assert!(next.is_none_or(|next| model.iter().any(|(.., n)| *n == next)), "SEED={seed}");
                    model.retain(|(.., n)| Some(*n) != next);
                    // of what was let go the line alone knows
                    if next.is_none() {
                        model.clear();
                    }
                }
                _ if !model.is_empty() => {
                    let at = random.below(model.len() as u64) as usize;
                    let (ticket, ..) = model.remove(at);
                    line.leave(&ticket);
                    assert!(!line.leave(&ticket), "SEED={seed}");
                }
                _ => {}
            }
            assert!(line.len() <= most && line.len() <= model.len(), "SEED={seed}");
        }
        let mut left = 0;
        while line.next(SECOND).is_some() {
            left += 1;
        }
        assert!(left <= model.len() && line.len() == 0, "SEED={seed}");
    }
}

/// Calls of classes and callers, offered at these rates a second to an upstream that serves 300: what each offered, and got.
fn shares(seed: u64, offers: &[(Importance, &str, f64)]) -> Vec<(f64, f64)> {
    const END: u64 = 6 * SECOND;
    let mut random = Random::new(seed);
    let mut line = Line::default();
    let mut events = BinaryHeap::from([Reverse((SECOND, usize::MAX))]);
    let callers: Vec<_> = offers.iter().map(|(_, caller, _)| of(caller)).collect();
    for at in 0..offers.len() {
        events.push(Reverse((SECOND + at as u64, at)));
    }
    let mut got = vec![(0.0, 0.0); offers.len()];
    while let Some(Reverse((now, at))) = events.pop().filter(|event| event.0.0 < END) {
        match offers.get(at) {
            Some((class, _, rate)) => {
                events.push(Reverse((now + gap(&mut random, 1e9 / rate), at)));
                got[at].0 += 1.0;
                let _ = line.push(*class, callers[at].clone(), now, now + SECOND, 100, at);
            }
            None => {
                events.push(Reverse((now + SECOND / 300, at)));
                if let Some(at) = line.next(now) {
                    got[at].1 += 1.0;
                }
            }
        }
    }
    got
}

/// What each got, of all that was served.
fn parts(got: &[(f64, f64)]) -> Vec<f64> {
    let total: f64 = got.iter().map(|(_, served)| served).sum();
    got.iter().map(|(_, served)| served / total).collect()
}

#[test]
fn a_consumer_that_offers_ten_times_as_much_gets_its_fair_share_and_no_more() {
    for seed in seeds() {
        let got = shares(seed, &[(Normal, "greedy", 2_000.0), (Normal, "modest", 200.0), (Normal, "other", 200.0)]);
        for part in parts(&got) {
            assert!((part * 3.0 - 1.0).abs() < 0.1, "SEED={seed}: {got:?}");
        }
        // whoever offers less than its share gets all of it
        let got = shares(seed, &[(Normal, "greedy", 1_000.0), (Normal, "modest", 50.0)]);
        assert!(got[1].1 > got[1].0 * 0.98, "SEED={seed}: {got:?}");
    }
}

#[test]
fn what_is_more_important_goes_first_and_nothing_starves() {
    for seed in seeds() {
        let got = shares(seed, &[(High, "a", 100.0), (Normal, "b", 400.0), (Low, "c", 400.0)]);
        let part = parts(&got);
        assert!(got[0].1 > got[0].0 * 0.98 && part[2] < 0.13 && part[2] > 0.05, "SEED={seed}: {got:?}");
        // though the highest class alone is more than there is room for
        let part = parts(&shares(seed, &[(High, "a", 1_000.0), (Normal, "b", 400.0), (Low, "c", 400.0)]));
        assert!(part[1] > 0.07 && part[2] > 0.07 && part[0] > 0.75, "SEED={seed}: {part:?}");
    }
}

#[test]
fn a_class_that_waits_gets_one_of_eleven_places_at_least() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let mut line = Line::default();
        let mut passed = [0; 3];
        for n in 0..3_000 {
            for class in CLASSES {
                if random.below(3) > 0 {
                    let _ = line.push(class, of(&random.below(3).to_string()), n, u64::MAX, 60, class);
                }
            }
            let waiting = line.waiting();
            let Some(served) = line.next(n) else { continue };
            for class in CLASSES {
                let count = &mut passed[class as usize];
                *count = if class == served || waiting[class as usize] == 0 { 0 } else { *count + 1 };
                assert!(*count <= 11, "SEED={seed}: {class:?}");
            }
        }
    }
}

#[test]
fn when_all_places_are_taken_the_newest_of_the_greediest_in_the_lowest_class_goes() {
    let mut line = Line::default();
    let mut push = |class, caller: &str, name: &'static str| {
        let pushed = line.push(class, of(caller), 0, SECOND, 10, name);
        match pushed {
            Pushed::Waits(_) => "",
            Pushed::Instead(_, gone) => gone,
            Pushed::Refused(name) => name,
        }
    };
    for name in ["n1", "n2", "n3", "n4", "n5"] {
        assert_eq!(push(Normal, "greedy", name), "");
    }
    for name in ["m1", "m2"] {
        assert_eq!(push(Normal, "modest", name), "");
    }
    for name in ["l1", "l2", "l3"] {
        assert_eq!(push(Low, "low", name), "");
    }
    assert_eq!(push(High, "h", "h1"), "l3");
    assert_eq!(push(Low, "other", "l4"), "l2");
    assert_eq!(push(Normal, "modest", "m3"), "l4");
    // what is kept for the lowest class stays
    assert_eq!(push(Normal, "modest", "m4"), "n5");
    assert_eq!(push(Normal, "greedy", "n6"), "n6");
    assert_eq!(push(Low, "other", "l5"), "l5");
    assert_eq!(push(High, "h", "h2"), "m4");
}

#[test]
fn whoever_comes_last_is_served_first_once_the_first_waits_too_long() {
    let mut line = Line::default();
    for (now, n) in [(0, 1), (10 * MS, 2), (20 * MS, 3)] {
        let _ = line.push(Normal, of("a"), now, now + 100 * MS, 10, n);
    }
    assert_eq!(line.next(50 * MS), Some(1));
    assert_eq!(line.next(70 * MS), Some(3));
    // and one that waited past its time is not served at all
    assert_eq!(line.next(110 * MS), None);
    assert_eq!(line.len(), 0);
}

fn gate(requests: usize) -> Arc<Gate> {
    let gate = Arc::new(Gate::new(Clock::system(), Arc::default()));
    gate.configure(&settings(requests, None), 1, 0, (1, 0));
    gate
}

fn settings(requests: usize, adaptive: Option<Adaptive>) -> GateSettings {
    GateSettings { requests, per_target: usize::MAX, queue: 10_000, timeout: 60 * SECOND, adaptive }
}

#[test]
fn no_place_is_lost_or_given_twice_among_threads() {
    const CALLS: usize = 3_000;
    let gate = gate(3);
    let inside = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (gate, inside) = (&gate, &inside);
            scope.spawn(move || {
                let mut random = Random::new(thread);
                for _ in 0..CALLS {
                    if !gate.enter() {
                        let until = gate.clock.now() + 60 * SECOND;
                        let waits = gate.wait(Normal, of(&thread.to_string()), (0, until), 10_000);
                        let (ticket, receiver) = waits.unwrap_or_else(|_| panic!("the line is not full"));
                        if random.below(4) == 0 {
                            gate.leave(&ticket);
                            drop(receiver);
                            continue;
                        }
                        receiver.blocking_recv().unwrap().keep();
                    }
                    let others = inside.fetch_add(1, SeqCst);
                    assert!(others < 3);
                    std::hint::spin_loop();
                    inside.fetch_sub(1, SeqCst);
                    gate.release(false);
                }
            });
        }
    });
    assert_eq!((gate.cells.calls.load(SeqCst), gate.cells.waiting.load(SeqCst), lock(&gate.line).len()), (0, 0, 0));
}

#[test]
fn a_reload_keeps_the_counts_and_lets_in_what_there_is_room_for() {
    let metrics = Metrics::new(crate::record::Setup {
        workers: 1,
        policies: Vec::new(),
        version: "test",
        commit: "test",
        started: 0,
    });
    let (gates, clock, name) = (Gates::default(), Clock::manual(), Arc::from("u"));
    let with = |settings: &GateSettings| {
        let gate = gates.of(&name, &clock, &metrics.0);
        gate.configure(settings, 1, 0, (1, 0));
        gate
    };
    let first = with(&settings(1, None));
    assert!(first.enter() && !first.enter());
    let (_, mut receiver) = first.wait(Normal, of("a"), (0, u64::MAX), 10).unwrap_or_else(|_| panic!("there is room"));
    assert!(receiver.try_recv().is_err());
    let second = with(&settings(2, None));
    assert!(Arc::ptr_eq(&first, &second));
    receiver.try_recv().unwrap().keep();
    assert!(!second.enter());
    let third = with(&settings(100, Some(Adaptive { min: 5, max: 5 })));
    assert!(third.enter());
    assert_eq!(third.cells.limit.load(SeqCst), 5);
    (0..3).for_each(|_| third.release(false));
    drop((first, second, third));
    // nobody uses it any more
    let fresh = with(&settings(1, None));
    assert!(fresh.enter());
}

#[test]
fn streams_keep_their_places_by_number_but_are_no_measure() {
    let gate = gate(4);
    gate.configure(&settings(4, Some(Adaptive { min: 1, max: 2 })), 1, 0, (1, 0));
    let local = LocalGate::new(Arc::clone(&gate), &settings(4, Some(Adaptive { min: 1, max: 2 })));
    let enter = || gate.enter().then(|| Permit { local: Rc::clone(&local), stream: false, call: None });
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut permit = enter().unwrap();
        permit.become_stream();
        streams.push(permit);
    }
    assert!(enter().is_none());
    streams.truncate(2);
    let calls = [enter(), enter()];
    assert!(calls.iter().all(Option::is_some) && enter().is_none());
    drop((streams, calls));
    assert_eq!((gate.cells.calls.load(SeqCst), gate.cells.streams.load(SeqCst)), (0, 0));
}

#[test]
fn a_target_has_as_many_calls_and_connections_as_it_may() {
    let bound = Gates::default().target("u", "t", (1, 2), 1);
    let call = bound.call();
    assert!(call.is_some() && bound.call().is_none());
    drop(call);
    assert!(bound.call().is_some());
    let connections = [bound.connect(), bound.connect()];
    assert!(connections.iter().all(Option::is_some) && bound.connect().is_none());
    drop(connections);
    assert!(bound.connect().is_some());
}

#[test]
fn settings_of_an_older_snapshot_and_an_older_count_of_targets_no_longer_matter() {
    let gate = gate(1);
    let limit_with = |settings: &GateSettings, targets: usize, elsewhere: usize, of: (u64, u64)| {
        gate.configure(settings, targets, elsewhere, of);
        gate.cells.requests.load(SeqCst)
    };
    assert_eq!(limit_with(&settings(5, None), 1, 0, (2, 7)), 5);
    assert_eq!(limit_with(&settings(9, None), 1, 0, (1, 8)), 5);
    let each = GateSettings { per_target: 2, ..settings(100, None) };
    assert_eq!(limit_with(&each, 9, 0, (2, 6)), 5);
    // places of calls at targets that get no more are not taken from the others
    assert_eq!(limit_with(&each, 3, 1, (2, 7)), 7);
    assert_eq!(limit_with(&settings(9, None), 1, 0, (3, 0)), 9);
    let gates = Gates::default();
    let bound = gates.target("u", "t", (2, 2), 2);
    let old = gates.target("u", "t", (1, 1), 1);
    assert!(Arc::ptr_eq(&bound, &old));
    let calls = [old.call(), old.call()];
    assert!(calls.iter().all(Option::is_some) && old.call().is_none());
}
