//! Fields by which a back end knows the caller: forged ones never reach it, in no spelling.

use daemun_e2e::case::{case, run_cases};
use daemun_e2e::lane::FORWARD_ALL;

use super::get;

#[test]
fn forged_identity_fields_are_removed_in_every_spelling() {
    let names = [
        "X-Consumer-Name",
        "x-consumer-name",
        "X-CONSUMER-NAME",
        "X_Consumer_Name",
        "x_consumer_name",
        "X-Consumer_Name",
        "X_Consumer-Name",
        "X-Consumer-Id",
        "X-Consumer-Roles",
        "X-Consumer-Plan",
        "X-Consumer-Anything",
        "X_CONSUMER_ANYTHING",
        "x-Consumer-",
    ];
    let gone = |request: &daemun_e2e::Request| {
        let forged =
            |(name, _): &&(String, String)| name.to_ascii_lowercase().replace('_', "-").starts_with("x-consumer");
        match request.head.fields.iter().find(forged) {
            Some(found) => Err(format!("{found:?} reached the upstream")),
            None if request.has("x-kept") => Ok(()),
            None => Err("a field beside it was lost".to_owned()),
        }
    };
    let with = |name: &str, fields: String| case(name, get(fields)).passes_as(gone);
    let mut cases: Vec<_> = names.iter().map(|name| with(name, format!("{name}: admin\r\nX-Kept: 1\r\n"))).collect();
    cases.push(with(
        "all of them at once",
        names.iter().fold("X-Kept: 1\r\n".to_owned(), |all, name| all + &format!("{name}: admin\r\n")),
    ));
    cases.push(with("the same one many times", format!("{}X-Kept: 1\r\n", "X-Consumer-Name: admin\r\n".repeat(20))));
    cases.push(with("with an empty value", "X-Consumer-Name:\r\nX-Kept: 1\r\n".to_owned()));
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn fields_with_underscores_are_dropped_unless_kept() {
    let names =
        ["X_A", "_", "_x", "x_", "Content_Type", "Authorization_", "Transfer_Encoding", "Host_", "X_Forwarded_For"];
    let cases = names
        .iter()
        .map(|name| {
            case(*name, get(format!("{name}: b\r\nX-Kept: 1\r\n"))).passes_as(|request| {
                let found = request.head.fields.iter().find(|(own, _)| own.contains('_'));
                if found.is_none() && request.has("x-kept") {
                    Ok(())
                } else {
                    Err(format!("{found:?} reached the upstream"))
                }
            })
        })
        .collect();
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn the_forwarding_fields_of_a_stranger_are_not_believed() {
    let lies = [
        ("X-Forwarded-For", "10.9.9.9"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Port", "443"),
        ("X-Real-Ip", "10.9.9.9"),
        ("X.Real.Ip", "10.9.9.9"),
        ("Proxy", "http://evil.test"),
        ("Forwarded", "for=10.9.9.9;host=evil.test;proto=https"),
    ];
    let truth = |request: &daemun_e2e::Request| {
        for (name, value) in &request.head.fields {
            let lower = name.to_ascii_lowercase();
            let about = lower.starts_with("x-forwarded")
                || lower == "forwarded"
                || lower == "proxy"
                || lower.replace('.', "-") == "x-real-ip";
            if about
                && (value.contains("10.9.9.9") || value.contains("evil") || value.contains("https") || value == "443")
            {
                return Err(format!("`{name}: {value}` reached the upstream"));
            }
        }
        Ok(())
    };
    let mut cases: Vec<_> =
        lies.iter().map(|(name, value)| case(*name, get(format!("{name}: {value}\r\n"))).passes_as(truth)).collect();
    cases.push(
        case(
            "twice, far apart",
            get("X-Forwarded-For: 10.9.9.9\r\nX-A: b\r\nx-forwarded-for: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\n"),
        )
        .passes_as(truth),
    );
    run_cases(FORWARD_ALL, cases);
}

#[test]
fn what_is_set_of_a_caller_takes_the_place_of_what_the_caller_claims() {
    let config = FORWARD_ALL.replace(
        "upstream: origin",
        "upstream: origin\n    policies:\n      headers: { request: { set: { X-Real-IP: \"${client.ip}\" }, add: { X-Forwarded-Prefix: /api } } }\n      \
         transform: { request: [{ set: { header.x-forwarded-port: \"8443\" } }] }",
    );
    assert_ne!(config, FORWARD_ALL);
    let own = |request: &daemun_e2e::Request| {
        let expected = [("x-real-ip", "127.0.0.1"), ("x-forwarded-prefix", "/api"), ("x-forwarded-port", "8443")];
        for (name, value) in expected {
            let found: Vec<_> = request.head.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).collect();
            if !matches!(found.as_slice(), [(_, only)] if only == value) {
                return Err(format!("{name}: {found:?}"));
            }
        }
        Ok(())
    };
    let claims = "X-Real-IP: 10.9.9.9\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Port: 1\r\n".to_owned();
    run_cases(
        &config,
        vec![
            case("none claimed", get("X-Kept: 1\r\n")).passes_as(own),
            case("all claimed", get(claims)).passes_as(own),
        ],
    );
}
