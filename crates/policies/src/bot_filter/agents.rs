//! Texts and expressions looked for all at once, in any case. Knows no request.

use aho_corasick::AhoCorasick;
use daemun_pipeline::bounded::Bounded;
use regex::bytes::{RegexSet, RegexSetBuilder};

use super::config::Agent;

/// Bytes of a header that the expressions of any list go through.
const LEAST: usize = 512;

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// `None` when there are no texts; they need no memory of a call's own, as expressions do.
    texts: Option<AhoCorasick>,
    /// As written, to be named in explanations.
    written: Box<[Box<str>]>,
    /// `None` when there are no expressions.
    regexes: Option<Bounded<RegexSet>>,
}

impl Agents {
    /// Compiles a list.
    ///
    /// # Errors
    /// When it is too large.
    pub(super) fn new(list: &[Agent]) -> Result<Agents, String> {
        let texts = list.iter().filter_map(|agent| if let Agent::Text(text) = agent { Some(text) } else { None });
        let regexes = list.iter().filter_map(|agent| if let Agent::Regex(regex) = agent { Some(regex) } else { None });
        let (texts, regexes): (Vec<&String>, Vec<&String>) = (texts.collect(), regexes.collect());
        let written = texts.iter().map(|text| text.as_str().into()).collect();
        let texts = (!texts.is_empty()).then(|| AhoCorasick::builder().ascii_case_insensitive(true).build(&texts));
        let build = |size| RegexSetBuilder::new(&regexes).case_insensitive(true).size_limit(size).build();
        let regexes = (!regexes.is_empty()).then(|| Bounded::build(build));
        let texts = texts.transpose().map_err(|error| format!("the texts cannot be used: {error}"))?;
        let regexes = regexes.transpose().map_err(|_| "the regular expressions are too large together".to_owned())?;
        Ok(Agents { texts, written, regexes: regexes.map(|regexes| regexes.at_least(LEAST)) })
    }

    /// Whether a value holds one of them; `unread` is what counts when it is longer than the expressions go through.
    #[inline]
    pub(super) fn are_in(&self, value: &[u8], unread: bool) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.is_match(value))
            || self.regexes.as_ref().is_some_and(|regexes| match regexes.over(value.len()) {
                Some(regexes) => regexes.is_match(value),
                None => unread,
            })
    }

    /// The first of them in a value, as written.
    pub(super) fn first_in(&self, value: &[u8]) -> Option<&str> {
        let text = self.texts.as_ref().and_then(|texts| texts.find(value));
        if let Some(text) = text.and_then(|found| self.written.get(found.pattern().as_usize())) {
            return Some(text);
        }
        let regexes = self.regexes.as_ref()?.over(value.len())?;
        let first = regexes.matches(value).iter().next()?;
        regexes.patterns().get(first).map(String::as_str)
    }
}
