//! Files of Cedar policies, schema and entities: read, checked as a whole, and shared by all routes that name the same. Knows no request.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::SystemTime;

use cedar_policy::{
    Entities, Entity, EntityUid, EvalResult, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
};
use daemun_config::{read_file, why};
use daemun_pipeline::Carry;
use miette::Diagnostic;

use super::super::config::CedarConfig;

/// Bytes of one file.
const MAX_BYTES: u64 = 4 << 20;
/// Files of policies.
const MAX_FILES: usize = 1_000;
/// Policies in all.
const MAX_POLICIES: usize = 5_000;
/// Entities of the file of entities.
const MAX_ENTITIES: usize = 100_000;
/// Findings that are told at once.
const MAX_FINDINGS: usize = 50;

/// Something wrong in a file.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Finding {
    fn new(message: String) -> Finding {
        Finding { message, help: None }
    }

    /// What Cedar finds in a text, with its place.
    fn of(path: &Path, text: &str, error: &dyn Diagnostic) -> Finding {
        let label = error.labels().and_then(|mut labels| labels.next());
        let mut message = format!("`{}`", path.display());
        if let Some(label) = &label {
            let before = text.get(..label.offset()).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let _ = write!(message, ", line {line}, column {column}");
        }
        let _ = write!(message, ": {}", one_line(&error.to_string()));
        let said = error.help().map(|help| one_line(&help.to_string()));
        Finding { message, help: said.or_else(|| label.and_then(|label| label.label().map(one_line))) }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the files say.
pub(super) struct Loaded {
    pub(super) policies: PolicySet,
    pub(super) known: Known,
    pub(super) warnings: Vec<String>,
}

/// The entities that are known beside those of a request.
#[derive(Default)]
pub(super) struct Known {
    pub(super) entities: Entities,
    /// What an entity speaks of: what is above it, and what its attributes name.
    links: HashMap<EntityUid, Box<[EntityUid]>>,
    /// What the policies themselves name.
    named: Box<[EntityUid]>,
}

impl Known {
    fn new(entities: Entities, policies: &PolicySet) -> Known {
        let mut links = HashMap::new();
        for entity in entities.iter() {
            let uid = entity.uid();
            let mut named: Vec<EntityUid> = entities.ancestors(&uid).into_iter().flatten().cloned().collect();
            let values = entity.attrs().chain(entity.tags()).filter_map(|(_, value)| value.ok());
            values.for_each(|value| collect(&value, &mut named));
            if !named.is_empty() {
                links.insert(uid, named.into());
            }
        }
        let named: HashSet<EntityUid> = policies.policies().flat_map(Policy::entity_literals).collect();
        let named = named.into_iter().filter(|uid| entities.get(uid).is_some());
        Known { named: named.collect(), entities, links }
    }

    /// All that a request which speaks of `from` can lead to, beside these.
    pub(super) fn around(&self, from: &[Entity], leads_to: Vec<EntityUid>) -> Vec<Entity> {
        if self.links.is_empty() && self.named.is_empty() && leads_to.is_empty() {
            return Vec::new();
        }
        let own: HashSet<EntityUid> = from.iter().map(Entity::uid).collect();
        let mut seen: HashSet<EntityUid> = HashSet::new();
        let mut open: Vec<EntityUid> = leads_to;
        open.extend(self.named.iter().cloned());
        for uid in &own {
            open.extend(self.links.get(uid).into_iter().flatten().cloned());
        }
        let mut found = Vec::new();
        while let Some(uid) = open.pop() {
            if own.contains(&uid) || !seen.insert(uid.clone()) {
                continue;
            }
            open.extend(self.links.get(&uid).into_iter().flatten().cloned());
            found.extend(self.entities.get(&uid).cloned());
        }
        found
    }
}

/// The entities that a value names.
fn collect(value: &EvalResult, named: &mut Vec<EntityUid>) {
    match value {
        EvalResult::EntityUid(uid) => named.push(uid.clone()),
        EvalResult::Set(set) => set.iter().for_each(|item| collect(item, named)),
        EvalResult::Record(record) => record.iter().for_each(|(_, item)| collect(item, named)),
        EvalResult::Bool(_) | EvalResult::Long(_) | EvalResult::String(_) | EvalResult::ExtensionValue(_) => {}
    }
}

/// Reads the files, or finds them read.
pub(super) fn load(settings: &CedarConfig, carry: &Carry) -> Result<Arc<Loaded>, Vec<Finding>> {
    let files = policy_files(settings)?;
    let others = settings.schema.iter().chain(&settings.entities).map(|file| file.0.as_path());
    let mut shape = String::new();
    for path in files.iter().map(PathBuf::as_path).chain(others) {
        let _ = writeln!(shape, "{}\n{:?}", path.display(), stamp(path));
    }
    let kept = carry.get_or("permission.cedar", &shape, || read(settings, &files).map(Arc::new));
    match &*kept {
        Ok(loaded) => Ok(Arc::clone(loaded)),
        Err(findings) => Err(findings.clone()),
    }
}

/// What tells one content of a file from another: its length and time.
fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.len(), data.modified().ok()?))
}

/// The files that `policies` names, those of a folder by name.
fn policy_files(settings: &CedarConfig) -> Result<Vec<PathBuf>, Vec<Finding>> {
    let (mut files, mut findings) = (Vec::new(), Vec::new());
    for path in settings.policies.0.iter().map(|file| &file.0) {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = |error: std::io::Error| Finding::new(format!("`{}`: {}", path.display(), why(&error)));
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                findings.push(unreadable(error));
                continue;
            }
        };
        let mut found: Vec<PathBuf> =
            entries.into_iter().map(|entry| entry.path()).filter(|path| is_policy(path)).collect();
        if found.is_empty() {
            findings.push(Finding::new(format!("`{}` has no file that ends in `.cedar`", path.display())));
        }
        found.sort();
        files.append(&mut found);
    }
    if files.len() > MAX_FILES {
        findings.push(Finding::new(format!(
            "there are {} files of policies, and {MAX_FILES} are read at most",
            files.len()
        )));
    }
    if findings.is_empty() { Ok(files) } else { Err(findings) }
}

fn is_policy(path: &Path) -> bool {
    let hidden = path.file_name().and_then(|name| name.to_str()).is_none_or(|name| name.starts_with('.'));
    !hidden && path.extension().is_some_and(|ending| ending == "cedar")
}

fn text(path: &Path) -> Result<String, Finding> {
    let bytes =
        read_file(path, MAX_BYTES).map_err(|error| Finding::new(format!("`{}`: {}", path.display(), why(&error))))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Finding::new(format!("`{}` is larger than {MAX_BYTES} bytes", path.display())));
    }
    String::from_utf8(bytes).map_err(|_| Finding::new(format!("`{}` is not UTF-8", path.display())))
}

fn read(settings: &CedarConfig, files: &[PathBuf]) -> Result<Loaded, Vec<Finding>> {
    let mut findings = Vec::new();
    let schema = match settings.schema.as_ref().map(|file| schema(&file.0)).transpose() {
        Ok(schema) => schema,
        Err(finding) => {
            findings.push(finding);
            None
        }
    };
    let (mut all, mut warnings) = (PolicySet::new(), Vec::new());
    let validator = schema.clone().map(Validator::new);
    for path in files {
        match text(path) {
            Ok(text) => policies(path, &text, validator.as_ref(), &mut all, &mut findings, &mut warnings),
            Err(finding) => findings.push(finding),
        }
    }
    let count = all.num_of_policies();
    if count > MAX_POLICIES {
        findings.push(Finding::new(format!("there are {count} policies, and {MAX_POLICIES} are read at most")));
    } else if count == 0 && findings.is_empty() {
        findings.push(Finding::new("there is no policy, so that nobody could call".to_owned()));
    }
    let entities = match entities(settings, schema.as_ref()) {
        Ok(entities) => entities,
        Err(finding) => {
            findings.push(finding);
            Entities::empty()
        }
    };
    findings.truncate(MAX_FINDINGS);
    warnings.truncate(MAX_FINDINGS);
    if !findings.is_empty() {
        return Err(findings);
    }
    let known = Known::new(entities, &all);
    Ok(Loaded { policies: all, known, warnings })
}

fn schema(path: &Path) -> Result<Schema, Finding> {
    let text = text(path)?;
    if path.extension().is_some_and(|ending| ending == "json") {
        return Schema::from_json_str(&text).map_err(|error| Finding::of(path, &text, &error));
    }
    match Schema::from_cedarschema_str(&text) {
        Ok((schema, _)) => Ok(schema),
        Err(error) => Err(Finding::of(path, &text, &error)),
    }
}

/// The entities of the file, and the actions of the schema.
fn entities(settings: &CedarConfig, schema: Option<&Schema>) -> Result<Entities, Finding> {
    let Some(path) = settings.entities.as_ref().map(|file| &file.0) else {
        let actions = schema.map(Schema::action_entities).transpose();
        return match actions {
            Ok(actions) => Ok(actions.unwrap_or_else(Entities::empty)),
            Err(error) => Err(Finding::new(one_line(&error.to_string()))),
        };
    };
    let text = text(path)?;
    let read = Entities::from_json_str(&text, schema).map_err(|error| {
        let mut message = format!("`{}`: {}", path.display(), one_line(&error.to_string()));
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            let _ = write!(message, ": {}", one_line(&error.to_string()));
            cause = error.source();
        }
        Finding::new(message)
    })?;
    if read.len() > MAX_ENTITIES {
        let message = format!("`{}` has {} entities, and {MAX_ENTITIES} are read at most", path.display(), read.len());
        return Err(Finding::new(message));
    }
    Ok(read)
}

/// Adds the policies of a file to `all`, under the names of their `@id`.
fn policies(
    path: &Path,
    text: &str,
    validator: Option<&Validator>,
    all: &mut PolicySet,
    findings: &mut Vec<Finding>,
    warnings: &mut Vec<String>,
) {
    let read = match PolicySet::from_str(text) {
        Ok(read) => read,
        Err(errors) => {
            findings.extend(errors.iter().map(|error| Finding::of(path, text, error)));
            return;
        }
    };
    for template in read.templates() {
        let message = format!("`{}`: the policy `{}` is a template", path.display(), template.id());
        let help = "a template with `?principal` or `?resource` decides nothing by itself".to_owned();
        findings.push(Finding { message, help: Some(help) });
    }
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut own = PolicySet::new();
    for policy in read.policies() {
        let number = policy.id().to_string();
        let number = number.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
        let name = policy
            .annotation("id")
            .filter(|id| !id.is_empty())
            .map_or_else(|| format!("{file}#{}", number + 1), str::to_owned);
        let named = policy.new_id(PolicyId::new(&name));
        if all.add(named.clone()).is_err() {
            findings.push(Finding::new(format!("`{}`: there are two policies of the name `{name}`", path.display())));
        }
        let _ = own.add(named);
    }
    if let Some(validator) = validator {
        let result = validator.validate(&own, ValidationMode::Strict);
        findings.extend(result.validation_errors().map(|error| Finding::of(path, text, error)));
        warnings.extend(result.validation_warnings().map(|warning| Finding::of(path, text, warning).message));
    }
}
