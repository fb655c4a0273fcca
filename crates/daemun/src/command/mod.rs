//! The commands that answer and end, one module each; each takes its part of the command line and writes its result.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod key;
pub(crate) mod password;
pub(crate) mod routes;
pub(crate) mod schema;
pub(crate) mod version;
