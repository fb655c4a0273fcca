//! Clients that ask for logins of users: by what id each is known, and where browsers may be sent back to for it. Knows no login.

use std::collections::HashMap;

use daemun_accounts::consumer::Held;
use daemun_accounts::{Accounts, Consumer as Stored};
use daemun_config::model::CredentialName;
use daemun_pipeline::{ConsumerId, Directory, Identity};

use super::Tokens;
use super::login::Caller;

/// A client of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) consumer: ConsumerId,
    /// Whether it has a secret, which it then must show (RFC 6749, section 2.1).
    pub(super) is_confidential: bool,
}

/// All clients of a directory, by their ids, and usernames that are of none.
#[derive(Debug)]
pub(super) struct Clients(HashMap<Box<str>, Option<Client>>);

impl Clients {
    pub(super) fn new(directory: &Directory) -> Clients {
        let mut clients = HashMap::new();
        for (_, consumer) in directory.iter() {
            let disabled = consumer.terms.keys().filter_map(|name| match name {
                CredentialName::Basic(username) => Some(username),
                CredentialName::Key(_) | CredentialName::Signer(_) | CredentialName::Certificate(..) => None,
            });
            let usernames = consumer.basic.iter().map(|login| &login.username);
            for username in usernames.chain(disabled) {
                clients.entry(username.as_str().into()).or_insert(None);
            }
        }
        for (id, consumer) in directory.iter().filter(|(_, consumer)| !consumer.redirect_uris.is_empty()) {
            // one whose secrets are all disabled is no client without any
            let has_secret = consumer.terms.keys().any(|name| matches!(name, CredentialName::Basic(_)));
            if consumer.basic.is_empty() && !has_secret {
                clients.insert(consumer.name.as_str().into(), Some(Client { consumer: id, is_confidential: false }));
            }
            for login in &consumer.basic {
                clients.insert(login.username.as_str().into(), Some(Client { consumer: id, is_confidential: true }));
            }
        }
        Clients(clients)
    }

    pub(super) fn find(&self, id: &str) -> Option<Client> {
        self.0.get(id).copied().flatten()
    }

    /// Whether an id is one of the configuration, of a client that asks for logins or not.
    fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }
}

/// A client as it is at the time of a request.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: String,
    /// What logins that it asks for come from. No client of the store has that of one of the configuration, whatever its id.
    pub(super) credential: String,
    /// What its codes are bound to; as different.
    pub(super) bound: String,
    pub(super) consumer: Asking,
    pub(super) is_confidential: bool,
    pub(super) redirect_uris: Vec<String>,
    /// What its tokens may be for.
    pub(super) scopes: Vec<String>,
    /// Why it may not ask now.
    pub(super) refused: Option<&'static str>,
}

/// The consumer that a client is.
#[derive(Debug)]
pub(super) enum Asking {
    Declared(ConsumerId),
    Stored(String),
}

impl Tokens {
    /// The client of an id: of the configuration, or else of the store.
    pub(super) fn client(&self, id: &str, now: u64) -> Option<Known> {
        let (known, directory) = (&self.known_clients.value, &self.known_clients.directory);
        if !known.has(id) && directory.find(id).is_none() {
            return of_store(&self.accounts, directory, id, now);
        }
        let client = known.find(id)?;
        let consumer = directory.get(client.consumer)?;
        let credential = format!("client:{id}");
        let refused = if directory.is_cut_off(client.consumer) {
            Some("the client's consumer was disabled")
        } else {
            self.accounts.is_void(&credential).then_some("the client was revoked")
        };
        Some(Known {
            id: id.to_owned(),
            credential,
            bound: id.to_owned(),
            consumer: Asking::Declared(client.consumer),
            is_confidential: client.is_confidential,
            redirect_uris: consumer.redirect_uris.clone(),
            scopes: consumer.scopes.clone(),
            refused,
        })
    }

    /// Whether the configuration has a client's id, or the name of its consumer, for a consumer or a user: that is the configuration's alone,
    /// and what a client of the store had before is good for nothing.
    pub(super) fn is_of_file(&self, id: &str, held: &Held) -> bool {
        let (known, directory) = (&self.known_clients.value, &self.known_clients.directory);
        known.has(id) || directory.find(id).is_some() || directory.has_name(&held.credential.consumer)
    }

    /// The client that a login was for, if it is still there and the same.
    pub(super) fn client_of_login(&self, identity: &Identity, now: u64) -> Option<Known> {
        let credential = of_client(identity)?;
        // one of the store may have an id that begins so as well
        let ids = [credential.strip_prefix("client:"), credential.strip_prefix(Stored::NAMED), Some(credential)];
        ids.into_iter().flatten().find_map(|id| self.client(id, now).filter(|client| client.credential == credential))
    }
}

impl Tokens {
    /// Whether a login is a client's that has shown its secret: its own, or one of a user that was for a client of the same consumer.
    pub(super) fn is_of(&self, caller: &Caller, login: &Identity, now: u64) -> bool {
        let is_caller = |name: &str, is_declared: bool| name == &*caller.subject && is_declared == caller.consumer;
        is_caller(&login.subject, login.consumer.is_some())
            || self.client_of_login(login, now).is_some_and(|client| match client.consumer {
                Asking::Declared(id) => {
                    self.known_clients.directory.get(id).is_some_and(|consumer| is_caller(&consumer.name, true))
                }
                Asking::Stored(name) => is_caller(&name, false),
            })
    }
}

/// What a login came from that a client asked for; none of a login without a browser. A client that logs in for itself is the subject.
pub(super) fn of_client(identity: &Identity) -> Option<&str> {
    let credential = identity.credential.as_deref().filter(|_| identity.consumer.is_none())?;
    let is_clients = match credential.split_once(':') {
        Some((kind, _)) => kind == "client" || credential.starts_with(Stored::NAMED),
        // a client of the store is its own id
        None => true,
    };
    is_clients.then_some(credential)
}

/// The client of an id in the store: by the id of a secret, or by the name of a consumer that never had one.
fn of_store(accounts: &Accounts, directory: &Directory, id: &str, now: u64) -> Option<Known> {
    let held = accounts.client(id);
    let name = held.as_ref().map_or(id, |held| &held.credential.consumer);
    // what the configuration has of this name is all there is of it
    let consumer = accounts.consumer(name).filter(|_| !directory.has_name(name))?;
    if consumer.redirect_uris.is_empty() || held.is_none() && consumer.had_secret {
        return None;
    }
    let credential = if held.is_some() { id.to_owned() } else { Stored::named(id) };
    let refused = if consumer.disabled {
        Some("the client's consumer was disabled")
    } else if held.as_ref().is_some_and(|held| !held.is_good(now)) {
        Some("the client's secret was disabled or has ended")
    } else {
        accounts.is_void(&credential).then_some("the client was revoked")
    };
    Some(Known {
        id: id.to_owned(),
        // no name and no username has both a colon and a space
        bound: format!("store: {credential}"),
        credential,
        consumer: Asking::Stored(consumer.name),
        is_confidential: held.is_some(),
        redirect_uris: consumer.redirect_uris,
        scopes: consumer.scopes,
        refused,
    })
}

/// Whether a browser may be sent back there: to an address that is registered, whole (RFC 9700, section 2.1). The port of a program on the
/// user's own machine is its own to choose (RFC 8252, section 7.3).
pub(super) fn may_go_back(redirect_uris: &[String], redirect: &str) -> bool {
    redirect_uris
        .iter()
        .any(|known| known == redirect || without_port(known).is_some_and(|own| without_port(redirect) == Some(own)))
}

/// Origin without its port, and what stands behind it, of an address of the user's own machine.
fn without_port(uri: &str) -> Option<(&'static str, &str)> {
    ["http://127.0.0.1", "http://[::1]"].into_iter().find_map(|origin| {
        let behind = uri.strip_prefix(origin)?;
        let path = match behind.strip_prefix(':') {
            None => behind,
            Some(behind) => {
                let digits = behind.bytes().take_while(u8::is_ascii_digit).count();
                let (port, path) = behind.split_at_checked(digits)?;
                port.parse::<u16>().ok().filter(|port| *port > 0)?;
                path
            }
        };
        // anything else would go on with a name of another host
        (path.is_empty() || path.starts_with(['/', '?'])).then_some((origin, path))
    })
}

#[cfg(test)]
mod tests {
    use daemun_config::model::Terms;
    use daemun_pipeline::Consumer;

    use super::*;
    use crate::testing::{basic, consumer};

    fn client(name: &str, redirects: &[&str]) -> Consumer {
        let redirect_uris = redirects.iter().map(|uri| (*uri).to_owned()).collect();
        Consumer { redirect_uris, ..consumer(name, &[], &[]) }
    }

    #[test]
    fn a_client_with_a_secret_is_known_by_its_usernames_and_one_without_by_its_name() {
        let confidential = Consumer {
            basic: vec![basic("web", "secret"), basic("web-2", "secret")],
            ..client("shop", &["https://a/"])
        };
        let other = Consumer { basic: vec![basic("robot", "secret")], ..consumer("robots", &[], &[]) };
        let clients = Clients::new(&Directory::new(vec![confidential, client("spa", &["https://b/"]), other]));
        let found = |id: &str| clients.find(id).map(|client| (client.consumer.0, client.is_confidential));
        assert_eq!((found("web"), found("web-2"), found("spa")), (Some((0, true)), Some((0, true)), Some((1, false))));
        for nobody in ["shop", "robot", "robots", "SPA", ""] {
            assert_eq!(found(nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_client_whose_secrets_have_all_ended_does_not_become_one_without_any() {
        let with = |expires, disabled| {
            let said = Terms { expires, disabled, ..Terms::default() };
            let terms = [(CredentialName::Basic("web".to_owned()), said)].into_iter().collect();
            let basic = vec![basic("web", "secret")];
            Clients::new(&Directory::new(vec![Consumer { basic, terms, ..client("shop", &["https://a/"]) }]))
        };
        let (disabled, expired) = (with(None, true), with(Some(1), false));
        assert_eq!((disabled.find("shop"), disabled.find("web"), expired.find("shop")), (None, None, None));
        assert!(expired.find("web").is_some_and(|client| client.is_confidential));
    }

    #[test]
    fn an_address_is_the_registered_one_to_the_letter_but_for_the_port_of_the_users_own_machine() {
        let known =
            client("a", &["https://app.example/cb", "http://127.0.0.1/cb?x", "http://[::1]:9000", "com.example:/cb"]);
        for fine in [
            "https://app.example/cb",
            "http://127.0.0.1/cb?x",
            "http://127.0.0.1:1/cb?x",
            "http://127.0.0.1:65535/cb?x",
            "http://[::1]",
            "http://[::1]:51004",
            "com.example:/cb",
        ] {
            assert!(may_go_back(&known.redirect_uris, fine), "{fine}");
        }
        for bad in [
            "",
            "https://app.example/cb/",
            "https://app.example/cb?",
            "https://app.example/cb#x",
            "https://app.example:443/cb",
            "https://app.example/cb/../cb",
            "https://APP.example/cb",
            "https://app.example.evil.example/cb",
            "https://evil.example/?https://app.example/cb",
            "http://app.example/cb",
            "//app.example/cb",
            "http://127.0.0.1:0/cb?x",
            "http://127.0.0.1:65536/cb?x",
            "http://127.0.0.1:/cb?x",
            "http://127.0.0.1:80@evil.example/cb?x",
            "http://127.0.0.1.evil.example/cb?x",
            "http://127.0.0.1:1/cb",
            "http://127.0.0.1:1/cb?x#y",
            "https://127.0.0.1/cb?x",
            "http://localhost/cb?x",
            "http://[::1]:51004/",
            "com.example:/cb2",
        ] {
            assert!(!may_go_back(&known.redirect_uris, bad), "{bad}");
        }
        assert!(!may_go_back(&["http://localhost/cb".to_owned()], "http://localhost:80/cb"));
    }
}
