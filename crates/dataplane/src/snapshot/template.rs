//! Text with `{name}` of a path pattern, as rewrites and redirects use it. Knows no escaping: what it puts in was already read once. What
//! comes out of a rewrite is a path in its one reading again, and what comes out of a redirect leads where the template says.

use daemun_config::decode::expression_end;
use daemun_pipeline::expression::{ExpressionError, Scope, Text, encode_segment};
use daemun_pipeline::{Exchange, Fault, Reason};

use crate::router::{PathError, path};

/// A compiled template.
#[derive(Debug, Default)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Param(u16),
    Path,
    Query,
    Host,
    Computed(Text),
}

/// The expressions of a template, and their text with the name of a parameter in place of each, which no path pattern can have.
pub(crate) fn split_expressions(text: &str, scope: &Scope<'_>) -> Result<(String, Vec<Text>), ExpressionError> {
    let (mut plain, mut texts) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some(end) = expression_end(behind) else { break };
        let offset = text.len() - behind.len();
        let moved = |error: ExpressionError| ExpressionError { offset: offset + error.offset, ..error };
        let computed = Text::expression(behind.get(..end).unwrap_or_default(), scope).map_err(moved)?;
        plain.push_str(before);
        plain.push_str(&format!("{{@{}}}", texts.len()));
        texts.push(computed);
        rest = behind.get(end + 1..).unwrap_or_default();
    }
    plain.push_str(rest);
    Ok((plain, texts))
}

impl Template {
    /// Compiles `text`; `params` are the names of the pattern. An unknown name is given back.
    pub(crate) fn parse(text: &str, params: &[String]) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(|| after.to_owned())?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let bare = name.strip_prefix('*').unwrap_or(name);
            pieces.push(match params.iter().position(|p| p == bare) {
                Some(index) => Piece::Param(u16::try_from(index).map_err(|_| name.to_owned())?),
                None => match bare {
                    "path" => Piece::Path,
                    "query" => Piece::Query,
                    "host" => Piece::Host,
                    _ => return Err(name.to_owned()),
                },
            });
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    /// Puts expressions in the places that [`split_expressions`] marked; to be called with all of them after [`Template::parse`] was given
    /// their names behind those of `params`.
    pub(crate) fn with(mut self, params: usize, texts: Vec<Text>) -> Template {
        for (text, index) in texts.into_iter().zip(params..) {
            let marked = self.0.iter_mut().find(|piece| matches!(piece, Piece::Param(at) if usize::from(*at) == index));
            if let Some(piece) = marked {
                *piece = Piece::Computed(text);
            }
        }
        self
    }

    /// What would let a caller climb with a value of a parameter, if anything: a dot or two beside it, alone in their segment but for
    /// the value, which can be empty.
    pub(crate) fn open_dots(&self) -> Option<String> {
        let is_open = |text: &str| matches!(text.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
        self.0.iter().enumerate().find_map(|(index, piece)| {
            let Piece::Text(text) = piece else { return None };
            let (before, after) = (index > 0, index + 1 < self.0.len());
            let first = text.split(['/', '?', '#']).next().filter(|first| before && is_open(first));
            let last = text.rsplit('/').next().filter(|last| after && is_open(last));
            // between two values a dot is alone in no segment, such as that of `{name}.{ending}`
            first.or(last).filter(|dots| !(before && after && *dots == text.as_str())).map(str::to_owned)
        })
    }

    /// What would let a caller choose the host of a redirect with a value, if anything: one that stands before the path begins.
    pub(crate) fn open_host(&self) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(more) => text.push_str(more),
                Piece::Host => text.push('h'),
                Piece::Path => text.push('/'),
                Piece::Param(_) | Piece::Query | Piece::Computed(_) => {
                    let behind_scheme = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
                    return (!behind_scheme.contains(['/', '?', '#'])).then_some(text);
                }
            }
        }
        None
    }

    /// Appends where a redirect leads. What has no host in the template gets none from a value: browsers read both `//` and `/\` at the
    /// beginning as one (WHATWG URL, "relative slash state"), so that only one slash is left there.
    pub(crate) fn push_location(&self, exchange: &Exchange, out: &mut Vec<u8>) {
        let start = out.len();
        self.push(exchange, out);
        let is_local = match self.0.first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Param(_) | Piece::Path | Piece::Query | Piece::Host | Piece::Computed(_)) | None => true,
        };
        let slashes = out.iter().skip(start).take_while(|byte| matches!(byte, b'/' | b'\\')).count();
        if is_local && slashes > 1 {
            out.drain(start..start + slashes - 1);
            if let Some(first) = out.get_mut(start) {
                *first = b'/';
            }
        }
    }

    /// Whether what comes out is in its one reading without being read again: every value is a segment of its own, and one that may be
    /// a remainder, which is the last of `params`, stands at the end.
    pub(crate) fn is_plain(&self, params: usize) -> bool {
        self.0.iter().enumerate().all(|(index, piece)| {
            let before = index.checked_sub(1).and_then(|before| self.0.get(before));
            let after = self.0.get(index + 1);
            match piece {
                Piece::Text(_) => true,
                Piece::Param(param) => {
                    matches!(before, Some(Piece::Text(text)) if text.ends_with('/'))
                        && match after {
                            None => true,
                            Some(Piece::Text(text)) => text.starts_with('/') && usize::from(*param) + 1 < params,
                            Some(Piece::Param(_) | Piece::Path | Piece::Query | Piece::Host | Piece::Computed(_)) => {
                                false
                            }
                        }
                }
                Piece::Path | Piece::Query | Piece::Host | Piece::Computed(_) => false,
            }
        })
    }

    /// Refuses what an expression would make another path of: its value alone in a segment and empty, a dot segment, or with a slash where
    /// requests may not hold an encoded one either.
    pub(crate) fn check_computed(&self, exchange: &Exchange, keep_encoded_slash: bool) -> Result<(), Fault> {
        if !self.0.iter().any(|piece| matches!(piece, Piece::Computed(_))) {
            return Ok(());
        }
        let (mut raw, mut empty, mut slash) = (Vec::new(), Vec::new(), false);
        for piece in &self.0 {
            let start = raw.len();
            match piece {
                Piece::Computed(text) => {
                    text.put(exchange, &mut raw, &mut |value, out| {
                        slash |= value.contains(&b'/');
                        encode_segment(value, out);
                    })?;
                    if raw.len() == start {
                        empty.push(start);
                    }
                }
                Piece::Text(_) | Piece::Param(_) | Piece::Path | Piece::Query | Piece::Host => {
                    piece.push(exchange, &mut raw)
                }
            }
        }
        if slash && !keep_encoded_slash {
            let detail = "a part of the path that would be forwarded holds `/`, which is not allowed here";
            return Err(Fault::new(Reason::BadPath, detail));
        }
        let is_edge = |at: Option<usize>| at.and_then(|at| raw.get(at)).is_none_or(|&byte| byte == b'/');
        if empty.iter().any(|&at| is_edge(at.checked_sub(1)) && is_edge(Some(at))) {
            return Err(Fault::new(Reason::BadPath, "a part of the path that would be forwarded is empty"));
        }
        let is_dots = |segment: &[u8]| matches!(segment.split(|&byte| byte == b';').next(), Some(b"." | b".."));
        if raw.split(|&byte| byte == b'/').any(is_dots) {
            return Err(Fault::new(Reason::BadPath, "a part of the path that would be forwarded is a dot segment"));
        }
        Ok(())
    }

    /// The path that comes out, read like that of a request.
    pub(crate) fn read(&self, exchange: &Exchange, keep_slashes: bool) -> Result<Vec<u8>, PathError> {
        let (mut raw, mut buffer) = (Vec::new(), Vec::new());
        self.push(exchange, &mut raw);
        let reading = path::read(&raw, &mut buffer)?;
        Ok(reading.view(&raw, &buffer).forwarded(keep_slashes).to_vec())
    }

    /// Appends the text for an exchange.
    pub(crate) fn push(&self, exchange: &Exchange, out: &mut Vec<u8>) {
        for piece in &self.0 {
            piece.push(exchange, out);
        }
    }
}

impl Piece {
    fn push(&self, exchange: &Exchange, out: &mut Vec<u8>) {
        let request = &exchange.request;
        match self {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Param(index) => {
                if let Some((_, span)) = exchange.params.iter().find(|(i, _)| i == index) {
                    out.extend_from_slice(request.head.bytes(*span));
                }
            }
            Piece::Path => out.extend_from_slice(request.head.bytes(request.path)),
            Piece::Query => out.extend_from_slice(request.query.map(|q| request.head.bytes(q)).unwrap_or_default()),
            Piece::Host => out.extend_from_slice(request.head.bytes(request.host)),
            // `check_computed` has refused what cannot be computed
            Piece::Computed(text) => _ = text.put(exchange, out, &mut encode_segment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exchange whose parameters have these values.
    fn exchange(path: &str, query: &str, values: &[&str]) -> Exchange {
        let mut exchange = Exchange::default();
        let request = &mut exchange.request;
        request.path = request.head.store(path.as_bytes());
        request.query = Some(request.head.store(query.as_bytes()));
        request.host = request.head.store(b"shop.example.com");
        for (index, value) in (0..).zip(values) {
            let span = request.head.store(value.as_bytes());
            exchange.params.push((index, span));
        }
        exchange
    }

    fn parse(text: &str, params: &[&str]) -> Template {
        let params: Vec<String> = params.iter().map(|param| (*param).to_owned()).collect();
        Template::parse(text, &params).unwrap()
    }

    #[test]
    fn names_of_the_pattern_win_and_unknown_ones_are_given_back() {
        let params = ["id".to_owned()];
        let template = Template::parse("/v2/{id}?{query}", &params).unwrap();
        assert_eq!(template.0, [Piece::Text("/v2/".into()), Piece::Param(0), Piece::Text("?".into()), Piece::Query]);
        assert_eq!(Template::parse("/{ix}", &params).unwrap_err(), "ix");
    }

    #[test]
    fn no_value_makes_a_local_redirect_leave_its_host() {
        let location = |to: &str, path: &str, query: &str, rest: &str| {
            let mut out = Vec::new();
            parse(to, &["rest"]).push_location(&exchange(path, query, &[rest]), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(location("/{rest}", "/x", "", "/evil.example/a//b"), "/evil.example/a//b");
        assert_eq!(location("/{rest}", "/x", "", "///evil.example"), "/evil.example");
        assert_eq!(location("/{query}", "/x", "/evil.example", ""), "/evil.example");
        assert_eq!(location("/{query}", "/x", "\\\\evil.example", ""), "/evil.example");
        assert_eq!(location("{path}", "//evil.example", "", ""), "/evil.example");
        assert_eq!(location("{path}?{query}", "/a", "b=//c", ""), "/a?b=//c");
        assert_eq!(location("/new/{rest}", "/x", "", "/a"), "/new//a");
        assert_eq!(location("https://{host}{path}", "//a", "", ""), "https://shop.example.com//a");
        assert_eq!(location("/{rest}", "/x", "", ""), "/");
    }

    #[test]
    fn a_value_that_could_choose_the_host_is_told() {
        let host = |to: &str| parse(to, &["rest", "host2"]).open_host();
        for safe in
            ["/{rest}", "{path}{rest}", "https://{host}{path}{rest}", "https://{host}/{rest}", "https://h?{query}"]
        {
            assert_eq!(host(safe), None, "{safe}");
        }
        assert_eq!(host("https://h{rest}").as_deref(), Some("https://h"));
        assert_eq!(host("https://{rest}.example.com/").as_deref(), Some("https://"));
        assert_eq!(host("https://{host}{query}").as_deref(), Some("https://h"));
        // a parameter of this name is the caller's, unlike the path
        assert_eq!(parse("{path}/a", &["path"]).open_host().as_deref(), Some(""));
    }

    #[test]
    fn dots_that_a_value_leaves_alone_are_told() {
        let dots = |text: &str| parse(text, &["a", "rest"]).open_dots();
        for safe in
            ["/{a}", "/v{a}.{rest}", "/{a}.{rest}", "/{a}.json", "/...{a}", "/a./{a}", "/x/.well-known/{a}", "/{a}/.b"]
        {
            assert_eq!(dots(safe), None, "{safe}");
        }
        for open in ["/.{rest}", "/x/..{a}/y", "/v{rest}.", "/{rest}../y", "/%2E{rest}", "/{a}/.{rest}", "/{rest}.?b"] {
            assert!(dots(open).is_some(), "{open}");
        }
    }

    #[test]
    fn a_template_is_plain_where_each_value_is_a_segment() {
        for (text, plain) in [
            ("/v2/{a}", true),
            ("/v2/{a}/x/{rest}", true),
            ("/none", true),
            ("/{rest}/x", false),
            ("/v{a}", false),
            ("/{a}.json", false),
            ("/{a}{rest}", false),
        ] {
            assert_eq!(parse(text, &["a", "rest"]).is_plain(2), plain, "{text}");
        }
    }

    #[test]
    fn what_is_not_plain_is_read_again() {
        let read = |text: &str, keep: bool, rest: &str| {
            let path = parse(text, &["rest"]).read(&exchange("/", "", &[rest]), keep);
            path.map(|path| String::from_utf8(path).unwrap())
        };
        assert_eq!(read("/x/{rest}/y", false, "").as_deref(), Ok("/x/y"));
        assert_eq!(read("/x/{rest}/y", false, "a/").as_deref(), Ok("/x/a/y"));
        assert_eq!(read("/x/{rest}/y", true, "a/").as_deref(), Ok("/x/a//y"));
        assert_eq!(read("/x/v{rest}.b", false, "a/").as_deref(), Ok("/x/va/.b"));
        assert_eq!(read("/{rest}.{rest}", false, "a/"), Ok("/a/.a/".to_owned()));
        assert_eq!(read("/v{rest}.{rest}", true, "%2F"), Err(PathError::DotBesideEncodedSlash));
    }
}
