//! Which targets may be called, and how the calls are shared among tiers and zones. Made anew when something changed, not for a call. Pure:
//! what is known of each target and the time are arguments.

/// What every share is of.
pub(crate) const ALL: u64 = 10_000;
/// Tenths of its healthy weight that a tier, or the own zone, takes: it may lose 2 of 7 before others get some of its calls.
const SPARE: u64 = 14;
/// Steps of a slow start, the first of which is one of them.
const STEPS: u64 = 10;

/// What is known of a target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) weight: u32,
    pub(crate) tier: u8,
    /// Whether it is in the gateway's own zone.
    pub(crate) near: bool,
    /// Whether active checks say that it is well, or nothing.
    pub(crate) up: bool,
    pub(crate) drain: bool,
    /// Until when it is ejected, and behind that tried by one call at a time; 0 when it is not.
    pub(crate) ejected: u64,
    /// When it became healthy again; 0 for always.
    pub(crate) risen: u64,
}

/// What holds for all targets of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanRules {
    /// Share of healthy weight below which all are called.
    pub(crate) panic: Option<u32>,
    /// Time over which the weight rises of a target that is healthy again; 0 for none.
    pub(crate) slow_start: u64,
    /// Whether the gateway knows its zone.
    pub(crate) zoned: bool,
}

/// How calls are shared until something changes.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Those that have no part of the calls among them: such are called when all targets of the others failed.
    pub(crate) groups: Vec<Group>,
    /// For each target, its group, or none while it gets no calls.
    pub(crate) group_of: Vec<Option<u32>>,
    /// For each target, how many of `STEPS` its weight has risen; empty while all have risen.
    steps: Vec<u64>,
    /// Ejected targets whose time is over: one call at a time tries them.
    pub(crate) trials: Vec<usize>,
    /// When it must be made anew though nothing changed.
    pub(crate) until: u64,
    /// All are called for want of healthy ones.
    pub(crate) panic: bool,
    /// How much of the weight is healthy, and how much there is.
    pub(crate) healthy: (u64, u64),
}

/// Targets that share a part of the calls.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its part of the calls, of `ALL`.
    pub(crate) share: u64,
    /// Its part of the calls and those of the groups before it, of `ALL`.
    pub(crate) upto: u64,
    pub(crate) members: Vec<Member>,
}

/// A target in a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) index: usize,
    pub(crate) weight: u64,
    /// Its weight and those of the members before it.
    pub(crate) upto: u64,
}

impl Group {
    /// The weight of all members.
    pub(crate) fn total(&self) -> u64 {
        self.members.last().map_or(0, |member| member.upto)
    }
}

impl Plan {
    /// The group of a call, by a number that is the same for calls that belong together, or random.
    pub(crate) fn group(&self, number: u64) -> usize {
        let at = self.groups.iter().position(|group| number % ALL < group.upto);
        // parts may make a little less than the whole; whoever comes last without one has the same end as the one before
        let last = || self.groups.iter().position(|group| self.groups.last().is_some_and(|l| l.upto == group.upto));
        at.or_else(last).unwrap_or(0)
    }

    /// The target that gets all calls, where no other may get any.
    #[inline]
    pub(crate) fn only(&self) -> Option<usize> {
        let [group] = self.groups.as_slice() else { return None };
        let [only] = group.members.as_slice() else { return None };
        Some(only.index)
    }

    /// Whether a target gets calls before others failed.
    pub(crate) fn is_drawn(&self, index: usize) -> bool {
        let group = self.group_of.get(index).copied().flatten().and_then(|group| usize::try_from(group).ok());
        group.and_then(|group| self.groups.get(group)).is_some_and(|group| group.share > 0)
    }

    /// Whether the weight of some target rises.
    pub(crate) fn rises(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Whether a target, as far as its weight has risen, takes what has this number.
    pub(crate) fn has_risen_to(&self, index: usize, number: u64) -> bool {
        self.steps.get(index).is_none_or(|steps| number % STEPS < *steps)
    }
}

/// The plan of this moment.
pub(crate) fn plan(targets: &[Seen], rules: &PlanRules, now: u64) -> Plan {
    let mut until = u64::MAX;
    let callable = |seen: &Seen| seen.weight > 0 && !seen.drain;
    let well = |seen: &Seen| callable(seen) && seen.up && seen.ejected == 0;
    let weight = |of: &dyn Fn(&Seen) -> bool| targets.iter().filter(|seen| of(seen)).map(|s| u64::from(s.weight)).sum();
    let (all, healthy): (u64, u64) = (weight(&callable), weight(&well));
    let panic = all > 0 && rules.panic.is_some_and(|least| healthy * ALL < all * u64::from(least));
    // where nothing else is left, what calls told does not count
    let alone = healthy == 0;
    let chosen = |seen: &Seen| well(seen) || callable(seen) && (panic || alone && seen.up);
    let mut plan = Plan { panic, healthy: (healthy, all), ..Plan::default() };
    for (index, seen) in targets.iter().enumerate() {
        if callable(seen) && seen.up && seen.ejected > 0 && !chosen(seen) {
            if seen.ejected <= now {
                plan.trials.push(index);
            } else {
                until = until.min(seen.ejected);
            }
        }
    }
    plan.group_of = vec![None; targets.len()];
    let mut steps = vec![STEPS; targets.len()];
    let mut upto = 0;
    for (share, members) in shares(targets, rules, &callable, &chosen) {
        let number = u32::try_from(plan.groups.len()).ok();
        let mut sum = 0;
        let members = members.into_iter().filter_map(|index| {
            let seen = targets.get(index)?;
            let (risen, next) = risen_steps(seen, rules.slow_start, now);
            until = until.min(next);
            let weight = u64::from(seen.weight) * risen;
            if let Some(steps) = steps.get_mut(index) {
                *steps = risen;
            }
            sum += weight;
            if let Some(group) = plan.group_of.get_mut(index) {
                *group = number;
            }
            Some(Member { index, weight, upto: sum })
        });
        let members = members.collect();
        upto += share;
        plan.groups.push(Group { share, upto, members });
    }
    if steps.iter().any(|risen| *risen < STEPS) {
        plan.steps = steps;
    }
    plan.until = until;
    plan
}

/// The parts of the calls and who shares each: tiers one after the other as far as the ones before are healthy, and in each the targets
/// of the own zone as far as these are.
fn shares(
    targets: &[Seen],
    rules: &PlanRules,
    callable: &dyn Fn(&Seen) -> bool,
    chosen: &dyn Fn(&Seen) -> bool,
) -> Vec<(u64, Vec<usize>)> {
    let sum = |of: &dyn Fn(&Seen) -> bool| -> u64 {
        targets.iter().filter(|seen| of(seen)).map(|seen| u64::from(seen.weight)).sum()
    };
    let mut tiers: Vec<u8> = targets.iter().map(|seen| seen.tier).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let of_tier =
        |tier| health(sum(&|seen| seen.tier == tier && chosen(seen)), sum(&|seen| seen.tier == tier && callable(seen)));
    let tiers: Vec<(u8, u64)> = tiers.into_iter().map(|tier| (tier, of_tier(tier))).collect();
    let total = tiers.iter().map(|(_, health)| health).sum::<u64>().min(ALL);
    let mut left = ALL;
    let mut out = Vec::new();
    for (tier, of_tier) in tiers {
        let load = (of_tier * ALL).checked_div(total).unwrap_or(0).min(left);
        left -= load;
        let members = |near: bool| -> Vec<usize> {
            let within = |seen: &Seen| seen.tier == tier && chosen(seen) && near == (rules.zoned && seen.near);
            targets.iter().enumerate().filter(|(_, seen)| within(seen)).map(|(index, _)| index).collect()
        };
        let (near, far) = (members(true), members(false));
        let of_near = match (near.is_empty(), far.is_empty()) {
            (true, _) => 0,
            (false, true) => ALL,
            (false, false) => {
                let own = |seen: &Seen| seen.tier == tier && seen.near;
                health(sum(&|seen| own(seen) && chosen(seen)), sum(&|seen| own(seen) && callable(seen)))
            }
        };
        let share = load * of_near / ALL;
        out.extend([(share, near), (load - share, far)].into_iter().filter(|(_, who)| !who.is_empty()));
    }
    out
}

/// How much of its calls a part takes, of `ALL`.
fn health(healthy: u64, all: u64) -> u64 {
    (healthy * ALL * SPARE / 10).checked_div(all).unwrap_or(0).min(ALL)
}

/// How many of all steps the weight of a target has risen, and when the next is.
fn risen_steps(seen: &Seen, slow_start: u64, now: u64) -> (u64, u64) {
    let since = now.saturating_sub(seen.risen);
    if seen.risen == 0 || slow_start == 0 || since >= slow_start {
        return (STEPS, u64::MAX);
    }
    let step = (slow_start / STEPS).max(1);
    let done = (since / step).min(STEPS - 1);
    (done + 1, seen.risen.saturating_add(step * (done + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemun_seeded::{Random, seeds};

    const SECOND: u64 = 1_000_000_000;

    fn seen() -> Seen {
        Seen { weight: 1, tier: 0, near: false, up: true, drain: false, ejected: 0, risen: 0 }
    }

    fn parts(plan: &Plan) -> Vec<(u64, Vec<usize>)> {
        let part = |group: &Group| (group.share, group.members.iter().map(|member| member.index).collect());
        let parts: Vec<_> = plan.groups.iter().map(part).collect();
        let ends: Vec<u64> = plan.groups.iter().map(|group| group.upto).collect();
        let sums = parts.iter().scan(0, |sum, (share, _)| {
            *sum += share;
            Some(*sum)
        });
        assert_eq!(ends, sums.collect::<Vec<u64>>());
        parts
    }

    fn of(targets: &[Seen]) -> Vec<(u64, Vec<usize>)> {
        parts(&plan(targets, &PlanRules::default(), SECOND))
    }

    #[test]
    fn what_is_down_ejected_drained_or_without_weight_gets_no_calls() {
        let targets = [
            seen(),
            Seen { up: false, ..seen() },
            Seen { ejected: 5 * SECOND, ..seen() },
            Seen { drain: true, ..seen() },
            Seen { weight: 0, ..seen() },
        ];
        let plan = plan(&targets, &PlanRules::default(), SECOND);
        assert_eq!(parts(&plan), [(ALL, vec![0])]);
        assert_eq!((plan.until, plan.trials.len()), (5 * SECOND, 0));
        assert_eq!(plan.group_of, [Some(0), None, None, None, None]);
    }

    #[test]
    fn an_ejected_target_whose_time_is_over_is_tried_but_gets_no_share() {
        let targets = [seen(), Seen { ejected: SECOND, ..seen() }];
        let plan = plan(&targets, &PlanRules::default(), SECOND);
        assert_eq!((parts(&plan), plan.trials), (vec![(ALL, vec![0])], vec![1]));
    }

    #[test]
    fn where_all_others_are_gone_an_ejected_target_is_called() {
        let ejected = Seen { ejected: 5 * SECOND, ..seen() };
        let targets = [ejected, Seen { up: false, ..seen() }, Seen { up: false, ..ejected }];
        assert_eq!(of(&targets), [(ALL, vec![0])]);
    }

    #[test]
    fn nothing_is_called_while_checks_say_that_nothing_is_well() {
        assert!(of(&[Seen { up: false, ..seen() }; 3]).is_empty());
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn below_the_panic_threshold_all_are_called() {
        let rules = PlanRules { panic: Some(5_000), ..PlanRules::default() };
        let down = Seen { up: false, ..seen() };
        let most = plan(&[seen(), seen(), down, down], &rules, SECOND);
        assert_eq!((parts(&most), most.panic), (vec![(ALL, vec![0, 1])], false));
        let few = plan(&[seen(), down, down, Seen { drain: true, ..seen() }], &rules, SECOND);
        assert_eq!((parts(&few), few.panic), (vec![(ALL, vec![0, 1, 2])], true));
    }

    #[test]
    fn the_next_tier_gets_what_the_first_cannot_take() {
        let (second, down) = (Seen { tier: 1, ..seen() }, Seen { up: false, ..seen() });
        // 3 of 4: 105 of 100
        assert_eq!(of(&[seen(), seen(), seen(), down, second]), [(ALL, vec![0, 1, 2]), (0, vec![4])]);
        // 2 of 4: 70 of 100
        assert_eq!(of(&[seen(), seen(), down, down, second]), [(7_000, vec![0, 1]), (3_000, vec![4])]);
        assert_eq!(of(&[down, down, second]), [(ALL, vec![2])]);
        // neither can take all: 28 and 47 of 75
        let ill = Seen { tier: 1, ..down };
        let shares = of(&[seen(), down, down, down, down, second, ill, ill]);
        assert_eq!(shares, [(3_750, vec![0]), (6_249, vec![5])]);
    }

    #[test]
    fn who_has_no_part_of_the_calls_is_there_for_those_that_failed_elsewhere_and_never_drawn() {
        let (second, third) = (Seen { tier: 1, ..seen() }, Seen { tier: 2, ..seen() });
        let plan = plan(&[third, seen(), second], &PlanRules::default(), SECOND);
        assert_eq!(parts(&plan), [(ALL, vec![1]), (0, vec![2]), (0, vec![0])]);
        assert!((0..2 * ALL).all(|number| plan.group(number) == 0));
        assert_eq!([0, 1, 2, 3].map(|index| plan.is_drawn(index)), [false, true, false, false]);
        let ill = Seen { up: false, ..seen() };
        let shares = [seen(), ill, ill, ill, ill, second, Seen { tier: 1, ..ill }, Seen { tier: 1, ..ill }, third];
        let plan = super::plan(&shares, &PlanRules::default(), SECOND);
        assert!((0..ALL).all(|number| plan.groups[plan.group(number)].share > 0), "{plan:?}");
    }

    #[test]
    fn the_own_zone_gets_all_calls_while_enough_of_it_is_healthy() {
        let rules = PlanRules { zoned: true, ..PlanRules::default() };
        let (near, down) = (Seen { near: true, ..seen() }, Seen { near: true, up: false, ..seen() });
        let of = |targets: &[Seen]| parts(&plan(targets, &rules, SECOND));
        assert_eq!(of(&[near, near, near, down, seen()]), [(ALL, vec![0, 1, 2]), (0, vec![4])]);
        assert_eq!(of(&[near, down, seen()]), [(7_000, vec![0]), (3_000, vec![2])]);
        assert_eq!(of(&[down, down, seen()]), [(ALL, vec![2])]);
        assert_eq!(of(&[near, down, down]), [(ALL, vec![0])]);
        assert_eq!(of(&[seen(), seen()]), [(ALL, vec![0, 1])]);
    }

    #[test]
    fn the_weight_of_a_target_that_is_healthy_again_rises_in_steps() {
        let rules = PlanRules { slow_start: 10 * SECOND, ..PlanRules::default() };
        let targets = [seen(), Seen { risen: 20 * SECOND, ..seen() }];
        let at = |now: u64| {
            let plan = plan(&targets, &rules, now);
            (plan.groups[0].members[1].weight, plan.until)
        };
        assert_eq!(at(20 * SECOND), (1, 21 * SECOND));
        assert_eq!(at(24 * SECOND + 1), (5, 25 * SECOND));
        assert_eq!(at(30 * SECOND), (10, u64::MAX));
    }

    #[test]
    fn whatever_is_known_shares_make_a_whole_and_nobody_is_called_who_must_not_be() {
        for seed in seeds() {
            let mut random = Random::new(seed);
            let targets: Vec<Seen> = (0..random.below(20))
                .map(|_| Seen {
                    weight: u32::try_from(random.below(4)).unwrap(),
                    tier: u8::try_from(random.below(3)).unwrap(),
                    near: random.below(2) == 0,
                    up: random.below(3) > 0,
                    drain: random.below(8) == 0,
                    ejected: random.below(4).saturating_sub(2) * random.below(10) * SECOND,
                    risen: random.below(2) * random.below(10) * SECOND,
                })
                .collect();
            let rules = PlanRules {
                panic: (random.below(2) == 0).then_some(3_000),
                slow_start: random.below(2) * 10 * SECOND,
                zoned: random.below(2) == 0,
            };
            let now = 5 * SECOND;
            let plan = plan(&targets, &rules, now);
            let callable = targets.iter().any(|seen| seen.weight > 0 && !seen.drain && (seen.up || plan.panic));
            assert_eq!(plan.groups.is_empty(), !callable, "seed {seed}: {plan:?}");
            if let Some(last) = plan.groups.last() {
                assert!((ALL - 10..=ALL).contains(&last.upto), "seed {seed}: {plan:?}");
            }
            let mut met = vec![0; targets.len()];
            for member in plan.groups.iter().flat_map(|group| &group.members) {
                met[member.index] += 1;
                let seen = targets[member.index];
                assert!(seen.weight > 0 && !seen.drain && (seen.up || plan.panic) && member.weight > 0, "seed {seed}");
            }
            assert!(met.iter().all(|times| *times <= 1), "seed {seed}");
            assert!(plan.trials.iter().all(|index| met[*index] == 0), "seed {seed}");
            assert!(plan.until > now, "seed {seed}");
        }
    }
}
