//! Clients that are held in the store.

use daemun_config::model::PasswordHash;

use super::*;
use crate::testing::Bench;

const PARTNER: &str = "https://partner.example/cb";

/// A consumer of the store that asks for logins.
fn put(shop: &Shop, name: &str, disabled: bool) {
    let consumer = Stored {
        name: name.to_owned(),
        redirect_uris: vec![PARTNER.to_owned()],
        scopes: vec!["read".to_owned()],
        disabled,
        ..Stored::default()
    };
    wait(shop.accounts.put_consumer(consumer, NOW)).unwrap();
}

fn credential(id: &str, expires: Option<u64>, disabled: bool) -> Credential {
    Credential {
        id: id.to_owned(),
        consumer: "partner".to_owned(),
        kind: CredentialKind::Client,
        digest: daemun_accounts::text::digest(b"a secret"),
        label: String::new(),
        created: NOW,
        expires,
        disabled,
    }
}

fn give_secret(shop: &Shop, id: &str, disabled: bool) {
    wait(shop.accounts.put_credential(credential(id, None, disabled), NOW)).unwrap();
}

/// A client's id and secret in a header.
fn shows(id: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64.encode(format!("{id}:a+secret").as_bytes()))
}

fn refresh(told: &Value) -> Vec<(&str, &str)> {
    vec![("grant_type", "refresh_token"), ("refresh_token", text_of(told, "refresh_token"))]
}

fn may_ask(shop: &Shop, client: &str) -> bool {
    shop.authorize(&mut Browser::default(), &request(client, PARTNER)).status == 302
}

fn is_good(shop: &Shop, told: &Value) -> bool {
    shop.accounts.check(text_of(told, "access_token").as_bytes(), "shop", NOW).is_ok()
}

#[test]
fn a_client_of_the_store_without_a_secret_is_known_by_its_name_until_it_is_disabled() {
    let shop = Shop::new();
    assert!(!may_ask(&shop, "partner"));
    put(&shop, "partner", false);
    let got = shop.authorize(&mut Browser::default(), &request("partner", SPA));
    assert_eq!((got.status, got.cause.as_str()), (400, "the `redirect_uri` is none of the client's"));
    let got = shop.authorize(&mut Browser::default(), &(request("partner", PARTNER) + "&scope=write"));
    assert_eq!(got.parameter("error"), "invalid_scope");
    let code = shop.login("partner", PARTNER);
    assert_eq!(shop.redeem("", &public(&code, PARTNER, "spa"), 0).1, "invalid_grant");
    let (status, told) = shop.redeem("", &public(&code, PARTNER, "partner"), 0);
    assert_eq!((status, &told["scope"]), (200, &json!("read")), "{told}");
    assert_eq!(shop.redeem("", &[refresh(&told), vec![("client_id", "spa")]].concat(), 0).1, "invalid_grant");
    let (status, told) = shop.redeem("", &[refresh(&told), vec![("client_id", "partner")]].concat(), 0);
    assert_eq!(status, 200, "{told}");
    let (code, mut browser) = (shop.login("partner", PARTNER), Browser::default());
    let state = shop.begin(&mut browser, &request("partner", PARTNER));
    assert!(is_good(&shop, &told));
    put(&shop, "partner", true);
    assert!(!is_good(&shop, &told) && !may_ask(&shop, "partner"));
    let got = shop.back(&mut browser, &format!("code=abc&state={state}"));
    assert_eq!((got.status, got.cause.as_str()), (400, "the client's consumer was disabled"));
    assert_eq!(shop.redeem("", &public(&code, PARTNER, "partner"), 0), (401, json!("invalid_client")));
    assert_eq!(shop.redeem("", &refresh(&told), 0).1, "invalid_grant");
    put(&shop, "partner", false);
    assert!(may_ask(&shop, "partner") && !is_good(&shop, &told));
    assert_eq!(shop.redeem("", &refresh(&told), 0).1, "invalid_grant");
}

#[test]
fn a_client_of_the_store_with_a_secret_is_known_by_the_ids_of_its_secrets_alone_and_shows_them() {
    let shop = Shop::new();
    put(&shop, "partner", false);
    let code = shop.login("partner", PARTNER);
    for id in ["one", "two"] {
        give_secret(&shop, id, false);
    }
    assert_eq!(shop.redeem("", &public(&code, PARTNER, "partner"), 0), (401, json!("invalid_client")));
    assert!(!may_ask(&shop, "partner"), "it has secrets");
    let code = shop.login("one", PARTNER);
    assert_eq!(shop.redeem("", &public(&code, PARTNER, "one"), 0), (401, json!("invalid_client")));
    assert_eq!(shop.redeem(&shows("two"), &form(&code, PARTNER), 0).1, "invalid_grant");
    let (status, told) = shop.redeem(&shows("one"), &form(&code, PARTNER), 0);
    assert_eq!(status, 200, "{told}");
    let nameless = [refresh(&told), vec![("client_id", "one")]].concat();
    assert_eq!(shop.redeem("", &nameless, 0), (401, json!("invalid_client")));
    assert_eq!(shop.redeem(&shows("two"), &refresh(&told), 0).1, "invalid_grant");
    let (status, told) = shop.redeem(&shows("one"), &refresh(&told), 0);
    assert_eq!(status, 200, "{told}");
    let (_, other) = shop.redeem(&shows("two"), &form(&shop.login("two", PARTNER), PARTNER), 0);
    let late = shop.login("one", PARTNER);
    give_secret(&shop, "one", true);
    assert!(!is_good(&shop, &told) && is_good(&shop, &other));
    assert!(!may_ask(&shop, "one") && may_ask(&shop, "two"));
    assert_eq!(shop.redeem(&shows("one"), &form(&late, PARTNER), 0), (401, json!("invalid_client")));
    wait(shop.accounts.revoke(&Revoked::Credential("two".to_owned()), None, NOW)).unwrap();
    assert!(!is_good(&shop, &other));
    wait(shop.accounts.put_credential(credential("one", Some(NOW), false), NOW)).unwrap();
    for nobody in ["partner", "one", "two"] {
        assert!(!may_ask(&shop, nobody), "{nobody}");
    }
}

#[test]
fn what_the_configuration_has_is_never_a_client_of_the_store() {
    let mut shop = Shop::new();
    let names = ["partner", "spa", "plain", "web-shop"];
    names.iter().for_each(|name| put(&shop, name, false));
    give_secret(&shop, "web", false);
    for id in ["spa", "plain", "web-shop", "web", "partner"] {
        assert!(!may_ask(&shop, id), "{id}");
    }
    // of the same id and address, one after the other
    give_secret(&shop, "later", false);
    let both = vec!["https://partner.example/cb".to_owned()];
    let (code, (_, told)) =
        (shop.login("later", PARTNER), shop.redeem(&shows("later"), &form(&shop.login("later", PARTNER), PARTNER), 0));
    let own = Consumer {
        basic: vec![basic("later", "another secret")],
        redirect_uris: both,
        scopes: vec!["read".to_owned()],
        ..consumer("later-shop", &[], &[])
    };
    shop.bed.bench.directory = Arc::new(Directory::new([clients(), vec![own]].concat()));
    let token = shop.bed.bench.build("tokens: shop").unwrap();
    let header = format!("Authorization: Basic {}\r\n", BASE64.encode(b"later:another+secret"));
    for (fields, is_file) in [(header.as_str(), true), (shows("later").as_str(), false)] {
        let (status, why) = ask(&token, fields, &pairs(&form(&code, PARTNER)), 0);
        assert!(status >= 400, "{why} {is_file}");
        let (status, why) = ask(&token, fields, &pairs(&refresh(&told)), 0);
        assert!(status >= 400, "{why} {is_file}");
    }
    assert_eq!(shop.redeem(&shows("later"), &refresh(&told), 0).0, 200, "where the configuration does not have it");
}

#[test]
fn a_scope_that_was_taken_from_a_client_of_the_store_is_gone_from_what_it_is_given_next() {
    let shop = Shop::new();
    put(&shop, "partner", false);
    give_secret(&shop, "one", false);
    let (status, told) = shop.redeem(&shows("one"), &form(&shop.login("one", PARTNER), PARTNER), 0);
    assert_eq!(status, 200, "{told}");
    let scopes = shop.accounts.check(text_of(&told, "access_token").as_bytes(), "shop", NOW).unwrap();
    assert_eq!((&*scopes.subject, scopes.credential.as_deref()), ("ann", Some("one")));
    let none = Stored { scopes: Vec::new(), ..shop.accounts.consumer("partner").unwrap() };
    wait(shop.accounts.put_consumer(none, NOW)).unwrap();
    let (status, told) = shop.redeem(&shows("one"), &refresh(&told), 0);
    assert_eq!((status, told.get("scope")), (200, None), "what was taken from the client is gone: {told}");
}

/// Whether introspection says that a token is active.
fn is_active(shop: &Shop, told: &Value, kind: &str) -> bool {
    let introspect = "{ basic_auth: {}, tokens: { service: shop, endpoint: introspect } }";
    let asks = format!("Authorization: Basic {}\r\n", BASE64.encode(b"other:other secret"));
    let (status, told) =
        ask(&shop.bed.bench.build(introspect).unwrap(), &asks, &pairs(&[("token", text_of(told, kind))]), 0);
    assert_eq!(status, 200, "{told}");
    told["active"] == true
}

#[test]
fn a_refresh_token_that_would_be_refused_is_told_as_inactive() {
    let mut shop = Shop::new();
    put(&shop, "partner", false);
    let (_, told) = shop.redeem("", &public(&shop.login("partner", PARTNER), PARTNER, "partner"), 0);
    assert!(is_active(&shop, &told, "refresh_token"));
    // from now on it is known by that alone
    give_secret(&shop, "one", false);
    assert_eq!(shop.redeem("", &refresh(&told), 0), (400, json!("invalid_grant")));
    assert!(!is_active(&shop, &told, "refresh_token"));
    assert!(is_active(&shop, &told, "access_token") && is_good(&shop, &told), "that ends by itself");
    let (_, told) = shop.redeem(&shows("one"), &form(&shop.login("one", PARTNER), PARTNER), 0);
    assert!(is_active(&shop, &told, "refresh_token"));
    // the configuration has the id, or the user's name, from now on
    let named = |name: &str| consumer(name, &[], &[]);
    for (taken, access) in [(named("one"), true), (named("partner"), true), (named("ann"), false)] {
        let what = taken.name.clone();
        shop.bed.bench.directory = Arc::new(Directory::new([clients(), vec![taken]].concat()));
        let token = shop.bed.bench.build("tokens: shop").unwrap();
        assert!(ask(&token, &shows("one"), &pairs(&refresh(&told)), 0).0 >= 400, "{what}");
        assert!(!is_active(&shop, &told, "refresh_token"), "{what}");
        assert_eq!(is_active(&shop, &told, "access_token"), access, "{what}");
    }
    shop.bed.bench.directory = Arc::new(Directory::new(clients()));
    assert!(is_active(&shop, &told, "refresh_token"));
    let expired = credential("one", Some(NOW), false);
    wait(shop.accounts.put_credential(expired, NOW)).unwrap();
    assert!(!is_active(&shop, &told, "refresh_token"));
}

#[test]
fn a_client_revokes_what_it_was_given_with_its_secret_where_nobody_else_is_asked_for() {
    let shop = Shop::new();
    put(&shop, "partner", false);
    give_secret(&shop, "one", false);
    let chain = shop.bed.bench.build("tokens: { service: shop, endpoint: revoke }").unwrap();
    let web = "Authorization: Basic d2ViOndlYitzZWNyZXQlM0ErMQ==\r\n".to_owned();
    let other = format!("Authorization: Basic {}\r\n", BASE64.encode(b"other:other+secret"));
    let in_form = [("client_id", "one"), ("client_secret", "a secret")];
    let (wrong, one) = (shows("one").replace("Basic b", "Basic c"), shows("one"));
    let revoke = |fields: &str, told: &Value, more: &[(&str, &str)]| {
        let answer = ask(&chain, fields, &pairs(&[&[("token", text_of(told, "access_token"))], more].concat()), 0);
        (answer, is_good(&shop, told))
    };
    let told = |id: &str, fields: &str, redirect: &str| {
        let (status, told) = shop.redeem(fields, &form(&shop.login(id, redirect), redirect), 0);
        assert_eq!(status, 200, "{told}");
        told
    };
    let (of_store, of_file) = (told("one", &one, PARTNER), told("web", &web, WEB));
    let (unknown, done) = ((401, json!("invalid_client")), (200, json!({})));
    for (fields, more) in [
        (wrong.as_str(), &[][..]),
        ("Authorization: Basic !!\r\n", &[]),
        ("", &[("client_id", "one"), ("client_secret", "another")]),
        ("", &[("client_secret", "a secret")]),
    ] {
        assert_eq!(revoke(fields, &of_store, more), (unknown.clone(), true), "{fields} {more:?}");
    }
    let twice = revoke(&one, &of_store, &in_form);
    assert_eq!(twice, ((400, json!("invalid_request")), true));
    // another's, of the store and of the file
    for (fields, told) in [(&one, &of_file), (&other, &of_file), (&web, &of_store), (&other, &of_store)] {
        assert_eq!(revoke(fields, told, &[]), (done.clone(), true), "{fields}");
    }
    assert_eq!(revoke(&one, &of_store, &[]), (done.clone(), false));
    assert_eq!(revoke(&web, &of_file, &[]), (done.clone(), false));
    assert_eq!(revoke("", &told("one", &one, PARTNER), &in_form), (done.clone(), false));
    // who shows nothing has the token, and nothing is said of what is no client's
    assert_eq!(revoke("Authorization: Bearer x\r\n", &told("one", &one, PARTNER), &[]), (done, false));
    let late = told("one", &one, PARTNER);
    wait(shop.accounts.put_credential(credential("one", Some(NOW), false), NOW)).unwrap();
    assert_eq!(revoke(&one, &late, &[]), (unknown, true));
}

#[test]
fn a_client_of_the_store_revokes_what_it_holds_and_what_was_given_through_it_and_nothing_else() {
    let grants = vec![GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];
    let shop = Shop::with(Bed::new(), TokenService { grants, ..service() }, clients(), true);
    put(&shop, "partner", false);
    give_secret(&shop, "one", false);
    put(&shop, "rival", false);
    let rivals = Credential { consumer: "rival".to_owned(), ..credential("theirs", None, false) };
    wait(shop.accounts.put_credential(rivals, NOW)).unwrap();
    let own = |id: &str| {
        let (status, told) = shop.redeem(&shows(id), &[("grant_type", "client_credentials")], 0);
        assert_eq!(status, 200, "{told}");
        told
    };
    let users = |id: &str| {
        let (status, told) = shop.redeem(&shows(id), &form(&shop.login(id, PARTNER), PARTNER), 0);
        assert_eq!(status, 200, "{told}");
        told
    };
    // a client of the store shows that it is one by a token of its own
    let chain = shop.bed.bench.build("{ token_auth: {}, tokens: { service: shop, endpoint: revoke } }").unwrap();
    let revoke = |by: &Value, token: &str| {
        let by = format!("Authorization: Bearer {}\r\n", text_of(by, "access_token"));
        ask(&chain, &by, &pairs(&[("token", token)]), 0)
    };
    let (mine, theirs) = (own("one"), own("theirs"));
    for (told, is_login) in [(own("one"), false), (users("one"), true)] {
        let access = text_of(&told, "access_token");
        assert_eq!(revoke(&theirs, access), (200, json!({})), "as of a token that nobody has (RFC 7009, section 2.2)");
        assert!(is_good(&shop, &told), "of another client");
        assert_eq!(revoke(&mine, access), (200, json!({})));
        assert!(!is_good(&shop, &told));
        if is_login {
            assert_eq!(shop.redeem(&shows("one"), &refresh(&told), 0).0, 200, "an access token goes alone");
        }
    }
    let whole = users("one");
    assert_eq!(revoke(&theirs, text_of(&whole, "refresh_token")), (200, json!({})));
    assert!(is_good(&shop, &whole));
    assert_eq!(revoke(&mine, text_of(&whole, "refresh_token")), (200, json!({})));
    assert!(!is_good(&shop, &whole), "a refresh token goes with all of its login");
    let kept = users("theirs");
    put(&shop, "partner", true);
    assert_eq!(revoke(&mine, text_of(&kept, "access_token")).0, 401, "who is disabled may not ask");
    assert_eq!(revoke(&mine, text_of(&mine, "access_token")).0, 401);
    assert!(is_good(&shop, &kept) && is_good(&shop, &theirs));
}

#[test]
fn a_client_that_another_process_has_disabled_is_given_nothing_for_a_code() {
    let folder = std::env::temp_dir().join(format!("daemun-clients-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let store = || Box::new(Sqlite::open(&folder.join("daemun.db"), Durability::Process).unwrap());
    let shop = Shop::new();
    shop.accounts.keep_in(store(), || NOW, |what| panic!("{what}")).unwrap();
    let other = Arc::new(Accounts::in_memory());
    other.keep_in(store(), || NOW, |what| panic!("{what}")).unwrap();
    put(&shop, "partner", false);
    give_secret(&shop, "one", false);
    let code = shop.login("one", PARTNER);
    wait(other.look());
    let disabled = Stored { disabled: true, ..other.consumer("partner").unwrap() };
    wait(other.put_consumer(disabled, NOW)).unwrap();
    // which of both it is depends on whether it was known before the code was looked at
    let told = shop.redeem(&shows("one"), &form(&code, PARTNER), 0);
    assert!([(401, json!("invalid_client")), (400, json!("invalid_grant"))].contains(&told), "{told:?}");
    assert_eq!(
        shop.redeem(&shows("one"), &form(&code, PARTNER), 0),
        (401, json!("invalid_client")),
        "and is from now on"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The configuration, with a user of this name as well.
fn name_user(shop: &mut Shop, name: &str) {
    let hash = PasswordHash::make(b"a password", &[7; 16]).unwrap().text();
    let bench = std::mem::replace(&mut shop.bed.bench, Bench::new(Vec::new()));
    shop.bed.bench = bench.with_users(clients(), &format!("- {{ name: {name}, password: \"{hash}\" }}"));
    let chain = |endpoint: &str| format!("tokens: {{ service: shop, endpoint: {endpoint} }}");
    shop.authorize = shop.bed.bench.build(&chain("authorize")).unwrap();
    shop.token = shop.bed.bench.build(&chain("token")).unwrap();
}

#[test]
fn a_client_of_the_store_whose_consumer_has_the_name_of_a_user_asks_for_no_login_and_has_no_more_tokens() {
    for is_confidential in [false, true] {
        let mut shop = Shop::new();
        put(&shop, "partner", false);
        let (id, fields, named) = match is_confidential {
            true => ("one", shows("one"), vec![]),
            false => ("partner", String::new(), vec![("client_id", "partner")]),
        };
        if is_confidential {
            give_secret(&shop, id, false);
        }
        let redeem = |shop: &Shop, code: &str| shop.redeem(&fields, &[form(code, PARTNER), named.clone()].concat(), 0);
        let (status, told) = redeem(&shop, &shop.login(id, PARTNER));
        assert_eq!(status, 200, "{told}");
        let late = shop.login(id, PARTNER);
        assert!(may_ask(&shop, id) && is_active(&shop, &told, "refresh_token"));
        name_user(&mut shop, "partner");
        assert!(!may_ask(&shop, id), "{id}");
        assert_eq!(redeem(&shop, &late), (401, json!("invalid_client")), "{id}");
        assert!(!is_active(&shop, &told, "refresh_token"), "{id}");
        assert!(shop.redeem(&fields, &[refresh(&told), named.clone()].concat(), 0).0 >= 400, "{id}");
        name_user(&mut shop, "somebody");
        assert!(may_ask(&shop, id) && is_active(&shop, &told, "refresh_token"), "{id}");
        // and who logged in for it has that user's name
        assert!(is_active(&shop, &told, "access_token"));
        name_user(&mut shop, "ann");
        assert!(!is_active(&shop, &told, "access_token"), "{id}");
    }
}
