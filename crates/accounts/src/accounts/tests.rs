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

fn issue(accounts: &Accounts, subject: &str, now: u64) -> Issued {
    wait(accounts.issue(asked(subject), now)).unwrap()
}

fn refresh(accounts: &Accounts, text: &str, now: u64) -> Result<Issued, Trouble> {
    let lifetimes = (15 * MINUTE, 60 * MINUTE);
    wait(accounts.refresh(text.as_bytes(), "shop", lifetimes, None, 1000, now)).map(|(issued, _)| issued)
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
        wait(accounts.refresh(refresh_text(&issued).as_bytes(), "shop", lifetimes, scopes, 1000, NOW))
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
    assert_eq!(check(&accounts, &narrow, NOW).unwrap().scopes, ["read"]);
    assert_eq!(check(&accounts, &next, NOW).unwrap().scopes, ["read", "write"]);
}

#[test]
fn each_revocation_takes_what_it_names_and_nothing_else() {
    let folder = Folder::new();
    let mut made = Vec::new();
    for what in [
        Revoked::Token(String::new()),
        Revoked::Credential("key:app".to_owned()),
        Revoked::Subject("app".to_owned()),
        Revoked::All,
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
            Revoked::All => [false; 3],
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
    fn apply(&mut self, _: &[Change]) -> Result<(), StoreError> {
        if *self.0.lock().unwrap() { Err(StoreError("the disk is full".to_owned())) } else { Ok(()) }
    }

    fn read(&mut self, _: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        Ok(())
    }

    fn has_news(&mut self) -> Result<bool, StoreError> {
        Ok(false)
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
    assert!(matches!(wait(accounts.issue(asked("app"), NOW)), Err(Trouble::Store(_))));
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
    let few = |now| wait(accounts.issue(Asked { most: 4, ..asked("app") }, now));
    few(NOW).unwrap();
    few(NOW).unwrap();
    assert_eq!(few(NOW), Err(Trouble::TooMany));
    issue(&accounts, "other", NOW);
    accounts.forget(NOW + 17 * MINUTE);
    assert_eq!((accounts.tokens(), accounts.tokens_of("app")), (3, 2));
    few(NOW + 17 * MINUTE).unwrap();
    accounts.forget(NOW + 300 * MINUTE);
    accounts.forget(NOW + 300 * MINUTE);
    assert!(accounts.tokens() < 3);
}

#[test]
fn consumers_of_the_store_and_their_credentials_last_and_change_at_once() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let consumer = |roles: &[&str], disabled| Consumer {
        name: "partner".to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        disabled,
        created: NOW,
        ..Consumer::default()
    };
    let key = digest(b"dmn_key");
    let credential = |expires, disabled| Credential {
        id: "key:1".to_owned(),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Key,
        digest: key,
        label: "first".to_owned(),
        created: NOW,
        expires,
        disabled,
    };
    assert_eq!(wait(accounts.put_credential(credential(None, false))), Err(Trouble::None));
    wait(accounts.put_consumer(consumer(&["reader"], false), NOW)).unwrap();
    wait(accounts.put_credential(credential(Some(NOW + 10), false))).unwrap();
    let taken = Credential { id: "key:2".to_owned(), ..credential(None, false) };
    assert_eq!(wait(accounts.put_credential(taken)), Err(Trouble::There));
    let held = accounts.key(&key).unwrap();
    assert!(held.is_good(NOW + 9) && !held.is_good(NOW + 10));
    held.note_use(NOW);
    assert_eq!(held.identity.roles, ["reader"]);
    let issued = wait(accounts.issue(Asked { consumer: false, ..asked("partner") }, NOW)).unwrap();
    wait(accounts.put_consumer(consumer(&["writer"], false), NOW)).unwrap();
    assert_eq!(check(&accounts, &issued, NOW).unwrap().roles, ["writer"]);
    assert_eq!(accounts.key(&key).unwrap().identity.roles, ["writer"]);
    assert_eq!(accounts.key(&key).unwrap().last_use(), Some(NOW));
    drop(accounts);
    let accounts = folder.open(NOW);
    assert_eq!(check(&accounts, &issued, NOW).unwrap().roles, ["writer"]);
    wait(accounts.put_consumer(consumer(&["writer"], true), NOW)).unwrap();
    assert!(!accounts.key(&key).unwrap().is_good(NOW));
    assert_eq!(check(&accounts, &issued, NOW), Err(Refusal::Revoked));
    wait(accounts.remove_consumer("partner", NOW)).unwrap();
    drop(accounts);
    let accounts = folder.open(NOW);
    assert!(accounts.consumers().is_empty() && accounts.key(&key).is_none());
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
    let issued = wait(accounts.issue_by(Some(&Saying), asked("app"), NOW)).unwrap();
    let token = accounts.find(issued.access.as_bytes()).unwrap();
    assert_eq!(issued.access, format!("{} app read+write", token.name()));
    let narrow = Some(vec!["read".to_owned()]);
    let (from, lifetimes) = ((refresh_text(&issued).as_bytes(), "shop"), (15 * MINUTE, 60 * MINUTE));
    let next = wait(accounts.refresh_by(Some(&Saying), from, lifetimes, narrow, 1000, NOW)).unwrap().0;
    assert!(next.access.ends_with(" app read"), "{}", next.access);
    wait(accounts.revoke(&Revoked::Token(issued.access.clone()), None, NOW)).unwrap();
    drop(accounts);
    let accounts = folder.open(NOW);
    assert_eq!(check(&accounts, &issued, NOW), Err(Refusal::Revoked));
    assert!(check(&accounts, &next, NOW).is_ok());
    let failed = wait(accounts.issue_by(Some(&Saying), asked("nobody"), NOW));
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
    old.execute_batch("ALTER TABLE tokens DROP COLUMN scopes; PRAGMA user_version = 1").unwrap();
    drop(old);
    let accounts = folder.open(NOW);
    assert_eq!(check(&accounts, &issued, NOW).unwrap().scopes, ["read", "write"]);
    refresh(&accounts, refresh_text(&issued), NOW).unwrap();
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
