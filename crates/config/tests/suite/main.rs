//! Tests of the configuration language through its public face.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail by panicking, as tests do, and a list of cases is as long as it is"
)]

mod support;

mod available;
mod bounds;
mod examples;
mod contradictions;
mod findings;
mod folder;
mod forty;
mod large;
mod logins;
mod page;
mod plans;
mod properties;
mod references;
mod schema;
mod secrets;
mod syntax;
mod upstreams;
mod users;
mod values;
