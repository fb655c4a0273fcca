//! Plans, who is on them, and what is used.

use daemun_config::read_plan;

use super::*;
use crate::gcra::units;
use crate::plan::{DAY, Plan, Short, Used, day_of};

const SECOND: u64 = 1_000_000_000;

fn plan(name: &str, settings: &str) -> Plan {
    read_plan(name, settings).unwrap()
}

fn on(name: &str, plans: &[&str]) -> Consumer {
    let plans = plans.iter().map(|plan| (*plan).to_owned()).collect();
    Consumer { name: name.to_owned(), plans, ..Consumer::default() }
}

/// Calls at a moment: nothing where one was admitted, else which plan is short and for how many seconds; `free` for one on no plan.
fn call(accounts: &Accounts, consumer: &str, seconds: u64) -> String {
    let day = day_of(NOW + seconds * 1000);
    let done = accounts.with_entitled(consumer, |entitled| match entitled.take(units(seconds * SECOND), day) {
        Ok(()) => String::new(),
        Err(Short::UsedUp(plan, wait)) => format!("{} {}", plan.name, crate::gcra::seconds(wait)),
        Err(Short::Missing(plan)) => format!("no {plan}"),
    });
    done.unwrap_or_else(|| "free".to_owned())
}

fn used(accounts: &Accounts, consumer: &str) -> Vec<(u32, String, u64)> {
    let used = wait(accounts.usage(consumer)).unwrap();
    used.into_iter().map(|Used { day, plan, calls }| (day - day_of(NOW), plan, calls)).collect()
}

fn as_used(day: u32, plan: &str, calls: u64) -> (u32, String, u64) {
    (day, plan.to_owned(), calls)
}

#[test]
fn all_plans_of_a_consumer_admit_a_call_or_it_leaves_no_trace() {
    let accounts = Accounts::in_memory();
    wait(accounts.put_plan(plan("few", r#"{"limit": "2/day"}"#))).unwrap();
    wait(accounts.put_plan(plan("slow", r#"{"limit": "1/m", "burst": 3}"#))).unwrap();
    wait(accounts.put_consumer(on("a", &["slow", "few"]), NOW)).unwrap();
    wait(accounts.put_consumer(on("b", &["few"]), NOW)).unwrap();
    wait(accounts.put_consumer(on("c", &[]), NOW)).unwrap();
    for _ in 0..2 {
        assert_eq!((call(&accounts, "a", 0), call(&accounts, "c", 0)), (String::new(), "free".to_owned()));
    }
    for _ in 0..5 {
        assert_eq!(call(&accounts, "a", 0), "few 43200");
    }
    assert_eq!(call(&accounts, "b", 0), "", "each consumer has its own");
    assert_eq!(used(&accounts, "a"), [as_used(0, "few", 2), as_used(0, "slow", 2)], "what is refused is not counted");
    assert_eq!((used(&accounts, "b"), used(&accounts, "c")), (vec![as_used(0, "few", 1)], vec![]));
    wait(accounts.put_consumer(on("a", &["slow"]), NOW)).unwrap();
    assert_eq!(
        (call(&accounts, "a", 0), call(&accounts, "a", 0)),
        (String::new(), "slow 60".to_owned()),
        "one was left"
    );
    wait(accounts.put_consumer(on("a", &[]), NOW)).unwrap();
    assert_eq!(call(&accounts, "a", 0), "free");
}

#[test]
fn a_change_of_a_plan_is_in_force_with_the_next_call_and_what_is_the_same_stays_as_it_is() {
    let accounts = Accounts::in_memory();
    wait(accounts.put_plan(plan("gold", r#"{"limit": "1/day"}"#))).unwrap();
    wait(accounts.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    assert_eq!((call(&accounts, "a", 0), call(&accounts, "a", 0)), (String::new(), "gold 86400".to_owned()));
    let changed = Consumer { roles: vec!["reader".to_owned()], ..on("a", &["gold"]) };
    wait(accounts.put_consumer(changed, NOW)).unwrap();
    wait(accounts.put_plan(plan("gold", r#"{"limit": "1/day"}"#))).unwrap();
    assert_eq!(call(&accounts, "a", 0), "gold 86400");
    wait(accounts.put_plan(plan("gold", r#"{"limit": "10/s", "burst": 2}"#))).unwrap();
    assert_eq!([0; 3].map(|at| call(&accounts, "a", at)), ["", "", "gold 1"]);
    assert_eq!(used(&accounts, "a"), [as_used(0, "gold", 3)], "what was used stays");
}

#[test]
fn who_is_on_a_plan_that_is_nowhere_is_refused_until_it_is_there() {
    let accounts = Accounts::in_memory();
    wait(accounts.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    assert_eq!(call(&accounts, "a", 0), "no gold");
    assert_eq!(accounts.declare_plans([plan("silver", "{limit: 1/s}")]), [("a".to_owned(), "gold".to_owned())]);
    assert!(accounts.declare_plans([plan("gold", "{limit: 1/day}")]).is_empty());
    assert_eq!((call(&accounts, "a", 0), call(&accounts, "a", 0)), (String::new(), "gold 86400".to_owned()));
    // the configuration's goes before the store's
    wait(accounts.put_plan(plan("gold", "{limit: 5/s}"))).unwrap();
    assert!(accounts.declares_plan("gold") && accounts.plans().len() == 1);
    assert_eq!(call(&accounts, "a", 0), "gold 86400");
    assert!(accounts.declare_plans([]).is_empty());
    assert_eq!(call(&accounts, "a", 0), "");
    assert_eq!(accounts.first_on("gold").as_deref(), Some("a"));
    assert_eq!((wait(accounts.remove_plan("gold")), wait(accounts.remove_plan("gold"))), (Ok(true), Ok(false)));
    assert_eq!(call(&accounts, "a", 0), "no gold");
}

#[test]
fn plans_and_what_was_used_are_there_again_and_two_processes_add_up() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    wait(one.put_plan(plan("gold", r#"{"limit": "1000/s", "burst": 2000}"#))).unwrap();
    wait(one.put_plan(plan("gone", r#"{"limit": "1/s"}"#))).unwrap();
    wait(one.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    wait(one.remove_plan("gone")).unwrap();
    wait(one.put_plan(plan("free", r#"{"limit": "1000/day"}"#))).unwrap();
    wait(other.look());
    assert_eq!(other.plan("gold").unwrap().burst(), 2000);
    assert!(other.plan("gone").is_none());
    for accounts in [&one, &one, &other] {
        assert_eq!(call(accounts, "a", 0), "");
    }
    assert_eq!(call(&one, "a", DAY / 1000), "");
    // both end as they are told to
    for accounts in [&one, &other] {
        wait(accounts.flush());
    }
    let again = folder.open(NOW);
    let all = [as_used(1, "gold", 1), as_used(0, "gold", 3)];
    for accounts in [&one, &other, &again] {
        assert_eq!(used(accounts, "a"), all);
    }
    assert_eq!(call(&again, "a", 0), "");
    assert_eq!(used(&again, "a")[1].2, 4, "what is not written yet counts as well");
    assert_eq!(again.consumer("a").unwrap().plans, ["gold"]);
    assert_eq!(again.plan("free").as_deref(), Some(&plan("free", r#"{"limit": "1000/day"}"#)));
    // another one of the name has used nothing
    wait(again.remove_consumer("a", NOW)).unwrap();
    wait(again.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    assert!(used(&again, "a").is_empty());
}

#[test]
fn counts_are_written_by_and_by_and_once() {
    let folder = Folder::new();
    let one = folder.open(NOW);
    wait(one.put_plan(plan("gold", r#"{"limit": "1000/s"}"#))).unwrap();
    wait(one.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    assert_eq!(call(&one, "a", 0), "");
    let (counted, more) = one.counted();
    let expected = Change::Usage { consumer: "a".to_owned(), plan: "gold".to_owned(), day: day_of(NOW), calls: 1 };
    assert_eq!((counted.as_slice(), more), (&[expected][..], false));
    assert!(one.counted().0.is_empty() && used(&one, "a").is_empty(), "it is not counted twice");
    one.count_again(&counted);
    assert_eq!(call(&one, "a", 0), "");
    assert_eq!(used(&one, "a"), [as_used(0, "gold", 2)], "what could not be written is not lost");
}

#[test]
fn a_store_that_fails_loses_no_count() {
    let (fails, accounts) = (Arc::new(Mutex::new(false)), Arc::new(Accounts::in_memory()));
    accounts.keep_in(Box::new(Failing(Arc::clone(&fails))), || NOW, |_| {}).unwrap();
    wait(accounts.put_plan(plan("gold", "{limit: 9/s}"))).unwrap();
    wait(accounts.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    *fails.lock().unwrap() = true;
    assert!(matches!(wait(accounts.put_plan(plan("silver", "{limit: 9/s}"))), Err(Trouble::Store(_))));
    assert!(accounts.plan("silver").is_none());
    assert!(wait(accounts.remove_plan("gold")).is_err() && accounts.plan("gold").is_some());
    assert_eq!(call(&accounts, "a", 0), "");
    wait(accounts.flush());
    assert_eq!(used(&accounts, "a"), [as_used(0, "gold", 1)]);
}

#[test]
fn use_of_long_ago_is_forgotten_piece_by_piece() {
    let folder = Folder::new();
    let mut store = folder.store();
    let today = day_of(NOW);
    let of = |day: u32| Change::Usage { consumer: "a".to_owned(), plan: "gold".to_owned(), day, calls: 1 };
    let changes: Vec<Change> = (today - 402..=today).map(of).collect();
    store.apply(&[&changes]).unwrap();
    assert_eq!((store.forget(NOW, 2), store.forget(NOW, 2), store.forget(NOW, 2)), (Ok(2), Ok(1), Ok(0)));
    let mut days: Vec<u32> = store.usage("a").unwrap().iter().map(|used| used.day).collect();
    days.sort_unstable();
    assert_eq!((days.len(), days[0]), (400, today - 399));
    assert!(store.usage("b").unwrap().is_empty());
}

#[test]
fn what_nothing_keeps_counts_as_many_days() {
    let accounts = Accounts::in_memory();
    wait(accounts.put_plan(plan("gold", "{limit: 9/s}"))).unwrap();
    wait(accounts.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    for day in 0..402 {
        assert_eq!(call(&accounts, "a", day * DAY / 1000), "");
    }
    let used = used(&accounts, "a");
    assert_eq!((used.len(), &used[0], &used[399]), (400, &as_used(401, "gold", 1), &as_used(2, "gold", 1)));
}

#[test]
fn a_store_of_a_version_that_knew_no_plans_opens_and_loses_nothing() {
    let folder = Folder::new();
    let one = folder.open(NOW);
    partner(&one, "a", &["reader"], &[]);
    drop(one);
    // as that version left it
    let connection = rusqlite::Connection::open(folder.0.join("daemun.db")).unwrap();
    connection
        .execute_batch(
            "DROP TABLE plans; DROP TABLE usage; UPDATE consumers SET says = json_remove(says, '$.plans'); PRAGMA user_version = 3",
        )
        .unwrap();
    drop(connection);
    let again = folder.open(NOW);
    assert_eq!(
        (again.consumer("a").unwrap().roles, again.consumer("a").unwrap().plans),
        (vec!["reader".to_owned()], vec![])
    );
    assert_eq!(call(&again, "a", 0), "free");
    wait(again.put_plan(plan("gold", "{limit: 1/s}"))).unwrap();
    wait(again.put_consumer(on("a", &["gold"]), NOW)).unwrap();
    assert_eq!(call(&again, "a", 0), "");
}

#[test]
fn threads_admit_no_more_than_there_is_and_each_that_is_admitted_counts() {
    let accounts = Accounts::in_memory();
    wait(accounts.put_plan(plan("gold", r#"{"limit": "500/day"}"#))).unwrap();
    wait(accounts.put_plan(plan("more", r#"{"limit": "800/day"}"#))).unwrap();
    wait(accounts.put_consumer(on("a", &["more", "gold"]), NOW)).unwrap();
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..400).filter(|_| call(&accounts, "a", 0).is_empty()).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 500);
    assert_eq!(used(&accounts, "a"), [as_used(0, "gold", 500), as_used(0, "more", 500)]);
}
