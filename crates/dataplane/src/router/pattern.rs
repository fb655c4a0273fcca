//! Path conditions as text becomes keys whose byte order is the order of precedence. Knows nothing of hosts, priorities or
//! the other conditions.
//!
//! A key is a list of segments, each with [`SEP`] before it: a literal, [`PARAM`], or as the last one [`REGEX`] with the
//! number of the expression, or [`REST`]. Literals hold none of these bytes, because paths are ASCII without controls; so
//! comparing keys as bytes compares them segment by segment, literals before parameters before expressions before
//! remainders, and what begins with the same segments stands together.

use daemun_config::model::PathMatch;

use super::path;

/// Before each segment of a key; lower than any byte of a literal.
pub(super) const SEP: u8 = 0x01;
/// A segment that is a parameter.
pub(super) const PARAM: u8 = 0x80;
/// The rest of the path as a regular expression sees it; four bytes follow, the number of the expression.
pub(super) const REGEX: u8 = 0x81;
/// The rest of the path.
pub(super) const REST: u8 = 0x82;

/// Most segments of a pattern: bounds the depth of a lookup.
pub(super) const MAX_SEGMENTS: usize = 128;
/// Most parameters of a pattern, the remainder included: a lookup keeps them without allocating.
pub(super) const MAX_PARAMETERS: usize = 16;
/// Longest pattern in bytes.
const MAX_LEN: usize = 8 * 1024;

/// A path condition, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The segments, without the number of an expression.
    pub(super) key: Vec<u8>,
    /// Names of the parameters in order, a remainder's last.
    pub(super) names: Vec<String>,
    /// Whether the last name is that of a remainder.
    pub(super) captures_rest: bool,
    /// Whether a remainder matches only where a slash precedes it: `/a/` but not `/a`.
    pub(super) needs_slash: bool,
    /// The text of an expression.
    pub(super) regex: Option<String>,
    /// What every path the expression matches begins with.
    pub(super) regex_prefix: Vec<u8>,
}

/// What is wrong with a pattern, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PatternError {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl PatternError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// How a route wants to read its path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) slashes: bool,
    pub(super) encoded_slash: bool,
}

impl Pattern {
    /// Reads a path condition; none is the remainder at the root.
    pub(super) fn read(condition: Option<&PathMatch>, keep: Keep) -> Result<Self, PatternError> {
        match condition {
            None => Ok(Self { key: vec![SEP, REST], needs_slash: true, ..Self::default() }),
            Some(PathMatch::Pattern(text)) => Self::read_segments(text, keep, false),
            Some(PathMatch::Prefix(text)) => Self::read_segments(text, keep, true),
            Some(PathMatch::Regex(text)) => Self::read_regex(text),
        }
    }

    fn read_segments(text: &str, keep: Keep, prefix: bool) -> Result<Self, PatternError> {
        let segments = split(text)?;
        let mut pattern = Self::default();
        let count = segments.len();
        for (index, segment) in segments.into_iter().enumerate() {
            let last = index + 1 == count;
            if prefix && last && segment.is_empty() {
                pattern.needs_slash = true;
                break;
            }
            pattern.push_segment(segment, last, prefix, keep)?;
        }
        if prefix {
            pattern.key.extend_from_slice(&[SEP, REST]);
        }
        if pattern.names.len() > MAX_PARAMETERS {
            return Err(PatternError::new(format!("the path has more than {MAX_PARAMETERS} parameters")));
        }
        Ok(pattern)
    }

    fn push_segment(&mut self, segment: &str, last: bool, prefix: bool, keep: Keep) -> Result<(), PatternError> {
        self.key.push(SEP);
        if let Some(name) = segment.strip_prefix("{*").and_then(|name| name.strip_suffix('}')) {
            if prefix {
                return Err(PatternError::new(format!("a prefix cannot hold `{segment}`: it has a remainder already")));
            }
            if !last {
                return Err(PatternError::new(format!("`{segment}` stands before the end"))
                    .help("a remainder can only be the last segment"));
            }
            self.push_name(name)?;
            self.captures_rest = true;
            self.needs_slash = true;
            self.key.push(REST);
        } else if let Some(name) = segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            self.push_name(name)?;
            self.key.push(PARAM);
        } else {
            self.key.extend(literal(segment, last, keep)?);
        }
        Ok(())
    }

    fn push_name(&mut self, name: &str) -> Result<(), PatternError> {
        let mut bytes = name.bytes();
        let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !first || name.len() > 64 || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        {
            return Err(PatternError::new(format!("`{name}` is not the name of a parameter")).help(
                "a letter or `_`, then letters, digits, `_` and `-`, at most 64 in all: `{item_id}`, `{*rest}`",
            ));
        }
        if self.names.iter().any(|known| known == name) {
            return Err(PatternError::new(format!("the parameter `{name}` stands in the path twice")));
        }
        self.names.push(name.to_owned());
        Ok(())
    }

    fn read_regex(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_LEN {
            return Err(PatternError::new(format!("the expression is longer than {MAX_LEN} bytes")));
        }
        let regex_prefix = literal_prefix(text)?;
        let whole = regex_prefix.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let mut key = Vec::new();
        let literals = regex_prefix.get(..whole).unwrap_or_default();
        key.extend(literals.iter().map(|&byte| if byte == b'/' { SEP } else { byte }));
        if key.iter().filter(|&&byte| byte == SEP).count() >= MAX_SEGMENTS {
            return Err(PatternError::new(format!("the expression begins with more than {MAX_SEGMENTS} segments")));
        }
        key.extend_from_slice(&[SEP, REGEX]);
        Ok(Self { key, regex: Some(text.to_owned()), regex_prefix, ..Self::default() })
    }
}

/// The normal form of a prefix that is taken off a request's path, or why no request can begin with it.
pub(crate) fn normal_prefix(text: &str, keep_slashes: bool, keep_encoded_slash: bool) -> Result<String, String> {
    let keep = Keep { slashes: keep_slashes, encoded_slash: keep_encoded_slash };
    let segments = split(text).map_err(|error| error.message)?;
    let count = segments.len();
    let mut out = String::with_capacity(text.len());
    for (index, segment) in segments.into_iter().enumerate() {
        let name = literal(segment, index + 1 == count, keep).map_err(|error| error.message)?;
        out.push('/');
        out.push_str(&String::from_utf8_lossy(&name));
    }
    Ok(out)
}

/// The normal form of a path that is forwarded, with its `{name}` left as they are; or why it is not one.
pub(crate) fn normal_template(text: &str, keep_slashes: bool) -> Result<String, String> {
    let segments = split(text).map_err(|error| error.message)?;
    let count = segments.len();
    let mut out = String::with_capacity(text.len());
    for (index, segment) in segments.into_iter().enumerate() {
        if segment.is_empty() && index + 1 < count && !keep_slashes {
            return Err("the path has an empty segment, which only a route with `slashes: keep` forwards".to_owned());
        }
        out.push('/');
        let start = out.len();
        let mut rest = segment;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, behind)) = after.split_once('}') else { break };
            push_normal(before, &mut out)?;
            out.push('{');
            out.push_str(name);
            out.push('}');
            rest = behind;
        }
        push_normal(rest, &mut out)?;
        if matches!(out.get(start..), Some("." | "..")) {
            return Err(format!("`{segment}` is a dot segment, which servers resolve in their own ways"));
        }
    }
    Ok(out)
}

fn push_normal(piece: &str, out: &mut String) -> Result<(), String> {
    let (normal, _) = path::read_pattern_segment(piece).map_err(|error| error.to_string())?;
    out.push_str(&String::from_utf8_lossy(&normal));
    Ok(())
}

/// The segments of a path pattern.
fn split(text: &str) -> Result<Vec<&str>, PatternError> {
    let Some(tail) = text.strip_prefix('/') else {
        return Err(PatternError::new(format!("`{text}` does not begin with `/`")));
    };
    if text.len() > MAX_LEN {
        return Err(PatternError::new(format!("the path is longer than {MAX_LEN} bytes")));
    }
    let segments: Vec<&str> = tail.split('/').collect();
    if segments.len() > MAX_SEGMENTS {
        return Err(PatternError::new(format!("the path has more than {MAX_SEGMENTS} segments")));
    }
    Ok(segments)
}

/// The normal form of a literal segment.
fn literal(segment: &str, last: bool, keep: Keep) -> Result<Vec<u8>, PatternError> {
    if segment.contains(['{', '}']) {
        return Err(PatternError::new(format!("`{segment}` is not a whole parameter")).help(
            "a parameter is a whole segment: `{name}`; for a part of one use `path_regex`, for a brace `%7B` or `%7D`",
        ));
    }
    if matches!(segment, "*" | "**") {
        return Err(PatternError::new(format!("`{segment}` has no meaning here"))
            .help("`{name}` matches one segment, and `{*rest}` the remainder"));
    }
    if let Some(name) = segment.strip_prefix(':').filter(|name| !name.is_empty()) {
        return Err(PatternError::new(format!("`{segment}` is not a parameter")).help(format!("write `{{{name}}}`")));
    }
    if segment.is_empty() && !last && !keep.slashes {
        return Err(PatternError::new("the path has an empty segment, which no request has after it was read")
            .help("`slashes: keep` on the route keeps them"));
    }
    if segment.contains(';') {
        return Err(
            PatternError::new(format!("`{segment}` holds `;`")).help("parameters behind a `;` are ignored in matching")
        );
    }
    let (name, encoded_slash) =
        path::read_pattern_segment(segment).map_err(|error| PatternError::new(error.to_string()))?;
    if matches!(name.as_slice(), b"." | b"..") {
        return Err(PatternError::new(format!("`{segment}` is a dot segment, which no request has after it was read")));
    }
    if encoded_slash && !keep.encoded_slash {
        return Err(PatternError::new(format!("`{segment}` holds `%2F`, which is refused"))
            .help("`encoded_slash: keep` on the route allows it"));
    }
    Ok(name)
}

/// The plain text that an expression begins with, up to the first thing that is not one; every path it matches begins so.
fn literal_prefix(text: &str) -> Result<Vec<u8>, PatternError> {
    use regex_syntax::ast::{AssertionKind, Ast};

    let ast = regex_syntax::ast::parse::Parser::new()
        .parse(text)
        .map_err(|error| PatternError::new(format!("`{text}` is not a regular expression: {}", error.kind())))?;
    let single = [ast];
    let parts: &[Ast] = if let [Ast::Concat(concat)] = &single { &concat.asts } else { &single };
    let mut prefix = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        if let Ast::Assertion(assertion) = part
            && index == 0
            && matches!(assertion.kind, AssertionKind::StartLine | AssertionKind::StartText)
        {
            continue;
        }
        let Ast::Literal(literal) = part else { break };
        if !literal.c.is_ascii_graphic() {
            break;
        }
        prefix.extend(u8::try_from(literal.c));
    }
    if prefix.first() != Some(&b'/') {
        prefix.clear();
    }
    Ok(prefix)
}
