//! Consumers and credentials of the configuration.

use super::*;

#[test]
fn the_last_use_of_a_credential_of_the_configuration_is_there_again() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    accounts.uses_of("key:one").note(NOW);
    assert_eq!((accounts.last_use("key:one"), accounts.last_use("key:other")), (Some(NOW), None));
    // as the store's thread does now and then
    wait(accounts.write(accounts.uses(NOW + 60 * MINUTE))).unwrap();
    drop(accounts);
    let again = folder.open(NOW);
    assert_eq!((again.last_use("key:one"), again.last_use("key:other")), (Some(NOW), None));
    assert!(!again.is_void_credential("key:one"));
}

#[test]
fn logins_of_a_credential_that_the_configuration_has_no_more_end_until_it_has_it_again() {
    let accounts = Accounts::in_memory();
    let of = |key: &str, of: &str| (format!("key:{key}"), of.to_owned());
    let by = |key: &str| Asked { consumer: true, ..of_key("shop-app", key) };
    let one = wait(accounts.issue(None, by("key:one"), NOW)).unwrap();
    let other = wait(accounts.issue(None, by("key:other"), NOW)).unwrap();
    let of_store = wait(accounts.issue(None, of_key("partner", "key:x"), NOW)).unwrap();
    let good = || [&one, &other, &of_store].map(|issued| check(&accounts, issued, NOW).is_ok());
    assert_eq!(good(), [true; 3], "it is not known yet what the configuration has");
    accounts.declare([of("one", "shop-app"), of("other", "shop-app")], false);
    assert_eq!(good(), [true; 3]);
    accounts.declare([of("other", "shop-app")], true);
    assert_eq!(good(), [true; 3], "the configuration before is still in force");
    accounts.declare([of("other", "shop-app")], false);
    assert_eq!(good(), [false, true, true]);
    assert_eq!(refresh(&accounts, refresh_text(&one), NOW), Err(Refusal::Revoked.into()));
    accounts.declare([of("one", "shop-app"), of("other", "somebody-else")], false);
    assert_eq!(good(), [true, false, true], "one that is somebody else's now is not that one");
}

#[test]
fn a_consumer_that_is_disabled_is_cut_off_everywhere_and_stays_so() {
    let folder = Folder::new();
    let carry = Carry::default();
    let cut_off = CutOff::of(&carry);
    let accounts = Accounts::of(&carry);
    accounts.keep_in(folder.store(), || NOW, |what| panic!("{what}")).unwrap();
    let consumer = |disabled| Consumer { name: "shop-app".to_owned(), disabled, ..Consumer::default() };
    wait(accounts.put_consumer(consumer(true), NOW)).unwrap();
    assert!(cut_off.has("shop-app"));
    let later = Carry::default();
    let again = Accounts::of(&later);
    again.keep_in(folder.store(), || NOW, |what| panic!("{what}")).unwrap();
    assert!(CutOff::of(&later).has("shop-app"));
    wait(accounts.put_consumer(consumer(false), NOW)).unwrap();
    assert!(!cut_off.has("shop-app"));
}

#[test]
fn names_that_the_store_has_as_well_are_told_where_what_it_has_is_good_for_nothing() {
    let accounts = Accounts::in_memory();
    let taken = || accounts.names_taken(["shop-app", "cut-off", "plain"], ["ann", "bob"]);
    assert!(taken().is_empty());
    for name in ["partner", "shop-app", "cut-off", "bob"] {
        let consumer = Consumer { name: name.to_owned(), disabled: name == "cut-off", ..Consumer::default() };
        wait(accounts.put_consumer(consumer, NOW)).unwrap();
    }
    assert_eq!(taken(), ["bob"], "none of the others has a credential");
    for (id, name) in [("one", "shop-app"), ("other", "partner"), ("two", "shop-app")] {
        let credential = key_of(name, format!("key:{id}"), id.as_bytes());
        wait(accounts.put_credential(credential, NOW)).unwrap();
    }
    assert_eq!(taken(), ["bob", "shop-app"]);
    wait(accounts.remove_consumer("bob", NOW)).unwrap();
    for id in ["one", "two"] {
        assert_eq!(taken(), ["shop-app"]);
        wait(accounts.revoke(&Revoked::Credential(format!("key:{id}")), None, NOW)).unwrap();
    }
    assert!(taken().is_empty());
}
