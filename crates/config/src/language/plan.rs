//! Plans: what consumers may be on.

use crate::decode::{Bounded, Checked, Decoder, Mapping, Name, Rate, Setting};
use crate::diagnostic::{Diagnostics, Severity};
use crate::model::Plan;
use crate::parse::parse_text;
use crate::settings;
use crate::tree::Node;

/// What is told of a plan whose name cannot be sent in a header.
pub(super) const NOT_ASCII: &str = "the name of a plan must be ASCII: it is told to callers in the `RateLimit` field";

settings! {
    /// How often each consumer that is on the plan may call, over all routes together.
    pub(super) struct PlanText {
        /// Calls per time, such as `1000/s` or `1000/day`.
        limit: Rate,
        /// Calls that may come at once after a pause; as many as `limit` counts when absent.
        burst: Option<Bounded<1, 1_000_000_000_000>>,
    }
    not_available { "quota" }
    check PlanText::check;
}

impl PlanText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let at = |key: &str| node.get(key).unwrap_or(node);
        if let Some(message) = self.limit.why_too_fast() {
            cx.key("limit", |cx| cx.bad_value(at("limit"), message));
        }
        if let Some(message) = self.limit.why_too_slow(self.burst.map_or(self.limit.count, Bounded::get)) {
            cx.key("burst", |cx| cx.bad_value_help(at("burst"), message, "a smaller `burst` or a faster `limit`"));
        }
    }

    fn lower(self, name: String) -> Plan {
        Plan { name, limit: self.limit, burst: self.burst.map(Bounded::get) }
    }
}

/// Those that could be read.
pub(super) fn lower(plans: Mapping<Name, Checked<PlanText>>) -> Vec<Plan> {
    let sound = plans.0.into_iter().filter(|(_, plan)| plan.sound);
    sound.map(|(name, plan)| plan.value.lower(name.value.0)).collect()
}

/// Reads a plan that is written as one of `plans` is, as JSON or YAML.
///
/// # Errors
/// What is wrong with it.
pub fn read_plan(name: &str, settings: &str) -> Result<Plan, String> {
    let mut found = Diagnostics::new();
    let node = parse_text(settings, &mut found);
    let mut cx = Decoder::new(&mut found, "");
    let name = Name::decode(&Node::text(name), &mut cx);
    if name.as_ref().is_some_and(|name| !name.0.is_ascii()) {
        return Err(NOT_ASCII.to_owned());
    }
    let plan = node.and_then(|node| PlanText::decode(&node, &mut cx));
    match (name, plan, found.iter().find(|found| found.severity == Severity::Error)) {
        (Some(name), Some(plan), None) => Ok(plan.lower(name.0)),
        (_, _, Some(wrong)) if wrong.path.is_empty() => Err(wrong.message.clone()),
        (_, _, Some(wrong)) => Err(format!("`{}`: {}", wrong.path, wrong.message)),
        (_, _, None) => Err("it cannot be read".to_owned()),
    }
}
