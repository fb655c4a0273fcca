use std::collections::BTreeSet;

use daemun_config::model::{Secret, SignedTokens};
use serde_json::Value;

use super::*;
use crate::scripted_world::{Given, Scripted, away};
use crate::testing::{Bench, WALL, consumer, token_service, wait};

const NOW: u64 = WALL / 1_000_000;
const HOUR: u64 = 3_600_000;

fn how(algorithm: SigningAlgorithm) -> SignedTokens {
    SignedTokens {
        issuer: "https://api.example.com".to_owned(),
        algorithm,
        audience: vec!["https://api.example.com".to_owned()],
        rotate: Some(Duration::from_secs(3600)),
        seal: None,
    }
}

/// A gateway's policies with a service that signs its tokens; the accounts live as long as somebody holds them.
fn bench(how: SignedTokens, world: &Arc<Scripted>) -> (Bench, Arc<Accounts>) {
    let mut bench = Bench::new(vec![consumer("shop-app", &["buyer"], &["shop-app-key-0001"])]);
    bench.token_services = vec![TokenService { format: TokenFormat::Jwt(Box::new(how)), ..token_service("shop") }];
    bench.world = Arc::new(Given(Arc::clone(world)));
    let accounts = Accounts::of(&bench.carry);
    (bench, accounts)
}

fn names(set: &str) -> BTreeSet<String> {
    let set: Value = serde_json::from_str(set).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

fn signing(bench: &Bench) -> Arc<Signing> {
    // what the policy was built with is found again by its shape
    let mut diagnostics = daemun_config::Diagnostics::new();
    let mut ctx = BuildContext {
        diagnostics: &mut diagnostics,
        directory: &bench.directory,
        carry: &bench.carry,
        world: &bench.world,
        token_services: &bench.token_services,
        has_store: false,
        folders: &[],
        upstreams: &bench.upstreams,
        route: None,
        authenticated: false,
        always: &[],
        body: 0,
        path: String::new(),
        at: daemun_config::tree::At::default(),
        param_names: &[],
    };
    Signing::of(&bench.token_services[0], &mut ctx).unwrap().unwrap()
}

#[test]
fn keys_are_made_at_first_need_and_change_in_time_while_nobody_asks() {
    let world = Scripted::new(|_| away());
    let (bench, accounts) = bench(how(SigningAlgorithm::Es256), &world);
    let signing = signing(&bench);
    let first = wait(signing.current(NOW)).unwrap();
    assert_eq!(names(&wait(signing.published(NOW)).unwrap().0), BTreeSet::from([first.row.id.clone()]));
    // the background waits for the time to come, once it has looked
    let mut waits = 0;
    let mut pass = |time: u64| {
        for _ in 0..time / 30_000 {
            world.until(|seen| seen.waits > waits && seen.waiting == 1);
            waits = world.seen().waits;
            world.pass(Duration::from_secs(30));
        }
        world.until(|seen| seen.waits > waits && seen.waiting == 1);
    };
    pass(HOUR / 2);
    let published = names(&wait(signing.published(NOW + HOUR / 2)).unwrap().0);
    assert_eq!(published.len(), 2);
    assert_eq!(wait(signing.current(NOW + HOUR / 2)).unwrap().row.id, first.row.id);
    pass(HOUR / 2);
    let second = wait(signing.current(NOW + HOUR)).unwrap();
    assert!(second.row.id != first.row.id && published.contains(&second.row.id));
    assert_eq!(accounts.signing_keys("shop in memory").len(), 2);
    pass(HOUR / 2);
    let left = names(&wait(signing.published(NOW + 3 * HOUR / 2)).unwrap().0);
    assert!(!left.contains(&first.row.id) && left.contains(&second.row.id), "{left:?}");
    assert!(world.seen().told.is_empty());
    // with its last user the work ends
    let weak = Arc::downgrade(&signing);
    drop(signing);
    world.pass(Duration::from_secs(30));
    while weak.strong_count() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn many_that_need_the_first_key_at_once_make_one() {
    let world = Scripted::new(|_| away());
    let (bench, accounts) = bench(how(SigningAlgorithm::Rs256), &world);
    let signing = signing(&bench);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| wait(signing.current(NOW)).unwrap());
        }
    });
    assert_eq!(accounts.signing_keys("shop in memory").len(), 1);
}

#[test]
fn a_key_that_was_sealed_under_another_key_of_the_store_is_an_error() {
    let world = Scripted::new(|_| away());
    let sealed = |key: &str| SignedTokens { seal: Some(Secret(key.repeat(32))), ..how(SigningAlgorithm::Es256) };
    let (mut bench, accounts) = bench(sealed("a"), &world);
    let pair = Pair::generate(SigningAlgorithm::Es256).unwrap();
    let id = pair.0.published().unwrap().0;
    let row = |under: &str, id: &str| SigningKeyRow {
        id: id.to_owned(),
        service: "shop".to_owned(),
        algorithm: "ES256".to_owned(),
        sealed: Seal::new(under.repeat(32).as_bytes()).unwrap().seal(id, &pair.1).unwrap(),
        created: NOW,
        from: NOW,
        until: None,
    };
    wait(accounts.put_signing_key(row("a", &id))).unwrap();
    assert!(bench.build("tokens: shop").is_ok());
    let expected =
        ["bad_value store.key: the keys that tokens of `shop` are signed with cannot be opened with this key"];
    bench.token_services[0].format = TokenFormat::Jwt(Box::new(sealed("b")));
    assert_eq!(bench.errors("tokens: shop"), expected);
    // a key that stands under the name of another one is none
    bench.token_services[0].format = TokenFormat::Jwt(Box::new(sealed("a")));
    wait(accounts.put_signing_key(row("a", "another"))).unwrap();
    assert_eq!(bench.errors("tokens: shop"), expected);
}

#[test]
fn keys_that_are_to_be_kept_are_not_made_before_the_store_is_open() {
    let world = Scripted::new(|_| away());
    let how = SignedTokens { seal: Some(Secret("a".repeat(32))), ..how(SigningAlgorithm::Es256) };
    let (bench, accounts) = bench(how, &world);
    let signing = signing(&bench);
    assert_eq!(wait(signing.current(NOW)).unwrap_err(), Trouble::Unsigned("the store is not open yet"));
    assert!(accounts.signing_keys("shop").is_empty());
    assert!(world.seen().told.is_empty());
}
