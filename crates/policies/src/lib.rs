//! Daemun's policies, one folder each: settings, behaviour, manual page and tests. Knows no socket and no clock.

pub mod compress;
pub mod request_id;
pub mod security_headers;
pub mod ip_filter;
pub mod bot_filter;
pub mod cors;
pub mod https_redirect;
pub mod canonical_host;
pub mod body_limit;
pub mod key_auth;
pub mod basic_auth;
pub mod token_auth;
pub mod jwt;
pub mod introspection;
pub mod oidc;
#[cfg(feature = "saml")]
pub mod saml_auth;
pub mod mtls_auth;
pub mod hmac_auth;
pub mod signature_auth;
pub mod forward_auth;
pub mod csrf;
pub mod permission;
pub mod rate_limit;
pub mod plan;
#[cfg(feature = "validate")]
pub mod validate;
pub mod headers;
pub mod transform;
pub mod upstream_auth;
pub mod fault_injection;
pub mod tokens;
pub mod redirect;
mod authorization;
mod base64_text;
mod bearer;
mod caller;
mod claims;
mod lasting;
mod per_directory;
mod presented;
mod replay;
mod representation;
mod set_cookie;
mod signed_body;
mod token_cache;
#[cfg(test)]
mod service;
#[cfg(test)]
mod scripted_world;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use daemun_pipeline::{Phase, PolicyRow};

/// Every policy, in running order.
pub const REGISTRY: &[PolicyRow] = &[
    PolicyRow::of::<compress::CompressConfig>(Phase::Admit, include_str!("compress/README.md")),
    PolicyRow::of::<request_id::RequestIdConfig>(Phase::Admit, include_str!("request_id/README.md")),
    PolicyRow::of::<security_headers::SecurityHeadersConfig>(Phase::Admit, include_str!("security_headers/README.md")),
    PolicyRow::of::<ip_filter::IpFilterConfig>(Phase::Admit, include_str!("ip_filter/README.md")),
    PolicyRow::of::<bot_filter::BotFilterConfig>(Phase::Admit, include_str!("bot_filter/README.md")),
    PolicyRow::of::<cors::CorsConfig>(Phase::Admit, include_str!("cors/README.md")),
    PolicyRow::of::<https_redirect::HttpsRedirectConfig>(Phase::Admit, include_str!("https_redirect/README.md")),
    PolicyRow::of::<canonical_host::CanonicalHostConfig>(Phase::Admit, include_str!("canonical_host/README.md")),
    PolicyRow::of::<body_limit::BodyLimitConfig>(Phase::Admit, include_str!("body_limit/README.md")),
    PolicyRow::of::<key_auth::KeyAuthConfig>(Phase::Authenticate, include_str!("key_auth/README.md")),
    PolicyRow::of::<basic_auth::BasicAuthConfig>(Phase::Authenticate, include_str!("basic_auth/README.md")),
    PolicyRow::of::<token_auth::TokenAuthConfig>(Phase::Authenticate, include_str!("token_auth/README.md")),
    PolicyRow::of::<jwt::JwtConfig>(Phase::Authenticate, include_str!("jwt/README.md")),
    PolicyRow::of::<introspection::IntrospectionConfig>(Phase::Authenticate, include_str!("introspection/README.md")),
    PolicyRow::of::<oidc::OidcConfig>(Phase::Authenticate, include_str!("oidc/README.md")),
    #[cfg(feature = "saml")]
    PolicyRow::of::<saml_auth::SamlAuthConfig>(Phase::Authenticate, include_str!("saml_auth/README.md")),
    PolicyRow::of::<mtls_auth::MtlsAuthConfig>(Phase::Authenticate, include_str!("mtls_auth/README.md")),
    PolicyRow::of::<hmac_auth::HmacAuthConfig>(Phase::Authenticate, include_str!("hmac_auth/README.md")),
    PolicyRow::of::<signature_auth::SignatureAuthConfig>(Phase::Authenticate, include_str!("signature_auth/README.md")),
    PolicyRow::of::<forward_auth::ForwardAuthConfig>(Phase::Authenticate, include_str!("forward_auth/README.md")),
    PolicyRow::of::<csrf::CsrfConfig>(Phase::Authorize, include_str!("csrf/README.md")),
    PolicyRow::of::<permission::PermissionConfig>(Phase::Authorize, include_str!("permission/README.md")),
    PolicyRow::of::<rate_limit::RateLimitConfig>(Phase::Admit, include_str!("rate_limit/README.md")),
    PolicyRow::of::<plan::PlanConfig>(Phase::Limit, include_str!("plan/README.md")),
    #[cfg(feature = "validate")]
    PolicyRow::of::<validate::ValidateConfig>(Phase::Transform, include_str!("validate/README.md")),
    PolicyRow::of::<headers::HeadersConfig>(Phase::Transform, include_str!("headers/README.md")),
    PolicyRow::of::<transform::TransformConfig>(Phase::Transform, include_str!("transform/README.md")),
    PolicyRow::of::<upstream_auth::UpstreamAuthConfig>(Phase::Transform, include_str!("upstream_auth/README.md")),
    PolicyRow::of::<fault_injection::FaultInjectionConfig>(Phase::Transform, include_str!("fault_injection/README.md")),
    PolicyRow::of::<tokens::TokensConfig>(Phase::Transform, include_str!("tokens/README.md")),
];
