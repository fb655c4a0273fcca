//! Where a running gateway's configuration comes from, each time it is read.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use daemun_config::{Environment, Loaded, System};

use crate::configuration::Language;

/// Reads a configuration anew each time it is asked.
pub(crate) trait Source: Send + Sync {
    /// Reads it. May take a second for a large one, and blocks.
    fn load(&self) -> Loaded;

    /// Whether reading it may wait for whoever writes it.
    fn is_pipe(&self) -> bool {
        false
    }

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

/// Bytes of a configuration whose routes and consumers are found as fast in small pages; those of larger ones lie too far apart.
const SMALL: u64 = 256 * 1024;

impl Files {
    /// Bytes of the file, or of the files in the folder; 0 where that cannot be told.
    fn size(&self) -> u64 {
        let usual = daemun_config::USUAL_PLACES.iter().map(Path::new);
        let places: Vec<&Path> = self.path.as_deref().map_or_else(|| usual.collect(), |path| vec![path]);
        let Some((place, found)) = places.into_iter().find_map(|place| Some((place, place.metadata().ok()?))) else {
            return 0;
        };
        if !found.is_dir() {
            return found.len();
        }
        let inside = place.read_dir().into_iter().flatten().flatten();
        inside.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
    }
}

impl Source for Files {
    fn load(&self) -> Loaded {
        // before anything of it is in memory, whose pages are used again for what it is compiled to
        if self.size() > SMALL {
            daemun_sys::allow_huge_pages(true);
        }
        self.language.load(self.path.as_deref(), &System)
    }

    fn is_pipe(&self) -> bool {
        let found = self.path.as_deref().and_then(|path| path.metadata().ok());
        found.is_some_and(|found| found.file_type().is_fifo())
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
