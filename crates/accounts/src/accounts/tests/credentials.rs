//! Consumers of the store and their credentials, as calls find them.

use super::*;

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
    assert_eq!(wait(accounts.put_credential(credential(None, false), NOW)), Err(Trouble::None));
    wait(accounts.put_consumer(consumer(&["reader"], false), NOW)).unwrap();
    wait(accounts.put_credential(credential(Some(NOW + 10), false), NOW)).unwrap();
    let taken = Credential { id: "key:2".to_owned(), ..credential(None, false) };
    assert_eq!(wait(accounts.put_credential(taken, NOW)), Err(Trouble::There));
    let found = || accounts.held_key(&key).unwrap();
    let held = found();
    assert!(held.is_good(NOW + 9) && !held.is_good(NOW + 10));
    held.note_use(NOW);
    assert_eq!(held.identity().unwrap().roles, ["reader"]);
    let issued = wait(accounts.issue(None, of_key("partner", "key:1"), NOW)).unwrap();
    wait(accounts.put_consumer(consumer(&["writer"], false), NOW)).unwrap();
    assert_eq!(check(&accounts, &issued, NOW).unwrap().roles, ["writer"]);
    assert_eq!(found().identity().unwrap().roles, ["writer"]);
    assert_eq!(held.identity().unwrap().roles, ["reader"], "what was found stays as it was");
    let last_use = || accounts.key(&key).unwrap().last_use();
    assert_eq!(last_use(), Some(NOW));
    for (now, last) in [(NOW + 59_999, NOW), (NOW + 60_000, NOW + 60_000), (NOW + 60_001, NOW + 60_000)] {
        found().note_use(now);
        assert_eq!(last_use(), Some(last));
    }
    drop(accounts);
    let accounts = folder.open(NOW);
    assert_eq!(check(&accounts, &issued, NOW).unwrap().roles, ["writer"]);
    wait(accounts.put_consumer(consumer(&["writer"], true), NOW)).unwrap();
    assert!(!accounts.held_key(&key).unwrap().is_good(NOW));
    assert_eq!(check(&accounts, &issued, NOW), Err(Refusal::Revoked));
    wait(accounts.remove_consumer("partner", NOW)).unwrap();
    drop(accounts);
    let accounts = folder.open(NOW);
    assert!(accounts.consumers().is_empty() && accounts.key(&key).is_none());
}

/// So many keys of one consumer, by their digests.
fn many(accounts: &Accounts, count: usize) -> Vec<Digest> {
    accounts.set_consumer(Consumer { name: "partner".to_owned(), created: NOW, ..Consumer::default() });
    let add = |number: usize| {
        let key = key_of("partner", format!("key:{number}"), number.to_string().as_bytes());
        let digest = key.digest;
        accounts.set_credential(key, 0);
        digest
    };
    (0..count).map(add).collect()
}

#[test]
fn the_last_uses_of_very_many_keys_are_all_written_in_turn() {
    const KEYS: usize = 25_000;
    let accounts = Accounts::in_memory();
    let digests = many(&accounts, KEYS);
    let mut written = std::collections::HashSet::new();
    for minute in 1..60 {
        let now = NOW + minute * MINUTE;
        digests.iter().for_each(|digest| accounts.held_key(digest).unwrap().note_use(now));
        let uses = accounts.uses(now);
        assert!(uses.len() <= 10_000, "{}", uses.len());
        for change in uses {
            let Change::Used { id, .. } = change else { panic!("{change:?}") };
            written.insert(id);
        }
    }
    assert_eq!(written.len(), KEYS);
    // those that are used no more are written to the last use, and few are at once
    let later = (60..100).map(|minute| accounts.uses(NOW + minute * MINUTE).len());
    assert_eq!(later.last(), Some(0));
    let is_behind = |held: &Arc<Held>| held.used.load(Ordering::Relaxed) != held.written.load(Ordering::Relaxed);
    assert!(!accounts.credentials("partner").iter().any(is_behind));
    accounts.held_key(&digests[0]).unwrap().note_use(NOW + 200 * MINUTE);
    assert_eq!(accounts.uses(NOW + 200 * MINUTE).len(), 1, "within a minute again");
}

#[test]
fn a_use_that_is_not_written_stays_due() {
    let accounts = Accounts::in_memory();
    let digests = many(&accounts, 1);
    accounts.uses_of("key:declared").note(NOW);
    accounts.held_key(&digests[0]).unwrap().note_use(NOW);
    // a change of its consumer is none of the use
    accounts.set_consumer(Consumer { name: "partner".to_owned(), disabled: true, created: NOW, ..Consumer::default() });
    let changes = accounts.uses(NOW);
    assert_eq!(changes.len(), 2);
    assert!(accounts.uses(NOW + MINUTE).is_empty());
    // as when the store fails
    accounts.count_again(&changes);
    assert_eq!(accounts.uses(NOW + 2 * MINUTE).len(), 2);
}

#[test]
fn what_is_not_written_is_when_the_process_ends() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let digests = many(&accounts, 25_000);
    let changes =
        accounts.credentials("partner").iter().map(|held| Change::Credential(held.credential.clone())).collect();
    let consumer = accounts.consumer("partner").unwrap();
    wait(accounts.write(vec![Change::Consumer(consumer)])).unwrap();
    wait(accounts.write(changes)).unwrap();
    digests.iter().for_each(|digest| accounts.held_key(digest).unwrap().note_use(NOW + MINUTE));
    wait(accounts.flush());
    drop(accounts);
    let again = folder.open(NOW);
    assert!(again.credentials("partner").iter().all(|held| held.last_use() == Some(NOW + MINUTE)));
}

#[test]
fn a_use_is_the_first_one_of_its_minute_whichever_way_the_clock_goes() {
    let accounts = Accounts::in_memory();
    let digests = many(&accounts, 1);
    for now in [NOW + 90 * MINUTE, NOW, NOW + MINUTE] {
        accounts.held_key(&digests[0]).unwrap().note_use(now);
        assert_eq!(accounts.key(&digests[0]).unwrap().last_use(), Some(now));
    }
}
