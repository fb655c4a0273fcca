//! What `oidc` holds beyond its page: a provider that a script plays, and a browser that keeps cookies.

pub(crate) mod bed;
mod logins;
mod sessions;
mod settings;
