//! Clients that ask for logins of users: by what id each is known, and where browsers may be sent back to for it. Knows no login.

use std::collections::HashMap;

use daemun_config::model::CredentialName;
use daemun_pipeline::{Consumer, ConsumerId, Directory};

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) consumer: ConsumerId,
    /// Whether it has a secret, which it then must show (RFC 6749, section 2.1).
    pub(super) is_confidential: bool,
}

/// All clients of a directory, by their ids.
#[derive(Debug)]
pub(super) struct Clients(HashMap<Box<str>, Client>);

impl Clients {
    pub(super) fn new(directory: &Directory) -> Clients {
        let mut clients = HashMap::new();
        for (id, consumer) in directory.iter().filter(|(_, consumer)| !consumer.redirect_uris.is_empty()) {
            // one whose secrets are all disabled is no client without any
            let has_secret = consumer.terms.keys().any(|name| matches!(name, CredentialName::Basic(_)));
            if consumer.basic.is_empty() && !has_secret {
                clients.insert(consumer.name.as_str().into(), Client { consumer: id, is_confidential: false });
            }
            for login in &consumer.basic {
                clients.insert(login.username.as_str().into(), Client { consumer: id, is_confidential: true });
            }
        }
        Clients(clients)
    }

    pub(super) fn find(&self, id: &str) -> Option<Client> {
        self.0.get(id).copied()
    }
}

/// Whether a browser may be sent back there: to an address that is registered, whole (RFC 9700, section 2.1). The port of a program on the
/// user's own machine is its own to choose (RFC 8252, section 7.3).
pub(super) fn may_go_back(consumer: &Consumer, redirect: &str) -> bool {
    consumer
        .redirect_uris
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
            assert!(may_go_back(&known, fine), "{fine}");
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
            assert!(!may_go_back(&known, bad), "{bad}");
        }
        assert!(!may_go_back(&client("b", &["http://localhost/cb"]), "http://localhost:80/cb"));
    }
}
