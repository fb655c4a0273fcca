//! Text with `{name}` of a path pattern, as rewrites and redirects use it. Knows no escaping: what it puts in was already read once.

use daemun_pipeline::Exchange;

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

    /// Appends the text for an exchange.
    pub(crate) fn push(&self, exchange: &Exchange, out: &mut Vec<u8>) {
        let request = &exchange.request;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Param(index) => {
                    if let Some((_, span)) = exchange.params.iter().find(|(i, _)| i == index) {
                        out.extend_from_slice(request.head.bytes(*span));
                    }
                }
                Piece::Path => out.extend_from_slice(request.head.bytes(request.path)),
                Piece::Query => out.extend_from_slice(request.query.map(|q| request.head.bytes(q)).unwrap_or_default()),
                Piece::Host => out.extend_from_slice(request.head.bytes(request.host)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_pattern_win_and_unknown_ones_are_given_back() {
        let params = ["id".to_owned()];
        let template = Template::parse("/v2/{id}?{query}", &params).unwrap();
        assert_eq!(template.0, [Piece::Text("/v2/".into()), Piece::Param(0), Piece::Text("?".into()), Piece::Query]);
        assert_eq!(Template::parse("/{ix}", &params).unwrap_err(), "ix");
    }
}
