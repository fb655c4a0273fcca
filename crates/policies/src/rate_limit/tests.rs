//! What `rate_limit` holds beyond its page: exactness in simulation and among threads, bounds, reloads, wrong settings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daemun_accounts::text::digest;
use daemun_accounts::{Accounts, Consumer as Stored, Credential, CredentialKind};
use daemun_pipeline::{Carry, Directory, Outcome, Phase};
use daemun_seeded::{Random, seeds};
use proptest::prelude::*;

use super::buckets::{Buckets, Key};
use crate::testing::{Bench, Chain, SECOND, consumer, wait};
use daemun_accounts::gcra::{Gcra, seconds, units};

const MINUTE: Duration = Duration::from_secs(60);

/// `count` per `period`, and `burst`.
#[derive(Clone, Copy, Debug)]
struct Limit {
    count: u64,
    period: u64,
    burst: u64,
}

impl Limit {
    fn gcra(self) -> Gcra {
        Gcra::new(self.count, Duration::from_nanos(self.period), self.burst).unwrap()
    }

    /// The greatest excess of any window: admissions minus burst minus rate × t, times the period; more than 0 is a broken promise.
    fn excess(self, mut admitted: Vec<u64>) -> i128 {
        admitted.sort_unstable();
        let (count, period) = (i128::from(self.count), i128::from(self.period));
        let (mut best, mut worst) = (i128::MIN, i128::MIN);
        for (at, n) in admitted.into_iter().zip(0_i128..) {
            best = best.max(count * i128::from(at) - n * period);
            worst = worst.max((n + 1) * period - count * i128::from(at) + best);
        }
        worst.saturating_sub(i128::from(self.burst) * period)
    }
}

fn key(n: u64) -> Key {
    let mut random = Random::new(n);
    Key::new(random.next(), random.next())
}

#[test]
fn no_window_over_admits_in_any_of_256_histories() {
    for seed in seeds() {
        let mut random = Random::new(seed);
        let limit =
            Limit { count: 1 + random.below(50), period: 1 + random.below(100_000), burst: 1 + random.below(9) };
        let gcra = limit.gcra();
        let buckets =
            Buckets::with_idle(1 + random.below(24), seed as usize % 48, random.below(3) * units(limit.period));
        let callers = 1 + random.below(64);
        let step = 1 + limit.period / limit.count;
        let skew = random.below(4) * step;
        let mut clock = 10 * skew;
        let mut admitted: HashMap<u64, Vec<u64>> = HashMap::new();
        for _ in 0..4_000 {
            clock += random.below(step) * (1 + random.below(20) / 19 * 100);
            let now = clock - random.below(skew + 1);
            let caller = random.below(callers);
            if let Ok(token) = buckets.take(gcra, key(caller), units(now)) {
                if random.below(10) == 0 {
                    token.give_back();
                } else {
                    admitted.entry(caller).or_default().push(now);
                }
            }
        }
        assert!(!admitted.is_empty(), "SEED={seed}: somebody is admitted");
        for (caller, times) in admitted {
            assert!(limit.excess(times) <= 0, "SEED={seed}: caller {caller} of {limit:?}");
        }
    }
}

#[test]
fn no_window_over_admits_when_threads_share_a_moving_clock() {
    let limit = Limit { count: 1, period: 50, burst: 3 };
    for max_keys in [2, 6, 40] {
        let (buckets, clock, gcra) = (Buckets::with_idle(max_keys, 6, units(100)), AtomicU64::new(0), limit.gcra());
        let histories: Vec<Vec<(u64, u64)>> = std::thread::scope(|scope| {
            let run = |thread: u64| {
                let (buckets, clock) = (&buckets, &clock);
                scope.spawn(move || {
                    let mut random = Random::new(thread);
                    let mut admitted = Vec::new();
                    for _ in 0..40_000 {
                        let now = clock.fetch_add(random.below(3), Ordering::Relaxed);
                        let caller = random.below(24);
                        if buckets.take(gcra, key(caller), units(now)).is_ok() {
                            admitted.push((caller, now));
                        }
                    }
                    admitted
                })
            };
            let threads: Vec<_> = (0..6).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(buckets.used() <= max_keys);
        for caller in 0..24 {
            let times = histories.iter().flatten().filter(|(of, _)| *of == caller).map(|(_, now)| *now);
            assert!(limit.excess(times.collect()) <= 0, "caller {caller} with room for {max_keys}");
        }
    }
}

#[test]
fn threads_at_a_standing_clock_admit_exactly_the_burst() {
    for settings in [
        "rate_limit: { limit: 5/s, burst: 1000, by: client_ip }",
        "rate_limit: { limit: 5/s, burst: 1000, by: route }",
        "rate_limit: { limit: 5/s, burst: 1000, by: { header: x-a } }",
        "rate_limit: [{ limit: 5/s, burst: 1000, by: route }, { limit: 5/m, burst: 1000, by: route }]",
    ] {
        let chain = chain(settings);
        let admitted: usize = std::thread::scope(|scope| {
            let run = |_| {
                let chain = &chain;
                scope.spawn(move || {
                    let mut exchange = chain.exchange("GET / HTTP/1.1\nX-A: 1");
                    exchange.times.start = 7 * SECOND;
                    (0..500).filter(|_| chain.status(&mut exchange) == 0).count()
                })
            };
            let threads: Vec<_> = (0..8).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000, "{settings}");
    }
}

#[test]
fn a_full_table_is_no_way_round_the_limit() {
    let limit = Limit { count: 1, period: SECOND, burst: 5 };
    let (buckets, gcra) = (Buckets::new(10, 0), limit.gcra());
    let admitted = |callers: std::ops::Range<u64>| -> usize {
        callers.map(|caller| (0..10).filter(|_| buckets.take(gcra, key(caller), units(1)).is_ok()).count()).sum()
    };
    assert_eq!(admitted(0..10), 10 * 5, "ten callers with a place");
    assert_eq!(admitted(10..10_000), 256 * 5, "all others share 256 buckets");
    assert_eq!(admitted(0..20_000), 0);
    assert_eq!(buckets.used(), 10);
    let later = units(6 * SECOND);
    assert!(buckets.take(gcra, key(5000), later).is_ok(), "places come free when buckets are full again");
    assert_eq!(buckets.used(), 10);
}

#[test]
fn a_caller_who_comes_back_finds_its_place_while_the_table_may_grow() {
    let gcra = Limit { count: 1000, period: SECOND, burst: 1 }.gcra();
    let buckets = Buckets::new(1_000, 0);
    for round in 0..10 {
        for caller in 0..500 {
            assert!(buckets.take(gcra, key(caller), units((round * 500 + caller) * SECOND / 100)).is_ok());
        }
    }
    assert_eq!(buckets.used(), 500, "each has one place, though every bucket was full in between");
    for caller in 500..700 {
        assert!(buckets.take(gcra, key(caller), units(1_000 * SECOND)).is_ok());
    }
    assert!(buckets.used() < 550, "places that were idle for a minute are given away: {}", buckets.used());
}

#[test]
fn a_hundred_thousand_callers_are_each_counted_on_their_own() {
    let gcra = Limit { count: 1, period: SECOND, burst: 2 }.gcra();
    for expected in [0, 10_000, 100_000, 1_000_000] {
        let buckets = Buckets::new(100_000, expected);
        for round in 0..3 {
            let admitted = (0..100_000).filter(|caller| buckets.take(gcra, key(*caller), units(9)).is_ok()).count();
            assert_eq!(admitted, if round < 2 { 100_000 } else { 0 });
        }
        assert_eq!(buckets.used(), 100_000);
    }
}

#[test]
fn a_token_given_back_can_be_taken_again_and_only_once() {
    let gcra = Limit { count: 1, period: SECOND, burst: 1 }.gcra();
    let bucket = AtomicU64::new(0);
    let token = gcra.take(&bucket, 0, units(5)).unwrap();
    token.give_back();
    token.give_back();
    assert!(gcra.take(&bucket, 0, units(5)).is_ok());
    assert!(gcra.take(&bucket, 0, units(5)).is_err());
}

proptest! {
    #[test]
    fn a_full_bucket_holds_its_burst_and_not_one_more(count in 1_u64..2_000_000, period in 1_u64..3_000_000_000_000, burst in 1_u64..2000) {
        let Some(gcra) = Gcra::new(count, Duration::from_nanos(period), burst) else { return Ok(()) };
        let bucket = AtomicU64::new(0);
        let now = units(12_345);
        for left in (0..burst).rev() {
            prop_assert!(gcra.take(&bucket, 0, now).is_ok());
            prop_assert_eq!(gcra.left(bucket.load(Ordering::Relaxed), now), left);
        }
        prop_assert!(gcra.take(&bucket, 0, now).is_err());
    }

    #[test]
    fn the_wait_told_is_the_wait_needed(count in 1_u64..1_000_000, burst in 1_u64..50, taken in 1_u64..60, at in 0_u64..1_000_000_000_000) {
        let gcra = Gcra::new(count, MINUTE, burst).unwrap();
        let (bucket, now) = (AtomicU64::new(0), units(at));
        for _ in 0..taken {
            if let Err(wait) = gcra.take(&bucket, 0, now) {
                prop_assert!(gcra.admit(bucket.load(Ordering::Relaxed), now + wait - 1).is_err());
                prop_assert!(gcra.take(&bucket, 0, now + wait).is_ok());
                return Ok(());
            }
        }
    }

    #[test]
    fn random_calls_never_exceed_any_window(count in 1_u64..1000, period in 1_u64..1_000_000, burst in 1_u64..20, gaps in prop::collection::vec(0_u64..5_000, 1..300)) {
        let limit = Limit { count, period, burst };
        let (gcra, bucket, mut now) = (limit.gcra(), AtomicU64::new(0), 0);
        let mut admitted = Vec::new();
        for gap in gaps {
            now += gap;
            if gcra.take(&bucket, 0, units(now)).is_ok() {
                admitted.push(now);
            }
        }
        prop_assert!(limit.excess(admitted) <= 0);
    }
}

#[test]
fn fast_and_slow_limits_keep_their_rate() {
    for (count, period, calls, step, expected) in [
        (1_000_000, Duration::from_secs(1), 3_000_000, 500, 1_499_999),
        (700_000, Duration::from_secs(1), 3_000_000, 1_000, 2_099_900),
        (1_000_000_000, Duration::from_secs(1), 1_000, 1, 1_000),
        (3, Duration::from_secs(1), 1_000, SECOND / 30, 100),
        (1, Duration::from_secs(30 * 86_400), 300, 86_400 * SECOND, 10),
    ] {
        let gcra = Gcra::new(count, period, 10).unwrap();
        let bucket = AtomicU64::new(0);
        let admitted = (0..calls).filter(|n| gcra.take(&bucket, 0, units(n * step)).is_ok()).count() as u64;
        assert!((expected..=expected + 10 + expected / 10_000).contains(&admitted), "{count}/{period:?}: {admitted}");
    }
}

#[test]
fn retry_after_is_whole_seconds_and_at_least_one() {
    assert_eq!(seconds(1), 1);
    assert_eq!(seconds(units(SECOND)), 1);
    assert_eq!(seconds(units(SECOND) + 1), 2);
}

fn bench() -> Bench {
    Bench::new(vec![consumer("a", &[], &["key-of-a-00000001"]), consumer("b", &[], &["key-of-b-00000001"])])
}

fn chain(settings: &str) -> Chain {
    bench().build(settings).unwrap()
}

/// How many of ten calls pass.
fn passed(chain: &Chain, text: &str, ip: &str) -> usize {
    let pass = |_: &usize| {
        let mut exchange = chain.exchange(text);
        exchange.client.ip = ip.parse().unwrap();
        exchange.times.start = SECOND;
        chain.status(&mut exchange) == 0
    };
    (0..10).filter(pass).count()
}

#[test]
fn addresses_of_one_ipv6_network_count_together() {
    let chain = chain("rate_limit: { limit: 3/s, by: client_ip }");
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "2001:db8:0:1::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "2001:db8:0:1:ffff::2"), 0);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "2001:db8:0:2::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "192.0.2.1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "::ffff:192.0.2.1"), 0, "the same IPv4 address");
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "192.0.2.2"), 3);
}

#[test]
fn the_prefix_of_an_ipv6_caller_can_be_chosen() {
    let chain = chain("rate_limit: { limit: 3/s, by: client_ip, ipv6_prefix: 48 }");
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "2001:db8:0:1::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "2001:db8:0:2::1"), 0);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "2001:db8:1::1"), 3);
}

#[test]
fn a_header_counts_by_its_value_and_calls_without_it_together() {
    let chain = chain("rate_limit: { limit: 3/s, by: { header: X-Tenant } }");
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nx-tenant: a", "::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nX-TENANT: b", "::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nX-TENANT: a", "::2"), 0);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "::2"), 0);
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nX-Tenant:", "::2"), 3, "empty is a value");
}

#[test]
fn a_route_is_one_bucket_for_all() {
    let chain = chain("rate_limit: { limit: 3/s, by: route }");
    assert_eq!(passed(&chain, "GET / HTTP/1.1", "::1") + passed(&chain, "GET / HTTP/1.1", "192.0.2.9"), 3);
}

#[test]
fn a_call_that_one_limit_refuses_costs_nothing_at_the_others() {
    let chain = chain("rate_limit: [{ limit: 8/s, by: route }, { limit: 3/s, by: { header: t } }]");
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nT: a", "::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nT: b", "::1"), 3);
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nT: c", "::1"), 2, "eight in all");
}

#[test]
fn a_list_is_split_by_phase() {
    let chain = chain("rate_limit: [{ limit: 8/s, by: route }, { limit: 3/s, by: client_ip }]");
    assert_eq!(chain.steps.iter().map(|(phase, _)| *phase).collect::<Vec<_>>(), [Phase::Admit, Phase::Limit]);
}

#[test]
fn a_limit_by_consumer_needs_an_authenticator() {
    let errors = bench().errors("rate_limit: { limit: 8/s, by: consumer }");
    assert_eq!(
        errors,
        ["needs_authenticator routes.items.policies.rate_limit: \
          `by: consumer` needs an authenticator, and route `items` has none"]
    );
    let mut global = bench();
    global.route = None;
    assert_eq!(global.errors("rate_limit: { limit: 8/s, by: consumer }").len(), 1);
}

#[test]
fn what_is_written_once_is_counted_once() {
    let mut bench = bench();
    let settings = "rate_limit: [{ limit: 3/s, by: client_ip }, { limit: 2/s, by: route }]";
    let own = bench.build(settings).unwrap();
    bench.path = "policies".to_owned();
    bench.route = None;
    let shared = bench.build(settings).unwrap();
    let passed = |chain: &Chain, route: u64, ip: &str| {
        let pass = |_: &usize| {
            let mut exchange = chain.exchange("GET / HTTP/1.1");
            (exchange.route_key, exchange.client.ip) = (route, ip.parse().unwrap());
            chain.status(&mut exchange) == 0
        };
        (0..10).filter(pass).count()
    };
    assert_eq!(passed(&shared, 1, "192.0.2.1"), 2, "the limit by route");
    assert_eq!(passed(&shared, 2, "192.0.2.1"), 0, "the address is used up, by calls that the first route refused too");
    assert_eq!(passed(&shared, 1, "192.0.2.2"), 0, "the first route is used up for everyone");
    assert_eq!(passed(&shared, 2, "192.0.2.3"), 2, "the second route has its own");
    assert_eq!(passed(&own, 1, "192.0.2.1"), 2, "a limit of the route's own counts for itself");
}

#[test]
fn who_has_the_name_of_a_consumer_and_is_not_it_is_not_let_in_and_uses_up_nothing_of_it() {
    let bench = bench();
    let accounts = Accounts::of(&bench.carry);
    let (stored, key) = (Stored { name: "a".to_owned(), ..Stored::default() }, "key-of-another-a-1");
    wait(accounts.put_consumer(stored, 1)).unwrap();
    let credential = Credential {
        id: "key:1".to_owned(),
        consumer: "a".to_owned(),
        kind: CredentialKind::Key,
        digest: digest(key.as_bytes()),
        label: String::new(),
        created: 1,
        expires: None,
        disabled: false,
    };
    wait(accounts.put_credential(credential, 1)).unwrap();
    let chain = bench.build("{ key_auth: { header: K }, rate_limit: { limit: 3/s, by: consumer } }").unwrap();
    let other = format!("GET / HTTP/1.1\nK: {key}");
    assert_eq!(passed(&chain, &other, "::1"), 0);
    assert_eq!(passed(&chain, "GET / HTTP/1.1\nK: key-of-a-00000001", "::1"), 3);
}

#[test]
fn counts_outlive_a_reload_while_the_settings_stay() {
    let mut bench = bench();
    let settings = "{ key_auth: { header: K }, rate_limit: { limit: 3/s, by: consumer } }";
    let text = "GET / HTTP/1.1\nK: key-of-a-00000001";
    let before = bench.build(settings).unwrap();
    assert_eq!(passed(&before, text, "::1"), 3);
    bench.directory = Arc::new(Directory::new(vec![
        consumer("new", &[], &["key-of-new-000001"]),
        consumer("b", &[], &["key-of-b-00000001"]),
        consumer("a", &[], &["key-of-a-00000001"]),
    ]));
    let after = bench.build(settings).unwrap();
    assert_eq!(passed(&after, text, "::1"), 0, "a consumer is the same by name, wherever it stands");
    assert_eq!(passed(&after, "GET / HTTP/1.1\nK: key-of-new-000001", "::1"), 3);
    let changed = bench.build(&settings.replace("3/s", "4/s")).unwrap();
    assert_eq!(passed(&changed, text, "::1"), 4, "another limit begins anew");
    drop((before, after, changed));
    bench.carry.sweep();
    let freed = bench.build(settings).unwrap();
    assert_eq!(passed(&freed, text, "::1"), 3, "nobody held the counts");
}

#[test]
fn explain_counts_nothing_and_sees_what_is_counted() {
    let chain = chain("rate_limit: { limit: 3/s, by: client_ip, name: calls }");
    let mut exchange = chain.exchange("GET / HTTP/1.1");
    for _ in 0..10 {
        assert_eq!(chain.explain(&mut exchange), (Outcome::Pass, "`calls` has 3 of 3 left".to_owned()));
    }
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(chain.explain(&mut exchange).1, "`calls` has 2 of 3 left");
    assert_eq!((0..5).filter(|_| chain.status(&mut exchange) == 0).count(), 2);
    let (outcome, detail) = chain.explain(&mut exchange);
    assert_eq!(outcome, Outcome::Refuse(429, "rate_limited"));
    assert_eq!(detail, "`calls` is used up for 1 s");
}

#[test]
fn a_preview_sees_nothing_of_the_running_gateway() {
    let mut bench = bench();
    let settings = "rate_limit: { limit: 3/s, by: client_ip }";
    let running = bench.build(settings).unwrap();
    assert_eq!(passed(&running, "GET / HTTP/1.1", "::1"), 3);
    let carry = std::mem::replace(&mut bench.carry, Carry::detached());
    let preview = bench.build(settings).unwrap();
    assert_eq!(passed(&preview, "GET / HTTP/1.1", "::1"), 3);
    bench.carry = carry;
}

#[test]
fn wrong_settings_are_found() {
    let bench = bench();
    for (settings, codes) in [
        ("{}", vec!["missing_key", "missing_key"]),
        ("[]", vec!["bad_value"]),
        ("{ limit: 5, by: route }", vec!["bad_value"]),
        ("{ limit: 0/s, by: route }", vec!["bad_value"]),
        ("{ limit: 5/fortnight, by: route }", vec!["bad_value"]),
        ("{ limit: 2000000000/s, by: route }", vec!["bad_value"]),
        ("{ limit: 5/s, by: route, burst: 0 }", vec!["bad_value"]),
        ("{ limit: 1/month, by: route, burst: 13 }", vec!["bad_value"]),
        ("{ limit: 1/month, by: route, burst: 12 }", vec![]),
        ("{ limit: 5/s, by: ip }", vec!["bad_value"]),
        ("{ limit: 5/s, by: { header: 'x y' } }", vec!["bad_value"]),
        ("{ limit: 5/s, by: { cookie: a } }", vec!["unknown_key"]),
        ("{ limit: 5/s, by: client_ip, ipv6_prefix: 129 }", vec!["bad_value"]),
        ("{ limit: 5/s, by: client_ip, max_keys: 0 }", vec!["bad_value"]),
        ("{ limit: 5/s, by: route, name: grün }", vec!["bad_value"]),
        ("{ limit: 5/s, by: route, brst: 1 }", vec!["unknown_key"]),
        ("[{ limit: 5/s, by: route }, { limit: 9/s, by: route }]", vec!["duplicate_name"]),
        ("[{ limit: 5/s, by: route }, { limit: 9/m, by: route }]", vec![]),
        ("[{ limit: 5/s, by: route }, { limit: 9/s, by: route, name: b }]", vec![]),
    ] {
        let errors = bench.errors(&format!("rate_limit: {settings}"));
        let found: Vec<_> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
        assert_eq!(found, codes, "{settings}: {errors:?}");
    }
    let nine = ["{ limit: 5/s, by: route }"; 9].join(", ");
    assert!(bench.errors(&format!("rate_limit: [{nine}]"))[0].contains("expected 1 to 8 limits, found 9"));
}
