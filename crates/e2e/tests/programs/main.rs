//! Independent programs: those served through the gateway, a WebSocket library, a gRPC library and a browser, and a schema validator.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod peers;
mod websocket;
mod grpc;
mod browser;
mod schema;
mod schema_suite;
