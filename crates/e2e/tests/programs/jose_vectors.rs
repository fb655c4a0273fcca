//! The test vectors of Wycheproof for JSON Web Signatures and Keys, through what `jwt` verifies tokens with. Each must come out as it is
//! published; every exception is listed with its reason.

use std::collections::BTreeSet;
use std::path::Path;

use daemun_policies::jwt::Algorithm;
use daemun_policies::jwt::jws::Jws;
use daemun_policies::jwt::keys::KeySet;
use serde_json::Value;

use crate::peers::is_there;

const FILES: [&str; 3] = ["json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"];

#[test]
fn the_vectors_of_wycheproof_come_out_as_published() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/wycheproof");
    if !is_there(if folder.join(".installed").is_file() { &[] } else { &["the test vectors of Wycheproof"] }) {
        return;
    }
    let (mut count, mut valid, mut found) = (0, 0, BTreeSet::new());
    for name in FILES {
        let file: Value = serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        for group in file["testGroups"].as_array().unwrap() {
            let keys = group.get("public").unwrap_or(&group["private"]);
            for test in group["tests"].as_array().unwrap() {
                // the other tests of a group are of encryption
                let Some(jws) = test.get("jws") else { continue };
                let said = verifies(keys, jws);
                let expected = test["result"] == "valid";
                count += 1;
                valid += u32::from(said && expected);
                if said != expected {
                    let (case, comment) = (&test["tcId"], test["comment"].as_str().unwrap_or_default());
                    found.insert(format!("{name} {case} {comment}: {said} instead of {expected}"));
                }
            }
        }
    }
    assert!(count > 400 && valid > 40, "{count} vectors ran, {valid} of them valid");
    let lines = include_str!("jose_exceptions.txt").lines();
    let listed: BTreeSet<String> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    assert!(unlisted.is_empty(), "{count} vectors, {} exceptions: {unlisted:#?}", unlisted.len());
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "no exception any more: {gone:#?}");
}

/// Whether a token is genuine by these keys.
fn verifies(keys: &Value, jws: &Value) -> bool {
    let text = jws.as_str().map_or_else(|| jws.to_string(), str::to_owned);
    let Ok(read) = KeySet::of_json(keys.to_string().as_bytes(), &Algorithm::ALL, false) else { return false };
    Jws::parse(text.as_bytes()).is_ok_and(|jws| read.set.verify(&jws).is_ok())
}
