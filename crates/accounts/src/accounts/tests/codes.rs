//! Codes: given out, redeemed once, bound to their client.

use super::*;

const BOUND: Bound<'static> = Bound { client: "web", redirect: "https://app.example/cb", challenge: "abc" };

fn code(accounts: &Accounts, now: u64) -> String {
    wait(accounts.issue_code(Asked { consumer: false, ..asked("ann") }, &BOUND, now)).unwrap()
}

fn redeem_with(accounts: &Accounts, text: &str, bound: Bound<'_>, now: u64) -> Result<Issued, Trouble> {
    let code = Code { text, bound, service: "shop", lifetime: MINUTE };
    let lifetimes = (15 * MINUTE, Some(60 * MINUTE));
    wait(accounts.redeem_by(None, &code, |_| true, lifetimes, 1000, now)).map(|(issued, _)| issued)
}

fn redeem(accounts: &Accounts, text: &str, now: u64) -> Result<Issued, Trouble> {
    redeem_with(accounts, text, BOUND, now)
}

#[test]
fn a_code_is_good_once_for_a_minute_and_with_what_it_is_bound_to_alone() {
    let accounts = Accounts::in_memory();
    let text = code(&accounts, NOW);
    assert!(accounts.find(text.as_bytes()).is_none() && check_text(&accounts, &text).is_err());
    for wrong in [
        Bound { client: "other", ..BOUND },
        Bound { redirect: "https://app.example/cb/", ..BOUND },
        Bound { challenge: "abd", ..BOUND },
        Bound { client: "web\0https://app.example/cb", redirect: "abc", challenge: "" },
    ] {
        assert_eq!(redeem_with(&accounts, &text, wrong, NOW), Err(Refusal::Unknown.into()), "{wrong:?}");
    }
    for wrong in ["", "dmc_x", &format!("{text}\0web"), &format!("dmr_{}", &text[4..])] {
        assert_eq!(redeem(&accounts, wrong, NOW), Err(Refusal::Unknown.into()), "{wrong}");
    }
    let other = Code { text: &text, bound: BOUND, service: "other", lifetime: MINUTE };
    let lifetimes = (15 * MINUTE, None);
    let at_other = wait(accounts.redeem_by(None, &other, |_| true, lifetimes, 1000, NOW));
    assert_eq!(at_other.unwrap_err(), Refusal::Unknown.into());
    assert_eq!(refresh(&accounts, &text, NOW), Err(Refusal::Unknown.into()));
    assert_eq!(redeem(&accounts, &text, NOW + MINUTE), Err(Refusal::Expired.into()));
    let issued = redeem(&accounts, &text, NOW + MINUTE - 1).unwrap();
    let identity = check(&accounts, &issued, NOW + MINUTE).unwrap();
    assert_eq!((&*identity.subject, identity.consumer.as_deref(), &*identity.scopes[0]), ("ann", None, "read"));
    assert!(refresh(&accounts, refresh_text(&issued), NOW + MINUTE).is_ok());
}

fn check_text(accounts: &Accounts, text: &str) -> Result<Arc<Identity>, Refusal> {
    accounts.check(text.as_bytes(), "shop", NOW)
}

#[test]
fn a_code_that_is_used_twice_revokes_what_came_out_of_it_also_after_a_restart() {
    for restart in [false, true] {
        let folder = Folder::new();
        let mut accounts = folder.open(NOW);
        let (text, other) = (code(&accounts, NOW), code(&accounts, NOW));
        if restart {
            drop(accounts);
            accounts = folder.open(NOW);
        }
        let (issued, untouched) = (redeem(&accounts, &text, NOW).unwrap(), redeem(&accounts, &other, NOW).unwrap());
        let next = refresh(&accounts, refresh_text(&issued), NOW).unwrap();
        if restart {
            drop(accounts);
            accounts = folder.open(NOW);
        }
        assert!(check(&accounts, &next, NOW).is_ok());
        // whoever has not all that it is bound to takes nothing from its holder
        assert_eq!(redeem_with(&accounts, &text, Bound { challenge: "x", ..BOUND }, NOW), Err(Refusal::Unknown.into()));
        assert!(check(&accounts, &next, NOW).is_ok());
        assert_eq!(redeem(&accounts, &text, NOW + 2 * MINUTE), Err(Refusal::Reused.into()));
        assert_eq!(redeem(&accounts, &text, NOW + 2 * MINUTE), Err(Refusal::Revoked.into()));
        for token in [&issued, &next] {
            assert_eq!(check(&accounts, token, NOW), Err(Refusal::Revoked));
        }
        assert_eq!(refresh(&accounts, refresh_text(&next), NOW), Err(Refusal::Revoked.into()));
        assert!(check(&accounts, &untouched, NOW).is_ok());
        drop(accounts);
        assert_eq!(check(&folder.open(NOW), &next, NOW), Err(Refusal::Revoked));
    }
}

#[test]
fn of_processes_with_one_store_one_takes_a_code_and_every_one_knows_it_at_once() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    // given out by one a moment ago, shown to the other
    let text = code(&one, NOW);
    assert!(redeem(&other, &text, NOW).is_ok());
    for _ in 0..20 {
        let text = code(&one, NOW);
        let again = (one.clone(), other.clone());
        let (first, second) = std::thread::scope(|scope| {
            let first = scope.spawn(|| redeem(&again.0, &text, NOW));
            let second = scope.spawn(|| redeem(&again.1, &text, NOW));
            (first.join().unwrap(), second.join().unwrap())
        });
        let taken = [&first, &second].into_iter().filter(|taken| taken.is_ok()).count();
        assert!(taken <= 1, "{first:?} {second:?}");
        // whoever was second revoked what the first was given
        for (accounts, issued) in [(&one, first), (&other, second)] {
            let Ok(issued) = issued else { continue };
            while check(accounts, &issued, NOW) != Err(Refusal::Revoked) {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_code_that_cannot_be_used_up_gives_nothing_and_stays_good_and_who_is_not_let_in_uses_it_up() {
    let fails = Arc::new(Mutex::new(false));
    let accounts = Arc::new(Accounts::in_memory());
    accounts.keep_in(Box::new(Failing(Arc::clone(&fails))), || NOW, |_| {}).unwrap();
    let text = code(&accounts, NOW);
    *fails.lock().unwrap() = true;
    assert!(matches!(redeem(&accounts, &text, NOW), Err(Trouble::Store(_))));
    assert!(matches!(wait(accounts.issue_code(asked("ann"), &BOUND, NOW)), Err(Trouble::Store(_))));
    assert_eq!(accounts.tokens_of("ann"), 1);
    *fails.lock().unwrap() = false;
    assert!(redeem(&accounts, &text, NOW).is_ok());
    let text = code(&accounts, NOW);
    let shown = Code { text: &text, bound: BOUND, service: "shop", lifetime: MINUTE };
    let refused = wait(accounts.redeem_by(None, &shown, |_| false, (MINUTE, None), 1000, NOW));
    assert_eq!(refused.unwrap_err(), Refusal::Revoked.into());
    assert_eq!(redeem(&accounts, &text, NOW), Err(Refusal::Reused.into()));
    assert_eq!(wait(accounts.issue_code(Asked { most: 4, ..asked("ann") }, &BOUND, NOW)), Err(Trouble::TooMany));
}

#[test]
fn a_code_of_a_client_that_another_process_has_taken_away_is_good_in_no_process_once_that_has_returned() {
    type Take<'a> = &'a dyn Fn(&Accounts);
    let secret = |id: &str, disabled: bool, expires| Credential {
        id: id.to_owned(),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Client,
        digest: digest(b"a secret"),
        label: String::new(),
        created: NOW,
        expires,
        disabled,
    };
    let consumer = |disabled| Consumer {
        name: "partner".to_owned(),
        redirect_uris: vec![BOUND.redirect.to_owned()],
        disabled,
        created: NOW,
        ..Consumer::default()
    };
    let revoke = |what: Revoked| move |one: &Accounts| assert!(wait(one.revoke(&what, None, NOW)).is_ok());
    let of_secret: [Take<'_>; 6] = [
        &|one| wait(one.put_consumer(consumer(true), NOW)).unwrap(),
        &|one| assert_eq!(wait(one.remove_consumer("partner", NOW)), Ok(true)),
        &|one| wait(one.put_credential(secret("web", true, None), NOW)).unwrap(),
        &|one| wait(one.put_credential(secret("web", false, Some(NOW)), NOW)).unwrap(),
        &revoke(Revoked::Credential("web".to_owned())),
        &revoke(Revoked::All),
    ];
    let of_name: [Take<'_>; 3] = [
        &|one| wait(one.put_consumer(consumer(true), NOW)).unwrap(),
        &|one| assert_eq!(wait(one.remove_consumer("partner", NOW)), Ok(true)),
        // it has a secret from now on, and is no client without one
        &|one| wait(one.put_credential(secret("web", false, None), NOW)).unwrap(),
    ];
    let all = of_secret.into_iter().map(|take| ("web", take));
    for (client, take) in all.chain(of_name.into_iter().map(|take| ("consumer:partner", take))) {
        let folder = Folder::new();
        let (one, other) = (folder.open(NOW), folder.open(NOW));
        wait(one.put_consumer(consumer(false), NOW)).unwrap();
        if client == "web" {
            wait(one.put_credential(secret(client, false, None), NOW)).unwrap();
        }
        wait(other.look());
        let give = || {
            let asked = Asked { consumer: false, credential: client.into(), ..asked("ann") };
            wait(other.issue_code(asked, &BOUND, NOW)).unwrap()
        };
        // known to the one that redeems it, so that it need not ask for it
        let (before, text) = (give(), give());
        assert!(redeem(&other, &before, NOW).is_ok());
        take(&one);
        assert_eq!(redeem(&other, &text, NOW), Err(Refusal::Revoked.into()), "{client}");
        assert_eq!(redeem(&one, &text, NOW), Err(Refusal::Revoked.into()), "{client}");
    }
}
