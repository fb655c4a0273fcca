//! Which path of a document a request's path is: literal segments before templates, as OpenAPI has it (3.1, section 4.8.8.2). Knows no
//! method.

use std::collections::HashMap;

use smallvec::SmallVec;

/// Paths of a document, by their segments.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, usize>,
    /// Templates in the order of precedence: more literal text first.
    templates: Vec<(Template, usize)>,
    /// The path that ends here.
    end: Option<usize>,
}

/// A segment with parameters: `{id}`, `{name}.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template {
    /// Text before each parameter, and behind the last; one more than parameters.
    literals: Vec<Box<str>>,
    names: Vec<Box<str>>,
}

/// Names and texts of a path's parameters. Seldom more than a few, which then need no memory.
pub(crate) type Values<'t> = SmallVec<[(&'t str, &'t str); 4]>;

/// A path that was found: its index, and its parameters as they stand in the path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'t> {
    pub(crate) index: usize,
    pub(crate) values: Values<'t>,
}

impl Paths {
    /// Adds a path under its index; why not, when it cannot be one.
    pub(crate) fn add(&mut self, path: &str, index: usize) -> Result<(), String> {
        let rest = path.strip_prefix('/').ok_or("a path begins with `/`")?;
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for segment in rest.split('/') {
            let template = Template::parse(segment)?;
            let next = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return Err("the path cannot be added".to_owned()) };
            let found = match template {
                None => *node.literal.entry(segment.into()).or_insert(next),
                Some(template) => match node.templates.iter().find(|(known, _)| *known == template) {
                    Some((_, found)) => *found,
                    None => {
                        node.templates.push((template, next));
                        node.templates.sort_by_key(|(template, _)| std::cmp::Reverse(template.weight()));
                        next
                    }
                },
            };
            if found == next {
                self.nodes.push(Node::default());
            }
            at = found;
        }
        match self.nodes.get_mut(at) {
            Some(node) if node.end.is_none() => node.end = Some(index),
            _ => return Err("the same path stands twice".to_owned()),
        }
        Ok(())
    }

    /// Finds a path.
    pub(crate) fn find<'t>(&'t self, path: &'t str) -> Option<Found<'t>> {
        let mut values = Values::default();
        let index = self.descend(0, path.strip_prefix('/')?, &mut values)?;
        Some(Found { index, values })
    }

    /// Every node is tried once at most, since each is reached in one way only.
    fn descend<'t>(&'t self, at: usize, rest: &'t str, values: &mut Values<'t>) -> Option<usize> {
        let node = self.nodes.get(at)?;
        let (segment, behind) = match rest.split_once('/') {
            Some((segment, behind)) => (segment, Some(behind)),
            None => (rest, None),
        };
        let onward = |next: usize, values: &mut Values<'t>| match behind {
            Some(behind) => self.descend(next, behind, values),
            None => self.nodes.get(next)?.end,
        };
        if let Some(found) = node.literal.get(segment).and_then(|next| onward(*next, values)) {
            return Some(found);
        }
        let before = values.len();
        for (template, next) in &node.templates {
            if template.matches(segment, values)
                && let Some(found) = onward(*next, values)
            {
                return Some(found);
            }
            values.truncate(before);
        }
        None
    }
}

impl Template {
    /// `None` for a segment without parameters.
    fn parse(segment: &str) -> Result<Option<Template>, String> {
        if !segment.contains(['{', '}']) {
            return Ok(None);
        }
        let malformed = || format!("the braces of `{segment}` do not pair");
        let (mut literals, mut names) = (Vec::new(), Vec::new());
        let mut rest = segment;
        while let Some((literal, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or_else(malformed)?;
            if name.is_empty() || name.contains('{') || literal.contains('}') {
                return Err(malformed());
            }
            if literal.is_empty() && !names.is_empty() {
                return Err("two parameters stand side by side, so that nothing says where one ends".to_owned());
            }
            literals.push(literal.into());
            names.push(name.into());
            rest = behind;
        }
        if rest.contains('}') {
            return Err(malformed());
        }
        literals.push(rest.into());
        Ok(Some(Template { literals, names }))
    }

    fn weight(&self) -> usize {
        self.literals.iter().map(|literal| literal.len()).sum()
    }

    /// Takes the parameters out of a segment; each has one character at least and ends at the first place where what follows stands.
    fn matches<'t>(&'t self, segment: &'t str, values: &mut Values<'t>) -> bool {
        let mut literals = self.literals.iter();
        let Some(mut rest) = literals.next().and_then(|first| segment.strip_prefix(first.as_ref())) else {
            return false;
        };
        let last = self.names.len();
        for (n, (name, literal)) in self.names.iter().zip(literals).enumerate() {
            let value = if n + 1 == last {
                rest.strip_suffix(literal.as_ref())
            } else {
                rest.find(literal.as_ref()).and_then(|end| rest.get(..end))
            };
            let Some(value) = value.filter(|value| !value.is_empty()) else { return false };
            rest = rest.get(value.len() + literal.len()..).unwrap_or_default();
            values.push((name, value));
        }
        true
    }
}
