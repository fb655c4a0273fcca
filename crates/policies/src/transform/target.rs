//! What a step is about: a header, a parameter of the query, the path, the status, or a place in the body. Knows only how they are written.

use std::fmt;

/// What a step changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A header, in lower case.
    Header(String),
    /// A parameter of the query, decoded.
    Query(String),
    /// The request's path.
    Path,
    /// The answer's status.
    Status,
    /// A place in the body, or all of it.
    Body(BodyPath),
}

/// A place in a body: from the whole to a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BodyPath(pub(super) Box<[Segment]>);

/// One step of a [`BodyPath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// A member, an element, an attribute that is written `@name`, or a field of a form.
    Name(Box<str>),
    /// The item of this number, counted from 0.
    Index(usize),
    /// Every item.
    Every,
}

/// Segments of a place.
const MAX_SEGMENTS: usize = 16;
/// Bytes of a name.
const MAX_NAME: usize = 256;

impl Target {
    /// Reads `header.NAME`, `query.NAME`, `path`, `status`, or `body` with the way to a place in it.
    pub(super) fn parse(text: &str) -> Result<Target, String> {
        if let Some(name) = text.strip_prefix("header.") {
            let sound = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(daemun_pipeline::head::is_token);
            return if sound {
                Ok(Target::Header(name.to_ascii_lowercase()))
            } else {
                Err(format!("`{}` is not the name of a header", clip(name)))
            };
        }
        if let Some(name) = text.strip_prefix("query.") {
            let sound = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
            return if sound {
                Ok(Target::Query(name.to_owned()))
            } else {
                Err(format!("`{}` is not the name of a parameter", clip(name)))
            };
        }
        match (text, text.strip_prefix("body")) {
            ("path", _) => Ok(Target::Path),
            ("status", _) => Ok(Target::Status),
            (_, Some(way)) => BodyPath::parse(way).map(Target::Body),
            (_, None) => Err(format!("`{}` is nothing that a step can change", clip(text))),
        }
    }
}

impl BodyPath {
    /// Reads what stands behind `body`: `.name`, `["any name"]`, `[0]`, `[*]`.
    fn parse(way: &str) -> Result<BodyPath, String> {
        let mut segments = Vec::new();
        let mut rest = way;
        while !rest.is_empty() {
            let (segment, behind) = Segment::parse(rest)?;
            if segments.len() == MAX_SEGMENTS {
                return Err(format!("the place is deeper than {MAX_SEGMENTS}"));
            }
            segments.push(segment);
            rest = behind;
        }
        Ok(BodyPath(segments.into()))
    }

    /// Whether it is the whole body.
    pub(super) fn is_whole(&self) -> bool {
        self.0.is_empty()
    }
}

impl Segment {
    /// Reads the first segment of a way; also gives what stands behind it.
    fn parse(way: &str) -> Result<(Segment, &str), String> {
        if let Some(behind) = way.strip_prefix('.') {
            let end = behind.find(['.', '[']).unwrap_or(behind.len());
            let (name, behind) = behind.split_at(end);
            let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ']' | '"');
            if name.is_empty() || name.len() > MAX_NAME || name.contains(odd) {
                return Err(format!("`{}` is not a name; others are written `[\"name\"]`", clip(name)));
            }
            return Ok((Segment::Name(name.into()), behind));
        }
        if let Some(quoted) = way.strip_prefix("[\"") {
            return match quoted.split_once("\"]") {
                Some((name, behind)) if name.len() <= MAX_NAME => Ok((Segment::Name(name.into()), behind)),
                Some(_) | None => Err(format!("`{}` is not a name in quotes and brackets", clip(way))),
            };
        }
        let Some((inner, behind)) = way.strip_prefix('[').and_then(|inner| inner.split_once(']')) else {
            return Err(format!("`.` or `[` is missing before `{}`", clip(way)));
        };
        if inner == "*" {
            return Ok((Segment::Every, behind));
        }
        let number = Some(inner).filter(|inner| inner.len() <= 6 && inner.bytes().all(|b| b.is_ascii_digit()));
        let number = number.and_then(|inner| inner.parse().ok());
        number.map(|number| (Segment::Index(number), behind)).ok_or_else(|| format!("`[{}]` is no item", clip(inner)))
    }
}

/// The beginning of a text, for messages.
pub(super) fn clip(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(64).collect()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Header(name) => write!(f, "header.{name}"),
            Target::Query(name) => write!(f, "query.{name}"),
            Target::Path => f.write_str("path"),
            Target::Status => f.write_str("status"),
            Target::Body(path) => write!(f, "{path}"),
        }
    }
}

impl fmt::Display for BodyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("body")?;
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Name(name) if name.is_empty() || name.contains(['.', '[', ']', '"', ' ']) => {
                write!(f, "[\"{name}\"]")
            }
            Segment::Name(name) => write!(f, ".{name}"),
            Segment::Index(number) => write!(f, "[{number}]"),
            Segment::Every => f.write_str("[*]"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in [
            "header.x-a",
            "query.utm_source",
            "query.a.b[0]",
            "path",
            "status",
            "body",
            "body.id",
            "body.items[*].price",
            "body[0][*]",
            "body.order.@id",
            "body.soap:Envelope.soap:Body",
            "body[\"a.b\"].c",
            "body[\"user[name]\"]",
            "body[\"\"]",
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Target::parse("header.X-A").unwrap().to_string(), "header.x-a");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        let deep = format!("body{}", ".a".repeat(17));
        for text in [
            "",
            "x",
            "header",
            "header.",
            "header.a b",
            "query.",
            "body.",
            "body..a",
            "bodyx",
            "body[",
            "body[]",
            "body[-1]",
            "body[1x]",
            "body[9999999]",
            "body.a]",
            "body.a b",
            "body[\"a",
            "paths",
            "path.a",
            &deep,
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
