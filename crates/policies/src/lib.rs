//! Daemun's policies, one folder each: settings, behaviour, manual page and tests. Knows no socket and no clock.

pub mod compress;
pub mod cors;
pub mod key_auth;
pub mod rate_limit;
pub mod headers;
pub mod transform;
mod per_directory;
mod representation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use daemun_pipeline::{Phase, PolicyRow};

/// Every policy, in running order.
pub const REGISTRY: &[PolicyRow] = &[
    PolicyRow::of::<compress::CompressConfig>(Phase::Admit, include_str!("compress/README.md")),
    PolicyRow::of::<cors::CorsConfig>(Phase::Admit, include_str!("cors/README.md")),
    PolicyRow::of::<key_auth::KeyAuthConfig>(Phase::Authenticate, include_str!("key_auth/README.md")),
    PolicyRow::of::<rate_limit::RateLimitConfig>(Phase::Admit, include_str!("rate_limit/README.md")),
    PolicyRow::of::<headers::HeadersConfig>(Phase::Transform, include_str!("headers/README.md")),
    PolicyRow::of::<transform::TransformConfig>(Phase::Transform, include_str!("transform/README.md")),
];
