//! Consumers of the store that ask for logins of users.

use super::*;

fn consumer(disabled: bool) -> Consumer {
    let redirect_uris = vec!["https://app.example/cb".to_owned()];
    Consumer { name: "partner".to_owned(), redirect_uris, disabled, created: NOW, ..Consumer::default() }
}

fn secret(disabled: bool) -> Credential {
    Credential {
        id: "web".to_owned(),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Client,
        digest: digest(b"a secret"),
        label: String::new(),
        created: NOW,
        expires: None,
        disabled,
    }
}

/// A login of a user that came from this.
fn login(accounts: &Accounts, credential: &str) -> Result<Issued, Trouble> {
    wait(accounts.issue(None, Asked { consumer: false, credential: credential.into(), ..asked("ann") }, NOW))
}

#[test]
fn a_client_of_the_store_outlives_the_process_and_one_that_had_a_secret_is_none_without_one_any_more() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    wait(accounts.put_consumer(consumer(false), NOW)).unwrap();
    assert!(folder.open(NOW).consumer("partner").unwrap().is_public_client());
    wait(accounts.put_credential(secret(false), NOW)).unwrap();
    assert!(wait(accounts.revoke(&Revoked::Credential("web".to_owned()), None, NOW)).unwrap());
    // whoever changes it need not know
    wait(accounts.put_consumer(consumer(false), NOW)).unwrap();
    for accounts in [accounts, folder.open(NOW)] {
        let known = accounts.consumer("partner").unwrap();
        assert_eq!(known.redirect_uris, ["https://app.example/cb"]);
        assert!(accounts.client("web").is_none() && known.had_secret && !known.is_public_client());
    }
}

#[test]
fn a_store_of_a_version_that_knew_no_clients_opens_and_still_knows_who_had_a_secret() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    for name in ["partner", "other"] {
        wait(accounts.put_consumer(Consumer { name: name.to_owned(), ..consumer(false) }, NOW)).unwrap();
    }
    wait(accounts.put_credential(secret(false), NOW)).unwrap();
    wait(accounts.revoke(&Revoked::Credential("web".to_owned()), None, NOW)).unwrap();
    drop(accounts);
    let file = rusqlite::Connection::open(folder.0.join("daemun.db")).unwrap();
    let says = r#"{"roles": ["reader"], "groups": [], "tags": [], "scopes": ["read"]}"#;
    assert_eq!(file.execute("UPDATE consumers SET says = ?1", [says]).unwrap(), 2);
    let accounts = folder.open(NOW);
    let had_secret = |name: &str| {
        let known = accounts.consumer(name).unwrap();
        assert_eq!((known.roles.len(), known.scopes.len(), known.redirect_uris.len()), (1, 1, 0), "{name}");
        known.had_secret
    };
    assert!(had_secret("partner") && !had_secret("other"));
}

#[test]
fn logins_of_users_end_with_the_consumer_or_the_secret_of_the_client_that_asked() {
    let enabled = |accounts: &Accounts| wait(accounts.put_consumer(consumer(false), NOW)).unwrap();
    for credential in ["web", "consumer:partner"] {
        for removed in [false, true] {
            let folder = Folder::new();
            let accounts = folder.open(NOW);
            enabled(&accounts);
            if credential == "web" {
                wait(accounts.put_credential(secret(false), NOW)).unwrap();
            }
            let (issued, other) = (login(&accounts, credential).unwrap(), issue(&accounts, "bob", NOW));
            let is_good =
                |accounts: &Accounts, issued: &Issued| accounts.check(issued.access.as_bytes(), "shop", NOW).is_ok();
            assert!(is_good(&accounts, &issued) && is_good(&folder.open(NOW), &issued));
            match removed {
                true => assert!(wait(accounts.remove_consumer("partner", NOW)).unwrap()),
                false => wait(accounts.put_consumer(consumer(true), NOW)).unwrap(),
            }
            for accounts in [&accounts, &folder.open(NOW)] {
                assert!(!is_good(accounts, &issued) && is_good(accounts, &other), "{credential} {removed}");
                assert!(login(accounts, credential).is_err(), "{credential} {removed}");
            }
            if !removed {
                enabled(&accounts);
                assert!(!is_good(&accounts, &issued), "what has ended does not come back");
                let anew = login(&accounts, credential).unwrap();
                assert!(refresh(&accounts, refresh_text(&anew), NOW).is_ok(), "{credential}");
            }
        }
    }
    let accounts = Folder::new().open(NOW);
    enabled(&accounts);
    wait(accounts.put_credential(secret(false), NOW)).unwrap();
    let issued = login(&accounts, "web").unwrap();
    assert!(login(&accounts, "consumer:partner").is_err(), "it has a secret");
    wait(accounts.put_credential(secret(true), NOW)).unwrap();
    assert!(accounts.check(issued.access.as_bytes(), "shop", NOW).is_err() && login(&accounts, "web").is_err());
    wait(accounts.put_credential(secret(false), NOW)).unwrap();
    let issued = login(&accounts, "web").unwrap();
    assert!(refresh(&accounts, refresh_text(&issued), NOW).is_ok());
}
