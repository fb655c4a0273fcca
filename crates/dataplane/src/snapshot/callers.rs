//! The consumers, users and plans of a configuration become the directory of its snapshot. Knows no route.

use daemun_config::model::Config;
use daemun_pipeline::{BasicCredential, Consumer, Directory};

/// Known callers, in the order of the configuration.
pub(super) fn directory(config: &Config) -> Directory {
    let consumers = config.consumers.iter().map(|c| Consumer {
        name: c.name.value.clone(),
        roles: c.roles.clone(),
        groups: c.groups.clone(),
        tags: c.tags.clone(),
        scopes: c.scopes.clone(),
        keys: c.keys.iter().map(|k| k.value).collect(),
        basic: c
            .basic
            .iter()
            .map(|known| BasicCredential { username: known.username.value.clone(), password: known.password })
            .collect(),
        certificates: c.certificates.clone(),
        hmac: c.hmac.clone(),
        signing_keys: c.signing_keys.clone(),
        redirect_uris: c.redirect_uris.clone(),
        terms: c.terms.iter().cloned().collect(),
        plans: c.plans.clone(),
    });
    Directory::new(consumers.collect())
        .with_users(config.users.iter().cloned())
        .with_plans(config.plans.iter().cloned())
}
