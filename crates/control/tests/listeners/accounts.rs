//! What the admin listener does about consumers, credentials and tokens.

use daemun_accounts::store::StoreError;
use daemun_accounts::{Change, Store};

use super::*;

pub(crate) async fn send(address: SocketAddr, line: &str, body: &str) -> Reply {
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    raw(address, &format!("{line} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n{body}")).await
}

async fn token(source: &Fake, subject: &str, credential: &str) -> String {
    let asked = Asked {
        service: "shop".into(),
        subject: subject.into(),
        consumer: false,
        credential: credential.into(),
        roles: Vec::new(),
        groups: Vec::new(),
        scopes: Vec::new(),
        claims: serde_json::Map::new(),
        access: 60_000,
        refresh: None,
        longest: 60_000,
        most: 10,
    };
    source.accounts.issue(None, asked, NOW - 1).await.unwrap().access
}

fn is_good(source: &Fake, token: &str) -> bool {
    source.accounts.check(token.as_bytes(), "shop", NOW).is_ok()
}

#[tokio::test]
async fn admin_makes_consumers_whose_keys_are_shown_once_and_rotated() {
    let source = Fake::new();
    let address = admin(&source).await;
    let made = send(address, "PUT /consumers/partner", r#"{"roles": ["reader"], "scopes": ["read"]}"#).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let mut keys = Vec::new();
    for label in ["first", "second"] {
        let body = format!(r#"{{"kind": "key", "label": "{label}", "expires_in": 3600}}"#);
        let made = send(address, "POST /consumers/partner/credentials", &body).await;
        assert_eq!((made.status, &made.json()["expires"]), (201, &(NOW / 1000 + 3600).into()));
        keys.push((made.json()["id"].as_str().unwrap().to_owned(), made.json()["key"].as_str().unwrap().to_owned()));
    }
    for (_, key) in &keys {
        let held = source.accounts.key(&digest(key.as_bytes())).unwrap();
        assert!(held.is_good(NOW + 3_599_999) && !held.is_good(NOW + 3_600_000));
        held.note_use(NOW);
    }
    let told = get(address, "/consumers/partner").await;
    assert_eq!(told.json()["credentials"][0]["last_used"], NOW / 1000);
    assert!(keys.iter().all(|(id, key)| told.body.contains(id) && !told.body.contains(key)), "{}", told.body);
    let tokens = [token(&source, "partner", &keys[0].0).await, token(&source, "partner", &keys[1].0).await];
    let path = keys[0].0.replace(':', "%3A");
    assert_eq!(ask(address, &format!("DELETE /consumers/partner/credentials/{path}"), "").await.status, 200);
    assert!(source.accounts.key(&digest(keys[0].1.as_bytes())).is_none());
    assert!(source.accounts.key(&digest(keys[1].1.as_bytes())).is_some());
    assert_eq!(tokens.each_ref().map(|token| is_good(&source, token)), [false, true]);
    let path = format!("PATCH /consumers/partner/credentials/{}", keys[1].0);
    assert_eq!(send(address, &path, r#"{"disabled": true}"#).await.json()["disabled"], true);
    assert!(!source.accounts.key(&digest(keys[1].1.as_bytes())).unwrap().is_good(NOW));
    let changed = send(address, "PUT /consumers/partner", r#"{"groups": ["g"]}"#).await.json();
    assert_eq!((&changed["roles"][0], &changed["groups"][0]), (&"reader".into(), &"g".into()));
    assert_eq!(ask(address, "DELETE /consumers/partner", "").await.status, 200);
    assert_eq!(get(address, "/consumers").await.json()["consumers"], serde_json::json!([]));
    let audit = source.audit.lock().unwrap().join("\n");
    assert!(
        audit.contains("consumer `partner` was made") && keys.iter().all(|(_, key)| !audit.contains(key)),
        "{audit}"
    );
}

#[tokio::test]
async fn admin_says_where_browsers_may_be_sent_back_to_and_takes_what_the_configuration_takes() {
    let source = Fake::new();
    let address = admin(&source).await;
    let uris = serde_json::json!(["https://app.example/cb", "com.example.app:/cb", "http://127.0.0.1/cb"]);
    let put = async |uris: &Value| {
        send(address, "PUT /consumers/partner", &serde_json::json!({ "redirect_uris": uris }).to_string()).await
    };
    let made = put(&uris).await;
    assert_eq!((made.status, &made.json()["redirect_uris"]), (201, &uris));
    let many: Vec<String> = (0..65).map(|number| format!("https://app.example/{number}")).collect();
    for (wrong, why) in [
        (serde_json::json!("https://app.example/cb"), "a list of 64 addresses"),
        (serde_json::json!([1]), "a list of 64 addresses"),
        (many.clone().into(), "a list of 64 addresses"),
        (
            serde_json::json!(["https://app.example/cb", "https://app.example/#x"]),
            "address 2 of `redirect_uris`: it has a fragment",
        ),
        (serde_json::json!(["https://*.example/cb"]), "address 1 of `redirect_uris`: `*` stands for nothing"),
        (serde_json::json!(["javascript:alert(1)"]), "a domain name backwards"),
    ] {
        let told = put(&wrong).await;
        assert!(told.status == 400 && told.json()["detail"].as_str().unwrap().contains(why), "{wrong} {}", told.body);
    }
    let changed = send(address, "PUT /consumers/partner", r#"{"scopes": ["read"]}"#).await;
    assert_eq!((changed.status, &changed.json()["redirect_uris"]), (200, &uris), "what is not named stays");
    assert_eq!(get(address, "/consumers/partner").await.json()["redirect_uris"], uris);
    assert_eq!(put(&many[..64].into()).await.status, 200);
    assert_eq!(put(&serde_json::json!([])).await.json()["redirect_uris"], serde_json::json!([]));
    let declared = send(address, "PUT /consumers/shop-app", r#"{"redirect_uris": ["https://app.example/cb"]}"#).await;
    assert_eq!(declared.status, 409, "{}", declared.body);
}

#[tokio::test]
async fn admin_revokes_what_it_is_told_and_nothing_else() {
    let source = Fake::new();
    let address = admin(&source).await;
    let key = "dmn_a_key_of_the_configuration";
    let id = daemun_accounts::text::id_of("key", &digest(key.as_bytes()));
    let (one, keyed) = (token(&source, "a", "client:x").await, token(&source, "a", &id).await);
    let (same, other) = (token(&source, "a", "client:y").await, token(&source, "b", "client:z").await);
    let good = || [&one, &keyed, &same, &other].map(|token| is_good(&source, token));
    for (body, left) in [
        (format!(r#"{{"token": "{one}"}}"#), [false, true, true, true]),
        (format!(r#"{{"key": "{key}"}}"#), [false, false, true, true]),
        (format!(r#"{{"subject": "a", "before": {}}}"#, NOW / 1000 - 10), [false, false, true, true]),
        (r#"{"subject": "a"}"#.to_owned(), [false, false, false, true]),
        (r#"{"all": true}"#.to_owned(), [false; 4]),
    ] {
        assert_eq!(send(address, "POST /revocations", &body).await.status, 200, "{body}");
        assert_eq!(good(), left, "{body}");
    }
    assert!(source.accounts.is_void_key(&digest(key.as_bytes())));
    let audit = source.audit.lock().unwrap().join("\n");
    assert!(!audit.contains(key) && !audit.contains("dmt_"), "{audit}");
}

#[tokio::test]
async fn admin_cuts_off_a_consumer_of_the_configuration_and_lets_it_in_again() {
    let source = Fake::new();
    let address = admin(&source).await;
    let id = daemun_accounts::text::id_of("key", &digest(b"a-key-of-the-file"));
    source.accounts.uses_of(&id).note(NOW);
    let held = token(&source, "shop-app", &id).await;
    let told = get(address, "/consumers/shop-app").await.json();
    let expected = serde_json::json!({
        "kind": "key", "label": "old", "expires": NOW / 1000 + 5, "disabled": false, "revoked": false,
        "last_used": NOW / 1000, "id": id,
    });
    assert_eq!(
        (&told["declared"], &told["disabled"], &told["credentials"][0]),
        (&true.into(), &false.into(), &expected)
    );
    for body in ["{}", r#"{"roles": ["x"]}"#, r#"{"disabled": true, "roles": ["x"]}"#] {
        assert_eq!(send(address, "PUT /consumers/shop-app", body).await.status, 409, "{body}");
    }
    assert_eq!(ask(address, "DELETE /consumers/shop-app", "").await.status, 409);
    assert!(is_good(&source, &held));
    let cut = send(address, "PUT /consumers/shop-app", r#"{"disabled": true}"#).await;
    assert_eq!((cut.status, &cut.json()["disabled"]), (200, &true.into()));
    assert!(!is_good(&source, &held) && source.accounts.consumer("shop-app").unwrap().disabled);
    let again = send(address, "PUT /consumers/shop-app", r#"{"disabled": false}"#).await;
    assert_eq!((again.status, &again.json()["disabled"]), (200, &false.into()));
    assert!(!is_good(&source, &held), "what was void stays void");
    let body = format!(r#"{{"credential": "{id}"}}"#);
    assert_eq!(send(address, "POST /revocations", &body).await.status, 200);
    assert_eq!(get(address, "/consumers/shop-app").await.json()["credentials"][0]["revoked"], true);
}

#[tokio::test]
async fn admin_ends_access_tokens_alone() {
    let source = Fake::new();
    let address = admin(&source).await;
    let (one, same, other) = (
        token(&source, "a", "client:x").await,
        token(&source, "a", "client:y").await,
        token(&source, "b", "client:z").await,
    );
    let good = || [&one, &same, &other].map(|token| is_good(&source, token));
    for (body, left) in [
        (r#"{"credential": "client:x", "tokens": "access"}"#.to_owned(), [false, true, true]),
        (format!(r#"{{"subject": "a", "tokens": "access", "before": {}}}"#, NOW / 1000 - 10), [false, true, true]),
        (r#"{"subject": "a", "tokens": "access"}"#.to_owned(), [false, false, true]),
        (r#"{"all": true, "tokens": "access"}"#.to_owned(), [false; 3]),
    ] {
        assert_eq!(send(address, "POST /revocations", &body).await.status, 200, "{body}");
        assert_eq!(good(), left, "{body}");
    }
    assert!(!source.accounts.is_void_credential("client:x"));
    let audit = source.audit.lock().unwrap().join("\n");
    assert!(audit.contains("access tokens alone: every token of `a` was revoked"), "{audit}");
}

fn hexadecimal(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn admin_takes_in_by_its_digest_a_key_that_nobody_here_knows() {
    let source = Fake::new();
    let address = admin(&source).await;
    for name in ["partner", "other"] {
        assert_eq!(send(address, &format!("PUT /consumers/{name}"), "{}").await.status, 201);
    }
    let of = |key: &str| hexadecimal(&digest(key.as_bytes()));
    let give = |consumer: &'static str, body: String| async move {
        send(address, &format!("POST /consumers/{consumer}/credentials"), &body).await
    };
    let key = "a-key-from-before";
    let made = give("partner", format!(r#"{{"label": "old", "sha256": "{}"}}"#, of(key).to_uppercase())).await;
    let told = made.json();
    assert_eq!((made.status, &told["label"], told.get("key")), (201, &"old".into(), None), "{}", made.body);
    assert!(told["advice"].as_str().unwrap().contains("replace one that is short"), "{}", made.body);
    let held = source.accounts.key(&digest(key.as_bytes())).unwrap();
    assert!(held.is_good(NOW) && held.credential.consumer == "partner");
    let secret = format!(r#"{{"kind": "client", "client_id": "old-id", "sha256": "{}"}}"#, of("a secret"));
    assert_eq!(give("partner", secret).await.status, 201);
    assert_eq!(source.accounts.client("old-id").unwrap().credential.digest, digest(b"a secret"));

    assert_eq!(send(address, "POST /revocations", r#"{"key": "a-leaked-key"}"#).await.status, 200);
    for (sha256, status) in [
        (of(key), 409),
        (of("a-key-of-the-file"), 409),
        (of("a-leaked-key"), 409),
        (of(""), 400),
        (of(key)[1..].to_owned(), 400),
        (format!("{}g", &of(key)[1..]), 400),
        (format!("{}00", of(key)), 400),
        (String::new(), 400),
    ] {
        let reply = give("other", format!(r#"{{"sha256": "{sha256}"}}"#)).await;
        assert_eq!(reply.status, status, "{sha256}: {}", reply.body);
    }
    assert_eq!(give("other", r#"{"sha256": 1}"#.to_owned()).await.status, 400);
    // two would have the same name
    let taken = give("other", r#"{"kind": "client", "client_id": "a-client-of-the-file"}"#.to_owned()).await;
    assert_eq!(taken.status, 409, "{}", taken.body);
    assert_eq!(send(address, "PUT /consumers/ann", "{}").await.status, 409);
    assert!(get(address, "/consumers/other").await.json()["credentials"].as_array().unwrap().is_empty());
    let audit = source.audit.lock().unwrap().join("\n");
    assert!(audit.contains("was taken in by its digest") && !audit.contains(&of(key)), "{audit}");
}

#[tokio::test]
async fn what_is_not_understood_about_accounts_changes_nothing() {
    let source = Fake::new();
    let address = admin(&source).await;
    for (line, body, status) in [
        ("PUT /consumers/shop-app", "{}", 409),
        ("PUT /consumers/a%20b", "{}", 400),
        ("PUT /consumers/a", r#"{"role": ["x"]}"#, 400),
        ("PUT /consumers/a", r#"{"roles": ["x,y"]}"#, 400),
        ("PUT /consumers/a", r#"{"roles": "x"}"#, 400),
        ("PUT /consumers/a", r#"{"disabled": 1}"#, 400),
        ("PUT /consumers/a", "[]", 400),
        ("PUT /consumers/a", r#"{"roles":["a"],"roles":["b"]}"#, 400),
        ("PUT /consumers/a", "", 400),
        ("PUT /consumers/a?x=y", "{}", 400),
        ("POST /consumers/none/credentials", "{}", 404),
        ("POST /consumers/none/credentials", r#"{"kind": "password"}"#, 400),
        ("POST /consumers/none/credentials", r#"{"expires_in": 0}"#, 400),
        ("POST /revocations", "{}", 400),
        ("POST /revocations", r#"{"token": "x", "all": true}"#, 400),
        ("POST /revocations", r#"{"all": false}"#, 400),
        ("POST /revocations", r#"{"token": "x", "before": 5}"#, 400),
        ("POST /revocations", r#"{"token": "x", "tokens": "access"}"#, 400),
        ("POST /revocations", r#"{"subject": "x", "tokens": "refresh"}"#, 400),
        ("POST /revocations", r#"{"tokens": "access"}"#, 400),
        ("PATCH /consumers/none/credentials/x", "{}", 404),
        ("POST /consumers", "{}", 405),
        ("PUT /consumers//credentials", "{}", 404),
    ] {
        let reply = send(address, line, body).await;
        assert_eq!(reply.status, status, "{line} {body}: {}", reply.body);
    }
    let text = format!(
        "PUT /consumers/a HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    assert_eq!(raw(address, &text).await.status, 415);
    let long = format!(r#"{{"roles": ["{}"]}}"#, "x".repeat(70_000));
    assert_eq!(send(address, "PUT /consumers/a", &long).await.status, 413);
    let foreign = "Origin: http://evil.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    assert_eq!(ask(address, "PUT /consumers/a", foreign).await.status, 403);
    assert!(source.accounts.consumers().is_empty() && source.audit.lock().unwrap().is_empty());
    let open = status(&source).await;
    assert_eq!(get(open, "/consumers").await.status, 404);
}

#[tokio::test]
async fn admin_takes_no_name_that_another_client_is_known_by() {
    let source = Fake::new();
    let address = admin(&source).await;
    let redirects = r#"{"redirect_uris": ["http://app.example/cb"]}"#;
    let made = send(address, "PUT /consumers/public", redirects).await;
    assert!(made.status == 201 && made.json()["advice"].as_str().unwrap().contains("http"), "{}", made.body);
    assert_eq!(send(address, "PUT /consumers/partner", "{}").await.status, 201);
    let client = async |id: &str| {
        let body = format!(r#"{{"kind": "client", "client_id": "{id}"}}"#);
        send(address, "POST /consumers/partner/credentials", &body).await.status
    };
    let taken = [client("public").await, client("shop-app").await, client("a-client-of-the-file").await];
    assert_eq!((taken, client("its-own").await), ([409; 3], 201));
    for taken in ["a-client-of-the-file", "its-own"] {
        let refused = send(address, &format!("PUT /consumers/{taken}"), redirects).await;
        assert_eq!(refused.status, 409, "{taken}: {}", refused.body);
    }
    let own = send(address, "POST /consumers/public/credentials", r#"{"kind": "client", "client_id": "public"}"#).await;
    assert_eq!(own.status, 201, "{}", own.body);
    // Basic takes what stands before the first colon for the id
    let made = send(address, "POST /consumers/partner/credentials", r#"{"kind": "client"}"#).await.json();
    assert!(!made["id"].as_str().unwrap().contains(':'), "{made}");
}

#[tokio::test]
async fn admin_shows_and_removes_what_the_store_has_of_a_consumer_that_the_configuration_has_now() {
    let source = Fake::new();
    let address = admin(&source).await;
    for disabled in [true, false] {
        let switched = send(address, "PUT /consumers/shop-app", &format!(r#"{{"disabled": {disabled}}}"#)).await;
        assert_eq!(switched.status, 200);
    }
    assert_eq!(send(address, "POST /consumers/shop-app/credentials", r#"{"kind": "key"}"#).await.status, 409);
    // of the time before
    let old = daemun_accounts::Credential {
        id: "old-client".to_owned(),
        consumer: "shop-app".to_owned(),
        kind: daemun_accounts::CredentialKind::Client,
        digest: digest(b"secret"),
        label: String::new(),
        created: NOW,
        expires: None,
        disabled: false,
    };
    source.accounts.put_credential(old, NOW).await.unwrap();
    let ids = async || {
        let told = get(address, "/consumers/shop-app").await.json();
        told["credentials"].as_array().unwrap().iter().any(|credential| credential["id"] == "old-client")
    };
    assert!(ids().await);
    let advice = async |name: &str| get(address, &format!("/consumers/{name}")).await.json()["advice"].clone();
    let told = advice("shop-app").await;
    assert!(told.as_str().unwrap().contains("`old-client` first: they are good for nothing"), "{told}");
    assert_eq!(ask(address, "DELETE /consumers/shop-app/credentials/old-client", "").await.status, 200);
    assert!(!ids().await && advice("shop-app").await.is_null());
    // and of a user
    for name in ["ann", "partner"] {
        let known = daemun_accounts::Consumer { name: name.to_owned(), ..daemun_accounts::Consumer::default() };
        source.accounts.put_consumer(known, NOW).await.unwrap();
    }
    let told = advice("ann").await;
    assert!(told.as_str().unwrap().contains("a user of the configuration has this name"), "{told}");
    let refused = send(address, "POST /consumers/ann/credentials", r#"{"kind": "key"}"#).await;
    assert!(refused.status == 409 && refused.body.contains("a user of the configuration"), "{}", refused.body);
    assert!(advice("partner").await.is_null());
    assert_eq!(ask(address, "DELETE /consumers/ann", "").await.status, 200);
    assert_eq!(get(address, "/consumers/ann").await.status, 404);
}

#[tokio::test]
async fn revoking_the_logins_of_a_public_client_leaves_its_name_good() {
    let source = Fake::new();
    let address = admin(&source).await;
    send(address, "PUT /consumers/app", r#"{"redirect_uris": ["https://app.example/cb"]}"#).await;
    let id = daemun_accounts::Consumer::named("app");
    let before = token(&source, "ann", &id).await;
    let body = format!(r#"{{"credential": "{id}"}}"#);
    assert_eq!(send(address, "POST /revocations", &body).await.json()["known"], true);
    assert!(!is_good(&source, &before) && !source.accounts.is_void_credential(&id));
    let after = token(&source, "ann", &id).await;
    assert!(is_good(&source, &after));
}

/// A store that waits with each commit until it is told to go on.
struct Slow(std::sync::mpsc::SyncSender<()>, std::sync::mpsc::Receiver<()>);

impl Store for Slow {
    fn apply(&mut self, asked: &[&[Change]]) -> Result<Vec<bool>, StoreError> {
        self.0.send(()).unwrap();
        self.1.recv().unwrap();
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

#[tokio::test]
async fn what_is_asked_by_who_does_not_wait_for_the_answer_is_known_here_once_it_lasts() {
    let source = Fake::new();
    let (began, begins) = std::sync::mpsc::sync_channel(1);
    let (go_on, goes_on) = std::sync::mpsc::sync_channel(1);
    source.accounts.keep_in(Box::new(Slow(began, goes_on)), || NOW, |what| panic!("{what}")).unwrap();
    let address = admin(&source).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let fields = "Content-Type: application/json\r\nContent-Length: 2\r\n";
    let request = format!("PUT /consumers/partner HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n{{}}");
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "", "it has left before it was answered");
    go_on.send(()).unwrap();
    while source.accounts.consumer("partner").is_none() {
        tokio::task::yield_now().await;
    }
}
