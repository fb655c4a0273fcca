//! Independent programs: those served through the gateway, a WebSocket library, a gRPC library and a browser, a schema validator, the suite of JSON Schema, the test vectors of JOSE, a token service with nginx, an OpenID provider with and without a browser, an OAuth client, a program that signs XML, a decision service, and clients of described APIs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests are tests")]

mod peers;
mod websocket;
mod grpc;
mod browser;
mod described;
mod schema;
mod schema_suite;
mod retailer;
mod jose_vectors;
mod oidc;
mod login;
mod oauth;
mod codes;
mod saml;
mod users;
mod opa;
