//! The examples a user starts from have no findings.

use std::path::{Path, PathBuf};

use crate::support::VOCABULARY;
use daemun_config::{Environment, PolicyDescription, System, Vocabulary, load};

/// The real files, and a long text of its own for each variable that has no default.
struct Keys;

impl Environment for Keys {
    fn variable(&self, name: &str) -> Option<String> {
        const HASH: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        match name.rsplit('_').next()? {
            "HASH" => Some(HASH.to_owned()),
            "TOTP" => Some("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned()),
            "KEY" | "SECRET" | "PASSWORD" => Some(format!("{name} of sufficient length")),
            _ => None,
        }
    }

    fn read(&self, path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
        System.read(path, limit)
    }

    fn list(&self, path: &Path) -> std::io::Result<Option<Vec<PathBuf>>> {
        System.list(path)
    }
}

/// Policies that an example may name beside those of these tests; their settings are their own, and `daemun check` is held to the examples
/// as well.
const OTHERS: &[(&str, bool)] = &[
    ("hmac_auth", true),
    ("jwt", true),
    ("introspection", true),
    ("mtls_auth", true),
    ("forward_auth", true),
    ("oidc", true),
    ("signature_auth", true),
    ("basic_auth", true),
    ("token_auth", true),
    ("csrf", false),
    ("permission", false),
    ("plan", false),
    ("upstream_auth", false),
    ("tokens", false),
];

fn policies() -> Vec<PolicyDescription> {
    let other = |(name, authenticator): &(&'static str, bool)| PolicyDescription {
        name,
        phase: "",
        doc: "",
        authenticator: *authenticator,
        ends: *name == "tokens",
        implied: *name == "plan",
        unconditional: None,
        check: |_, _| {},
        schema: |_| true.into(),
    };
    let known = |name: &str| VOCABULARY.policies.iter().any(|policy| policy.name == name);
    let others = OTHERS.iter().filter(|(name, _)| !known(name)).map(other);
    VOCABULARY.policies.iter().copied().chain(others).collect()
}

#[test]
fn every_example_is_without_findings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let policies = policies();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_configuration =
            path.is_dir() && path.join("10-gateway.yaml").exists() || path.extension().is_some_and(|e| e == "yaml");
        if !is_configuration {
            continue;
        }
        let loaded = load(Some(&path), &Keys, &Vocabulary { policies: &policies });
        assert_eq!(loaded.diagnostics.render(&loaded.sources, false), "", "{}", path.display());
        count += 1;
    }
    assert!(count >= 9, "{count}");
}
