//! What a token service tells everybody: its keys and where it is found. Knows no caller.

use std::collections::BTreeSet;
use std::time::Duration;

use daemun_config::model::{GrantType, TokenService};
use daemun_pipeline::{Answer, Directory, Stop};
use serde_json::{Value, json};

/// How long metadata may be used without being asked for again.
const METADATA_AGE: Duration = Duration::from_secs(900);

/// An answer that may be kept for a time.
fn answer(content_type: &str, body: String, age: Duration) -> Stop {
    let fields = [("content-type", content_type.to_owned()), ("cache-control", cache_control(age))];
    Stop::Answer(Box::new(Answer {
        status: 200,
        fields: fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        body: body.into(),
    }))
}

fn cache_control(age: Duration) -> String {
    if age.as_secs() == 0 { "no-cache".to_owned() } else { format!("public, max-age={}", age.as_secs()) }
}

/// Keys (RFC 7517, section 8.5).
pub(super) fn keys(set: String, age: Duration) -> Stop {
    answer("application/jwk-set+json", set, age)
}

/// Metadata (RFC 8414, section 3.2).
pub(super) fn metadata(text: String) -> Stop {
    answer("application/json", text, METADATA_AGE)
}

/// Metadata as they are told (RFC 8414, section 2), of a service that has an issuer.
pub(super) fn describe(service: &TokenService, issuer: &str, signs: bool, directory: &Directory) -> String {
    let grants: Vec<&str> = service.grants.iter().map(|grant| grant.as_str()).collect();
    let codes = service.grants.contains(&GrantType::AuthorizationCode);
    let clients = codes || service.grants.contains(&GrantType::ClientCredentials);
    // who shows a key or a refresh token shows no client's credentials beside it
    let others = service.grants.iter().any(|grant| *grant != GrantType::ClientCredentials);
    let ways = [("client_secret_basic", clients), ("client_secret_post", clients), ("none", others)];
    let ways: Vec<&str> = ways.into_iter().filter(|(_, there)| *there).map(|(way, _)| way).collect();
    let mut told = json!({
        "issuer": issuer,
        "token_endpoint": service.urls.token,
        "grant_types_supported": grants,
        "response_types_supported": if codes { vec!["code"] } else { Vec::new() },
        "token_endpoint_auth_methods_supported": ways,
    });
    let urls = [
        ("jwks_uri", signs.then_some(&service.urls.jwks)),
        ("revocation_endpoint", service.urls.revoke.as_ref()),
        ("introspection_endpoint", service.urls.introspect.as_ref()),
    ];
    let scopes: BTreeSet<&str> =
        directory.iter().flat_map(|(_, consumer)| consumer.scopes.iter().map(String::as_str)).collect();
    if let Some(told) = told.as_object_mut() {
        if codes {
            told.insert("authorization_endpoint".to_owned(), service.urls.authorize.as_str().into());
            told.insert("response_modes_supported".to_owned(), json!(["query"]));
            told.insert("code_challenge_methods_supported".to_owned(), json!(["S256"]));
            told.insert("authorization_response_iss_parameter_supported".to_owned(), true.into());
        }
        for (name, url) in urls {
            told.extend(url.map(|url| (name.to_owned(), Value::from(url.as_str()))));
        }
        if !scopes.is_empty() {
            told.insert("scopes_supported".to_owned(), scopes.into_iter().collect());
        }
    }
    told.to_string()
}
