//! Keys and what came out of references are never shown.

use std::path::Path;

use crate::support::{VOCABULARY, World};
use daemun_config::{Loaded, PrintOptions, load_text, print};

const SECRET: &str = "s3cr3t-s3cr3t-s3cr3t";

/// Loads a text and makes sure that the secret is nowhere in what can be printed of it.
#[track_caller]
fn hidden(name: &str, text: &str) -> Loaded {
    let world = World::default().variable("KEY", SECRET).file("key", format!("{SECRET}\n"));
    let loaded = load_text(Path::new(name), text, &world, &VOCABULARY);
    let rendered = loaded.diagnostics.render(&loaded.sources, false);
    let shown = [
        rendered.clone(),
        loaded.diagnostics.to_json(&loaded.sources).to_string(),
        format!("{loaded:?}"),
        format!("{:?}", loaded.tree),
        loaded
            .tree
            .as_ref()
            .map(|tree| print(tree, PrintOptions { hide_secrets: true, escape_dollars: false }))
            .unwrap_or_default(),
    ];
    for shown in shown {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
    loaded
}

const FRAME: &str = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes: [{ name: a, answer: {} }]\n";

#[test]
fn a_key_is_digested_and_not_kept() {
    let loaded =
        hidden("a.yaml", &format!("{FRAME}consumers: [{{ name: c, keys: [\"{SECRET}\", \"${{env:KEY:-x}}x\"] }}]\n"));
    let config = loaded.config.unwrap();
    let digest = config.consumers[0].keys[0].value;
    assert_eq!(digest[..4], [0x75, 0x9a, 0xbb, 0x7a], "{digest:02x?}");
}

#[test]
fn a_password_is_digested_and_not_kept() {
    let loaded = hidden(
        "a.yaml",
        &format!(
            "{FRAME}consumers:\n- {{ name: c, basic: {{ username: c, password: \"{SECRET}\" }} }}\n- name: d\n  basic:\n  \
             - {{ username: s3cr3t-d, password: \"${{env:KEY}}\" }}\n  - {{ username: e, password: {{ sha256: '{:064}' }} }}\n",
            7
        ),
    );
    let config = loaded.config.unwrap();
    let basic: Vec<_> = config.consumers.iter().flat_map(|consumer| &consumer.basic).collect();
    assert_eq!(basic[0].password[..4], [0x75, 0x9a, 0xbb, 0x7a]);
    assert_eq!((basic[0].password, basic[2].password[31]), (basic[1].password, 7));
    assert_eq!((basic[0].username.value.as_str(), basic[2].username.value.as_str()), ("c", "e"));
}

#[test]
fn passwords_are_masked_in_snippets_whatever_is_wrong_with_them() {
    for (basic, code) in [
        ("{ username: a, password: s3cr3t }".to_owned(), "short_key"),
        (format!("{{ username: a, password: \"{SECRET}\\n\" }}"), "bad_value"),
        (format!("{{ username: a, passwort: \"{SECRET}\" }}"), "unknown_key"),
        (format!("{{ username: a, password: [\"{SECRET}\"] }}"), "wrong_type"),
        (format!("{{ username: \"a:{SECRET}\", password: \"{SECRET}\" }}"), "bad_value"),
        (format!("{{ password: \"{SECRET}\" }}"), "missing_key"),
        (format!("{{ username: '', password: \"{SECRET}\" }}"), "bad_value"),
        (format!("\"{SECRET}\""), "wrong_type"),
        (
            format!(
                "[{{ username: s3cr3t-a, password: \"{SECRET}\" }}, {{ username: s3cr3t-a, password: \"{SECRET}\" }}]"
            ),
            "duplicate_name",
        ),
    ] {
        let loaded = hidden("a.yaml", &format!("{FRAME}consumers: [{{ name: c, basic: {basic} }}]\n"));
        assert!(loaded.diagnostics.iter().any(|found| found.code == code), "{basic}: {:?}", loaded.diagnostics);
    }
}

#[test]
fn a_username_given_to_two_consumers_is_shown_at_both_places() {
    let basic = |name: &str| format!("  - {{ name: {name}, basic: &a {{ username: u, password: \"{SECRET}\" }} }}\n");
    let aliased = "  - { name: e, basic: *a }\n";
    let text = format!("{FRAME}consumers:\n{}{}{aliased}", basic("c"), basic("d").replace("&a ", ""));
    let loaded = hidden("a.yaml", &text);
    let found: Vec<_> = loaded.diagnostics.iter().filter(|found| found.code == "duplicate_name").collect();
    assert_eq!(found.len(), 2, "{}", loaded.diagnostics.render(&loaded.sources, false));
    assert!(found.iter().all(|found| found.related.len() == 1 && found.path.ends_with(".basic.username")));
}

#[test]
fn what_a_valid_configuration_took_from_references_is_not_printed() {
    let text = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes: [{ name: a, answer: { body: \"${env:KEY}\", headers: { x: \"${env:KEY}\" } } }]\npolicies: { headers: { request: { set: { x: \"${env:KEY}\" } } } }\nerrors: { 404: { body: \"${env:KEY}\" } }\n";
    let config = hidden("a.yaml", text).config.unwrap();
    for shown in [
        format!("{config:?}"),
        format!("{:?}", config.routes),
        format!("{:?}", config.errors),
        format!("{:?}", config.policies),
    ] {
        assert!(!shown.contains("s3cr3t"), "{shown}");
    }
}

#[test]
fn keys_are_masked_in_snippets_whatever_is_wrong_with_them() {
    for (consumers, code) in [
        (format!("[{{ name: c, keys: [\"{SECRET}\"] }}, {{ name: d, keys: [\"{SECRET}\"] }}]"), "key_reused"),
        (format!("[{{ name: c, key: \"{SECRET}\" }}]"), "unknown_key"),
        (format!("[{{ name: c, keys: \"{SECRET}\" }}]"), "wrong_type"),
        (format!("[{{ name: c, keys: [{{ sha256: \"{SECRET}\" }}] }}]"), "bad_value"),
        (format!("[{{ name: c, keys: [{{ sha265: \"{SECRET}\" }}] }}]"), "unknown_key"),
        (format!("{{ c: \"{SECRET}\" }}"), "wrong_type"),
        (format!("\"{SECRET}\""), "wrong_type"),
    ] {
        let loaded = hidden("a.yaml", &format!("{FRAME}consumers: {consumers}\n"));
        assert!(loaded.diagnostics.iter().any(|found| found.code == code), "{consumers}");
    }
    hidden("a.yaml", &format!("{FRAME}consumer: [{{ name: c, keys: [\"{SECRET}\"] }}]\n"));
    hidden(
        "a.yaml",
        &format!(
            "{FRAME}consumers:\n- name: c\n  keys:\n  - |\n    {SECRET}\n    {SECRET}\n  - |\n    {SECRET}\n    {SECRET}\n"
        ),
    );
    let number = load_text(
        Path::new("a.yaml"),
        &format!("{FRAME}consumers: [{{ name: c, keys: [1234567890123456] }}]\n"),
        &World::default(),
        &VOCABULARY,
    );
    assert!(!number.diagnostics.render(&number.sources, false).contains("12345678"));
}

#[test]
fn what_came_out_of_a_reference_is_masked_in_messages() {
    for value in ["${env:KEY}", "x${file:key}y", "${env:NONE:-s3cr3t-s3cr3t}"] {
        for line in [
            format!("workers: \"{value}\""),
            format!("timeouts: {{ head: \"{value}\" }}"),
            format!("limits: {{ body: \"{value}\" }}"),
            format!("access_log: {{ format: \"{value}\" }}"),
            format!("admin: {{ bind: \"{value}\" }}"),
            format!(
                "upstreams: {{ u: {{ targets: [\"{value}\"], host: \"{value} {value}\", balance: \"{value}\" }} }}"
            ),
            format!(
                "policies: {{ key_auth: {{ header: \"a b{value}\" }}, rate_limit: {{ limit: \"{value}\", by: \"{value}\" }} }}"
            ),
            format!("consumers: [{{ name: \"a {value}\" }}]"),
            format!("trusted_proxies: [\"{value}\"]"),
        ] {
            let loaded = hidden("a.yaml", &format!("{FRAME}{line}\n"));
            assert!(loaded.diagnostics.has_errors(), "{line}");
        }
        let routes = [
            format!("upstream: \"{value}\""),
            format!("answer: {{}}, match: {{ path: \"{value}\", hosts: [\"{value} \"], methods: [\"{value}\"] }}"),
            format!("answer: {{}}, match: {{ path_regex: \"({value}\" }}"),
            format!("redirect: {{ to: \"{value}\" }}"),
            format!("answer: {{}}, authenticate: {{ any: [\"{value}\"] }}"),
        ];
        for route in routes {
            let loaded =
                hidden("a.yaml", &format!("listeners: [{{ bind: 127.0.0.1:0 }}]\nroutes: [{{ name: a, {route} }}]\n"));
            assert!(loaded.diagnostics.has_errors(), "{route}");
        }
        hidden(
            "a.yaml",
            &format!(
                "listeners: [{{ bind: 127.0.0.1:0 }}]\nroutes: [{{ name: \"{value}\" }}, {{ name: \"{value}\", answer: {{}} }}]\n"
            ),
        );
    }
}

#[test]
fn a_text_that_cannot_be_read_shows_nothing_that_looks_like_a_key() {
    hidden("a.yaml", &format!("consumers: [{{ name: c, keys: [\"{SECRET}\", ] ] }}]\n"));
    hidden("a.yaml", &format!("consumers:\n  - name: c\n   keys: \"{SECRET}\n"));
    hidden("a.json", &format!("{{\"consumers\": [{{\"name\": \"c\", \"keys\": [\"{SECRET}\" \"x\"]}}]}}"));
    hidden("a.toml", &format!("[[consumers]]\nname = \"c\"\nkeys = [\"{SECRET}\" \"x\"]\n"));
    hidden("a.toml", &format!("[[consumers]]\nname = \"c\"\nkeys = [\"{SECRET}\"]\nkeys = [\"{SECRET}\"]\n"));
}

#[test]
fn secrets_of_policies_are_hidden_wherever_policies_stand() {
    for policies in [
        format!("policies: {{ jwt: {{ keys: {{ secret: {SECRET} }} }} }}"),
        format!("policies: {{ introspection: {{ client: {{ id: a, secret: {SECRET} }} }} }}"),
        format!("policies: {{ jwt: {{ keys: {{ sekret: {SECRET} }} }} }}"),
    ] {
        hidden("a.yaml", &format!("{FRAME}{policies}\n"));
    }
    hidden(
        "a.yaml",
        &format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\nroutes:\n- name: a\n  answer: {{}}\n  policies:\n    introspection:\n      \
             client: {{ id: a, client_secret: {SECRET} }}\n"
        ),
    );
}

#[test]
fn what_is_secret_in_the_settings_of_policies_is_not_shown() {
    for settings in [
        "csrf: { secret: SECRET }",
        "csrf: { secret: [SECRET, SECRET-2], cookie: 5 }",
        "csrf: { sekret: SECRET }",
        "permission: { service: { url: 'http://a/', send: { authorization: Bearer SECRET }, timeout: 5 } }",
        "permission: { service: { send: SECRET } }",
    ] {
        let settings = settings.replace("SECRET", SECRET);
        hidden("a.yaml", &format!("policies: {{ {settings} }}\n{FRAME}"));
        let route = FRAME.replace("answer: {}", &format!("answer: {{}}, policies: {{ {settings} }}"));
        hidden("a.yaml", &route);
    }
}
