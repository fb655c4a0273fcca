//! Whole-gateway tests: the real binary between scripted clients and scripted upstreams, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::missing_panics_doc,
    reason = "tests fail by panicking, and a table of cases is long"
)]

mod raw;
mod http2;
mod tls;
mod upstream_lies;
mod trickling;
mod logging_out;
mod mutations;
mod http1;
mod bodies;
mod forwarding;
mod balancing;
mod draining;
mod routing;
mod expressions;
mod policies;
mod conditional_policies;
mod declared_credentials;
mod shaping;
mod admission;
mod passwords;
mod plans;
mod permission;
mod anonymous;
mod users;
mod forward_auth;
mod one_of_several;
mod tokens;
mod assertions;
mod signatures;
mod signed_tokens;
mod upstream_credentials;
mod validate;
mod refusals;
mod limits;
mod overload;
mod kept;
mod proxy_protocol;
mod files;
mod upgrades;
mod observing;
mod lifecycle;
mod checking;
mod finding;
mod telling;
mod standing_in;
mod commands;
