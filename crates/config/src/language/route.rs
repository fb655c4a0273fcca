//! Routes and their destinations.

use serde_json::{Value as Json, json};

use super::conditions::{MatchText, ParameterName};
use super::edge::ErrorText;
use super::failure::{FallbackText, MirrorText, RetryText};
use super::files::FilesText;
use super::gate::ImportanceText;
use super::pattern::{self, Location, PathPrefix, PathTemplate};
use super::policies::PoliciesText;
use super::tokens::{EndText, TOKENS};
use super::upstream::UpstreamTimeoutsText;
use crate::decode::{
    Decoder, FieldName, FieldValue, Mapping, Name, Needed, NonEmpty, OrOff, SchemaBuilder, Setting, Size, Status,
    TemplateText, text,
};
use crate::diagnostic::{self, BAD_VALUE, Diagnostic, UNKNOWN_PARAMETER};
use crate::model::{Answer, Authenticate, Destination, PathRewrite, PolicyEntry, Redirect, Rewrite, Route, Spanned};
use crate::settings;
use crate::tree::{At, Node};

settings! {
    /// One rule of what goes where.
    pub(super) struct RouteText {
        /// Name, unique; it stands in logs and metrics.
        pub(super) name: Needed<Spanned<Name>>,
        /// Conditions; without any, every request matches.
        pub(super) matches: MatchText as "match" = "{}",
        /// Decides between routes of equal host rank; the higher wins.
        priority: i32 = "0",
        /// `keep`: empty segments of the path are kept, not collapsed.
        slashes: Slashes = "collapse",
        /// `keep`: `%2F` stays inside its segment; otherwise it is refused.
        encoded_slash: EncodedSlash = "refuse",
        /// Name of the upstream that matched requests are sent to.
        pub(super) upstream: Option<Spanned<String>>,
        /// A fixed answer, instead of an upstream.
        answer: Option<AnswerText>,
        /// A redirect, instead of an upstream.
        redirect: Option<RedirectText>,
        /// Files of a folder, instead of an upstream.
        files: Option<FilesText>,
        /// A token service that is asked here, by its name, instead of an upstream.
        tokens: Option<EndText>,
        /// What is forwarded in place of the path and query.
        rewrite: Option<RewriteText>,
        /// Time limits that win over the upstream's.
        timeouts: UpstreamTimeoutsText = "{}",
        /// When a call that failed is made again; wins over the upstream's, and `off` switches that off.
        retry: Option<OrOff<RetryText>>,
        /// What is done in place of a call that failed; wins over the upstream's, and `off` switches that off.
        pub(super) fallback: Option<OrOff<FallbackText>>,
        /// Calls that are sent to another upstream as well.
        pub(super) mirror: Option<MirrorText>,
        /// Bounds that win over the global ones.
        limits: RouteLimitsText = "{}",
        /// Protocols a request may upgrade to.
        upgrades: Vec<Upgrade> = "[websocket]",
        /// Policies of this route; one of the same name replaces the global one, `off` removes it.
        pub(super) policies: PoliciesText = "{}",
        /// How several authenticators combine: all must pass, unless `{any: […]}` names those of which one must. With `{anonymous: NAME}`,
        /// a call that shows no credential is that consumer's.
        pub(super) authenticate: Option<AuthenticateText>,
        /// Which calls go first when the upstream can take no more; a consumer's own wins.
        importance: ImportanceText = "normal",
        /// Replacement bodies of the gateway's own answers on this route, by status; they win over the global ones.
        errors: Mapping<Status, ErrorText> = "{}",
    }
    exclusive { "upstream", "answer", "redirect", "files", "tokens" }
    needs_one { "upstream", "answer", "redirect", "files", "tokens" }
    check RouteText::check;
}

impl RouteText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        self.check_slashes(cx);
        self.check_parameters(cx);
        self.check_replaced(cx);
        if self.upstream.is_none() && self.goes_elsewhere() {
            for key in ["rewrite", "timeouts", "upgrades", "retry", "fallback", "mirror", "importance"] {
                // which file it is, a rewrite decides
                if let Some(entry) = node.entry(key).filter(|_| key != "rewrite" || self.files.is_none()) {
                    let message = format!("`{key}` has no effect: this route is not sent to an upstream");
                    cx.key(key, |cx| cx.report(Diagnostic::warning(diagnostic::NO_EFFECT, entry.key_at, message)));
                }
            }
        }
    }

    /// Reports the names of a template that are not known.
    fn check_names(&self, template: &str, at: At, known: &[&str], cx: &mut Decoder<'_>) {
        for name in pattern::names(template).unwrap_or_default() {
            if known.contains(&name) {
                continue;
            }
            let message = format!("there is no parameter `{{{name}}}` in the route's `path`");
            let found = Diagnostic::error(UNKNOWN_PARAMETER, at, message);
            let near = cx.suggest(name, known.iter().copied()).map(|near| format!("{{{near}}}"));
            cx.report(if near.is_none() && self.matches.path_regex.is_some() {
                found.help(format!(
                    "parameters come out of a `path`, as `/items/{{{name}}}` has one; groups of a `path_regex` cannot be named"
                ))
            } else {
                found.did_you_mean(near.as_deref())
            });
        }
    }

    /// Whether it answers, redirects or serves files.
    pub(super) fn goes_elsewhere(&self) -> bool {
        self.answer.is_some() || self.redirect.is_some() || self.files.is_some() || self.tokens.is_some()
    }

    /// Whether a token service is asked here.
    pub(super) fn ends_in_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// A pattern that the reading of paths would never let match.
    fn check_slashes(&self, cx: &mut Decoder<'_>) {
        let path = self.matches.path.as_ref().map(|path| (&path.value.text, path.at, "path"));
        let prefix = self.matches.prefix.as_ref().map(|prefix| (&prefix.value.0, prefix.at, "prefix"));
        let Some((text, at, key)) = path.or(prefix) else { return };
        let mut never = |message: &str, help: &str| {
            let found =
                Diagnostic::error(BAD_VALUE, at, format!("`{}` would never match: {message}", crate::tree::clip(text)));
            cx.key("match", |cx| cx.key(key, |cx| cx.report(found.help(help))));
        };
        if text.contains("//") && matches!(self.slashes, Slashes::Collapse) {
            never("empty segments are collapsed", "write `slashes: keep` beside `match`, or one slash");
        }
        if text.to_ascii_uppercase().contains("%2F") && matches!(self.encoded_slash, EncodedSlash::Refuse) {
            never("`%2F` is refused", "write `encoded_slash: keep` beside `match`");
        }
    }

    /// Templates may name the parameters of the path pattern only.
    fn check_parameters(&self, cx: &mut Decoder<'_>) {
        let known: Vec<&str> = match &self.matches.path {
            Some(path) => path.value.parameters.iter().map(String::as_str).collect(),
            None => Vec::new(),
        };
        if let Some(template) = self.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref()) {
            let plain = pattern::without_expressions(&template.value.0).unwrap_or_default();
            cx.key("rewrite", |cx| {
                cx.key("path", |cx| self.check_names(&plain, template.at, &known, cx));
            });
        }
        if let Some(redirect) = &self.redirect {
            let mut names = known.clone();
            names.extend(["path", "query", "host"]);
            cx.key("redirect", |cx| {
                cx.key("to", |cx| self.check_names(&redirect.to.value.0, redirect.to.at, &names, cx));
            });
        }
        if let (Some(strip), Some(prefix)) =
            (self.rewrite.as_ref().and_then(|rewrite| rewrite.strip_prefix.as_ref()), &self.matches.prefix)
        {
            let below = prefix.value.0.trim_end_matches('/').strip_prefix(strip.value.0.trim_end_matches('/'));
            if !below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                let message = format!(
                    "`{}` is not at the beginning of `prefix`, so nothing is removed",
                    crate::tree::clip(&strip.value.0)
                );
                let found = Diagnostic::warning(diagnostic::NO_EFFECT, strip.at, message);
                cx.key("rewrite", |cx| cx.key("strip_prefix", |cx| cx.report(found)));
            }
        }
    }

    /// What is replaced is the prefix that the route has.
    fn check_replaced(&self, cx: &mut Decoder<'_>) {
        let replaces = self.rewrite.as_ref().and_then(|rewrite| rewrite.replace_prefix.as_ref());
        if let (Some(replaces), None) = (replaces, &self.matches.prefix) {
            let message = "`replace_prefix` replaces the `prefix` of `match`, and there is none";
            let found = Diagnostic::error(diagnostic::MISSING_KEY, replaces.at, message);
            let found = found.help("write `match: { prefix: /orders }`, or `path` here");
            cx.key("rewrite", |cx| cx.key("replace_prefix", |cx| cx.report(found)));
        }
    }

    /// The route, once everything has been checked; `None` if it is not complete. `upstream` is the index of its upstream, `None` as
    /// well for one that is not there or has an error: then the index is one that no upstream has.
    pub(super) fn lower(self, upstream: Option<usize>) -> Option<Route> {
        let Spanned { value: name, at } = self.name.0?;
        let upstream = upstream.or_else(|| self.upstream.as_ref().map(|_| usize::MAX));
        let mut policies = self.policies.0;
        let (any, anonymous) = self.authenticate.map_or((None, None), |how| (how.any, how.anonymous));
        let destination = match (upstream, self.answer, self.redirect, self.files, self.tokens) {
            (Some(index), ..) => Destination::Upstream(index),
            (None, Some(answer), ..) => Destination::Answer(answer.lower()),
            (None, None, Some(redirect), ..) => Destination::Redirect(redirect.lower()),
            (None, None, None, Some(files), _) => Destination::Files(files.lower()),
            (None, None, None, None, Some(tokens)) => {
                let name = Spanned { value: TOKENS.to_owned(), at: tokens.node.at };
                let (settings, sound) = (Some(tokens.node), tokens.sound);
                policies.push(PolicyEntry { name, settings, when: None, sound });
                Destination::Policy(TOKENS)
            }
            (None, None, None, None, None) => return None,
        };
        Some(Route {
            name: Spanned { value: name.0, at },
            matches: self.matches.lower(),
            priority: self.priority,
            keep_slashes: matches!(self.slashes, Slashes::Keep),
            keep_encoded_slash: matches!(self.encoded_slash, EncodedSlash::Keep),
            destination,
            rewrite: self.rewrite.map(RewriteText::lower).unwrap_or_default(),
            timeouts: self.timeouts.lower(),
            retry: self.retry.map(|retry| match retry {
                OrOff::Off => None,
                OrOff::On(retry) => Some(retry.lower()),
            }),
            fallback: self.fallback.and_then(|fallback| match fallback {
                OrOff::Off => Some(None),
                OrOff::On(fallback) => fallback.lower().map(Some),
            }),
            mirror: self.mirror.map(MirrorText::lower),
            body_limit: self.limits.body.map(|size| size.0),
            upgrades: self.upgrades.into_iter().map(|upgrade| upgrade.0).collect(),
            policies,
            authenticate: any.map_or(Authenticate::All, |names| Authenticate::Any(names.0)),
            anonymous: anonymous.map(|Spanned { value, at }| Spanned { value: value.0, at }),
            errors: self.errors.0.into_iter().map(|(status, error)| (status.value.0, error.lower())).collect(),
            importance: self.importance.lower(),
        })
    }
}

settings! {
    /// What happens to empty segments of a path.
    enum Slashes {
        /// They are collapsed.
        Collapse = "collapse",
        /// They are kept.
        Keep = "keep",
    }
}

settings! {
    /// What happens to `%2F` in a path.
    enum EncodedSlash {
        /// The request is refused with 400.
        Refuse = "refuse",
        /// It stays `%2F` inside its segment, in matching and in forwarding.
        Keep = "keep",
    }
}

settings! {
    /// A fixed answer.
    pub(super) struct AnswerText {
        /// Status.
        status: Status = "200",
        /// Body.
        body: String = "\"\"",
        /// Header fields; `content-type` is `text/plain; charset=utf-8` unless given.
        headers: Mapping<FieldName, FieldValue> = "{}",
    }
    check AnswerText::check;
}

impl AnswerText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let Some(body) = node.get("body").filter(|_| matches!(self.status.0, 204 | 304) && !self.body.is_empty()) {
            cx.key("body", |cx| cx.bad_value(body, format!("an answer with status {} has no body", self.status.0)));
        }
        for (name, _) in &self.headers.0 {
            if matches!(name.value.0.as_str(), "content-length" | "transfer-encoding" | "connection" | "date") {
                let message = format!("the gateway itself sets `{}`", name.value.0);
                cx.key("headers", |cx| cx.report(Diagnostic::error(BAD_VALUE, name.at, message)));
            }
        }
    }

    pub(super) fn lower(self) -> Answer {
        let headers = self.headers.0.into_iter().map(|(name, value)| (name.value.0, value.0)).collect();
        Answer { status: self.status.0, body: self.body, headers }
    }
}

settings! {
    /// A redirect.
    struct RedirectText {
        /// Where it leads: an address or a path, with `{name}` of the path pattern, and `{path}`, `{query}`, `{host}`.
        to: Spanned<Location>,
        /// Status.
        status: RedirectStatus = "308",
    }
}

impl RedirectText {
    fn lower(self) -> Redirect {
        Redirect { to: Spanned { value: self.to.value.0, at: self.to.at }, status: self.status.0 }
    }
}

/// 301, 302, 303, 307 or 308.
struct RedirectStatus(u16);

impl Setting for RedirectStatus {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let status = u16::decode(node, cx)?;
        if matches!(status, 301 | 302 | 303 | 307 | 308) {
            return Some(Self(status));
        }
        cx.bad_value(node, format!("expected 301, 302, 303, 307 or 308, found {}", node.found()));
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "enum": [301, 302, 303, 307, 308], "title": "redirect status" }))
    }
}

settings! {
    /// What is forwarded in place of the path and query.
    struct RewriteText {
        /// The path that is forwarded, with `{name}` of the path pattern, and `${…}` expressions of which each stays within its segment.
        path: Option<Spanned<PathTemplate>>,
        /// A prefix of whole segments that is removed.
        strip_prefix: Option<Spanned<PathPrefix>>,
        /// What stands in place of the route's `prefix`: with `/v2` for `/orders`, `/orders` becomes `/v2`, and `/orders/7` `/v2/7`.
        replace_prefix: Option<Spanned<PathPrefix>>,
        /// Changes of the query.
        query: Option<QueryText>,
    }
    exclusive { "path", "strip_prefix", "replace_prefix" }
}

impl RewriteText {
    fn lower(self) -> Rewrite {
        let template = self.path.map(|Spanned { value, at }| PathRewrite::Template(Spanned { value: value.0, at }));
        let strip =
            self.strip_prefix.map(|Spanned { value, at }| PathRewrite::StripPrefix(Spanned { value: value.0, at }));
        let replace =
            self.replace_prefix.map(|Spanned { value, at }| PathRewrite::ReplacePrefix(Spanned { value: value.0, at }));
        let mut rewrite = Rewrite { path: template.or(strip).or(replace), ..Rewrite::default() };
        if let Some(query) = self.query {
            let plain = |Spanned { value: TemplateText(value), at }| Spanned { value, at };
            let pairs = |mapping: Mapping<ParameterName, Spanned<TemplateText>>| {
                mapping.0.into_iter().map(|(name, value)| (name.value.0, plain(value))).collect()
            };
            rewrite.query_remove = query.remove.into_iter().map(|name| name.0).collect();
            rewrite.query_set = pairs(query.set);
            rewrite.query_add = pairs(query.add);
        }
        rewrite
    }
}

settings! {
    /// Changes of the query: parameters are removed, then set, then added. `${…}` in a value is an expression.
    struct QueryText {
        /// Parameters added behind those of the same name.
        add: Mapping<ParameterName, Spanned<TemplateText>> = "{}",
        /// Parameters that replace those of the same name.
        set: Mapping<ParameterName, Spanned<TemplateText>> = "{}",
        /// Parameters removed.
        remove: Vec<ParameterName> = "[]",
    }
}

settings! {
    /// Bounds that win over the global ones.
    struct RouteLimitsText {
        /// Bytes of a request body.
        body: Option<Size>,
    }
}

/// A protocol a request may upgrade to, lower case.
struct Upgrade(String);

impl Setting for Upgrade {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a protocol")?.to_ascii_lowercase();
        if name == "h2c" {
            cx.bad_value(node, "`h2c` by upgrade is never passed on");
            return None;
        }
        // RFC 9110, section 7.8: a protocol is a token, with a version after a stroke perhaps.
        let fits = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(char);
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            cx.bad_value_help(
                node,
                format!("`{}` is not the name of a protocol", node.shown()),
                "write it like `websocket`",
            );
            return None;
        }
        Some(Self(name))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern(
            "protocol",
            "Protocol to upgrade to: `websocket`.",
            "^(?![hH]2[cC]$)[!#$%&'*+.^_`|~/0-9A-Za-z-]{1,64}$",
        )
    }
}

settings! {
    /// How several authenticators combine, and who calls without a credential.
    pub(super) struct AuthenticateText {
        /// Authenticators of which one must pass.
        pub(super) any: Option<NonEmpty<Spanned<String>>>,
        /// Authenticators that must all pass, as they do without this.
        pub(super) all: Option<NonEmpty<Spanned<String>>>,
        /// The consumer that calls without any credential are of; they are refused when absent. A credential that is not good is refused
        /// whatever this says.
        pub(super) anonymous: Option<Spanned<Name>>,
    }
    exclusive { "any", "all" }
    needs_one { "any", "all", "anonymous" }
}
