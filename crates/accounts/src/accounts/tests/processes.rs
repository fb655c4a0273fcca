//! Two processes with one store, of which one does not know yet what the other did.

use super::*;
use crate::change::TokenRow;

fn consumer() -> Consumer {
    Consumer { name: "partner".to_owned(), created: NOW, ..Consumer::default() }
}

fn key() -> Credential {
    Credential {
        id: "key:1".to_owned(),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Key,
        digest: digest(b"dmn_key"),
        label: "first".to_owned(),
        created: NOW,
        expires: None,
        disabled: false,
    }
}

fn read(store: &mut dyn Store) -> Vec<Change> {
    let mut all = Vec::new();
    store.read(&mut |change| all.push(change)).unwrap();
    all
}

/// A login for a credential, with one access token.
fn login(credential: &str, token: &[u8]) -> [Change; 2] {
    let id = 7 << 30;
    let row = GrantRow {
        id,
        service: "shop".to_owned(),
        subject: "partner".to_owned(),
        consumer: false,
        credential: credential.to_owned(),
        says: "{}".to_owned(),
        created: NOW + MINUTE,
        expires: NOW + 60 * MINUTE,
        revoked: false,
    };
    let (digest, kind) = (digest(token), Kind::Access);
    let (issued, expires) = (NOW + MINUTE, NOW + 30 * MINUTE);
    let token = TokenRow { id: id + 1, grant: id, kind, digest, issued, expires, spent: false, scopes: None };
    [Change::Grant(row), Change::Token(token)]
}

#[test]
fn a_change_by_who_does_not_know_of_another_one_is_not_made() {
    let folder = Folder::new();
    let (mut one, mut other) = (folder.store(), folder.store());
    one.apply(&[&[Change::Consumer(consumer()), Change::Credential(key())]]).unwrap();
    read(&mut *other);
    // its secret is not to be forgotten by who did not see it, nor is what takes it away undone
    let confidential = Consumer { had_secret: true, disabled: true, ..consumer() };
    assert_eq!(one.apply(&[&[Change::Consumer(confidential.clone())]]), Ok(vec![true]));
    let label = Change::Credential(Credential { label: "other".to_owned(), ..key() });
    let both = [label.clone(), Change::Consumer(Consumer { roles: vec!["reader".to_owned()], ..consumer() })];
    assert_eq!(other.apply(&[&both]), Ok(vec![false]));
    let seen = read(&mut *other);
    assert!(seen.contains(&Change::Consumer(confidential)) && !seen.contains(&label), "all of it or none: {seen:?}");
    assert_eq!(other.apply(&[std::slice::from_ref(&label)]), Ok(vec![true]), "now that it knows");
    read(&mut *one);
    one.apply(&[&[Change::Used { id: "key:1".to_owned(), at: NOW }, Change::NoCredential("key:1".to_owned())]])
        .unwrap();
    assert_eq!(other.apply(&[&[label]]), Ok(vec![false]), "what was removed does not come back");
    read(&mut *other);
    assert_eq!(other.apply(&[&[Change::Credential(key())]]), Ok(vec![true]), "it is made anew");
    assert!(!read(&mut *folder.store()).iter().any(|change| matches!(change, Change::Used { .. })), "and never used");
    one.apply(&[&[Change::NoConsumer("partner".to_owned())]]).unwrap();
    let another = Credential { id: "key:2".to_owned(), digest: digest(b"dmn_other"), ..key() };
    assert_eq!(other.apply(&[&[Change::Credential(another)]]), Ok(vec![false]), "nobody is there to have it");
}

#[test]
fn who_is_about_to_change_something_knows_what_another_process_did() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    for disabled in [false, true, false, true] {
        wait(one.put_consumer(Consumer { disabled, ..consumer() }, NOW)).unwrap();
        wait(other.look());
        let known = other.consumer("partner").unwrap();
        assert_eq!(known.disabled, disabled);
        wait(other.put_consumer(Consumer { roles: vec!["reader".to_owned()], ..known }, NOW)).unwrap();
        wait(one.look());
        let known = one.consumer("partner").unwrap();
        assert!(known.disabled == disabled && known.roles == ["reader"]);
    }
}

#[test]
fn what_was_given_for_what_another_process_had_taken_away_ends_everywhere_and_stays_so() {
    let told = |token: &[u8], accounts: &Accounts| accounts.check(token, "shop", NOW + MINUTE).map(drop);
    let void = Change::Void { name: "credential:key:1".to_owned(), before: NOW };
    let gone: [&[Change]; 4] = [
        &[Change::Consumer(Consumer { disabled: true, ..consumer() })],
        &[Change::NoConsumer("partner".to_owned()), void.clone()],
        &[Change::Credential(Credential { disabled: true, ..key() })],
        &[Change::NoCredential("key:1".to_owned()), void],
    ];
    // whichever comes first: the login, or the news of what was taken away
    for (gone, login_first) in gone.into_iter().flat_map(|gone| [(gone, true), (gone, false)]) {
        let folder = Folder::new();
        let (accounts, mut other) = (folder.open(NOW), folder.store());
        read(&mut *other);
        other.apply(&[&[Change::Consumer(consumer()), Change::Credential(key())]]).unwrap();
        let login = login("key:1", b"dmt_1");
        for (change, is_login) in
            if login_first { [(&login[..], true), (gone, false)] } else { [(gone, false), (&login[..], true)] }
        {
            read(&mut *other);
            assert_eq!(other.apply(&[change]), Ok(vec![true]));
            wait(accounts.look());
            if is_login && login_first {
                assert_eq!(told(b"dmt_1", &accounts), Ok(()));
            }
        }
        assert_eq!(told(b"dmt_1", &accounts), Err(Refusal::Revoked), "{gone:?} {login_first}");
        let of_login = |change: &Change| matches!(change, Change::Grant(row) if row.revoked);
        assert!(read(&mut *folder.store()).iter().any(of_login), "{gone:?} {login_first}");
    }
}

#[test]
fn what_was_given_for_a_credential_that_has_ended_since_is_good_to_its_own_end() {
    let folder = Folder::new();
    let (accounts, mut other) = (folder.open(NOW), folder.store());
    let ended = Credential { expires: Some(NOW + MINUTE), ..key() };
    other.apply(&[&[Change::Consumer(consumer()), Change::Credential(ended)], &login("key:1", b"dmt_1")]).unwrap();
    other.apply(&[&[Change::NoConsumer("another".to_owned())]]).unwrap();
    wait(accounts.look());
    assert!(accounts.check(b"dmt_1", "shop", NOW + 20 * MINUTE).is_ok());
}
