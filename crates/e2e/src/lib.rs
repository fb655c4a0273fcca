//! Whole-gateway tests: starts the real binary, speaks raw bytes to it and plays the upstreams behind it. Knows nothing of
//! the gateway's own code, only its command line, its configuration and the wire.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness fails its test by panicking"
)]

pub mod wait;
pub mod queue;
pub mod wire;
pub mod tls;
pub mod message;
pub mod client;
pub mod origin;
pub mod gateway;
pub mod lane;
pub mod case;
pub mod hpack;
pub mod http2;
pub mod http2_origin;
pub mod load;
pub mod trace;

pub use case::{Case, case, run_cases};
pub use client::{Client, Response};
pub use gateway::Gateway;
pub use lane::Lane;
pub use origin::{Next, Origin, Peer, Request};
pub use tls::{Certificates, TlsClient};
pub use wait::{Deadline, poll, wait_until};
pub use wire::Broken;
