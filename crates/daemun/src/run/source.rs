//! Where a running gateway's configuration comes from, each time it is read.

use std::path::PathBuf;

use daemun_config::{Environment, Loaded, System};

use crate::configuration::Language;

/// Reads a configuration anew each time it is asked.
pub(crate) trait Source: Send + Sync {
    /// Reads it. May take a second for a large one, and blocks.
    fn load(&self) -> Loaded;

    /// What to call it in the log.
    fn name(&self) -> String;
}

/// A file or folder, or the usual places.
pub(crate) struct Files {
    language: Language,
    path: Option<PathBuf>,
}

impl Files {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { language: Language::new(), path }
    }
}

impl Source for Files {
    fn load(&self) -> Loaded {
        self.language.load(self.path.as_deref(), &System)
    }

    fn name(&self) -> String {
        self.path.as_ref().map_or("the configuration".to_owned(), |path| format!("`{}`", path.display()))
    }
}

/// A text of this binary's own, with variables it was given.
pub(crate) struct Embedded<E> {
    language: Language,
    name: PathBuf,
    environment: E,
}

impl<E: Environment + Send + Sync> Embedded<E> {
    pub(crate) fn new(name: PathBuf, environment: E) -> Self {
        Self { language: Language::new(), name, environment }
    }
}

impl<E: Environment + Send + Sync> Source for Embedded<E> {
    fn load(&self) -> Loaded {
        self.language.load(Some(&self.name), &self.environment)
    }

    fn name(&self) -> String {
        format!("`{}`", self.name.display())
    }
}
