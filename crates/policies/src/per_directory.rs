//! What a policy works out once for all consumers and every route then shares. Knows no policy.

use std::any::Any;
use std::sync::Arc;

use daemun_pipeline::{BuildContext, Directory};

/// A value made from a directory. Holds the directory, so that no other one can come to stand at its address meanwhile.
#[derive(Debug)]
pub(crate) struct PerDirectory<T> {
    /// What it was made from.
    pub(crate) directory: Arc<Directory>,
    /// What was made.
    pub(crate) value: T,
}

impl<T: Any + Send + Sync> PerDirectory<T> {
    /// The value of `owner` for the directory that is being compiled against; made on the first call, shared on the others.
    pub(crate) fn of(ctx: &BuildContext<'_>, owner: &str, make: impl FnOnce(&Directory) -> T) -> Arc<PerDirectory<T>> {
        let identity = format!("{:p}", Arc::as_ptr(ctx.directory));
        ctx.carry.get_or(owner, &identity, || PerDirectory {
            directory: Arc::clone(ctx.directory),
            value: make(ctx.directory),
        })
    }
}
