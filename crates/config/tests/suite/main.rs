//! Tests of the configuration language through its public face.

mod support;

mod available;
mod bounds;
mod findings;
mod folder;
mod forty;
mod large;
mod page;
mod properties;
mod references;
mod schema;
mod secrets;
mod syntax;
mod values;
