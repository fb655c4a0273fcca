//! The configuration language of Daemun: text becomes a positioned tree, the tree becomes findings and a [`model::Config`].
//! Knows nothing of sockets, threads or the policies' behaviour, and depends on no other crate of Daemun.

pub mod tree;
pub mod diagnostic;
pub mod decode;
pub mod policy;
pub mod model;
mod parse;
mod merge;
mod references;
mod language;
mod load;
mod file;
mod shown;
mod print;
mod reference;

pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use file::{read_file, read_file_or_pipe, why};
pub use language::{
    MOST_PLANS, MOST_REDIRECTS, TargetList, read_plan, read_targets, redirect_advice, schema, why_no_redirect,
};
pub use load::{Draft, Environment, Loaded, System, USUAL_PLACES, load, load_text};
pub use model::{Config, Spanned};
pub use parse::{Format, parse, parse_text};
pub use policy::{PolicyDescription, Vocabulary};
pub use print::{PrintOptions, check_round_trip, print};
pub use reference::{codes_markdown, reference_markdown};
pub use references::{Given, Resolved, resolve};
pub use shown::{Shown, is_active};
