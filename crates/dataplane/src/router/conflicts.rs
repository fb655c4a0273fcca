//! Finds routes that no rule tells apart. Knows the sorted items only; never compares all with all.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use daemun_config::diagnostic::{self, Diagnostic, Diagnostics};

use super::build::{Draft, Item};

/// Routes compared pair by pair without looking for something that tells them apart.
const FEW: usize = 16;
/// Comparisons in all; beyond, the rest is left unchecked, and said to be.
const MAX_COMPARISONS: usize = 4_000_000;
/// Findings in all.
const MAX_FINDINGS: usize = 1_000;
/// Names tried to tell many routes apart, one within the other.
const MAX_DEPTH: usize = 4;

/// Reports each route that is equal to an earlier one in every rule of precedence, and can match the same request.
pub(super) fn report(draft: &Draft<'_>, found: &mut Diagnostics) {
    let mut search = Search { draft, found, seen: HashSet::new(), comparisons: 0 };
    let equal = |a: &Item, b: &Item| {
        (a.host, a.priority, a.weight, a.any_method()) == (b.host, b.priority, b.weight, b.any_method())
            && draft.key(a) == draft.key(b)
    };
    for group in draft.items.chunk_by(equal).filter(|group| group.len() > 1) {
        search.check(&group.iter().collect::<Vec<_>>(), MAX_DEPTH);
        if search.seen.len() >= MAX_FINDINGS {
            return;
        }
        if search.comparisons > MAX_COMPARISONS {
            search.give_up(group);
            return;
        }
    }
}

struct Search<'a, 'b> {
    draft: &'a Draft<'b>,
    found: &'a mut Diagnostics,
    /// Pairs that were reported, under whatever host.
    seen: HashSet<(u32, u32)>,
    comparisons: usize,
}

impl Search<'_, '_> {
    /// Checks items that are equal in rank.
    fn check(&mut self, items: &[&Item], depth: usize) {
        if items.len() <= FEW || depth == 0 {
            return self.compare(items);
        }
        let Some(parts) = self.split_by_method(items).or_else(|| self.split_by_value(items)) else {
            return self.compare(items);
        };
        for part in parts.apart {
            self.check(&part, depth - 1);
        }
        self.compare_with_all(&parts.unknown, items);
    }

    /// Compares each item with those before it; one finding each.
    fn compare(&mut self, items: &[&Item]) {
        for (index, item) in items.iter().enumerate() {
            let earlier = items.get(..index).unwrap_or_default();
            if self.find_met(item, earlier).is_break() {
                return;
            }
        }
    }

    /// Compares each of `some` with all others; one finding each.
    fn compare_with_all(&mut self, some: &[&Item], all: &[&Item]) {
        for item in some {
            if self.find_met(item, all).is_break() {
                return;
            }
        }
    }

    /// Reports the first of `others` that an item meets; breaks when enough was done.
    fn find_met(&mut self, item: &Item, others: &[&Item]) -> ControlFlow<()> {
        for other in others.iter().filter(|other| other.route != item.route) {
            self.comparisons += 1;
            if self.comparisons > MAX_COMPARISONS || self.seen.len() >= MAX_FINDINGS {
                return ControlFlow::Break(());
            }
            if self.meet(other, item) {
                let (earlier, later) = if other.route < item.route { (*other, item) } else { (item, *other) };
                self.tell(earlier, later);
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether a request can match both.
    fn meet(&self, one: &Item, other: &Item) -> bool {
        let excluded = match (self.draft.conditions(one), self.draft.conditions(other)) {
            (Some(one), Some(other)) => one.excludes(other),
            _ => false,
        };
        one.methods.intersects(other.methods) && !excluded
    }

    /// Parts by method, when the items give methods and no part is as large as the whole.
    fn split_by_method<'i>(&self, items: &[&'i Item]) -> Option<Parts<'i>> {
        let mut by_method: HashMap<u32, Vec<&'i Item>> = HashMap::new();
        for item in items {
            if item.any_method() {
                return None;
            }
            for method in item.methods.bits() {
                by_method.entry(method).or_default().push(item);
            }
        }
        let apart: Vec<_> = by_method.into_values().collect();
        apart.iter().all(|part| part.len() < items.len()).then_some(Parts { apart, unknown: Vec::new() })
    }

    /// Parts by the exact value asked of the name for which most items ask one.
    fn split_by_value<'i>(&self, items: &[&'i Item]) -> Option<Parts<'i>> {
        let mut counts: HashMap<(usize, &str), usize> = HashMap::new();
        for item in items {
            for (kind, name, _) in self.draft.conditions(item).into_iter().flat_map(|set| set.exact_values()) {
                *counts.entry((kind, name)).or_default() += 1;
            }
        }
        let mut names: Vec<_> = counts.into_iter().collect();
        names.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then(a.cmp(b)));
        names.iter().take(MAX_DEPTH).find_map(|&(name, _)| {
            let mut by_value: HashMap<&[u8], Vec<&'i Item>> = HashMap::new();
            let mut unknown = Vec::new();
            for item in items {
                let mut conditions = self.draft.conditions(item).into_iter().flat_map(|set| set.exact_values());
                match conditions.find(|&(kind, other, _)| (kind, other) == name) {
                    Some((_, _, values)) => {
                        values.iter().for_each(|value| by_value.entry(value).or_default().push(item));
                    }
                    None => unknown.push(*item),
                }
            }
            let apart: Vec<_> = by_value.into_values().collect();
            apart.iter().all(|part| part.len() < items.len()).then_some(Parts { apart, unknown })
        })
    }

    fn tell(&mut self, earlier: &Item, later: &Item) {
        if !self.seen.insert((earlier.route, later.route)) {
            return;
        }
        let spec = |item: &Item| self.draft.specs.get(item.route as usize);
        let (Some(first), Some(second)) = (spec(earlier), spec(later)) else { return };
        let message = format!(
            "this route and `{}` match the same requests of {}, and no rule says which wins",
            first.name.value,
            self.draft.host_pattern(later.host),
        );
        let finding = Diagnostic::error(diagnostic::ROUTE_CONFLICT, second.at(), message)
            .path(second.path(""))
            .help("a condition more makes one win; `priority` decides otherwise")
            .related(first.at(), format!("`{}` is here", first.name.value));
        self.found.push(finding);
    }

    /// Says that routes were left unchecked.
    fn give_up(&mut self, group: &[Item]) {
        let Some(spec) = group.first().and_then(|item| self.draft.specs.get(item.route as usize)) else { return };
        let message = format!(
            "{} routes differ in their conditions only, too many to find out whether two of them match the same request",
            group.len()
        );
        self.found.push(Diagnostic::warning(diagnostic::ROUTE_CONFLICT, spec.at(), message).path(spec.path("")));
    }
}

/// Items that exclude each other unless they are in one part, and those of which that is not known.
struct Parts<'i> {
    apart: Vec<Vec<&'i Item>>,
    unknown: Vec<&'i Item>,
}
