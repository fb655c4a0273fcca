//! Users: what they have, and what is refused of them.

use std::path::Path;

use crate::findings::finds;
use crate::support::{VOCABULARY, World};
use daemun_config::load_text;

const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
const ROUTE: &str = "routes: [{ name: a, answer: {} }]\n";

#[test]
fn a_user_has_a_hash_and_may_have_a_second_factor() {
    let text = format!(
        "listeners: [{{ bind: 127.0.0.1:0 }}]\n{ROUTE}users:\n- {{ name: alice, password: \"{HASH}\", roles: [clerk], groups: [sales], tags: [de], \
         scopes: [read], totp: \"${{env:TOTP}}\", recovery: ['{:064}'] }}\n- {{ name: \"Bob B.\", password: \"{HASH}\", disabled: true }}\n",
        7
    );
    let world = World::default().variable("TOTP", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    let loaded = load_text(Path::new("daemun.yaml"), &text, &world, &VOCABULARY);
    assert_eq!(loaded.diagnostics.render(&loaded.sources, false), "");
    let users = loaded.config.unwrap().users;
    let [alice, bob] = users.as_slice() else { panic!("{users:?}") };
    assert_eq!((alice.name.value.as_str(), alice.password.cost()), ("alice", (65536, 2, 1)));
    assert_eq!(
        (&*alice.roles, &*alice.groups, &*alice.tags, &*alice.scopes),
        (&["clerk".to_owned()][..], &["sales".to_owned()][..], &["de".to_owned()][..], &["read".to_owned()][..])
    );
    assert_eq!(alice.totp.as_ref().map(|secret| secret.0.as_slice()), Some(&b"12345678901234567890"[..]));
    assert_eq!(alice.recovery[0][31], 7);
    assert!(alice.has_second_factor() && !bob.has_second_factor() && bob.disabled && !alice.disabled);
    assert!(alice.credential.starts_with("user:alice:") && alice.credential.len() == "user:alice:".len() + 12);
    assert!(!format!("{alice:?}").contains("argon2id") && !format!("{alice:?}").contains("[49, 50"), "{alice:?}");
}

#[test]
fn a_password_in_clear_is_refused_and_not_shown() {
    finds(
        &format!("{ROUTE}users: [{{ name: alice, password: correct horse battery }}]"),
        &[
            "clear_password users.alice.password: this is a password in clear, or the digest of a key: a user's password is hashed with \
           argon2id; `daemun password hash` reads a password and prints its hash",
        ],
    );
    let allowed = "it is argon2id with `v=19`, at most 256 MiB (`m=262144`), 10 passes and 16 lanes, a salt of 8 bytes and a hash of 16; \
                   `daemun password hash` makes one";
    for hash in [HASH.replace("m=65536", "m=999999"), HASH.replace("argon2id", "argon2i"), "$2y$10$abc".to_owned()] {
        finds(
            &format!("{ROUTE}users: [{{ name: alice, password: \"{hash}\" }}]"),
            &[&format!("bad_value users.alice.password: this hash of a password is not taken; {allowed}")],
        );
    }
}

#[test]
fn no_two_have_one_name_and_none_has_a_consumers() {
    finds(
        &format!(
            "{ROUTE}users: [{{ name: alice, password: \"{HASH}\" }}, {{ name: alice, password: \"{HASH}\" }}, {{ name: shop, password: \"{HASH}\" }}]\n\
             consumers: [{{ name: shop }}]"
        ),
        &[
            "duplicate_name users.alice.name: there are two users `alice`",
            "duplicate_name users.shop.name: a consumer is named `shop` as well, and one would have the permissions of the other",
        ],
    );
}

/// The findings of a token service that asks a place for users.
#[track_caller]
fn source(text: &str, expected: &[&str]) {
    finds(
        &format!("{ROUTE}store: memory\ntokens: {{ shop: {{ grants: [password], refresh: off, users: {text} }} }}"),
        expected,
    );
}

#[test]
fn a_directory_is_written_so_that_it_can_be_asked_without_giving_anything_away() {
    let ldap = |more: &str| format!("{{ ldap: {{ base: \"dc=shop\", {more} }} }}");
    for fine in [
        "url: ldaps://d.test",
        "url: \"ldap://[::1]:3389\"",
        "url: ldap://d.test, start_tls: true",
        "url: ldap://localhost",
    ] {
        source(&ldap(fine), &[]);
    }
    source(
        &ldap("url: ldap://d.test"),
        &[
            "insecure tokens.shop.users.ldap.url: passwords go to the directory in clear; write `ldaps:`, or `start_tls: true`",
        ],
    );
    for wrong in ["https://d.test", "ldaps://d.test/dc=shop", "ldaps://", "ldaps://d.test?x", "ldapi:///x"] {
        source(
            &ldap(&format!("url: \"{wrong}\"")),
            &[&format!(
                "bad_value tokens.shop.users.ldap.url: `{wrong}` is not the address of a directory; write it like \
                 `ldaps://directory.internal` or `ldap://directory.internal:389`, with nothing behind the port"
            )],
        );
    }
    source(
        &ldap("url: ldaps://d.test, start_tls: true"),
        &[
            "conflicting_keys tokens.shop.users.ldap.start_tls: `start_tls` is for `ldap:`, and `ldaps:` is secured from the start",
        ],
    );
    source(
        &ldap("url: ldaps://d.test, filter: (uid=alice)"),
        &[
            "bad_value tokens.shop.users.ldap.filter: `(uid=alice)` finds no user; write it like `(uid={username})`, in parentheses and \
           with `{username}`",
        ],
    );
    source(
        &ldap("url: ldaps://d.test, bind_dn: cn=a"),
        &[
            "missing_key tokens.shop.users.ldap: `bind_dn` and `bind_password` need each other; leave both out to search as nobody in \
           particular",
        ],
    );
}

#[test]
fn a_database_is_written_without_its_password_in_the_address() {
    let sql =
        |more: &str| format!("{{ sql: {{ query: \"select password_hash from users where name = $1\", {more} }} }}");
    for fine in [
        "url: postgres://daemun@db.test/shop, password: s3cret-db",
        "url: \"postgres://daemun@/shop?host=/run/postgresql\", tls: false",
        "url: postgresql://daemun@127.0.0.1/shop, tls: false",
    ] {
        source(&sql(fine), &[]);
    }
    source(
        &sql("url: postgres://daemun@db.test/shop, tls: false"),
        &[
            "insecure tokens.shop.users.sql.tls: hashes of passwords come from the database in clear; leave `tls: false` out",
        ],
    );
    source(
        &sql("url: \"postgres://daemun@/shop?host=/run/postgresql\""),
        &[
            "conflicting_keys tokens.shop.users.sql.tls: the address is a socket of this machine, which has no TLS; write `tls: false`",
        ],
    );
    for url in ["postgres://daemun:s3cret@db.test/shop", "postgres://daemun@db.test/shop?password=s3cret"] {
        source(
            &sql(&format!("url: \"{url}\"")),
            &["bad_value tokens.shop.users.sql.url: the address of the database holds a password; give it as \
               `password: \"${env:DATABASE_PASSWORD}\"` beside `url`"],
        );
    }
    let query = |query: &str| format!("{{ sql: {{ url: postgres://daemun@db.test/shop, query: \"{query}\" }} }}");
    for wrong in ["select password_hash from users", "select 1 where a = $1 and b = $2"] {
        source(
            &query(wrong),
            &[
                "bad_value tokens.shop.users.sql.query: the query does not ask for one user: `$1` is the name; write it like \
               `select name, password_hash, roles from users where name = $1`",
            ],
        );
    }
}

#[test]
fn a_service_that_needs_users_is_warned_of_where_there_are_none() {
    let help = "write `users: [{ name: …, password: … }]`, or say with `users: …` where they are known";
    source(
        "embedded",
        &[&format!(
            "no_credentials tokens.shop.grants: there are no users, so nobody gets tokens for a password; {help}"
        )],
    );
    finds(
        &format!("{ROUTE}store: memory\ntokens: {{ shop: {{ grants: [key], refresh: off, users: embedded }} }}"),
        &["no_effect tokens.shop.users: users are never asked for: `grants` does not have `password`"],
    );
}

#[test]
fn what_cannot_be_a_second_factor_or_a_name_is_refused() {
    let user = |more: &str| format!("{ROUTE}users: [{{ name: alice, password: \"{HASH}\", {more} }}]");
    finds(
        &user("totp: GEZDGNBVGY3TQOJQ"),
        &[
            "short_key users.alice.totp: a secret has at least 16 bytes, and this one 10; `head -c 20 /dev/urandom | base32` makes a good one",
        ],
    );
    finds(
        &user("totp: GEZDGNBVGY3TQOJ1"),
        &["bad_value users.alice.totp: this is not base32; it has the letters A to Z and the digits 2 to 7"],
    );
    finds(
        &user("recovery: [abc]"),
        &[
            "bad_value users.alice.recovery[0]: this is not a SHA-256 digest; it has 64 hexadecimal digits; `daemun key hash` prints it",
        ],
    );
    finds(
        &format!("{ROUTE}users: [{{ name: \"a:b\", password: \"{HASH}\" }}]"),
        &[
            "bad_value users.a:b.name: this cannot be a username; a username has 1 to 255 bytes, no colon and no control characters",
        ],
    );
    finds(
        &format!("{ROUTE}users: [{{ name: \" a\", password: \"{HASH}\" }}]"),
        &[
            "bad_value users. a.name: the name of a user begins or ends with white space; upstreams are told the name in a header, where \
           white space at its ends is lost",
        ],
    );
}

#[test]
fn a_service_that_takes_assertions_says_whose() {
    let service = |grants: &str, saml: &str| {
        format!("{ROUTE}store: memory\ntokens: {{ shop: {{ grants: [{grants}], refresh: off{saml} }} }}")
    };
    let trust = |more: &str| {
        format!(
            ", saml: {{ issuer: https://idp.test, certificates: idp.crt, audience: a, recipient: https://api.test/auth{more} }}"
        )
    };
    finds(&service("saml2_bearer", &trust("")), &[]);
    finds(&service("saml2_bearer", &trust(", roles: \"http://idp.test/role\", claims: { \"urn:a\": [b, c] }")), &[]);
    finds(
        &service("saml2_bearer", ""),
        &["missing_key tokens.shop: `grants` has `saml2_bearer`, and nothing says whose assertions are taken; \
           write `saml: { issuer: …, certificates: …, audience: …, recipient: … }`"],
    );
    finds(
        &service("key", &trust("")),
        &["no_effect tokens.shop.saml: no assertion is ever taken: `grants` does not have `saml2_bearer`"],
    );
    finds(
        &service("saml2_bearer", &trust(", subject: [], leeway: 11m, max_size: 512B, consumer: \" a\"")),
        &[
            "bad_value tokens.shop.saml.subject: expected 1 to 16 of them, found 0",
            "bad_value tokens.shop.saml.leeway: a leeway is `10m` at most",
            "bad_value tokens.shop.saml.max_size: an assertion has from `1KiB` to `256KiB`",
            "bad_value tokens.shop.saml.consumer: expected a name of 1 to 1024 bytes, without control characters and white space at its ends",
        ],
    );
}
