//! Content types and patterns of them. Knows nothing of parameters.

/// A content type without its parameters, or a pattern of such, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern {
    /// What stands before the `*`, or the whole type.
    start: Box<str>,
    /// What stands behind the `*`; `None` when there is none.
    end: Option<Box<str>>,
}

/// Types that only their own name means: a stream of events is seldom worth it, since each event must leave at once.
const ONLY_BY_NAME: &[&str] = &["text/event-stream"];

impl TypePattern {
    /// Reads `type/subtype`, `type/*` or `type/*+suffix`.
    pub(super) fn parse(text: &str) -> Option<TypePattern> {
        let text = text.to_ascii_lowercase();
        let (kind, subtype) = text.split_once('/')?;
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
        };
        let (start, end) = match subtype.split_once('*') {
            Some(("", suffix)) if suffix.is_empty() || (suffix.starts_with('+') && is_name(suffix)) => {
                (text.get(..=kind.len())?, Some(suffix))
            }
            Some(_) => return None,
            None => (text.as_str(), None),
        };
        let sound = is_name(kind) && (end.is_some() || is_name(subtype));
        sound.then(|| TypePattern { start: start.into(), end: end.map(Into::into) })
    }

    /// Whether the value of a `Content-Type` is of this pattern.
    pub(super) fn is_of(&self, value: &[u8]) -> bool {
        let value = value.trim_ascii_start();
        // what most answers are told apart by, before anything else is read
        let Some((start, rest)) = value.split_at_checked(self.start.len()) else { return false };
        // of most other types the last byte tells
        let last = |text: &[u8]| text.last().map_or(0, |byte| byte | 0x20);
        if last(start) != last(self.start.as_bytes())
            || !daemun_pipeline::same_in_any_case(start, self.start.as_bytes())
        {
            return false;
        }
        let Some(end) = &self.end else { return matches!(rest.trim_ascii_start(), [] | [b';', ..]) };
        let essence = value.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        if ONLY_BY_NAME.iter().any(|name| essence.eq_ignore_ascii_case(name.as_bytes())) {
            return false;
        }
        let behind = essence.len().checked_sub(end.len()).filter(|at| *at >= self.start.len());
        behind.and_then(|at| essence.get(at..)).is_some_and(|last| last.eq_ignore_ascii_case(end.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_say() {
        for (pattern, value, same) in [
            ("text/html", "Text/HTML; charset=utf-8", true),
            ("text/html", "text/html5", false),
            ("text/*", "text/plain", true),
            ("text/*", "text/event-stream;x=y", false),
            ("text/event-stream", "text/event-stream", true),
            ("text/*", "image/png", false),
            ("application/*+json", "application/problem+json", true),
            ("application/*+json", "application/+json", true),
            ("application/*+json", "application/json", false),
            ("application/*+json", "application/problem+xml", false),
            ("text/html", "", false),
        ] {
            assert_eq!(TypePattern::parse(pattern).unwrap().is_of(value.as_bytes()), same, "{pattern} {value}");
        }
        for wrong in ["", "text", "*/*", "text/", "/html", "text/*json", "text/a*", "te xt/a", "text/a/b", "text/*+"] {
            let parsed = TypePattern::parse(wrong);
            assert!(parsed.is_none() || wrong == "text/*+", "{wrong}: {parsed:?}");
        }
    }
}
