//! Steps made ready: one list of actions for a direction, run in order over a head and a body. Knows nothing of settings' places, and not
//! how bodies are had.

use daemun_config::diagnostic;
use daemun_config::model::Spanned;
use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Exchange, FieldId, Head, Line, Method, Span};

use super::body::{self, BodyEdit, BodyValue, Kind};
use super::config::{Literal, StepConfig, TemplateConfig};
use super::json::Keep;
use super::pairs::{self, Writing};
use super::path::is_normal;
use super::target::{BodyPath, Target};
use super::template::{Escape, Over, Template};
use super::trouble::Trouble;
use crate::headers::config::{Direction, refused};
use crate::representation;

/// Bytes that a template may write into a header, the query or the path.
const MAX_TEXT: u64 = 8 << 10;

/// What changes in one direction.
#[derive(Default)]
pub(super) struct Program {
    actions: Box<[Action]>,
    /// Names of fields that are taken out or replaced.
    pub(super) removed: Box<[Box<str>]>,
    /// Whether the body is read or written.
    pub(super) needs_body: bool,
    /// Whether it is written.
    pub(super) writes_body: bool,
    /// Names of path parameters.
    names: Box<[String]>,
    max_body: u64,
}

enum Action {
    Head(HeadEdit),
    /// Changes to the body that nothing reads between.
    Body(BodyEdits),
    Template(Box<Rendered>),
}

/// A change to all that is not the body.
enum HeadEdit {
    SetHeader(Line),
    ComputeHeader(Box<str>, Text),
    RemoveHeader(Box<str>),
    RenameHeader(Box<str>, Box<str>),
    KeepHeaders(Box<[Box<str>]>),
    SetQuery(Box<str>, Written),
    RemoveQuery(Box<str>),
    RenameQuery(Box<str>, Box<str>),
    KeepQuery(Box<[Box<str>]>),
    SetPath(Written),
    SetStatus(u16),
}

/// Changes to a body, and the texts that some of them put there.
#[derive(Default)]
struct BodyEdits {
    edits: Vec<BodyEdit>,
    texts: Vec<Text>,
}

/// A text as written, or one that is computed.
enum Written {
    Literal(Box<str>),
    Computed(Text),
}

/// A text that a template writes.
struct Rendered {
    target: Target,
    template: Template,
    /// Of a body: its type, where it is another than before.
    content_type: Option<Box<str>>,
}

/// What to do with a body that cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnTrouble {
    Stop,
    /// It stays as it was; the rest goes on.
    Leave,
}

impl Program {
    /// Of steps that were checked; `side` is their key. `None` only after an error was reported.
    pub(super) fn new(
        steps: Vec<StepConfig>,
        max_body: u64,
        side: &str,
        ctx: &mut BuildContext<'_>,
    ) -> Option<Program> {
        let mut actions = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                StepConfig::Set(values) => {
                    for (target, value) in values.0 {
                        let computed = computed(&target.value, &value, &format!("{side}[{index}]"), ctx)?;
                        set(target.value, value, computed, &mut actions);
                    }
                }
                StepConfig::Remove(targets) => {
                    targets.0.into_iter().for_each(|target| remove(target.value, &mut actions));
                }
                StepConfig::Rename(new) => {
                    new.0.into_iter().for_each(|(target, name)| rename(target.value, name.value, &mut actions));
                }
                StepConfig::Keep(targets) => keep(targets.0.into_iter().map(|target| target.value), &mut actions),
                StepConfig::Template(template) => {
                    if let Err(message) = write(template, max_body, &mut actions) {
                        ctx.error(diagnostic::BAD_VALUE, message, None);
                        return None;
                    }
                }
            }
        }
        let names = ctx.param_names;
        let removed = actions.iter().filter_map(Action::removed).map(Into::into).collect();
        let needs_body = actions.iter().any(Action::needs_body);
        let writes_body = actions.iter().any(Action::writes_body);
        Some(Program { actions: actions.into(), removed, needs_body, writes_body, names: names.into(), max_body })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Runs over a request.
    pub(super) fn on_request(&self, exchange: &mut Exchange) -> Result<(), Trouble> {
        let mut body = BodyState::default();
        for action in &self.actions {
            match action {
                Action::Body(_) if exchange.request.body.as_ref().is_none_or(Vec::is_empty) => {}
                Action::Body(edits) => {
                    let values = edits.values(exchange)?;
                    body.edit(&mut exchange.request.head, &mut exchange.request.body, &edits.edits, &values)?;
                }
                Action::Template(written) => {
                    self.write(written, Direction::Request, exchange, &mut body)?;
                }
                Action::Head(edit) => edit.apply(Direction::Request, exchange)?,
            }
        }
        Ok(())
    }

    /// Runs over an answer.
    pub(super) fn on_response(&self, exchange: &mut Exchange, on_trouble: OnTrouble) -> Result<(), Trouble> {
        // what the gateway says itself is no answer of the kind that steps are written for
        let off = exchange.response.own;
        let mut body = BodyState { keeps: on_trouble == OnTrouble::Leave, off, ..BodyState::default() };
        for action in &self.actions {
            let done = match action {
                Action::Body(_) if exchange.response.body.as_ref().is_none_or(Vec::is_empty) => Ok(()),
                Action::Body(edits) => edits.values(exchange).and_then(|values| {
                    body.edit(&mut exchange.response.head, &mut exchange.response.body, &edits.edits, &values)
                }),
                Action::Template(written) => self.write(written, Direction::Response, exchange, &mut body),
                Action::Head(edit) => edit.apply(Direction::Response, exchange),
            };
            if let Err(trouble) = done {
                if on_trouble == OnTrouble::Stop {
                    return Err(trouble);
                }
                body.restore(&mut exchange.response.head, &mut exchange.response.body);
            }
        }
        let head = &mut exchange.response.head;
        if !off && self.writes_body && exchange.request.method == Method::Head && Kind::of(head).is_some() {
            // the body that is not here would be another than the one this tells of
            head.remove("content-length");
            representation::forget_bytes(head);
            representation::weaken(head);
        }
        if body.changed {
            representation::weaken(head);
        }
        Ok(())
    }

    /// What of it can be said without a body: changes to a request's head.
    pub(super) fn explain(&self, exchange: &mut Exchange) -> Result<(), Trouble> {
        for action in &self.actions {
            match action {
                Action::Body(_) => {}
                Action::Template(written) if written.template.reads_body() => {}
                Action::Template(written) if matches!(written.target, Target::Body(_)) => {}
                Action::Template(written) => {
                    self.write(written, Direction::Request, exchange, &mut BodyState::default())?;
                }
                Action::Head(edit) => edit.apply(Direction::Request, exchange)?,
            }
        }
        Ok(())
    }

    fn write(
        &self,
        written: &Rendered,
        direction: Direction,
        exchange: &mut Exchange,
        state: &mut BodyState,
    ) -> Result<(), Trouble> {
        let (head, body) = match direction {
            Direction::Request => (&exchange.request.head, &exchange.request.body),
            Direction::Response => (&exchange.response.head, &exchange.response.body),
        };
        let body = if state.off { None } else { body.as_deref().filter(|body| !body.is_empty()) };
        let body = body.and_then(|bytes| Some((Kind::of(head)?, bytes)));
        let is_body = matches!(written.target, Target::Body(_));
        if is_body && body.is_none() {
            return Ok(());
        }
        let kind = match &written.content_type {
            Some(value) => Kind::of_type(value.as_bytes()),
            None => body.map(|(kind, _)| kind),
        };
        let (escape, most) = match written.target {
            Target::Body(_) => (Escape::of(kind), self.max_body),
            Target::Path => (Escape::Encoded, MAX_TEXT),
            Target::Header(_) | Target::Query(_) | Target::Status => (Escape::Plain, MAX_TEXT),
        };
        let over = Over { exchange, head, body, names: &self.names, answer: direction == Direction::Response };
        let rendered = written.template.render(&over, escape, most);
        let (request, response) = (&mut exchange.request, &mut exchange.response);
        let head = if direction == Direction::Request { &mut request.head } else { &mut response.head };
        match &written.target {
            Target::Header(name) => {
                // what the peer sent must not stand where this belongs
                head.remove(name);
                if !head.append(name, rendered?.trim().as_bytes()) {
                    return Err(Trouble::shape("a header cannot hold what a template wrote"));
                }
            }
            Target::Query(name) => set_query(exchange, name, &rendered?),
            Target::Path => {
                let path = rendered?;
                if !is_normal(&path) {
                    return Err(Trouble::shape("a template wrote a path that has not one reading"));
                }
                exchange.request.path = exchange.request.head.store(path.as_bytes());
            }
            Target::Status => {}
            Target::Body(_) => {
                let text = rendered?;
                check(kind, text.as_bytes())?;
                let body = if direction == Direction::Request { &mut request.body } else { &mut response.body };
                state.replace(head, body, text.into_bytes());
                if let Some(value) = &written.content_type {
                    head.set("content-type", value.as_bytes());
                }
            }
        }
        Ok(())
    }
}

/// What a template wrote must be what its type says.
fn check(kind: Option<Kind>, bytes: &[u8]) -> Result<(), Trouble> {
    let sound = match kind {
        Some(Kind::Json) => serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok(),
        Some(Kind::Xml) => super::xml::Xml::parse(bytes).is_ok(),
        Some(Kind::Form) | None => true,
    };
    if sound { Ok(()) } else { Err(Trouble::unsendable("a template wrote what its content type does not allow")) }
}

/// A body while actions run over it.
#[derive(Default)]
struct BodyState {
    changed: bool,
    /// Whether what it was is kept for the case of trouble.
    keeps: bool,
    /// What it was, and its type.
    before: Option<(Vec<u8>, Vec<u8>)>,
    /// Whether it is changed no more.
    off: bool,
}

impl BodyState {
    fn edit(
        &mut self,
        head: &mut Head,
        body: &mut Option<Vec<u8>>,
        edits: &[BodyEdit],
        values: &[BodyValue],
    ) -> Result<(), Trouble> {
        let Some(bytes) = body.as_deref().filter(|bytes| !bytes.is_empty() && !self.off) else { return Ok(()) };
        let Some(kind) = Kind::of(head) else { return Ok(()) };
        if let Some(bytes) = body::edit(kind, bytes, edits, values)? {
            self.replace(head, body, bytes);
        }
        Ok(())
    }

    fn replace(&mut self, head: &mut Head, body: &mut Option<Vec<u8>>, bytes: Vec<u8>) {
        let before = body.replace(bytes);
        if !self.changed {
            self.changed = true;
            if self.keeps {
                let kind = head.get_id(FieldId::ContentType).unwrap_or_default().to_vec();
                self.before = before.map(|before| (before, kind));
            }
            head.remove("content-length");
            representation::forget_bytes(head);
        }
    }

    /// Makes the body what it was, and leaves it so.
    fn restore(&mut self, head: &mut Head, body: &mut Option<Vec<u8>>) {
        self.off = true;
        if let Some((before, kind)) = self.before.take() {
            *body = Some(before);
            if head.get_id(FieldId::ContentType) != Some(kind.as_slice()) {
                head.set("content-type", &kind);
            }
        }
    }
}

impl Action {
    /// The field that is taken out or replaced.
    fn removed(&self) -> Option<&str> {
        match self {
            Action::Head(
                HeadEdit::ComputeHeader(name, _) | HeadEdit::RemoveHeader(name) | HeadEdit::RenameHeader(name, _),
            ) => Some(name),
            Action::Head(HeadEdit::SetHeader(line)) => Some(line.name()),
            Action::Template(rendered) => match &rendered.target {
                Target::Header(name) => Some(name),
                Target::Query(_) | Target::Path | Target::Status | Target::Body(_) => None,
            },
            Action::Head(_) | Action::Body(_) => None,
        }
    }

    fn writes_body(&self) -> bool {
        match self {
            Action::Head(_) => false,
            Action::Body(_) => true,
            Action::Template(rendered) => matches!(rendered.target, Target::Body(_)),
        }
    }

    /// Whether it reads or writes the body.
    fn needs_body(&self) -> bool {
        match self {
            Action::Head(_) => false,
            Action::Body(_) => true,
            Action::Template(rendered) => matches!(rendered.target, Target::Body(_)) || rendered.template.reads_body(),
        }
    }
}

impl HeadEdit {
    fn apply(&self, direction: Direction, exchange: &mut Exchange) -> Result<(), Trouble> {
        match self {
            HeadEdit::SetHeader(line) => {
                let head = head_of(direction, exchange);
                head.remove(line.name());
                line.append(head);
            }
            HeadEdit::ComputeHeader(name, text) => set_header(name, text, direction, exchange)?,
            HeadEdit::RemoveHeader(name) => {
                head_of(direction, exchange).remove(name);
            }
            HeadEdit::RenameHeader(old, new) => rename_header(head_of(direction, exchange), old, new),
            HeadEdit::KeepHeaders(names) => keep_headers(head_of(direction, exchange), names, direction),
            HeadEdit::SetQuery(name, Written::Literal(value)) => set_query(exchange, name, value),
            HeadEdit::SetQuery(name, Written::Computed(text)) => set_query(exchange, name, &string(text, exchange)?),
            HeadEdit::RemoveQuery(name) => edit_query(exchange, |query| pairs::remove(query, name)),
            HeadEdit::RenameQuery(old, new) => {
                edit_query(exchange, |query| pairs::rename(query, old, new, Writing::Query));
            }
            HeadEdit::KeepQuery(names) => {
                edit_query(exchange, |query| pairs::keep(query, |is| names.iter().any(|name| is(name))));
            }
            HeadEdit::SetPath(Written::Literal(path)) => {
                exchange.request.path = exchange.request.head.store(path.as_bytes());
            }
            HeadEdit::SetPath(Written::Computed(text)) => set_path(text, exchange)?,
            HeadEdit::SetStatus(status) => {
                let own = &mut exchange.response.status;
                // what these stand for, and whether there is a body behind them, no other status says
                if !matches!(*own, 204 | 206 | 304) {
                    *own = *status;
                }
            }
        }
        Ok(())
    }
}

fn set_header(name: &str, text: &Text, direction: Direction, exchange: &mut Exchange) -> Result<(), Trouble> {
    let mut value = Vec::new();
    text.push(exchange, &mut value).map_err(too_costly)?;
    let head = head_of(direction, exchange);
    // what the peer sent must not stand where this belongs, though it came out empty
    head.remove(name);
    let value = value.trim_ascii();
    if !value.is_empty() && !head.append(name, value) {
        return Err(Trouble::shape("a header cannot hold what an expression gave"));
    }
    Ok(())
}

fn set_path(text: &Text, exchange: &mut Exchange) -> Result<(), Trouble> {
    let mut path = Vec::new();
    let mut encode = |value: &[u8], out: &mut Vec<u8>| {
        let mut encoded = String::new();
        pairs::push_encoded(&mut encoded, value);
        out.extend_from_slice(encoded.as_bytes());
    };
    text.put(exchange, &mut path, &mut encode).map_err(too_costly)?;
    if !std::str::from_utf8(&path).is_ok_and(is_normal) {
        return Err(Trouble::shape("an expression gave a path that has not one reading"));
    }
    exchange.request.path = exchange.request.head.store(&path);
    Ok(())
}

impl BodyEdits {
    /// The texts, computed.
    fn values(&self, exchange: &Exchange) -> Result<Vec<BodyValue>, Trouble> {
        self.texts.iter().map(|text| string(text, exchange).map(BodyValue::of)).collect()
    }
}

fn head_of(direction: Direction, exchange: &mut Exchange) -> &mut Head {
    match direction {
        Direction::Request => &mut exchange.request.head,
        Direction::Response => &mut exchange.response.head,
    }
}

/// A computed text; bytes that are not UTF-8 are replaced.
fn string(text: &Text, exchange: &Exchange) -> Result<String, Trouble> {
    let mut value = Vec::new();
    text.push(exchange, &mut value).map_err(too_costly)?;
    Ok(String::from_utf8(value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn too_costly(fault: daemun_pipeline::Fault) -> Trouble {
    Trouble::too_much(fault.detail)
}

/// Gives fields another name, in place of what had it before. Nothing is copied: the values stay where they are.
fn rename_header(head: &mut Head, old: &str, new: &str) {
    if old == new || head.get(old).is_none() {
        return;
    }
    head.remove(new);
    let (name, id) = (head.store(new.as_bytes()), FieldId::of(new.as_bytes()));
    let buffer = &head.buf;
    for field in head.fields.iter_mut().filter(|field| !field.removed) {
        if buffer.get(field.name.range()).is_some_and(|known| known.eq_ignore_ascii_case(old.as_bytes())) {
            field.name = name;
            field.id = id;
        }
    }
}

/// Takes out what is not named; what the gateway looks after, and what says how the body is read, stays.
fn keep_headers(head: &mut Head, names: &[Box<str>], direction: Direction) {
    let buffer = &head.buf;
    for field in head.fields.iter_mut().filter(|field| !field.removed) {
        let name = buffer.get(field.name.range()).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default();
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let describes = ["content-type", "content-encoding", "vary", "content-range"].into_iter().any(is);
        field.removed = !describes && refused(name, direction).is_none() && !names.iter().any(|known| is(known));
    }
}

fn set_query(exchange: &mut Exchange, name: &str, value: &str) {
    let query = exchange.request.query_text().unwrap_or_default();
    let query = pairs::set(query, name, value, Writing::Query);
    store_query(exchange, &query);
}

fn edit_query(exchange: &mut Exchange, edit: impl FnOnce(&str) -> Option<String>) {
    if let Some(query) = exchange.request.query_text().and_then(edit) {
        store_query(exchange, &query);
    }
}

fn store_query(exchange: &mut Exchange, query: &str) {
    let span: Span = exchange.request.head.store(query.as_bytes());
    exchange.request.query = (!query.is_empty()).then_some(span);
}

/// Adds a change to the body to those that stand before it, unless a template stands between.
fn push_edit(edit: BodyEdit, actions: &mut Vec<Action>) {
    let known = actions.iter_mut().rev().take_while(|action| !matches!(action, Action::Template(_)));
    let group = known.into_iter().find_map(|action| if let Action::Body(group) = action { Some(group) } else { None });
    match group {
        Some(group) => group.edits.push(edit),
        None => actions.push(Action::Body(BodyEdits { edits: vec![edit], texts: Vec::new() })),
    }
}

/// Adds a value that is computed: behind every change to the head that stands before it.
fn push_computed(path: BodyPath, text: Text, actions: &mut Vec<Action>) {
    if !matches!(actions.last(), Some(Action::Body(_))) {
        actions.push(Action::Body(BodyEdits::default()));
    }
    if let Some(Action::Body(group)) = actions.last_mut() {
        group.edits.push(BodyEdit::Computed(path, group.texts.len()));
        group.texts.push(text);
    }
}

/// The expressions of a text, where it has some. `None` only after an error was reported.
fn computed(target: &Target, value: &Literal, step: &str, ctx: &mut BuildContext<'_>) -> Option<Option<Text>> {
    let Some(text) = value.text.as_ref().filter(|text| value.is_text && text.contains("${")) else { return Some(None) };
    let answer = step.starts_with("response");
    let text = Spanned { value: text.clone(), at: value.at };
    ctx.text(&format!("{step}.set.{target}"), &text, answer).map(Some)
}

fn set(target: Target, value: Literal, computed: Option<Text>, actions: &mut Vec<Action>) {
    let plain = value.text.map(String::into_boxed_str);
    let written = match computed {
        Some(text) => Written::Computed(text),
        None => Written::Literal(plain.clone().unwrap_or_default()),
    };
    match target {
        Target::Header(name) => actions.extend(match written {
            Written::Computed(text) => Some(Action::Head(HeadEdit::ComputeHeader(name.into(), text))),
            // the reader of settings has refused what no header can hold
            Written::Literal(value) => Line::new(&name, &value).map(HeadEdit::SetHeader).map(Action::Head),
        }),
        Target::Query(name) => actions.push(Action::Head(HeadEdit::SetQuery(name.into(), written))),
        Target::Path => actions.push(Action::Head(HeadEdit::SetPath(written))),
        Target::Status => {
            let status = plain.and_then(|text| text.parse().ok());
            actions.push(Action::Head(HeadEdit::SetStatus(status.unwrap_or(500))));
        }
        Target::Body(path) => match written {
            Written::Computed(text) => push_computed(path, text, actions),
            Written::Literal(_) => {
                push_edit(BodyEdit::Set(path, BodyValue { json: value.json.into(), text: plain }), actions);
            }
        },
    }
}

fn remove(target: Target, actions: &mut Vec<Action>) {
    match target {
        Target::Header(name) => actions.push(Action::Head(HeadEdit::RemoveHeader(name.into()))),
        Target::Query(name) => actions.push(Action::Head(HeadEdit::RemoveQuery(name.into()))),
        Target::Body(path) => push_edit(BodyEdit::Remove(path), actions),
        Target::Path | Target::Status => {}
    }
}

fn rename(target: Target, new: String, actions: &mut Vec<Action>) {
    match target {
        Target::Header(name) => {
            actions.push(Action::Head(HeadEdit::RenameHeader(name.into(), new.to_ascii_lowercase().into())))
        }
        Target::Query(name) => actions.push(Action::Head(HeadEdit::RenameQuery(name.into(), new.into()))),
        Target::Body(path) => push_edit(BodyEdit::Rename(path, new.into()), actions),
        Target::Path | Target::Status => {}
    }
}

fn keep(targets: impl Iterator<Item = Target>, actions: &mut Vec<Action>) {
    let (mut headers, mut query, mut body) = (Vec::new(), Vec::new(), None::<Keep>);
    for target in targets {
        match target {
            Target::Header(name) => headers.push(name.into()),
            Target::Query(name) => query.push(name.into()),
            Target::Body(path) => body.get_or_insert_default().add(&path.0),
            Target::Path | Target::Status => {}
        }
    }
    if !headers.is_empty() {
        actions.push(Action::Head(HeadEdit::KeepHeaders(headers.into())));
    }
    if !query.is_empty() {
        actions.push(Action::Head(HeadEdit::KeepQuery(query.into())));
    }
    if let Some(keep) = body {
        push_edit(BodyEdit::Keep(keep), actions);
    }
}

fn write(template: TemplateConfig, max_body: u64, actions: &mut Vec<Action>) -> Result<(), String> {
    for (target, source) in template.texts {
        let is_body = matches!(target.value, Target::Body(_));
        let content_type = template.content_type.as_deref().filter(|_| is_body).map(Into::into);
        let template = Template::parse(&source, max_body)?;
        actions.push(Action::Template(Box::new(Rendered { target: target.value, template, content_type })));
    }
    Ok(())
}

/// The steps in words: what they are about, never values.
pub(super) fn describe(steps: &[StepConfig]) -> String {
    let mut said: Vec<String> = Vec::new();
    for step in steps {
        let (verb, targets): (&str, Vec<&Target>) = match step {
            StepConfig::Set(values) => ("sets", values.0.iter().map(|(target, _)| &target.value).collect()),
            StepConfig::Remove(targets) => ("removes", targets.0.iter().map(|target| &target.value).collect()),
            StepConfig::Rename(names) => ("renames", names.0.iter().map(|(target, _)| &target.value).collect()),
            StepConfig::Keep(targets) => ("keeps only", targets.0.iter().map(|target| &target.value).collect()),
            StepConfig::Template(template) => {
                ("writes", template.texts.iter().map(|(target, _)| &target.value).collect())
            }
        };
        let targets: Vec<String> = targets.into_iter().map(|target| format!("`{target}`")).collect();
        said.push(format!("{verb} {}", targets.join(", ")));
    }
    said.join(", ")
}
