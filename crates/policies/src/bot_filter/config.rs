//! The settings of `bot_filter`.

use daemun_config::decode::{Decoder, JsonValue, OneOrMany, RegexText, SchemaBuilder, Setting, text};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;
use serde_json::json;

/// Most entries of a list.
const MOST: usize = 10_000;
/// Most regular expressions of a list.
const MOST_REGEXES: usize = 100;

settings! {
    /// Which programs may call, by what they say they are in `User-Agent`. Case does not matter.
    #[derive(Clone, Debug, PartialEq)]
    pub struct BotFilterConfig {
        /// Texts that the header of a refused program holds anywhere, or `{regex: …}`.
        pub deny: Option<OneOrMany<Agent>>,
        /// Exceptions: what holds one of these is let in although it is denied.
        pub allow: Option<OneOrMany<Agent>>,
        /// What becomes of calls without the header, or with an empty one.
        pub empty: Empty = "allow",
    }
    check check;
}

settings! {
    /// What becomes of calls that do not say what they are.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Empty {
        /// They are let in.
        Allow = "allow",
        /// They are refused.
        Deny = "deny",
    }
}

settings! {
    /// A test of the header.
    enum AgentTest {
        /// Regular expression that some part of the header must match.
        Regex(RegexText) = "regex",
    }
}

/// What a header holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// This text anywhere.
    Text(String),
    /// A part that this expression matches.
    Regex(String),
}

fn check(settings: &BotFilterConfig, node: &Node, cx: &mut Decoder<'_>) {
    if settings.deny.is_none()
        && settings.empty == Empty::Allow
        && node.get("empty").is_none_or(|it| it.as_str().is_some())
    {
        let found = Diagnostic::error(diagnostic::MISSING_KEY, node.at, "nothing is refused here");
        cx.report(found.help("give `deny`, the programs that may not call, or `empty: deny`"));
    }
    for (key, list) in [("deny", &settings.deny), ("allow", &settings.allow)] {
        let (Some(list), Some(node)) = (list, node.get(key)) else { continue };
        let regexes = list.0.iter().filter(|agent| matches!(agent, Agent::Regex(_))).count();
        let most = match () {
            () if node.as_seq().is_some_and(<[Node]>::is_empty) => {
                "expected at least one item, found an empty list".to_owned()
            }
            () if list.0.len() > MOST => format!("expected at most {MOST} items, found {}", list.0.len()),
            () if regexes > MOST_REGEXES => {
                format!("expected at most {MOST_REGEXES} regular expressions, found {regexes}")
            }
            () => continue,
        };
        cx.key(key, |cx| cx.bad_value_help(node, most, "texts and alternatives within one expression are cheaper"));
    }
    if let Some(allow) = node.entry("allow").filter(|_| settings.deny.is_none()) {
        let found = Diagnostic::error(
            diagnostic::MISSING_KEY,
            allow.key_at,
            "`allow` makes exceptions from `deny`, which is missing",
        );
        cx.key("allow", |cx| cx.report(found));
    }
}

impl Setting for Agent {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_map().is_some() {
            let AgentTest::Regex(RegexText(expression)) = AgentTest::decode(node, cx)?;
            return Some(Self::Regex(expression));
        }
        let text = text(node, cx, "a text, or `{regex: …}`")?;
        if text.trim().is_empty() || text.len() > 256 || text.contains(char::is_control) {
            let help = "a text has 1 to 256 bytes, and no control characters";
            cx.bad_value_help(node, format!("`{}` cannot be looked for", node.shown()), help);
            return None;
        }
        Some(Self::Text(text.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let text = s.or_reference(json!({ "type": "string", "minLength": 1, "maxLength": 256, "title": "text" }));
        json!({ "anyOf": [text, AgentTest::schema(s)] })
    }
}
