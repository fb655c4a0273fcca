//! What one process does while another has the same store open, or somebody else does something at the same time.

use super::*;

#[test]
fn a_token_that_another_process_gave_out_a_moment_ago_is_revoked_when_that_is_asked() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    for _ in 0..20 {
        let issued = issue(&one, "app", NOW);
        assert_eq!(wait(other.revoke(&Revoked::Token(issued.access.clone()), None, NOW)), Ok(true));
        wait(one.look());
        assert_eq!(check(&one, &issued, NOW), Err(Refusal::Revoked));
        let whole = Revoked::Token(refresh_text(&issued).to_owned());
        assert_eq!(wait(other.revoke(&whole, None, NOW)), Ok(true));
        wait(one.look());
        assert_eq!(refresh(&one, refresh_text(&issued), NOW), Err(Refusal::Revoked.into()));
    }
}

#[test]
fn a_login_that_begins_while_its_consumer_is_taken_away_ends_with_it() {
    let folder = Folder::new();
    let (one, other) = (folder.open(NOW), folder.open(NOW));
    partner(&one, "app", &[], &["read", "write"]);
    wait(other.look());
    assert_eq!(wait(one.remove_consumer("app", NOW)), Ok(true));
    // its key was looked at before that, and what it is given comes behind it
    assert_eq!(wait(one.issue(None, of_key("app", "key:app"), NOW + 2)), Err(Refusal::Revoked.into()));
    // another process hears of it later, and what it has given out by then is not gone on with: here, there, and after a restart
    let issued = wait(other.issue(None, of_key("app", "key:app"), NOW + 3));
    for accounts in [&one, &other, &folder.open(NOW + 4)] {
        wait(accounts.look());
        if let Ok(issued) = &issued {
            assert_eq!(refresh(accounts, refresh_text(issued), NOW + 4), Err(Refusal::Revoked.into()));
        }
    }
}

#[test]
fn a_token_is_not_said_to_be_none_while_another_process_may_have_given_it_out() {
    let (fails, accounts) = (Arc::new(Mutex::new(false)), Arc::new(Accounts::in_memory()));
    accounts.keep_in(Box::new(Failing(Arc::clone(&fails))), || NOW, |_| {}).unwrap();
    let text = Prefix::Access.make().unwrap();
    assert_eq!(wait(accounts.revoke(&Revoked::Token(text.clone()), None, NOW)), Ok(false));
    *fails.lock().unwrap() = true;
    assert!(matches!(wait(accounts.revoke(&Revoked::Token(text), None, NOW)), Err(Trouble::Store(_))));
}

/// A store that takes nothing before it is let go on.
struct Slow(std::sync::mpsc::Receiver<()>);

impl Store for Slow {
    fn apply(&mut self, asked: &[&[Change]]) -> Result<Vec<bool>, StoreError> {
        let _ = self.0.recv();
        Ok(vec![true; asked.len()])
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
fn nothing_is_left_of_a_login_whose_client_has_gone() {
    let (go_on, waits) = std::sync::mpsc::sync_channel(1);
    let accounts = Arc::new(Accounts::in_memory());
    accounts.keep_in(Box::new(Slow(waits)), || NOW, |what| panic!("{what}")).unwrap();
    {
        let mut asked = pin!(accounts.issue(None, asked("app"), NOW));
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!((accounts.grants.pin().len(), accounts.tokens_of("app")), (1, 2));
    }
    assert_eq!((accounts.grants.pin().len(), accounts.tokens_of("app"), accounts.tokens()), (0, 0, 0));
    drop(go_on);
}

#[test]
fn who_had_the_name_of_a_new_consumer_has_no_token_any_more() {
    let folder = Folder::new();
    let accounts = folder.open(NOW);
    let ann = Asked { consumer: false, credential: "ldap:ann".into(), ..asked("ann") };
    let issued = wait(accounts.issue(None, ann, NOW)).unwrap();
    partner(&accounts, "ben", &[], &["read", "write"]);
    assert!(check(&accounts, &issued, NOW + 1).is_ok());
    partner(&accounts, "ann", &[], &["read", "write"]);
    let own = wait(accounts.issue(None, of_key("ann", "key:ann"), NOW + 1)).unwrap();
    // changed, it keeps what it has
    wait(accounts.put_consumer(Consumer { roles: vec!["a".to_owned()], ..accounts.consumer("ann").unwrap() }, NOW + 2))
        .unwrap();
    for accounts in [&accounts, &folder.open(NOW + 2)] {
        assert_eq!(check(accounts, &issued, NOW + 2), Err(Refusal::Revoked));
        assert_eq!(refresh(accounts, refresh_text(&issued), NOW + 2), Err(Refusal::Revoked.into()));
        assert!(check(accounts, &own, NOW + 2).is_ok());
    }
}
