//! Which member of a group a call goes to. Pure: what is known of the members and random numbers are arguments.

use super::plan::{Group, Member, Plan};

/// Random numbers of one worker (splitmix64); nothing secret depends on them.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Evenly below `bound`, or nearly so.
    fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.roll()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or_default()
    }
}

/// Spreads the bits of a number over all of them.
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A member by weight, passing over those that `skip` names; its position.
pub(crate) fn by_weight(group: &Group, skip: impl Fn(usize) -> bool, dice: &mut Dice) -> Option<usize> {
    let drawn = draw(group, dice);
    if group.members.get(drawn).is_some_and(|member| !skip(member.index)) {
        return Some(drawn);
    }
    // rare: some were tried before, so that the others are looked through
    let free = |member: &&Member| !skip(member.index);
    let total: u64 = group.members.iter().filter(free).map(|member| member.weight).sum();
    let mut at = dice.below(total);
    group.members.iter().position(|member| {
        if skip(member.index) {
            return false;
        }
        let hit = at < member.weight;
        at = at.saturating_sub(member.weight);
        hit
    })
}

/// Of two members drawn by weight the one that costs less, the first where they cost the same; its position.
pub(crate) fn of_two(
    group: &Group,
    skip: impl Fn(usize) -> bool,
    cost: impl Fn(&Member) -> f64,
    dice: &mut Dice,
) -> Option<usize> {
    let first = by_weight(group, &skip, dice)?;
    let second =
        by_weight(group, |index| skip(index) || group.members.get(first).is_some_and(|m| m.index == index), dice);
    let (Some(second), Some(one)) = (second, group.members.get(first)) else { return Some(first) };
    let less = group.members.get(second).is_some_and(|other| cost(other) < cost(one));
    Some(if less { second } else { first })
}

fn draw(group: &Group, dice: &mut Dice) -> usize {
    if let [_] = group.members.as_slice() {
        return 0;
    }
    let at = dice.below(group.total());
    group.members.partition_point(|member| member.upto <= at)
}

/// Points on a ring that an upstream has at most; with more targets each has fewer.
const POINTS_MOST: u64 = 65_536;
/// Points of a target of usual weight.
const POINTS_EACH: u64 = 160;

/// Where keys go: a ring of points, of which each target has some by weight. When one of `n` targets leaves, its keys alone move, to all
/// the others; when one comes, it takes about one `n`th from each.
#[derive(Debug, Default)]
pub(crate) struct Ring(Vec<(u64, u32)>);

impl Ring {
    /// Of targets, each by its name, which gives its points wherever it stands, and its weight.
    pub(crate) fn new<'a>(targets: impl Iterator<Item = (&'a str, u32)> + Clone) -> Ring {
        let count = targets.clone().filter(|(_, weight)| *weight > 0).count().max(1) as u64;
        let total: u64 = targets.clone().map(|(_, weight)| u64::from(weight)).sum();
        let all = (count * POINTS_EACH).min(POINTS_MOST);
        let mut points = Vec::new();
        for (index, (name, weight)) in (0u32..).zip(targets) {
            let share = (all * u64::from(weight)).checked_div(total).unwrap_or(0);
            let own = if weight > 0 { share.max(1) } else { 0 };
            let name = hash(name.as_bytes());
            points.extend(
                (0..own).map(|point| (mix(name.wrapping_add(point.wrapping_mul(0x9e37_79b9_7f4a_7c15))), index)),
            );
        }
        points.sort_unstable();
        Ring(points)
    }

    /// The target of a key: that of the next point for which `takes` holds.
    pub(crate) fn find(&self, key: u64, takes: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.0.partition_point(|(point, _)| *point < key);
        let (before, behind) = self.0.split_at_checked(start)?;
        let mut refused = None;
        for (_, index) in behind.iter().chain(before) {
            if refused == Some(*index) {
                continue;
            }
            let target = usize::try_from(*index).ok()?;
            if takes(target) {
                return Some(target);
            }
            refused = Some(*index);
        }
        None
    }
}

/// The target of a key: of its group, or where all of that are skipped of the next. One whose weight rises has a part of its keys, more with
/// each step; the others stay where they went without it.
pub(crate) fn of_key(ring: &Ring, plan: &Plan, key: u64, skip: impl Fn(usize) -> bool) -> Option<usize> {
    let first = plan.group(mix(key));
    let others = (0..plan.groups.len()).filter(|group| *group != first);
    std::iter::once(first).chain(others).find_map(|group| {
        let members = &plan.groups.get(group)?.members;
        let number = u32::try_from(group).ok();
        let is_member = |index: usize| plan.group_of.get(index).is_some_and(|own| own.is_some() && *own == number);
        let find = |takes: &dyn Fn(usize) -> bool| {
            // the ring is long: it is not walked for nothing
            let some = members.iter().any(|member| takes(member.index));
            some.then(|| ring.find(key, |index| is_member(index) && takes(index))).flatten()
        };
        let part = mix(key.wrapping_add(1));
        let risen = || find(&|index| !skip(index) && plan.has_risen_to(index, part));
        plan.rises().then(risen).flatten().or_else(|| find(&|index| !skip(index)))
    })
}

/// The number of a text, the same in every process: FNV-1a, its bits spread.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

#[cfg(test)]
mod tests {
    use super::super::plan::{PlanRules, Seen, plan};
    use super::*;
    use daemun_seeded::{Random, seeds};

    const SEEN: Seen = Seen { weight: 1, tier: 0, near: false, up: true, drain: false, ejected: 0, risen: 0 };

    fn group(weights: &[u32]) -> Group {
        let seen = |weight: &u32| Seen { weight: *weight, ..SEEN };
        let targets: Vec<Seen> = weights.iter().map(seen).collect();
        plan(&targets, &PlanRules::default(), 1).groups.remove(0)
    }

    fn names(count: u64) -> Vec<String> {
        (0..count).map(|i| format!("10.0.0.{i}:8080")).collect()
    }

    #[test]
    fn members_are_drawn_by_weight_and_none_that_is_skipped() {
        for seed in seeds() {
            let mut dice = Dice::new(seed);
            let group = group(&[1, 3, 6]);
            let mut met = [0u32; 3];
            (0..2_000).for_each(|_| met[by_weight(&group, |_| false, &mut dice).unwrap()] += 1);
            assert!((120..=290).contains(&met[0]) && (490..=720).contains(&met[1]), "seed {seed}: {met:?}");
            let without = |index: usize| index == 2;
            let mut met = [0u32; 3];
            (0..400).for_each(|_| met[by_weight(&group, without, &mut dice).unwrap()] += 1);
            assert!(met[2] == 0 && (50..=160).contains(&met[0]), "seed {seed}: {met:?}");
            assert_eq!(by_weight(&group, |_| true, &mut dice), None);
        }
    }

    #[test]
    fn of_two_choices_a_slow_member_gets_few_calls_and_weights_hold_where_all_is_quiet() {
        for seed in seeds() {
            let mut dice = Dice::new(seed);
            let group = group(&[1, 1, 1, 1]);
            // the last takes fifty times as long
            let (mut busy, mut met) = ([Vec::<u64>::new(), vec![], vec![], vec![]], [0u32; 4]);
            for now in 0..4_000u64 {
                busy.iter_mut().for_each(|calls| calls.retain(|end| *end > now));
                let cost = |member: &Member| busy[member.index].len() as f64;
                let chosen = of_two(&group, |_| false, cost, &mut dice).unwrap();
                met[chosen] += 1;
                busy[chosen].push(now + if chosen == 3 { 500 } else { 10 });
            }
            assert!(met[3] < 160, "seed {seed}: {met:?}");
            let group = self::group(&[1, 3]);
            let mut met = [0u32; 2];
            (0..2_000).for_each(|_| met[of_two(&group, |_| false, |_| 0.0, &mut dice).unwrap()] += 1);
            assert!((400..=600).contains(&met[0]), "seed {seed}: {met:?}");
        }
    }

    #[test]
    fn when_one_of_n_targets_leaves_only_its_keys_move() {
        for seed in seeds().take(64) {
            let mut random = Random::new(seed);
            let count = 2 + random.below(15);
            let names = names(count);
            let gone = random.below(count) as usize;
            let before = Ring::new(names.iter().map(|name| (name.as_str(), 1)));
            let left: Vec<&String> = names.iter().enumerate().filter(|(i, _)| *i != gone).map(|(_, n)| n).collect();
            let after = Ring::new(left.iter().map(|name| (name.as_str(), 1)));
            let mut moved = 0;
            for _ in 0..1_000 {
                let key = random.next();
                let (old, new) = (before.find(key, |_| true).unwrap(), after.find(key, |_| true).unwrap());
                let skipped = before.find(key, |index| index != gone).unwrap();
                assert_eq!(names[skipped], *left[new], "seed {seed}");
                if old == gone {
                    moved += 1;
                } else {
                    assert_eq!(names[old], *left[new], "seed {seed}");
                }
            }
            let fair = 1_000 / count;
            assert!((fair / 2..=fair * 2).contains(&moved), "seed {seed}: {moved} of {fair}");
        }
    }

    #[test]
    fn a_target_whose_weight_rises_gets_a_part_of_its_keys_that_grows() {
        const SECOND: u64 = 1_000_000_000;
        let risen = |risen: u64| Seen { risen, ..SEEN };
        let rules = PlanRules { slow_start: 10 * SECOND, ..PlanRules::default() };
        let names = names(3);
        let ring = Ring::new(names.iter().map(|name| (name.as_str(), 1)));
        let keys: Vec<u64> = (0..3_000).map(mix).collect();
        let own: Vec<usize> = keys.iter().map(|key| ring.find(*key, |_| true).unwrap()).collect();
        let mut before = 0;
        for step in 0..=10 {
            let plan = plan(&[risen(0), risen(20 * SECOND), risen(0)], &rules, (20 + step) * SECOND);
            let found: Vec<usize> = keys.iter().map(|key| of_key(&ring, &plan, *key, |_| false).unwrap()).collect();
            assert!(found.iter().zip(&own).all(|(found, own)| found == own || *own == 1 && *found != 1));
            let all = own.iter().filter(|own| **own == 1).count();
            let has = found.iter().filter(|found| **found == 1).count();
            let fair = all * (step as usize + 1).min(10) / 10;
            assert!(has >= before && has.abs_diff(fair) < 60, "{step}: {has} of {all}");
            before = has;
        }
        // where all rise, the keys are where they belong
        let plan = plan(&[risen(20 * SECOND); 3], &rules, 20 * SECOND);
        assert!(keys.iter().zip(&own).all(|(key, own)| of_key(&ring, &plan, *key, |_| false) == Some(*own)));
    }

    #[test]
    fn a_key_goes_to_the_next_group_when_all_of_its_own_failed() {
        let tiers = [Seen { tier: 2, ..SEEN }, SEEN, Seen { tier: 1, ..SEEN }];
        let plan = plan(&tiers, &PlanRules::default(), 1);
        let names = names(3);
        let ring = Ring::new(names.iter().map(|name| (name.as_str(), 1)));
        for key in (0..100).map(mix) {
            let of = |tried: &[usize]| of_key(&ring, &plan, key, |index| tried.contains(&index));
            assert_eq!([of(&[]), of(&[1]), of(&[1, 2]), of(&[0, 1, 2])], [Some(1), Some(2), Some(0), None]);
        }
        assert_eq!(of_key(&ring, &Plan::default(), 1, |_| false), None);
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let names = names(3);
        let ring = Ring::new(names.iter().map(String::as_str).zip([1, 2, 0]));
        let mut random = Random::new(1);
        let mut met = [0u32; 3];
        (0..6_000).for_each(|_| met[ring.find(random.next(), |_| true).unwrap()] += 1);
        assert!((1_600..=2_400).contains(&met[0]) && met[2] == 0, "{met:?}");
        assert_eq!(ring.find(5, |_| false), None);
        assert_eq!(Ring::new(std::iter::empty()).find(5, |_| true), None);
    }

    #[test]
    fn a_key_has_the_same_number_in_every_process() {
        assert_eq!(hash(b"user-1"), hash(b"user-1"));
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
    }
}
