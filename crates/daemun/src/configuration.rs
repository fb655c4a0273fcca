//! From the command line's `-c` to a compiled configuration: reads, compiles, shows findings. Publishes nothing.

use std::path::Path;
use std::sync::Arc;

use daemun_config::model::Config;
use daemun_config::tree::Sources;
use daemun_config::{Diagnostics, Environment, Given, Loaded, PolicyDescription, System, Vocabulary};
use daemun_dataplane::Snapshot;
use daemun_dataplane::record::{Metrics, Setup};
use daemun_pipeline::{Carry, Nowhere, PolicyRow, World};
use daemun_policies::REGISTRY;

use crate::code::{Code, Failure};
use crate::output::Output;

/// What the language must know of the policies this binary has.
pub(crate) struct Language(Vec<PolicyDescription>);

impl Language {
    /// The language with every policy of the registry.
    pub(crate) fn new() -> Self {
        Self(REGISTRY.iter().map(PolicyRow::describe).collect())
    }

    /// As the configuration crate takes it.
    pub(crate) fn vocabulary(&self) -> Vocabulary<'_> {
        Vocabulary { policies: &self.0 }
    }

    /// Reads a file or folder, or the usual places.
    pub(crate) fn load(&self, path: Option<&Path>, environment: &dyn Environment) -> Loaded {
        daemun_config::load(path, environment, &self.vocabulary())
    }
}

/// A configuration that was read and, where it is sound, compiled.
pub(crate) struct Compiled {
    /// The checked configuration and what it compiled to; `None` exactly when a finding is an error.
    pub(crate) sound: Option<(Config, Snapshot)>,
    /// Every finding, of reading and of compiling, in the order of their places.
    pub(crate) diagnostics: Diagnostics,
    /// The texts, for snippets.
    pub(crate) sources: Sources,
    /// Every file and folder that may change it.
    pub(crate) files: Vec<std::path::PathBuf>,
    /// Whether one of them was not to be had.
    unreadable: bool,
    /// What references stand for, to be hidden from whatever is shown.
    pub(crate) given: Vec<Given>,
}

impl Compiled {
    /// Compiles what was read, finding state that is carried over in `carry` and counters in `metrics`.
    pub(crate) fn new(loaded: Loaded, carry: &Carry, world: &Arc<dyn World>, metrics: &Arc<Metrics>) -> Self {
        let Loaded { config, draft, mut diagnostics, sources, files, tree: _, unreadable, given } = loaded;
        let sound = config.and_then(|config| {
            let snapshot = Snapshot::compile(&config, REGISTRY, carry, world, metrics, &mut diagnostics)?;
            Some((config, snapshot))
        });
        if let Some(draft) = draft {
            // nothing of it is published, so that it finds and leaves nothing
            let (metrics, _) = Metrics::new(setup(1, 0));
            Snapshot::examine(&draft, REGISTRY, &metrics, &mut diagnostics);
        }
        diagnostics.sort();
        let sound = sound.filter(|_| !diagnostics.has_errors());
        Self { sound, diagnostics, sources, files, unreadable, given }
    }

    /// Reads and compiles apart from any running gateway.
    pub(crate) fn detached(path: Option<&Path>) -> Self {
        let (metrics, _) = Metrics::new(setup(1, 0));
        Self::new(Language::new().load(path, &System), &Carry::detached(), &Nowhere::shared(), &metrics)
    }

    /// The findings as a compiler shows them; empty when there are none.
    pub(crate) fn report(&self, color: bool) -> String {
        self.diagnostics.render(&self.sources, color)
    }

    /// How to exit on its errors: a configuration that is not there is another matter than one that is wrong.
    pub(crate) fn code(&self) -> Code {
        if !self.diagnostics.has_errors() {
            Code::Done
        } else if self.unreadable && self.sources.path(0).is_none() {
            Code::Unavailable
        } else {
            Code::Wrong
        }
    }

    /// The configuration and its snapshot, after all findings went to standard error.
    ///
    /// # Errors
    /// When a finding is an error.
    pub(crate) fn sound(&mut self, output: &mut Output<'_>) -> Result<(Config, Snapshot), Failure> {
        let report = self.report(output.color);
        if !report.is_empty() {
            output.findings(&report);
        }
        let code = self.code();
        self.sound.take().ok_or_else(|| Failure::said(if code == Code::Done { Code::Internal } else { code }))
    }
}

/// What metrics tell of this binary.
pub(crate) fn setup(workers: usize, started: u64) -> Setup {
    Setup {
        workers,
        policies: REGISTRY.iter().map(|row| row.name).collect(),
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("DAEMUN_COMMIT"),
        started,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_described_by_its_page() {
        for description in Language::new().0 {
            assert!(!description.doc.is_empty(), "{}", description.name);
            assert!(!description.doc.starts_with('#'), "{}", description.name);
        }
    }
}
