//! The demo.
pub(crate) mod backend;
