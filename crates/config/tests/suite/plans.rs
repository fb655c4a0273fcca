//! Plans, and consumers that are on them.

use daemun_config::read_plan;

use crate::findings::finds;
use crate::support::load;

const ROUTE: &str = "routes: [{ name: a, answer: {} }]\n";

#[test]
fn a_plan_has_a_limit_and_a_consumer_may_be_on_several() {
    let loaded = load(&format!(
        "listeners: [{{ bind: 127.0.0.1:0 }}]\n{ROUTE}plans: {{ gold: {{ limit: 1000/s, burst: 2000 }}, free: {{ limit: 1000/day }} }}\n\
         consumers: [{{ name: a, plan: gold }}, {{ name: b, plan: [free, gold] }}, {{ name: c }}]"
    ));
    let config = loaded.config.unwrap();
    let plans: Vec<(&str, String, u64)> =
        config.plans.iter().map(|plan| (plan.name.as_str(), plan.limit.to_string(), plan.burst())).collect();
    assert_eq!(plans, [("gold", "1000/s".to_owned(), 2000), ("free", "1000/day".to_owned(), 1000)]);
    let on: Vec<_> = config.consumers.iter().map(|consumer| consumer.plans.join(" ")).collect();
    assert_eq!(on, ["gold", "free gold", ""]);
}

#[test]
fn what_is_wrong_with_plans_is_told() {
    let many: Vec<String> = (0..9).map(|number| format!("p{number}")).collect();
    for (text, found) in [
        (
            "plans: { gold: { limit: 1/s } }\nconsumers: [{ name: a, plan: gild }]".to_owned(),
            "unknown_plan consumers.a.plan: there is no plan `gild`; did you mean `gold`?",
        ),
        (
            "consumers: [{ name: a, plan: gold }]".to_owned(),
            "unknown_plan consumers.a.plan: there is no plan `gold`; `plans` defines plans by name: `plans: { gold: { limit: 1000/s } }`",
        ),
        (
            "plans: { gold: { limit: 1/s } }\nconsumers: [{ name: a, plan: [gold, gold] }]".to_owned(),
            "duplicate_name consumers.a.plan: plan `gold` is named twice",
        ),
        (
            format!(
                "plans: {{ {} }}\nconsumers: [{{ name: a, plan: [{}] }}]",
                many.iter().map(|name| format!("{name}: {{ limit: 1/s }}")).collect::<Vec<_>>().join(", "),
                many.join(", ")
            ),
            "bad_value consumers.a.plan: expected 8 plans at most",
        ),
        (
            "plans: { grün: { limit: 1/s } }".to_owned(),
            "bad_value plans.grün: the name of a plan must be ASCII: it is told to callers in the `RateLimit` field",
        ),
        (
            "plans: { gold: { limit: 2000000000/s } }".to_owned(),
            "bad_value plans.gold.limit: `2000000000/s` is faster than the fastest limit, `1000000000/s`",
        ),
        (
            "plans: { gold: { limit: 1/month, burst: 13 } }".to_owned(),
            "bad_value plans.gold.burst: a burst of 13 at `1/month` would take longer than 366 days to come back; a smaller `burst` or a faster `limit`",
        ),
    ] {
        finds(&format!("{ROUTE}{text}"), &[found]);
    }
}

#[test]
fn a_plan_of_the_store_is_read_as_one_of_the_configuration() {
    let plan = read_plan("gold", r#"{"limit": "1000/s"}"#).unwrap();
    assert_eq!((plan.name.as_str(), plan.limit.to_string(), plan.burst), ("gold", "1000/s".to_owned(), None));
    for (name, settings, why) in [
        ("gold", r#"{"limit": "1000"}"#, "`limit`: `1000` is not a rate"),
        ("gold", r#"{"limit": "1/month", "burst": 13}"#, "`burst`: a burst of 13 at `1/month` would take longer"),
        ("gold", r#"{"limit": "1/s", "brust": 13}"#, "`brust`"),
        ("gold", r#"{"limit": "1/s", "quota": "5/day"}"#, "`quota`"),
        ("gold", "{}", "`limit` is missing"),
        ("gold", "[]", "expected a mapping"),
        ("a b", r#"{"limit": "1/s"}"#, "`a b` is not a name"),
        ("grün", r#"{"limit": "1/s"}"#, "must be ASCII"),
    ] {
        let wrong = read_plan(name, settings).unwrap_err();
        assert!(wrong.contains(why), "{settings}: {wrong}");
    }
}
