//! The program from outside: what its commands print and how they exit, and the running process under signals.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of it is test code, which fails by panicking"
)]

mod cli;
mod demo;
mod documents;
mod fifo;
mod process;
mod support;
mod together;
