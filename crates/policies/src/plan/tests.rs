use std::sync::Arc;

use daemun_accounts::plan::Used;
use daemun_accounts::{Accounts, Consumer as Stored, Credential, CredentialKind, text};
use daemun_config::read_plan;
use daemun_pipeline::{Consumer, Directory, Outcome};

use crate::testing::{Bench, Chain, consumer, wait};

const SETTINGS: &str = "{ key_auth: { header: K }, plan: {} }";
const A: &str = "GET / HTTP/1.1\nK: key-of-a-00000001";
const B: &str = "GET / HTTP/1.1\nK: key-of-b-00000001";
const STORED: &str = "GET / HTTP/1.1\nK: key-of-stored-0001";

fn directory(plans: &[&str], limit: &str) -> Arc<Directory> {
    let plans = plans.iter().map(|plan| (*plan).to_owned()).collect();
    let a = Consumer { plans, ..consumer("a", &[], &["key-of-a-00000001"]) };
    let b = consumer("b", &[], &["key-of-b-00000001"]);
    let plans = [read_plan("gold", limit).unwrap(), read_plan("free", "{limit: 3/day}").unwrap()];
    Arc::new(Directory::new(vec![b, a]).with_plans(plans))
}

fn bench(plans: &[&str], limit: &str) -> Bench {
    Bench { directory: directory(plans, limit), ..Bench::new(Vec::new()) }
}

/// How many of twenty calls at one moment pass.
fn passed(chain: &Chain, text: &str) -> usize {
    (0..20).filter(|_| chain.status(&mut chain.exchange(text)) == 0).count()
}

fn stored(accounts: &Accounts, plans: &[&str]) {
    let plans = plans.iter().map(|plan| (*plan).to_owned()).collect();
    let credential = Credential {
        id: "key:stored".to_owned(),
        consumer: "stored".to_owned(),
        kind: CredentialKind::Key,
        digest: text::digest(b"key-of-stored-0001"),
        label: String::new(),
        created: 0,
        expires: None,
        disabled: false,
    };
    wait(accounts.put_consumer(Stored { name: "stored".to_owned(), plans, ..Stored::default() }, 0)).unwrap();
    wait(accounts.put_credential(credential, 0)).unwrap();
}

#[test]
fn a_consumer_has_one_bucket_over_all_routes_and_all_its_plans_must_admit() {
    let mut bench = bench(&["gold", "free"], "{limit: 5/s}");
    let one = bench.build(SETTINGS).unwrap();
    bench.route = Some("other".to_owned());
    let other = bench.build(SETTINGS).unwrap();
    assert_eq!((passed(&one, B), passed(&one, A), passed(&other, A)), (20, 3, 0));
    let accounts = Accounts::of(&bench.carry);
    let used: Vec<(String, u64)> =
        wait(accounts.usage("a")).unwrap().into_iter().map(|Used { plan, calls, .. }| (plan, calls)).collect();
    assert_eq!(used, [("free".to_owned(), 3), ("gold".to_owned(), 3)]);
    assert!(wait(accounts.usage("b")).unwrap().is_empty());
    assert_eq!(passed(&bench.build("{ key_auth: { header: K } }").unwrap(), A), 20, "a route that is taken out");
}

#[test]
fn what_a_consumer_of_the_store_may_use_changes_with_its_plans() {
    let bench = bench(&[], "{limit: 5/s}");
    let accounts = Accounts::of(&bench.carry);
    let chain = bench.build(SETTINGS).unwrap();
    stored(&accounts, &[]);
    assert_eq!(passed(&chain, STORED), 20);
    accounts.declare_plans(bench.directory.plans().map(|plan| daemun_accounts::Plan::clone(plan)));
    stored(&accounts, &["gold"]);
    assert_eq!(passed(&chain, STORED), 5);
    wait(accounts.put_plan(read_plan("own", "{limit: 7/s}").unwrap())).unwrap();
    stored(&accounts, &["own"]);
    assert_eq!(passed(&chain, STORED), 7);
    wait(accounts.put_plan(read_plan("own", "{limit: 9/s}").unwrap())).unwrap();
    assert_eq!((passed(&chain, STORED), passed(&chain, A)), (9, 20));
    wait(accounts.remove_plan("own")).unwrap();
    assert_eq!(chain.status(&mut chain.exchange(STORED)), 403);
    let explained = chain.explain(&mut chain.exchange(STORED));
    assert_eq!(explained.0, Outcome::Refuse(403, "forbidden"));
    assert!(explained.1.ends_with("; the caller is on plan `own`, which is nowhere"), "{}", explained.1);
}

#[test]
fn counts_outlive_a_reload_while_the_plan_stays() {
    let mut bench = bench(&["gold"], "{limit: 5/s}");
    let before = bench.build(SETTINGS).unwrap();
    assert_eq!(passed(&before, A), 5);
    bench.directory = directory(&["gold"], "{limit: 5/s}");
    let same = bench.build(SETTINGS).unwrap();
    assert_eq!(passed(&same, A), 0);
    bench.directory = directory(&["gold"], "{limit: 6/s}");
    let other = bench.build(SETTINGS).unwrap();
    assert_eq!((passed(&other, A), passed(&same, A)), (6, 0));
}

#[test]
fn explain_tells_what_is_left_and_spends_nothing() {
    let chain = bench(&["gold", "free"], "{limit: 5/s}").build(SETTINGS).unwrap();
    for _ in 0..5 {
        let told = chain.explain(&mut chain.exchange(A)).1;
        assert!(told.ends_with("; plan `gold` has 5 of 5 left, plan `free` has 3 of 3 left"), "{told}");
    }
    assert_eq!(passed(&chain, A), 3);
    let (outcome, told) = chain.explain(&mut chain.exchange(A));
    assert_eq!(outcome, Outcome::Refuse(429, "rate_limited"));
    assert!(told.ends_with("; plan `free` is used up for 28800 s"), "{told}");
    assert!(chain.explain(&mut chain.exchange(B)).1.ends_with("; the caller is on no plan"));
}

#[test]
fn it_needs_an_authenticator_where_a_route_asks_for_it() {
    let mut bench = bench(&[], "{limit: 5/s}");
    let errors = bench.errors("{ plan: {} }");
    assert_eq!(
        errors,
        ["needs_authenticator routes.items.policies.plan: `plan` needs an authenticator, and route `items` has none"]
    );
    bench.route = None;
    assert!(bench.build("{ plan: {} }").unwrap().steps.is_empty());
    assert_eq!(bench.errors("{ key_auth: { header: K }, plan: { limit: 5/s } }").len(), 1);
}
