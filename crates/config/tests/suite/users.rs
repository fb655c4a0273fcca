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
