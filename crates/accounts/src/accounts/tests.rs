mod around;
mod clients;
mod codes;
mod credentials;
mod ended;
mod plans;
mod processes;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Wake, Waker};

use serde_json::Map;

use super::*;
use crate::consumer::{Credential, CredentialKind};
use crate::store::{Durability, Sqlite};

const NOW: u64 = 1_800_000_000_000;
const MINUTE: u64 = 60_000;

/// Waits on this thread for what another one does.
mod declared;

fn wait<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut work = pin!(work);
    loop {
        match work.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A folder that is removed behind the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemun-accounts-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn store(&self) -> Box<dyn Store> {
        Box::new(Sqlite::open(&self.0.join("daemun.db"), Durability::Process).unwrap())
    }

    fn open(&self, now: u64) -> Arc<Accounts> {
        let accounts = Arc::new(Accounts::in_memory());
        accounts.keep_in(self.store(), move || now, |what| panic!("{what}")).unwrap();
        accounts
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn asked(subject: &str) -> Asked {
    Asked {
        service: "shop".into(),
        subject: subject.into(),
        consumer: true,
        credential: format!("key:{subject}").into(),
        roles: Vec::new(),
        groups: Vec::new(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        claims: Map::new(),
        access: 15 * MINUTE,
        refresh: Some(60 * MINUTE),
        longest: 120 * MINUTE,
        most: 1000,
    }
}

/// A login by a key of the store.
fn of_key(subject: &str, key: &str) -> Asked {
    Asked { consumer: false, credential: key.into(), ..asked(subject) }
}

/// A consumer of the store with a key.
fn partner(accounts: &Accounts, name: &str, roles: &[&str], scopes: &[&str]) -> Credential {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let consumer =
        Consumer { name: name.to_owned(), roles: own(roles), scopes: own(scopes), created: NOW, ..Consumer::default() };
    wait(accounts.put_consumer(consumer, NOW)).unwrap();
    let credential = Credential {
        id: format!("key:{name}"),
        consumer: name.to_owned(),
        kind: CredentialKind::Key,
        digest: digest(name.as_bytes()),
        label: String::new(),
        created: NOW,
        expires: None,
        disabled: false,
    };
    wait(accounts.put_credential(credential.clone(), NOW)).unwrap();
    credential
}

fn issue(accounts: &Accounts, subject: &str, now: u64) -> Issued {
    wait(accounts.issue(None, asked(subject), now)).unwrap()
}

fn refresh(accounts: &Accounts, text: &str, now: u64) -> Result<Issued, Trouble> {
    let lifetimes = (15 * MINUTE, 60 * MINUTE);
    wait(accounts.refresh(None, (text.as_bytes(), "shop"), lifetimes, None, 1000, now)).map(|(issued, _)| issued)
}

fn check(accounts: &Accounts, issued: &Issued, now: u64) -> Result<Arc<Identity>, Refusal> {
    accounts.check(issued.access.as_bytes(), "shop", now)
}

fn refresh_text(issued: &Issued) -> &str {
    &issued.refresh.as_ref().unwrap().0
}

#[test]
fn a_token_is_good_where_it_was_given_for_until_it_ends() {
    let accounts = Accounts::in_memory();
    let issued = issue(&accounts, "app", NOW);
    let identity = check(&accounts, &issued, NOW + 15 * MINUTE - 1).unwrap();
    assert_eq!((&*identity.subject, identity.consumer.as_deref()), ("app", Some("app")));
    assert_eq!(identity.scopes, ["read", "write"]);
    assert_eq!(check(&accounts, &issued, NOW + 15 * MINUTE), Err(Refusal::Expired));
    assert_eq!(accounts.check(issued.access.as_bytes(), "other", NOW), Err(Refusal::Unknown));
    assert_eq!(accounts.check(refresh_text(&issued).as_bytes(), "shop", NOW), Err(Refusal::Unknown));
    assert_eq!(accounts.check(b"dmt_x", "shop", NOW), Err(Refusal::Unknown));
    assert_eq!(refresh(&accounts, &issued.access, NOW), Err(Refusal::Unknown.into()));
}

#[test]
fn a_refresh_token_gives_one_more_pair_and_used_twice_revokes_its_login() {
    let accounts = Accounts::in_memory();
    let first = issue(&accounts, "app", NOW);
    let second = refresh(&accounts, refresh_text(&first), NOW + 1).unwrap();
    assert!(check(&accounts, &first, NOW + 2).is_ok() && check(&accounts, &second, NOW + 2).is_ok());
    let other = issue(&accounts, "app", NOW);
    assert_eq!(refresh(&accounts, refresh_text(&first), NOW + 3), Err(Refusal::Reused.into()));
    for issued in [&first, &second] {
        assert_eq!(check(&accounts, issued, NOW + 4), Err(Refusal::Revoked));
    }
    assert_eq!(refresh(&accounts, refresh_text(&second), NOW + 4), Err(Refusal::Revoked.into()));
    assert!(check(&accounts, &other, NOW + 4).is_ok());
}

#[test]
fn a_login_does_not_outlast_its_longest_time_however_often_it_is_refreshed() {
    let accounts = Accounts::in_memory();
    let mut issued = issue(&accounts, "app", NOW);
    for step in 1..=2 {
        issued = refresh(&accounts, refresh_text(&issued), NOW + step * 59 * MINUTE).unwrap();
    }
    assert_eq!(issued.refresh.as_ref().unwrap().1, NOW + 120 * MINUTE);
    assert_eq!(issued.access_expires, NOW + 120 * MINUTE);
    assert_eq!(refresh(&accounts, refresh_text(&issued), NOW + 120 * MINUTE), Err(Refusal::Expired.into()));
}

#[test]
fn less_than_was_given_may_be_asked_for_and_more_may_not() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let issued = issue(&accounts, "app", NOW);
    let lifetimes = (15 * MINUTE, 60 * MINUTE);
    let ask = |scope: &str| {
        let scopes = Some(vec![scope.to_owned()]);
        wait(accounts.refresh(None, (refresh_text(&issued).as_bytes(), "shop"), lifetimes, scopes, 1000, NOW))
    };
    assert_eq!(ask("admin").unwrap_err(), Refusal::Scope.into());
    let narrow = ask("read").unwrap().0;
    assert_eq!(
        (&*narrow.scopes, &*check(&accounts, &narrow, NOW).unwrap().scopes),
        (&["read".to_owned()][..], &["read".to_owned()][..])
    );
    // the login stays what it is (RFC 6749, section 6)
    let next = refresh(&accounts, refresh_text(&narrow), NOW).unwrap();
    assert_eq!(check(&accounts, &next, NOW).unwrap().scopes, ["read", "write"]);
    drop(accounts);
    let accounts = folder.open(NOW);
    let known = check(&accounts, &narrow, NOW).unwrap();
    assert_eq!(known.scopes, ["read"]);
    assert!(Arc::ptr_eq(&known, &check(&accounts, &narrow, NOW).unwrap()), "made once");
    let whole = check(&accounts, &next, NOW).unwrap();
    assert_eq!(whole.scopes, ["read", "write"]);
    // what its login is not for any more, it is not for either
    let less = Identity { scopes: vec!["write".to_owned()], ..Identity::clone(&whole) };
    accounts.set_identity(next.access.as_bytes(), less);
    assert!(check(&accounts, &narrow, NOW).unwrap().scopes.is_empty());
}

#[test]
fn each_revocation_takes_what_it_names_and_nothing_else() {
    let folder = Folder::new();
    let mut made = Vec::new();
    for what in [
        Revoked::Token(String::new()),
        Revoked::Subject("app".to_owned()),
        Revoked::All,
        Revoked::Credential("key:app".to_owned()),
    ] {
        let accounts = folder.open(NOW);
        let (one, same, other) =
            (issue(&accounts, "app", NOW), issue(&accounts, "app", NOW), issue(&accounts, "b", NOW));
        let named =
            if what == Revoked::Token(String::new()) { Revoked::Token(one.access.clone()) } else { what.clone() };
        assert!(wait(accounts.revoke(&named, None, NOW)).unwrap());
        let good = |accounts: &Accounts| [&one, &same, &other].map(|issued| check(accounts, issued, NOW + 1).is_ok());
        let left = match what {
            Revoked::Token(_) => [false, true, true],
            Revoked::Credential(_) | Revoked::Subject(_) => [false, false, true],
            Revoked::All | Revoked::Access(_) => [false; 3],
        };
        assert_eq!(good(&accounts), left, "{what:?}");
        drop(accounts);
        assert_eq!(good(&folder.open(NOW)), left, "{what:?}");
        made.push(one);
        // what comes behind a revocation is good, but for a credential, which is void for ever
        let accounts = folder.open(NOW + 5);
        let later = issue(&accounts, "c", NOW + 5);
        assert!(check(&accounts, &later, NOW + 6).is_ok(), "{what:?}");
    }
    let accounts = folder.open(NOW);
    assert!(accounts.is_void_credential("key:app") && !accounts.is_void_credential("key:b"));
    assert!(!wait(accounts.revoke(&Revoked::Token("dmt_none".to_owned()), None, NOW)).unwrap());
}

#[test]
fn what_was_acknowledged_is_there_again_and_what_has_ended_is_not() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let first = issue(&accounts, "app", NOW);
    let second = refresh(&accounts, refresh_text(&first), NOW).unwrap();
    drop(accounts);
    let accounts = folder.open(NOW + MINUTE);
    assert_eq!(accounts.tokens(), 4);
    assert_eq!(accounts.tokens_of("app"), 4);
    assert_eq!(check(&accounts, &second, NOW + MINUTE).unwrap().scopes, ["read", "write"]);
    assert_eq!(refresh(&accounts, refresh_text(&first), NOW + MINUTE), Err(Refusal::Reused.into()));
    drop(accounts);
    assert_eq!(folder.open(NOW + 20 * MINUTE).tokens(), 2);
    assert_eq!(folder.open(NOW + 200 * MINUTE).tokens(), 0);
}

#[test]
fn what_one_process_does_another_one_sees() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    let issued = issue(&one, "app", NOW);
    let until = |what: &dyn Fn() -> bool| {
        while !what() {
            std::thread::yield_now();
        }
    };
    until(&|| check(&other, &issued, NOW).is_ok());
    let back = issue(&other, "app", NOW);
    until(&|| check(&one, &back, NOW).is_ok());
    wait(one.revoke(&Revoked::Token(back.access.clone()), None, NOW)).unwrap();
    until(&|| check(&other, &back, NOW) == Err(Refusal::Revoked));
    wait(other.revoke(&Revoked::Subject("app".to_owned()), None, NOW)).unwrap();
    until(&|| check(&one, &issued, NOW) == Err(Refusal::Revoked));
}

/// A store that fails when it is told to.
struct Failing(Arc<Mutex<bool>>);

impl Store for Failing {
    fn apply(&mut self, asked: &[&[Change]]) -> Result<Vec<bool>, StoreError> {
        if *self.0.lock().unwrap() {
            Err(StoreError("the disk is full".to_owned()))
        } else {
            Ok(vec![true; asked.len()])
        }
    }

    fn read(&mut self, _: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_news(&mut self) -> Result<bool, StoreError> {
        if *self.0.lock().unwrap() { Err(StoreError("the disk is gone".to_owned())) } else { Ok(false) }
    }

    fn forget(&mut self, _: u64, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[test]
fn what_does_not_last_is_not_given_out_and_what_is_revoked_stays_so() {
    let fails = Arc::new(Mutex::new(false));
    let accounts = Arc::new(Accounts::in_memory());
    accounts.keep_in(Box::new(Failing(Arc::clone(&fails))), || NOW, |_| {}).unwrap();
    let issued = issue(&accounts, "app", NOW);
    *fails.lock().unwrap() = true;
    assert!(matches!(wait(accounts.issue(None, asked("app"), NOW)), Err(Trouble::Store(_))));
    assert!(matches!(refresh(&accounts, refresh_text(&issued), NOW), Err(Trouble::Store(_))));
    assert_eq!((accounts.tokens(), accounts.tokens_of("app")), (2, 2));
    *fails.lock().unwrap() = false;
    let next = refresh(&accounts, refresh_text(&issued), NOW).unwrap();
    *fails.lock().unwrap() = true;
    assert!(wait(accounts.revoke(&Revoked::Token(next.access.clone()), None, NOW)).is_err());
    assert_eq!(check(&accounts, &next, NOW), Err(Refusal::Revoked));
}

#[test]
fn a_subject_has_so_many_tokens_at_most_and_those_that_end_make_room() {
    let accounts = Accounts::in_memory();
    let few = |now| wait(accounts.issue(None, Asked { most: 4, ..asked("app") }, now));
    few(NOW).unwrap();
    few(NOW).unwrap();
    assert_eq!(few(NOW), Err(Trouble::TooMany));
    issue(&accounts, "other", NOW);
    accounts.forget(NOW + 17 * MINUTE, 1_000);
    assert_eq!((accounts.tokens(), accounts.tokens_of("app")), (3, 2));
    few(NOW + 17 * MINUTE).unwrap();
    accounts.forget(NOW + 300 * MINUTE, 1_000);
    accounts.forget(NOW + 300 * MINUTE, 1_000);
    assert!(accounts.tokens() < 3);
}

#[test]
fn a_credential_that_is_disabled_ends_what_was_given_for_it_and_enabled_again_it_gives_anew() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let partner = Consumer { name: "partner".to_owned(), ..Consumer::default() };
    wait(accounts.put_consumer(partner, NOW)).unwrap();
    let credential = |name: &str, disabled| Credential {
        id: format!("key:{name}"),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Key,
        digest: digest(name.as_bytes()),
        label: String::new(),
        created: NOW,
        expires: None,
        disabled,
    };
    let give = |accounts: &Accounts, key: &str, now| {
        let asked = Asked { consumer: false, credential: format!("key:{key}").into(), ..asked("partner") };
        wait(accounts.issue(None, asked, now)).unwrap()
    };
    for key in ["one", "two"] {
        wait(accounts.put_credential(credential(key, false), NOW)).unwrap();
    }
    // as when only its first bytes are those of another one
    let alike = Credential { id: "key:one".to_owned(), ..credential("three", false) };
    assert_eq!(wait(accounts.put_credential(alike, NOW)), Err(Trouble::There));
    let (one, two) = (give(&accounts, "one", NOW), give(&accounts, "two", NOW));
    wait(accounts.put_credential(credential("one", true), NOW)).unwrap();
    let good = |accounts: &Accounts, issued| check(accounts, issued, NOW + 1).is_ok();
    assert_eq!([&one, &two].map(|issued| good(&accounts, issued)), [false, true]);
    assert_eq!(refresh(&accounts, refresh_text(&one), NOW + 1), Err(Refusal::Revoked.into()));
    drop(accounts);
    let accounts = folder.open(NOW);
    let is_good = |accounts: &Accounts| accounts.key(&digest(b"one")).is_some_and(|held| held.is_good(NOW));
    assert!(!is_good(&accounts) && !good(&accounts, &one) && good(&accounts, &two));
    wait(accounts.put_credential(credential("one", false), NOW + 2)).unwrap();
    assert!(is_good(&accounts) && !good(&accounts, &one));
    assert!(check(&accounts, &give(&accounts, "one", NOW + 2), NOW + 3).is_ok());
}

#[test]
fn access_tokens_end_alone_and_their_refresh_tokens_stay_good() {
    for whose in [Whose::Subject("app".to_owned()), Whose::Credential("key:app".to_owned()), Whose::All] {
        let folder = Folder::new();
        let (accounts, elsewhere) = (folder.open(NOW), folder.open(NOW));
        let (one, other) = (issue(&accounts, "app", NOW), issue(&accounts, "b", NOW));
        let what = Revoked::Access(whose.clone());
        assert!(wait(accounts.revoke(&what, None, NOW)).unwrap());
        let left = whose != Whose::All;
        let good = |accounts: &Accounts| [&one, &other].map(|issued| check(accounts, issued, NOW + 1).is_ok());
        assert_eq!(good(&accounts), [false, left], "{whose:?}");
        while good(&elsewhere) != [false, left] {
            std::thread::yield_now();
        }
        drop((accounts, elsewhere));
        let accounts = folder.open(NOW + 1);
        assert_eq!(good(&accounts), [false, left], "{whose:?}");
        let next = refresh(&accounts, refresh_text(&one), NOW + 1).unwrap();
        assert!(check(&accounts, &next, NOW + 2).is_ok(), "{whose:?}");
        assert!(!accounts.is_void_credential("key:app"));
        // an earlier moment takes nothing back, and all of it goes with what takes all
        wait(accounts.revoke(&what, Some(NOW), NOW + 2)).unwrap();
        assert_eq!(good(&accounts), [false, left], "{whose:?}");
        wait(accounts.revoke(&Revoked::Subject("app".to_owned()), None, NOW + 2)).unwrap();
        assert_eq!(check(&accounts, &next, NOW + 3), Err(Refusal::Revoked));
        assert_eq!(refresh(&accounts, refresh_text(&next), NOW + 3), Err(Refusal::Revoked.into()));
    }
}

/// Says what it was asked for.
struct Saying;

impl Mint for Saying {
    fn text<'a>(&'a self, wanted: Wanted<'a>) -> crate::grant::Text<'a> {
        let Wanted { name, identity, .. } = wanted;
        Box::pin(std::future::ready(match &*identity.subject {
            "nobody" => Err(Trouble::Unsigned("there is no key")),
            subject => Ok(format!("{name} {subject} {}", identity.scopes.join("+"))),
        }))
    }
}

#[test]
fn a_token_whose_text_comes_from_elsewhere_is_like_any_other() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let issued = wait(accounts.issue(Some(&Saying), asked("app"), NOW)).unwrap();
    let token = accounts.find(issued.access.as_bytes()).unwrap();
    assert_eq!(issued.access, format!("{} app read+write", token.name()));
    let narrow = Some(vec!["read".to_owned()]);
    let (from, lifetimes) = ((refresh_text(&issued).as_bytes(), "shop"), (15 * MINUTE, 60 * MINUTE));
    let next = wait(accounts.refresh(Some(&Saying), from, lifetimes, narrow, 1000, NOW)).unwrap().0;
    assert!(next.access.ends_with(" app read"), "{}", next.access);
    wait(accounts.revoke(&Revoked::Token(issued.access.clone()), None, NOW)).unwrap();
    drop(accounts);
    let accounts = folder.open(NOW);
    assert_eq!(check(&accounts, &issued, NOW), Err(Refusal::Revoked));
    assert!(check(&accounts, &next, NOW).is_ok());
    let failed = wait(accounts.issue(Some(&Saying), asked("nobody"), NOW));
    assert_eq!(failed, Err(Trouble::Unsigned("there is no key")));
    assert_eq!(accounts.tokens_of("nobody"), 0);
}

#[test]
fn signing_keys_last_and_are_seen_by_another_process() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    let key = |id: &str, from| SigningKeyRow {
        id: id.to_owned(),
        service: "shop".to_owned(),
        algorithm: "ES256".to_owned(),
        sealed: vec![1, 2, 3],
        created: NOW,
        from,
        until: None,
    };
    let ids = |accounts: &Accounts| accounts.signing_keys("shop").into_iter().map(|key| key.id).collect::<Vec<_>>();
    let before = other.signing_changes();
    wait(one.put_signing_key(key("b", NOW + 2))).unwrap();
    wait(one.put_signing_key(key("a", NOW + 1))).unwrap();
    while ids(&other) != ["a", "b"] {
        std::thread::yield_now();
    }
    assert!(other.signing_changes() > before && other.signing_keys("other").is_empty());
    wait(one.put_signing_key(SigningKeyRow { until: Some(NOW + 9), ..key("a", NOW + 1) })).unwrap();
    while other.signing_keys("shop")[0].until != Some(NOW + 9) {
        std::thread::yield_now();
    }
    wait(one.remove_signing_key("a")).unwrap();
    drop((one, other));
    assert_eq!(ids(&folder.open(NOW)), ["b"]);
}

#[test]
fn what_is_good_once_is_used_up_also_after_a_restart() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    assert!(wait(accounts.use_up("recovery", "carol:01", u64::MAX)).unwrap());
    assert!(!wait(accounts.use_up("recovery", "carol:01", u64::MAX)).unwrap());
    assert!(wait(accounts.use_up("totp", "carol", NOW)).unwrap());
    drop(accounts);
    let accounts = folder.open(NOW);
    assert!(!wait(accounts.use_up("recovery", "carol:01", u64::MAX)).unwrap());
    assert!(wait(accounts.use_up("recovery", "carol:02", u64::MAX)).unwrap());
    for (moment, good) in [(NOW - 1, false), (NOW, false), (NOW + 1, true), (NOW + 1, false)] {
        assert_eq!(wait(accounts.use_up("totp", "carol", moment)), Ok(good), "{moment}");
    }
    assert!(wait(accounts.use_up("totp", "dave", NOW)).unwrap());
}

#[test]
fn a_database_of_another_program_or_of_a_newer_version_is_refused() {
    let folder = Folder::new();
    let path = folder.0.join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE t(x)").unwrap();
    let error = Sqlite::open(&path, Durability::Power).unwrap_err();
    assert!(error.0.ends_with("is a database of another program"), "{error}");
    drop(folder.store());
    let path = folder.0.join("daemun.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    let error = Sqlite::open(&path, Durability::Power).unwrap_err();
    assert!(error.0.contains("newer version"), "{error}");
    let error = Sqlite::open(&folder.0.join("none/daemun.db"), Durability::Power).unwrap_err();
    assert!(error.0.ends_with("/none`; make it, for the user that the gateway runs as"), "{error}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_store_of_the_first_version_is_brought_up_to_this_one_and_loses_nothing() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let issued = issue(&accounts, "app", NOW);
    drop(accounts);
    let path = folder.0.join("daemun.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "ALTER TABLE tokens DROP COLUMN scopes; DROP INDEX voids_number; DROP INDEX consumers_number; \
         DROP INDEX credentials_number; DROP INDEX signing_keys_number; DROP TABLE plans; DROP TABLE usage; PRAGMA user_version = 1",
    )
    .unwrap();
    drop(old);
    let accounts = folder.open(NOW);
    assert_eq!(check(&accounts, &issued, NOW).unwrap().scopes, ["read", "write"]);
    refresh(&accounts, refresh_text(&issued), NOW).unwrap();
}

/// Forgets the access token of a login and leaves its refresh token.
fn idle(accounts: &Accounts) {
    let before = accounts.tokens();
    accounts.forget(NOW + 16 * MINUTE, 1_000);
    assert!(accounts.tokens() < before);
}

#[test]
fn an_idle_login_stays_within_reach_of_what_concerns_it() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    partner(&one, "app", &["admin"], &["read", "write"]);
    let issued = wait(one.issue(None, of_key("app", "key:app"), NOW)).unwrap();
    let second = wait(one.issue(None, of_key("app", "key:app"), NOW)).unwrap();
    while other.tokens() < 4 {
        std::thread::yield_now();
    }
    idle(&one);
    idle(&other);
    // its roles
    partner(&one, "app", &["reader"], &["read"]);
    let next = refresh(&one, refresh_text(&issued), NOW + 16 * MINUTE).unwrap();
    let identity = check(&one, &next, NOW + 16 * MINUTE).unwrap();
    assert_eq!((&*identity.roles, &*identity.scopes), (&["reader".to_owned()][..], &["read".to_owned()][..]));
    // what another process gives out for it, and takes away
    while check(&other, &next, NOW + 16 * MINUTE).is_err() {
        std::thread::yield_now();
    }
    wait(other.revoke(&Revoked::Token(refresh_text(&second).to_owned()), None, NOW)).unwrap();
    while refresh(&one, refresh_text(&second), NOW + 16 * MINUTE) != Err(Refusal::Revoked.into()) {
        assert!(one.tokens() < 100, "it is given out again and again");
    }
}

#[test]
fn a_refresh_does_not_carry_a_login_over_a_moment_before_which_all_is_void() {
    for what in [Revoked::Subject("app".to_owned()), Revoked::All] {
        let accounts = Accounts::in_memory();
        let first = issue(&accounts, "app", NOW);
        let second = refresh(&accounts, refresh_text(&first), NOW + 20).unwrap();
        wait(accounts.revoke(&what, Some(NOW + 10), NOW + 30)).unwrap();
        assert_eq!(check(&accounts, &second, NOW + 40), Err(Refusal::Revoked));
        assert_eq!(refresh(&accounts, refresh_text(&second), NOW + 40), Err(Refusal::Revoked.into()));
    }
}

#[test]
fn a_clock_that_was_set_back_lets_nothing_escape_and_shuts_nobody_out() {
    let accounts = Accounts::in_memory();
    let ahead = issue(&accounts, "app", NOW + 100);
    wait(accounts.revoke(&Revoked::Subject("app".to_owned()), None, NOW)).unwrap();
    assert_eq!(check(&accounts, &ahead, NOW), Err(Refusal::Revoked));
    let later = issue(&accounts, "app", NOW + 1);
    assert!(check(&accounts, &later, NOW + 1).is_ok());
}

#[test]
fn what_is_good_once_is_so_in_all_processes_together() {
    let folder = Folder::new();
    for _ in 0..10 {
        let (one, other) = (folder.open(NOW), folder.open(NOW));
        let issued = issue(&one, "app", NOW);
        while other.find(refresh_text(&issued).as_bytes()).is_none() {
            std::thread::yield_now();
        }
        let first = refresh(&one, refresh_text(&issued), NOW).unwrap();
        assert_eq!(refresh(&other, refresh_text(&issued), NOW), Err(Refusal::Reused.into()));
        while check(&one, &first, NOW).is_ok() {
            std::thread::yield_now();
        }
        let code = format!("carol:{}", refresh_text(&issued));
        let used = [&one, &other].map(|accounts| wait(accounts.use_up("recovery", &code, u64::MAX)).unwrap());
        assert_eq!(used, [true, false]);
    }
}

#[test]
fn what_nothing_keeps_is_forgotten_too() {
    let accounts = Arc::new(Accounts::in_memory());
    let few = |now| wait(accounts.issue(None, Asked { most: 2, ..asked("app") }, now));
    few(NOW).unwrap();
    assert_eq!(few(NOW), Err(Trouble::TooMany));
    accounts.forget_alone(|| NOW + 61 * MINUTE).unwrap();
    while !accounts.grants.is_empty() {
        std::thread::yield_now();
    }
    assert!(accounts.tokens() == 0 && few(NOW).is_ok());
}

#[test]
fn with_a_credential_goes_what_was_given_for_it() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let key = partner(&accounts, "app", &[], &["read", "write"]);
    let login = |now| wait(accounts.issue(None, of_key("app", "key:app"), now));
    let issued = login(NOW).unwrap();
    wait(accounts.put_credential(Credential { disabled: true, ..key.clone() }, NOW + 1)).unwrap();
    assert_eq!(check(&accounts, &issued, NOW + 2), Err(Refusal::Revoked));
    assert_eq!(refresh(&accounts, refresh_text(&issued), NOW + 2), Err(Refusal::Revoked.into()));
    assert_eq!(login(NOW + 2), Err(Refusal::Revoked.into()));
    wait(accounts.put_credential(key.clone(), NOW + 3)).unwrap();
    let again = login(NOW + 3).unwrap();
    assert!(check(&accounts, &again, NOW + 3).is_ok());
    assert_eq!(check(&accounts, &issued, NOW + 3), Err(Refusal::Revoked));
    // one that ends gives no more, and what it gave ends when it does
    wait(accounts.put_credential(Credential { expires: Some(NOW + 5), ..key }, NOW + 4)).unwrap();
    assert!(check(&accounts, &again, NOW + 6).is_ok());
    assert_eq!(refresh(&accounts, refresh_text(&again), NOW + 6), Err(Refusal::Revoked.into()));
}

#[test]
fn a_revocation_that_is_repeated_stands_in_nobodys_way() {
    let accounts = Accounts::in_memory();
    partner(&accounts, "app", &[], &[]);
    let client = Credential {
        id: "cl".to_owned(),
        consumer: "app".to_owned(),
        kind: CredentialKind::Client,
        digest: [7; 32],
        label: String::new(),
        created: NOW,
        expires: None,
        disabled: false,
    };
    for now in [NOW, NOW + 10] {
        wait(accounts.put_credential(client.clone(), now)).unwrap();
        let issued = wait(accounts.issue(None, of_key("app", "cl"), now)).unwrap();
        assert!(check(&accounts, &issued, now).is_ok());
        assert!(wait(accounts.revoke(&Revoked::Credential("cl".to_owned()), None, now + 1)).unwrap());
        wait(accounts.revoke(&Revoked::Credential("cl".to_owned()), None, now + 2)).unwrap();
        assert_eq!(check(&accounts, &issued, now + 2), Err(Refusal::Revoked));
    }
}

#[test]
fn what_is_known_anew_of_a_holder_leaves_a_login_what_it_was_given_for() {
    let accounts = Accounts::in_memory();
    let issued = issue(&accounts, "app", NOW);
    let (lifetimes, scopes) = ((15 * MINUTE, 60 * MINUTE), Some(vec!["read".to_owned()]));
    let narrow =
        wait(accounts.refresh(None, (refresh_text(&issued).as_bytes(), "shop"), lifetimes, scopes, 10, NOW)).unwrap().0;
    let known = check(&accounts, &narrow, NOW).unwrap();
    let changed = Identity { roles: vec!["clerk".to_owned()], ..Identity::clone(&known) };
    assert_eq!(accounts.set_identity(narrow.access.as_bytes(), changed).scopes, ["read"]);
    let next = refresh(&accounts, refresh_text(&narrow), NOW).unwrap();
    let known = check(&accounts, &next, NOW).unwrap();
    assert_eq!((&*known.roles, known.scopes.len()), (&["clerk".to_owned()][..], 2));
}

/// A key of a consumer, good from now on.
fn key_of(consumer: &str, id: String, text: &[u8]) -> Credential {
    Credential {
        id,
        consumer: consumer.to_owned(),
        kind: CredentialKind::Key,
        digest: digest(text),
        label: String::new(),
        created: NOW,
        expires: None,
        disabled: false,
    }
}

#[test]
fn a_store_with_very_many_used_and_gone_credentials_is_read_in_no_time() {
    const MANY: u64 = 20_000;
    let folder = Folder::new();
    let mut store = folder.store();
    let id = |n: u64| format!("key:{n}");
    let mut changes = vec![Change::Consumer(Consumer { name: "app".to_owned(), ..Consumer::default() })];
    for n in 0..MANY {
        changes.push(Change::Credential(key_of("app", id(n), &n.to_le_bytes())));
        changes.push(Change::Used { id: id(n), at: NOW });
        if n % 4 == 0 {
            changes.push(Change::NoCredential(id(n)));
        }
    }
    store.apply(&[&changes]).unwrap();
    drop(store);
    let accounts = folder.open(NOW);
    assert_eq!(accounts.credentials("app").len() as u64, MANY / 4 * 3);
    assert_eq!(accounts.key(&digest(&1u64.to_le_bytes())).unwrap().last_use(), Some(NOW));
}

#[test]
fn what_comes_back_as_news_is_counted_once_and_stays_within_reach() {
    const EACH: usize = 150;
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    std::thread::scope(|scope| {
        for accounts in [&one, &other] {
            scope.spawn(move || (0..EACH).for_each(|_| drop(issue(accounts, "app", NOW))));
        }
    });
    for accounts in [&one, &other] {
        while accounts.tokens() < 4 * EACH {
            std::thread::yield_now();
        }
        wait(accounts.look());
        assert_eq!((accounts.tokens(), accounts.tokens_of("app") as usize), (4 * EACH, 4 * EACH));
        let grants = accounts.grants.pin();
        assert_eq!(grants.len(), 2 * EACH);
        assert!(
            grants.values().all(|grant| grant.upgrade().is_some_and(|grant| grant.live.load(Ordering::Acquire) == 2))
        );
    }
}

#[test]
fn what_ends_by_itself_is_good_once_also_after_a_restart_and_forgotten_when_it_ended() {
    let folder = Folder::new();
    let rows = || {
        let store = rusqlite::Connection::open(folder.0.join("daemun.db")).unwrap();
        store.query_row("SELECT count(*) FROM voids", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let accounts = folder.open(NOW);
    assert!(wait(accounts.use_once("saml", "issuer _a", NOW + MINUTE, NOW)).unwrap());
    assert!(!wait(accounts.use_once("saml", "issuer _a", NOW + MINUTE, NOW + 1)).unwrap());
    assert!(wait(accounts.use_once("saml", "issuer _b", NOW + 9 * MINUTE, NOW)).unwrap());
    drop(accounts);
    let accounts = folder.open(NOW + 1);
    for name in ["issuer _a", "issuer _b"] {
        assert!(!wait(accounts.use_once("saml", name, NOW + 9 * MINUTE, NOW + 2)).unwrap(), "{name}");
    }
    drop(accounts);
    assert_eq!(rows(), 2);
    let mut store = folder.store();
    assert_eq!(store.forget(NOW + MINUTE, 100), Ok(0), "it ends in that moment, and not before");
    assert_eq!((store.forget(NOW + MINUTE + 1, 100), rows()), (Ok(1), 1));
    let accounts = folder.open(NOW + 2 * MINUTE);
    assert!(wait(accounts.use_once("saml", "issuer _a", NOW + 3 * MINUTE, NOW + 2 * MINUTE)).unwrap());
    assert!(!wait(accounts.use_once("saml", "issuer _b", NOW + 9 * MINUTE, NOW + 2 * MINUTE)).unwrap());
}
