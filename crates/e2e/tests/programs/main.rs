//! Independent programs served through the gateway: a WebSocket library, a gRPC library, a browser.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod peers;
mod websocket;
mod grpc;
mod browser;
