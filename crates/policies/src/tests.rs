//! What holds for every policy.

use std::collections::BTreeSet;
use std::path::Path;

use daemun_config::decode::SchemaBuilder;
use daemun_config::{PolicyDescription, System, Vocabulary, load_text};
use daemun_pipeline::{Phase, PolicyRow};

use crate::REGISTRY;
use crate::testing::{Bench, consumer, run_page};

#[test]
fn every_folder_is_a_row_and_every_row_a_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = BTreeSet::new();
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for file in ["mod.rs", "config.rs", "tests.rs", "README.md"] {
                assert!(path.join(file).is_file(), "{} has a {file}", path.display());
            }
            folders.insert(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    let rows: BTreeSet<String> = REGISTRY.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(folders, rows);
    assert_eq!(rows.len(), REGISTRY.len(), "no name stands twice");
}

#[test]
fn rows_stand_in_running_order() {
    let names: Vec<&str> = REGISTRY.iter().map(|row| row.name).collect();
    let admit =
        "compress request_id security_headers ip_filter bot_filter cors https_redirect canonical_host body_limit";
    let known = "key_auth basic_auth token_auth jwt introspection oidc saml_auth mtls_auth hmac_auth signature_auth forward_auth";
    let then = "csrf permission";
    let last = "rate_limit plan validate headers transform upstream_auth fault_injection tokens";
    let order = format!("{admit} {known} {then} {last}");
    assert_eq!(names.join(" "), order);
}

#[test]
fn an_authenticator_sees_whether_a_credential_is_shown_good_or_bad() {
    let bench = Bench::new(vec![consumer("a", &[], &["key-of-a-00000001"])]);
    let asked = "introspection: { url: 'https://id/', client: { id: a, secret: b } }";
    for (settings, nothing, something) in [
        ("key_auth: { header: K, query: k }", "K:\nAuthorization: Bearer x", &["K: x", "K: a\nK: b"][..]),
        ("basic_auth: {}", "Authorization: Bearer x", &["Authorization: Basic !!"]),
        ("token_auth: {}", "Authorization: Basic x", &["Authorization: Bearer x", "authorization: bearer  dmt_x"]),
        ("token_auth: { header: T }", "Authorization: Bearer x", &["T: x", "T: x\nT: y"]),
        ("jwt: { issuer: 'https://id.example', audience: a }", "Authorization: Basic x", &["Authorization: Bearer x"]),
        (
            asked,
            "Authorization: Basic x",
            &["Authorization: Bearer x", "Authorization: Bearer x\nAuthorization: Bearer y"],
        ),
        ("hmac_auth: {}", "Authorization: Bearer x", &["Authorization: Hmac", "Authorization: Signature x"]),
        ("signature_auth: {}", "Authorization: Bearer x", &["Signature: x", "Signature-Input: x"]),
    ] {
        let chain = bench.build(settings).unwrap();
        let (_, policy) = chain.steps.iter().find(|(phase, _)| *phase == Phase::Authenticate).unwrap();
        let is_shown = |fields: &str| policy.is_shown(&chain.exchange(&format!("GET / HTTP/1.1\nHost: a\n{fields}")));
        assert!(!is_shown("X: y") && !is_shown(nothing), "{settings}");
        for fields in something {
            assert!(is_shown(fields), "{settings} {fields}");
        }
    }
    let chain = bench.build("key_auth: { query: k }").unwrap();
    let is_shown =
        |target: &str| chain.steps[0].1.is_shown(&chain.exchange(&format!("GET {target} HTTP/1.1\nHost: a")));
    assert!(is_shown("/?k=x") && !is_shown("/?k=") && !is_shown("/"));
    // one that asks elsewhere does not know before
    let chain = bench.build("forward_auth: { url: 'http://127.0.0.1:9000/check' }").unwrap();
    assert!(chain.steps[0].1.is_shown(&chain.exchange("GET / HTTP/1.1\nHost: a")));
}

#[test]
fn whoever_switches_a_policy_on_that_needs_no_settings_is_told_how() {
    let policies: Vec<PolicyDescription> = REGISTRY.iter().map(PolicyRow::describe).collect();
    let findings = |settings: &str| -> Vec<String> {
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\npolicies: {{ {settings} }}\nroutes: [{{ name: a, answer: {{}} }}]\n"
        );
        let loaded = load_text(Path::new("a.yaml"), &text, &System, &Vocabulary { policies: &policies });
        let errors =
            loaded.diagnostics.iter().filter(|found| found.code == "wrong_type" || found.code == "missing_key");
        errors.map(|found| found.help.clone().unwrap_or_default()).collect()
    };
    let mut without = Vec::new();
    for row in REGISTRY.iter().map(|row| row.name) {
        if findings(&format!("{row}: {{}}")).is_empty() && !findings(&format!("{row}: true")).is_empty() {
            assert_eq!(findings(&format!("{row}: true")), [format!("none of them is needed: write `{row}: {{}}`")]);
            without.push(row);
        }
    }
    assert!(without.contains(&"https_redirect") && without.len() > 3, "{without:?}");
}

#[test]
fn whoever_asks_for_roles_by_another_name_is_told_of_permission() {
    let policies: Vec<PolicyDescription> = REGISTRY.iter().map(PolicyRow::describe).collect();
    for (lines, code, help) in [
        ("policies: { rbac: {} }\nroutes: [{ name: a, answer: {} }]", "unknown_policy", "`permission: { allow: "),
        ("policies: { acl: {} }\nroutes: [{ name: a, answer: {} }]", "unknown_policy", "`permission: { allow: "),
        ("routes: [{ name: a, answer: {}, roles: [b] }]", "unknown_key", "`policies: { permission: { allow: "),
        ("routes: [{ name: a, answer: {}, scopes: [b] }]", "unknown_key", "`policies: { permission: { allow: "),
    ] {
        let text = format!("listeners: [{{ bind: 127.0.0.1:0 }}]\n{lines}\n");
        let loaded = load_text(Path::new("a.yaml"), &text, &System, &Vocabulary { policies: &policies });
        let found: Vec<_> = loaded.diagnostics.iter().map(|found| (found.code, found.help.clone())).collect();
        let [(found, told)] = found.as_slice() else { panic!("{lines}: {found:?}") };
        assert!(*found == code && told.as_deref().unwrap_or_default().contains(help), "{lines}: {told:?}");
    }
}

#[test]
fn every_manual_page_is_true() {
    for row in REGISTRY {
        assert!(
            row.manual.starts_with(&format!("# `{}`\n", row.name)),
            "the page of {} begins with its name",
            row.name
        );
        assert!(run_page(row.manual) >= 2, "the page of {} shows exchanges", row.name);
    }
}

#[test]
fn every_setting_is_on_its_page() {
    for row in REGISTRY {
        let mut builder = SchemaBuilder::new(&[]);
        (row.schema)(&mut builder);
        for definition in builder.definitions().values() {
            let properties = definition.get("properties").and_then(|properties| properties.as_object());
            for key in properties.into_iter().flat_map(|properties| properties.keys()) {
                assert!(row.manual.contains(&format!("`{key}`")), "the page of {} names `{key}`", row.name);
            }
        }
    }
}

#[test]
fn a_policy_that_reads_a_field_which_never_arrives_is_warned_of_where_the_field_is_named() {
    let found = |underscores: &str| {
        let text = format!(
            "listeners: [{{ bind: 127.0.0.1:0 }}]\n{underscores}policies:\n  key_auth: {{ header: X_Key, query: key }}\nroutes:\n  - name: a\n    \
             answer: {{}}\n    policies:\n      rate_limit: [{{ limit: 1/s, by: route }}, {{ limit: 1/s, by: {{ header: x_y }} }}]\n  \
             - {{ name: b, match: {{ path: /b }}, answer: {{}} }}\nconsumers: [{{ name: c, keys: [0123456789abcdef] }}]\n"
        );
        let descriptions: Vec<PolicyDescription> = REGISTRY.iter().map(PolicyRow::describe).collect();
        let loaded = load_text("a.yaml".as_ref(), &text, &System, &Vocabulary { policies: &descriptions });
        let line = |found: &daemun_config::Diagnostic| {
            let (severity, help) = (found.severity.as_str(), found.help.as_deref().unwrap_or_default());
            format!("{}:{} {severity} {} {}; {help}", found.at.line, found.at.column, found.code, found.path)
        };
        loaded.diagnostics.iter().map(line).collect::<Vec<_>>()
    };
    let help = "write `-`, or keep such fields with `underscores: keep`";
    assert_eq!(
        found(""),
        [
            format!("3:23 warning no_effect policies.key_auth.header; {help}"),
            format!("8:75 warning no_effect routes.a.policies.rate_limit[1].by.header; {help}"),
        ]
    );
    assert_eq!(found("underscores: keep\n"), [""; 0]);
}
