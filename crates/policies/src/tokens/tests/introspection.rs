//! What is told of a token is what becomes of it where it is used.

use daemun_config::model::{CredentialName, Terms};

use super::*;

/// The only key of the consumer `partner`, in the file or in the store.
const PARTNERS: &str = "dmn_partner-key-0001";
const ID: &str = "key:1";
/// When a key that ends has ended, and tokens that were given for it before have not.
const LATE: u64 = 60_000;

/// What becomes of a key that tokens were given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Good,
    Expired,
    Disabled,
    Removed,
    Revoked,
    ConsumerDisabled,
    ConsumerRemoved,
}

const ALL: [Then; 7] = [
    Then::Good,
    Then::Expired,
    Then::Disabled,
    Then::Removed,
    Then::Revoked,
    Then::ConsumerDisabled,
    Then::ConsumerRemoved,
];

/// A gateway whose consumer `partner` has a key.
struct Shop {
    bench: Bench,
    accounts: Arc<Accounts>,
    in_file: bool,
}

impl Shop {
    fn new(in_file: bool, ends: bool) -> Shop {
        let (bench, accounts) = bench();
        let mut shop = Shop { bench, accounts, in_file };
        if in_file {
            let terms = Terms { expires: ends.then_some(NOW + LATE), ..Terms::default() };
            shop.declare(Some((&[PARTNERS], terms)));
        } else {
            shop.declare(None);
            let stored = Stored { name: "partner".to_owned(), ..Stored::default() };
            wait(shop.accounts.put_consumer(stored, NOW)).unwrap();
            shop.put_key(ends, false);
        }
        shop
    }

    /// Has another configuration run, as a reload does: with this consumer, beside the one who asks what tokens stand for.
    fn declare(&mut self, partner: Option<(&[&str], Terms)>) {
        let mut all = vec![consumer("shop-app", &["buyer"], &[KEY])];
        if let Some((keys, terms)) = partner {
            let name = CredentialName::Key(text::digest(PARTNERS.as_bytes()));
            all.push(Consumer { terms: [(name, terms)].into_iter().collect(), ..consumer("partner", &[], keys) });
        }
        let logins = all.iter().flat_map(|consumer| {
            consumer.keys.iter().map(|digest| (CredentialName::Key(*digest).id(), consumer.name.clone()))
        });
        self.accounts.declare(logins.collect::<Vec<_>>(), false);
        let cut_off = daemun_pipeline::CutOff::of(&self.bench.carry);
        self.bench.directory = Arc::new(Directory::new(all).with_cut_off(cut_off));
    }

    fn put_key(&self, ends: bool, disabled: bool) {
        let credential = Credential {
            id: ID.to_owned(),
            consumer: "partner".to_owned(),
            kind: CredentialKind::Key,
            digest: text::digest(PARTNERS.as_bytes()),
            label: String::new(),
            created: NOW,
            expires: ends.then_some(NOW + LATE),
            disabled,
        };
        wait(self.accounts.put_credential(credential, NOW)).unwrap();
    }

    fn come_to(&mut self, then: Then) {
        let id = if self.in_file { text::id_of("key", &text::digest(PARTNERS.as_bytes())) } else { ID.to_owned() };
        let disabled = Stored { name: "partner".to_owned(), disabled: true, ..Stored::default() };
        match then {
            Then::Good | Then::Expired => {}
            Then::Revoked => drop(wait(self.accounts.revoke(&Revoked::Credential(id), None, NOW)).unwrap()),
            Then::ConsumerDisabled => wait(self.accounts.put_consumer(disabled, NOW)).unwrap(),
            Then::Disabled if self.in_file => {
                self.declare(Some((&[], Terms { disabled: true, ..Terms::default() })));
            }
            Then::Removed if self.in_file => self.declare(Some((&["another-key-000001"], Terms::default()))),
            Then::ConsumerRemoved if self.in_file => self.declare(None),
            Then::Disabled => self.put_key(false, true),
            Then::Removed => drop(wait(self.accounts.revoke(&Revoked::Credential(id), None, NOW)).unwrap()),
            Then::ConsumerRemoved => drop(wait(self.accounts.remove_consumer("partner", NOW)).unwrap()),
        }
    }

    fn told(&self, text: &str) -> Value {
        let asks = "{ key_auth: { header: X-Api-Key }, tokens: { service: shop, endpoint: introspect } }";
        ask(&self.bench.build(asks).unwrap(), &format!("X-Api-Key: {KEY}\r\n"), &format!("token={text}"), LATE).1
    }

    /// Whether a token is told to be good, and whether its use comes to what it is for.
    fn told_and_used(&self, access: &str, refresh: &str) -> [(bool, bool); 2] {
        let told = [access, refresh].map(|text| self.told(text)["active"] == true);
        let calls = self.bench.build("token_auth: {}").unwrap();
        let mut exchange =
            calls.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {access}\r\n\r\n"));
        exchange.wall = (NOW + LATE) * 1_000_000;
        let calls = calls.status(&mut exchange) == 0;
        let body = format!("grant_type=refresh_token&refresh_token={refresh}");
        let refreshes = ask(&self.bench.build("tokens: shop").unwrap(), "", &body, LATE).0 == 200;
        [(told[0], calls), (told[1], refreshes)]
    }
}

#[test]
fn a_token_is_told_to_be_what_becomes_of_it_whatever_becomes_of_the_key_it_was_given_for() {
    for (in_file, then) in ALL.into_iter().flat_map(|then| [(true, then), (false, then)]) {
        let mut shop = Shop::new(in_file, then == Then::Expired);
        let told = token(&shop.bench.build("tokens: shop").unwrap(), &format!("X-Api-Key: {PARTNERS}\r\n"), "");
        shop.come_to(then);
        let [access, refresh] = shop.told_and_used(text_of(&told, "access_token"), text_of(&told, "refresh_token"));
        // what has ended gives no more, and what it gave before ends by itself
        let wanted = (matches!(then, Then::Good | Then::Expired), then == Then::Good);
        assert_eq!((access.1, refresh.1), wanted, "what is used: {then:?}, in the file: {in_file}");
        assert_eq!((access.0, refresh.0), wanted, "what is told: {then:?}, in the file: {in_file}");
    }
}

#[test]
fn a_refresh_token_that_a_service_takes_no_more_is_told_to_be_no_good() {
    let mut shop = Shop::new(true, false);
    let told = token(&shop.bench.build("tokens: shop").unwrap(), &format!("X-Api-Key: {PARTNERS}\r\n"), "");
    shop.bench.token_services[0].grants.retain(|grant| *grant != daemun_config::model::GrantType::RefreshToken);
    let used = shop.told_and_used(text_of(&told, "access_token"), text_of(&told, "refresh_token"));
    assert_eq!(used, [(true, true), (false, false)]);
}

#[test]
fn a_refresh_token_is_told_with_the_scopes_that_are_left_of_it() {
    let (mut bench, accounts) = bench();
    let told = token(&bench.build("tokens: shop").unwrap(), &format!("X-Api-Key: {KEY}\r\n"), "");
    let less = Consumer { scopes: vec!["read".to_owned()], ..consumer("shop-app", &["buyer"], &[KEY]) };
    bench.directory = Arc::new(Directory::new(vec![less]));
    let shop = Shop { bench, accounts, in_file: true };
    assert_eq!(shop.told(text_of(&told, "refresh_token"))["scope"], "read");
    assert_eq!(shop.told(text_of(&told, "access_token"))["scope"], "read write", "it is what it was given for");
}
