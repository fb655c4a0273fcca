//! From files to a checked configuration.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;

use crate::decode::Decoder;
use crate::diagnostic::{
    ALIAS_LIMIT, BAD_REFERENCE, BAD_VALUE, CONTRADICTION, Diagnostic, Diagnostics, FILE, LIMIT, NO_CREDENTIALS,
    NO_EFFECT, NO_LISTENER, NO_ROUTE, NOT_AN_AUTHENTICATOR, ROUTE_LESS_PROTECTED, SYNTAX, UNKNOWN_UPSTREAM,
    UNUSED_UPSTREAM,
};
use crate::file::{read_file, read_file_or_pipe, why};
use crate::language::Whole;
use crate::model::Config;
use crate::parse::Format;
use crate::policy::Vocabulary;
use crate::references::Given;
use crate::tree::{At, Node, Sources, Value, clip};
use crate::{language, references};

/// What loading reads from the world.
pub trait Environment {
    /// Value of an environment variable; `None` when it is not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// At most `limit` + 1 bytes of a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is none.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The same of what an operator named as the configuration, which may be a pipe.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read_named(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.read(path, limit)
    }

    /// The files of a folder, in no order; `None` when `path` is not a folder.
    ///
    /// # Errors
    /// When nothing is there or it cannot be read.
    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>>;
}

/// The process's own environment and file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Environment for System {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        read_file(path, limit)
    }

    fn read_named(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        read_file_or_pipe(path, limit)
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        if !std::fs::metadata(path)?.is_dir() {
            return Ok(None);
        }
        std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>().map(Some)
    }
}

/// What loading came to.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` exactly when `diagnostics` has errors.
    pub config: Option<Config>,
    /// What could be read of one with errors.
    pub draft: Option<Draft>,
    /// All findings, in the order of their places.
    pub diagnostics: Diagnostics,
    /// The texts, for snippets.
    pub sources: Sources,
    /// Every file and folder that the configuration was read from or refers to; a change of one may change it.
    pub files: Vec<PathBuf>,
    /// The whole tree, references replaced; `None` when a text could not be read.
    pub tree: Option<Node>,
    /// Whether a file or folder was not to be had, which is another matter than one that is wrong.
    pub unreadable: bool,
    /// What references stand for, the longest first: to be hidden from whatever is shown.
    pub given: Vec<Given>,
}

/// What could be read of a configuration with errors. What has an error is left out; the rest may have more, which are better told at once.
pub struct Draft {
    config: Config,
    whole: Whole,
    unresolved: HashSet<At>,
}

impl Draft {
    /// The configuration without what has an error. An upstream's index in a route means nothing.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether all policies of every route are known by name; if not, nothing can be said of what they do together.
    #[must_use]
    pub fn knows_policies(&self) -> bool {
        self.whole.policies
    }

    /// Those findings on it that stand whatever was left out.
    #[must_use]
    pub fn keep(&self, mut found: Diagnostics) -> Diagnostics {
        found.remove(|found| {
            let by_absence = match found.code {
                NO_CREDENTIALS => !self.whole.consumers,
                ROUTE_LESS_PROTECTED => !self.whole.routes || !self.whole.policies,
                _ => false,
            };
            by_absence || self.unresolved.contains(&found.at)
        });
        found
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("config", &self.config).field("whole", &self.whole).finish_non_exhaustive()
    }
}

/// Where the configuration is looked for when no path is given.
pub const USUAL_PLACES: [&str; 2] = ["daemun.yaml", "/etc/daemun/daemun.yaml"];
/// Findings that mean nothing when a file of the configuration could not be read.
const OF_THE_WHOLE: &[&str] =
    &[NO_LISTENER, NO_ROUTE, UNKNOWN_UPSTREAM, UNUSED_UPSTREAM, NO_EFFECT, NOT_AN_AUTHENTICATOR, CONTRADICTION];
/// Text of all files together.
const TEXT_LIMIT: u64 = 100 << 20;
/// Files of a folder.
const FILE_COUNT_LIMIT: usize = 10_000;

/// Reads the configuration from a file or folder; without a path from `daemun.yaml`, then `/etc/daemun/daemun.yaml`.
#[must_use]
pub fn load(path: Option<&Path>, environment: &dyn Environment, vocabulary: &Vocabulary<'_>) -> Loaded {
    let mut loader = Loader::default();
    if let Some(paths) = loader.find(path, environment) {
        let named = path.filter(|path| paths.iter().any(|found| found == path));
        loader.read(&paths, named, environment);
    }
    loader.finish(environment, vocabulary)
}

/// Checks one text as if it were a file `name`: for editors and tests.
#[must_use]
pub fn load_text(name: &Path, text: &str, environment: &dyn Environment, vocabulary: &Vocabulary<'_>) -> Loaded {
    let mut loader = Loader::default();
    loader.text(name, text.to_owned());
    loader.finish(environment, vocabulary)
}

#[derive(Default)]
struct Loader {
    diagnostics: Diagnostics,
    sources: Sources,
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    trees: Vec<Node>,
    unreadable: bool,
}

impl Loader {
    fn find(&mut self, path: Option<&Path>, environment: &dyn Environment) -> Option<Vec<PathBuf>> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => match USUAL_PLACES.iter().map(Path::new).find(|place| environment.list(place).is_ok()) {
                Some(place) => place.to_owned(),
                None => {
                    let message =
                        "there is no configuration: neither `daemun.yaml` nor `/etc/daemun/daemun.yaml` is there";
                    let found = Diagnostic::error(FILE, At::default(), message);
                    self.diagnostics.push(found.help("name a file or folder with `-c`"));
                    self.unreadable = true;
                    return None;
                }
            },
        };
        self.files.push(path.clone());
        let mut paths = match environment.list(&path) {
            Ok(None) => return Some(vec![path]),
            Ok(Some(paths)) => paths,
            Err(error) => {
                self.unreadable(&path, &error);
                return None;
            }
        };
        paths.retain(|path| is_configuration(path));
        paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        if paths.is_empty() {
            let message = format!("the folder `{}` holds no configuration", path.display());
            let found = Diagnostic::error(FILE, At::default(), message);
            self.diagnostics.push(found.help("its files end in `.yaml`, `.yml`, `.json` or `.toml`"));
            return None;
        }
        if paths.len() > FILE_COUNT_LIMIT {
            let message = format!("the folder `{}` holds more than {FILE_COUNT_LIMIT} files", path.display());
            self.diagnostics.push(Diagnostic::error(LIMIT, At::default(), message));
            return None;
        }
        self.files.extend(paths.iter().cloned());
        Some(paths)
    }

    /// `named`: what was named to be read, if it is no folder.
    fn read(&mut self, paths: &[PathBuf], named: Option<&Path>, environment: &dyn Environment) {
        let mut left = TEXT_LIMIT;
        for path in paths {
            let bytes = if named.is_some() { environment.read_named(path, left) } else { environment.read(path, left) };
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.unreadable(path, &error);
                    continue;
                }
            };
            let Some(rest) = u64::try_from(bytes.len()).ok().and_then(|length| left.checked_sub(length)) else {
                let message = format!("the configuration is larger than 100 MiB, up to `{}`", path.display());
                self.diagnostics.push(Diagnostic::error(LIMIT, At::default(), message));
                return;
            };
            left = rest;
            match String::from_utf8(bytes) {
                Ok(text) => self.text(path, text),
                Err(error) => self.not_text(path, &error),
            }
        }
    }

    fn text(&mut self, path: &Path, text: String) {
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        let Some(file) = self.sources.add(path, text) else { return };
        self.folders.push(path.parent().unwrap_or(Path::new("")).to_owned());
        let text = self.sources.text(file).unwrap_or_default();
        let tree = crate::parse::parse(text, Format::of(path), file, &mut self.diagnostics);
        match tree {
            None => self.sources.mask_unread(),
            Some(Node { value: Value::Null, .. }) => {
                let message = format!("`{}` is empty", path.display());
                self.diagnostics.push(Diagnostic::error(FILE, At::file(file), message));
            }
            Some(tree) => self.trees.push(tree),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let message = format!("`{}` cannot be read: {}", path.display(), why(error));
        self.diagnostics.push(Diagnostic::error(FILE, At::default(), message));
        self.unreadable = true;
    }

    /// Reports a file that holds something else than text, at the first byte that is none.
    fn not_text(&mut self, path: &Path, error: &FromUtf8Error) {
        const SHOWN_BEHIND: usize = 40;
        let valid = error.utf8_error().valid_up_to();
        let shown = error.as_bytes().get(..valid.saturating_add(SHOWN_BEHIND)).unwrap_or(error.as_bytes());
        let shown = String::from_utf8_lossy(shown).into_owned();
        let before = shown.get(..valid).unwrap_or_default();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        let line = number(before.matches('\n').count());
        let column = number(before.rsplit('\n').next().unwrap_or_default().chars().count());
        let Some(file) = self.sources.add(path, shown) else { return };
        self.folders.push(path.parent().unwrap_or(Path::new("")).to_owned());
        self.sources.mask_unread();
        let at = At { file, line, column, end_line: line, end_column: column.saturating_add(1) };
        let found = Diagnostic::error(FILE, at, format!("`{}` is not UTF-8 text", path.display()));
        self.diagnostics.push(found.help("save it as UTF-8; this byte is no part of a character"));
    }

    fn finish(mut self, environment: &dyn Environment, vocabulary: &Vocabulary<'_>) -> Loaded {
        let complete = !self.diagnostics.iter().any(|found| matches!(found.code, SYNTAX | FILE | LIMIT | ALIAS_LIMIT));
        let mut tree = crate::merge::merge(std::mem::take(&mut self.trees), &mut self.diagnostics);
        let mut read = None;
        let mut unresolved = HashSet::new();
        let mut given = Vec::new();
        if let Some(tree) = &mut tree {
            references::mark_secrets(tree, &mut self.sources);
            let resolved = references::resolve(tree, &self.folders, environment, &mut self.diagnostics);
            self.files.extend(resolved.files);
            let cx = Decoder::new(&mut self.diagnostics, "").folders(&self.folders).policies(vocabulary.policies);
            let mut cx = cx.unresolved(&resolved.unresolved);
            read = language::read(tree, &mut cx);
            self.files.extend(cx.take_files());
            if let Some((config, _)) = &mut read {
                config.folders.clone_from(&self.folders);
            }
            workers(read.as_mut().map(|(config, _)| config), environment, &mut self.diagnostics);
            self.diagnostics.remove(|found| {
                let unresolved = found.code != BAD_REFERENCE && resolved.unresolved.contains(&found.at);
                unresolved || !complete && OF_THE_WHOLE.contains(&found.code)
            });
            if !self.diagnostics.is_empty() {
                let mut secrets = Vec::new();
                references::secrets(tree, &mut secrets);
                self.diagnostics.hide(&secrets);
            }
            unresolved = resolved.unresolved;
            given = resolved.given;
        }
        self.diagnostics.sort();
        if let Some((config, _)) = &read {
            self.files.extend(named_files(config));
        }
        let (config, draft) = match read {
            Some((config, whole)) if !self.diagnostics.has_errors() => (whole.all().then_some(config), None),
            Some((config, whole)) => {
                (None, Some(Draft { config, whole: if complete { whole } else { Whole::default() }, unresolved }))
            }
            None => (None, None),
        };
        let Self { diagnostics, sources, files, unreadable, .. } = self;
        Loaded { config, draft, diagnostics, sources, files, tree, unreadable, given }
    }
}

/// Whether a file of a folder belongs to the configuration.
fn is_configuration(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    !hidden && matches!(extension.as_deref(), Some("yaml" | "yml" | "json" | "toml"))
}

/// Lets `DAEMUN_WORKERS` win.
fn workers(config: Option<&mut Config>, environment: &dyn Environment, diagnostics: &mut Diagnostics) {
    let Some(written) = environment.variable("DAEMUN_WORKERS").filter(|written| !written.is_empty()) else { return };
    match written.parse() {
        Ok(workers) if (1..=1024).contains(&workers) => {
            if let Some(config) = config {
                config.workers = Some(workers);
            }
        }
        _ => {
            let message = format!(
                "the environment variable `DAEMUN_WORKERS` is `{}`, not a number from 1 to 1024",
                clip(&written)
            );
            diagnostics.push(Diagnostic::error(BAD_VALUE, At::default(), message).path("workers"));
        }
    }
}

/// The certificate, key and authority files that a configuration names.
fn named_files(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        for certificate in &tls.certificates {
            files.extend([certificate.cert.value.clone(), certificate.key.value.clone()]);
        }
        files.extend(tls.client_ca.iter().chain(&tls.client_crl).map(|file| file.value.clone()));
    }
    for upstream in &config.upstreams {
        let tls = &upstream.tls;
        files.extend([&tls.ca, &tls.cert, &tls.key].into_iter().flatten().map(|file| file.value.clone()));
    }
    files
}
