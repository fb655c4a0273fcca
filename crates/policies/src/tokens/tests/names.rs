//! Names that two have, in the configuration and in the store, and what is asked for twice.

use daemun_config::model::PasswordHash;

use super::*;

const WEB: &str = "grant_type=client_credentials&client_id=billing-web&client_secret=dms_secret";
const HELD: &str = "X-Api-Key: dmn_held\r\n";

/// With `payments` in the store, which has a key and the client `billing-web`.
fn with_payments() -> (Bench, Arc<Accounts>) {
    let (bench, accounts) = bench();
    let payments = Stored { name: "payments".to_owned(), scopes: vec!["read".to_owned()], ..Stored::default() };
    hold(&accounts, payments, "dmn_held", "billing-web");
    (bench, accounts)
}

/// The configuration, with one more consumer.
fn with(bench: &mut Bench, one: Option<Consumer>) {
    let other = consumer("b", &[], &["other-key-00000001"]);
    bench.directory = Arc::new(Directory::new([vec![other], one.into_iter().collect()].concat()));
}

fn is_active(bench: &Bench, told: &Value, kind: &str) -> bool {
    let introspect = "{ key_auth: { header: X-Api-Key }, tokens: { service: shop, endpoint: introspect } }";
    let body = format!("token={}", text_of(told, kind));
    let (status, told) = ask(&bench.build(introspect).unwrap(), "X-Api-Key: other-key-00000001\r\n", &body, 0);
    assert_eq!(status, 200, "{told}");
    told["active"] == true
}

#[test]
fn who_is_called_like_a_consumer_of_the_configuration_is_given_nothing_in_its_name() {
    let (mut bench, _accounts) = with_payments();
    let chain = bench.build("tokens: shop").unwrap();
    let (of_key, of_client) = (token(&chain, HELD, ""), token(&chain, "", WEB));
    let refresh = format!("grant_type=refresh_token&refresh_token={}", text_of(&of_key, "refresh_token"));
    let all = [(&of_key, "access_token"), (&of_key, "refresh_token"), (&of_client, "access_token")];
    let opens = |bench: &Bench, token: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
        let chain = bench.build("token_auth: {}").unwrap();
        let mut exchange = chain.exchange(&request);
        exchange.wall = NOW * 1_000_000;
        chain.status(&mut exchange) == 0
    };
    // in the configuration from now on, with more rights than it has here
    with(&mut bench, Some(consumer("payments", &["admin"], &["a-key-of-the-file"])));
    let chain = bench.build("tokens: shop").unwrap();
    for (fields, body, status, error) in
        [(HELD, "", 401, "invalid_client"), ("", WEB, 401, "invalid_client"), ("", &refresh, 400, "invalid_grant")]
    {
        assert_eq!(ask(&chain, fields, body, 0), (status, json!(error)), "{fields} {body}");
    }
    let why = "the configuration has the name of the key's consumer";
    assert_eq!(refusal(&chain, HELD, "").2, why);
    for (told, kind) in all {
        assert!(!is_active(&bench, told, kind), "{kind}");
    }
    assert!(!opens(&bench, text_of(&of_key, "access_token")));
    token(&chain, "X-Api-Key: a-key-of-the-file\r\n", "");
    // and not any more
    with(&mut bench, None);
    for (told, kind) in all {
        assert!(is_active(&bench, told, kind), "{kind}");
    }
    assert!(opens(&bench, text_of(&of_key, "access_token")));
    let chain = bench.build("tokens: shop").unwrap();
    for (fields, body) in [(HELD, ""), ("", WEB), ("", &refresh)] {
        token(&chain, fields, body);
    }
}

#[test]
fn who_is_called_like_a_user_of_the_configuration_is_given_nothing_in_its_name() {
    let (bench, _accounts) = with_payments();
    let chain = bench.build("tokens: shop").unwrap();
    let refresh_text =
        |told: &Value| format!("grant_type=refresh_token&refresh_token={}", text_of(told, "refresh_token"));
    let (first, second) = (token(&chain, HELD, ""), token(&chain, HELD, ""));
    let hash = PasswordHash::make(b"a password", &[7; 16]).unwrap().text();
    let user = |name: &str| format!("- {{ name: {name}, password: \"{hash}\" }}");
    let bench = bench.with_users(vec![consumer("b", &[], &["other-key-00000001"])], &user("payments"));
    let chain = bench.build("tokens: shop").unwrap();
    let refresh = refresh_text(&first);
    for (fields, body, status, error) in
        [(HELD, "", 401, "invalid_client"), ("", WEB, 401, "invalid_client"), ("", &refresh, 400, "invalid_grant")]
    {
        assert_eq!(ask(&chain, fields, body, 0), (status, json!(error)), "{fields} {body}");
    }
    assert!(!is_active(&bench, &first, "refresh_token"));
    let bench = bench.with_users(vec![consumer("b", &[], &["other-key-00000001"])], &user("somebody"));
    let chain = bench.build("tokens: shop").unwrap();
    let refresh = refresh_text(&second);
    for (fields, body) in [(HELD, ""), ("", WEB), ("", &*refresh)] {
        token(&chain, fields, body);
    }
}

/// The configuration, with a user of this name.
fn with_user(bench: Bench, name: &str) -> Bench {
    let hash = PasswordHash::make(b"a password", &[7; 16]).unwrap().text();
    let user = format!("- {{ name: {name}, password: \"{hash}\" }}");
    bench.with_users(vec![consumer("b", &[], &["other-key-00000001"])], &user)
}

/// What comes of a call: its status, and what the log and `explain` say.
fn call(bench: &Bench, settings: &str, fields: &str) -> (u16, String, String) {
    let chain = bench.build(settings).unwrap();
    let exchange = || {
        let mut exchange = chain.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        exchange.wall = NOW * 1_000_000;
        exchange
    };
    let explained = chain.explain(&mut exchange()).1;
    match chain.inward(&mut exchange()).1 {
        Ok(()) => (0, String::new(), explained),
        Err(Stop::Fault(fault)) => (fault.status(), fault.cause.unwrap_or_default().into(), explained),
        Err(Stop::Answer(answer)) => panic!("{answer:?}"),
    }
}

#[test]
fn what_the_store_has_under_a_name_of_the_configuration_opens_nothing() {
    let (bench, accounts) = with_payments();
    let chain = bench.build("tokens: shop").unwrap();
    let tokens = [token(&chain, HELD, ""), token(&chain, "", WEB)];
    let bearer = |text: &str| format!("Authorization: Bearer {text}\r\n");
    let by_key = |bench: &Bench| call(bench, "key_auth: { header: X-Api-Key }", HELD);
    let by_token = |bench: &Bench, text: &str| call(bench, "token_auth: {}", &bearer(text));
    let no_key = "the configuration has the name of the key's consumer";
    let no_token = "the configuration has the name of the token's holder";
    let refused = |why: &str| (401, why.to_owned(), why.to_owned());
    let mut bench = with_user(bench, "payments");
    assert_eq!(by_key(&bench), refused(no_key));
    for told in &tokens {
        assert_eq!(by_token(&bench, text_of(told, "access_token")), refused(no_token));
        assert!(!is_active(&bench, told, "access_token"));
    }
    // the user itself has tokens of the time before
    let of_user = bench.directory.user("payments").unwrap().credential.clone();
    let own = daemun_accounts::Asked {
        service: "shop".into(),
        subject: "payments".into(),
        consumer: false,
        credential: of_user.as_str().into(),
        roles: Vec::new(),
        groups: Vec::new(),
        scopes: Vec::new(),
        claims: serde_json::Map::new(),
        access: 1000,
        refresh: None,
        longest: 5000,
        most: 10,
    };
    let own = json!({ "access_token": wait(accounts.issue(None, own, NOW)).unwrap().access });
    assert_eq!(by_token(&bench, text_of(&own, "access_token")).0, 0);
    assert!(is_active(&bench, &own, "access_token"));
    with(&mut bench, Some(consumer("payments", &[], &["a-key-of-the-file"])));
    assert_eq!(by_key(&bench), refused(no_key));
    let bench = with_user(bench, "somebody");
    assert_eq!(by_key(&bench).0, 0);
    for told in &tokens {
        assert_eq!(by_token(&bench, text_of(told, "access_token")).0, 0);
        assert!(is_active(&bench, told, "access_token"));
    }
}

#[test]
fn the_right_secret_of_a_client_whose_name_the_configuration_has_is_no_guess() {
    let (mut bench, _accounts) = with_payments();
    let refused = |bench: &Bench| {
        let chain = bench.build("tokens: shop").unwrap();
        let why = "the configuration has the client's id, or the name of its consumer";
        for _ in 0..30 {
            let (status, _, told) = refusal(&chain, "", WEB);
            assert_eq!((status, &*told), (401, why));
        }
        chain
    };
    let of_file = Consumer { basic: vec![basic("billing-web", "another secret")], ..consumer("billing", &[], &[]) };
    for one in [consumer("payments", &[], &[]), consumer("billing-web", &[], &[]), of_file] {
        with(&mut bench, Some(one));
        refused(&bench);
    }
    let chain = refused(&with_user(bench, "payments"));
    let wrong = WEB.replace("dms_secret", "dms_other");
    let guesses: Vec<u16> = (0..12).map(|_| refusal(&chain, "", &wrong).0).collect();
    assert_eq!((guesses.first(), guesses.last()), (Some(&401), Some(&429)), "what is wrong is counted");
}

#[test]
fn a_client_of_the_store_whose_id_the_configuration_has_is_given_nothing() {
    let (mut bench, _accounts) = with_payments();
    let with_username = |username: &str| Consumer {
        basic: vec![basic(username, "secret of the file")],
        ..consumer("billing", &[], &[])
    };
    let terms = || daemun_config::model::Terms { disabled: true, ..daemun_config::model::Terms::default() };
    let name = || daemun_config::model::CredentialName::Basic("billing-web".to_owned());
    let disabled = Consumer { terms: [(name(), terms())].into_iter().collect(), ..with_username("billing-web") };
    for (one, is_given) in [
        (with_username("another"), true),
        (with_username("billing-web"), false),
        (disabled, false),
        (consumer("billing-web", &[], &[]), false),
    ] {
        let what = format!("{one:?}");
        with(&mut bench, Some(one));
        let (status, told) = ask(&bench.build("tokens: shop").unwrap(), "", WEB, 0);
        assert_eq!(status, if is_given { 200 } else { 401 }, "{told} {what}");
    }
    with(&mut bench, Some(with_username("billing-web")));
    let own = WEB.replace("dms_secret", "secret+of+the+file");
    token(&bench.build("tokens: shop").unwrap(), "", &own);
}

#[test]
fn a_client_that_names_another_one_in_the_form_is_refused() {
    let (bench, _accounts) = with_payments();
    let chain = bench.build("tokens: shop").unwrap();
    // `shop:a secret:of two`, encoded as in a form, and `billing-web:dms_secret`
    for (header, own) in
        [("c2hvcDphK3NlY3JldCUzQW9mK3R3bw==", "shop"), ("YmlsbGluZy13ZWI6ZG1zX3NlY3JldA==", "billing-web")]
    {
        let ask = |named: &str| {
            let body = format!("grant_type=client_credentials&client_id={named}");
            ask(&chain, &format!("Authorization: Basic {header}\r\n"), &body, 0)
        };
        assert_eq!(ask(own).0, 200, "{own}");
        for other in ["other", "SHOP", "payments"] {
            assert_eq!(ask(other), (400, json!("invalid_request")), "{own} {other}");
        }
    }
}

#[test]
fn a_scope_that_is_named_twice_is_given_once() {
    let (mut bench, _accounts) = bench();
    let chain = bench.build("tokens: shop").unwrap();
    let key = format!("X-Api-Key: {KEY}\r\n");
    assert_eq!(token(&chain, &key, "scope=read+read")["scope"], "read");
    let told = token(&chain, &key, "scope=write+read+write");
    assert_eq!(told["scope"], "write read");
    let form = format!("grant_type=refresh_token&scope=read+read&refresh_token={}", text_of(&told, "refresh_token"));
    assert_eq!(token(&chain, "", &form)["scope"], "read");
    let twice = Consumer { scopes: vec!["read".to_owned(); 2], ..consumer("twice", &[], &["the-key-of-twice"]) };
    with(&mut bench, Some(twice));
    assert_eq!(token(&bench.build("tokens: shop").unwrap(), "X-Api-Key: the-key-of-twice\r\n", "")["scope"], "read");
}

#[test]
fn a_client_revokes_its_own_tokens_with_its_secret_and_guesses_are_counted_there() {
    let (bench, accounts) = with_payments();
    let (gives, chain) =
        (bench.build("tokens: shop").unwrap(), bench.build("tokens: { service: shop, endpoint: revoke }").unwrap());
    let own = "grant_type=client_credentials&client_id=shop&client_secret=a+secret%3Aof+two";
    let (of_store, of_file) = (token(&gives, "", WEB), token(&gives, "", own));
    let revoke = |told: &Value, client: &str| {
        let text = text_of(told, "access_token");
        let status = ask(&chain, "", &format!("token={text}&{client}"), 0).0;
        (status, accounts.check(text.as_bytes(), "shop", NOW).is_ok())
    };
    assert_eq!((revoke(&of_store, own), revoke(&of_file, WEB)), ((200, true), (200, true)));
    assert_eq!((revoke(&of_store, WEB), revoke(&of_file, own)), ((200, false), (200, false)));
    let told = token(&gives, "", WEB);
    let wrong = "client_id=billing-web&client_secret=wrong";
    let explained = |login: &str| {
        let field = format!("Authorization: Basic {}", data_encoding::BASE64.encode(login.as_bytes()));
        chain.explain(&mut chain.exchange(&format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"))).0
    };
    assert_eq!(explained("billing-web:wrong"), Outcome::Refuse(401, "unauthenticated"));
    assert_eq!(explained("billing-web:dms_secret"), Outcome::Answer(200));
    let guesses: Vec<_> = (0..12).map(|_| revoke(&told, wrong)).collect();
    assert_eq!((guesses.first(), guesses.last()), (Some(&(401, true)), Some(&(429, true))));
    assert_eq!(revoke(&told, WEB), (429, true), "what is right is not told of either");
}
