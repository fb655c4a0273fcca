//! The store of accounts, and the services that give out tokens.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::provider::ProviderText;
use crate::decode::{
    Bounded, Challenge, Decoder, FieldName, FieldValue, Name, NonEmpty, OneOrMany, OrOff, SchemaBuilder, Setting,
    TimeLimit, WebUrl, text,
};
use crate::diagnostic::{BAD_VALUE, CONFLICTING_KEYS, Diagnostic, MISSING_KEY, NO_EFFECT, SHORT_KEY};
use crate::model::{
    GrantType, SamlConfig, Secret, ServiceUrls, SignedTokens, SigningAlgorithm, Spanned, StoreConfig, TokenFormat,
    TokenMember, TokenService, UserSource, UserSources,
};
use crate::settings;
use crate::tree::{At, Node};

/// Fewest bytes of the key that secrets are sealed under.
const SHORTEST: usize = 32;

/// The store: `memory`, or a file.
pub(super) struct StoreText {
    at: At,
    file: Option<StoreFileText>,
}

impl StoreText {
    /// Whether all in it ends with the process.
    pub(super) fn is_memory(&self) -> bool {
        self.file.is_none()
    }
}

settings! {
    /// The embedded store: a file of SQLite.
    struct StoreFileText {
        /// The file; it is made where there is none, for its owner alone. Other files stand beside it.
        path: PathBuf,
        /// What acknowledged changes outlive.
        durability: DurabilityText = "process",
        /// What secrets in the store are sealed under, at least 32 bytes, out of a reference like `${env:DAEMUN_STORE_KEY}`.
        key: Option<FieldValue>,
    }
    check StoreFileText::check;
}

settings! {
    /// What acknowledged changes outlive.
    enum DurabilityText {
        /// The end of the process, however it ends.
        Process = "process",
        /// The power as well: every commit waits for the disk.
        Power = "power",
    }
}

impl StoreFileText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if let (Some(key), Some(at)) = (&self.key, node.get("key"))
            && key.0.len() < SHORTEST
        {
            let message = format!("the key of a store has at least {SHORTEST} bytes, and this one {}", key.0.len());
            let found = Diagnostic::error(SHORT_KEY, at.at, message).help("`daemun key new` makes one that will do");
            cx.key("key", |cx| cx.report(found));
        }
    }
}

impl Setting for StoreText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        if node.as_str() == Some("memory") {
            return Some(Self { at: node.at, file: None });
        }
        if let Some(text) = node.as_str() {
            let help = format!("write `store: {{ path: {} }}`, or `store: memory`", node.shown());
            cx.bad_value_help(node, format!("`{}` is no store", crate::tree::clip(text)), help);
            return None;
        }
        StoreFileText::decode(node, cx).map(|file| Self { at: node.at, file: Some(file) })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let form = StoreFileText::schema(s);
        let word = s.or_reference(json!({ "const": "memory", "title": "`memory`" }));
        json!({ "anyOf": [word, form] })
    }
}

impl StoreText {
    /// Whether it is a file in which nothing can be sealed.
    pub(super) fn lacks_key(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.key.is_none())
    }

    pub(super) fn at(&self) -> At {
        self.at
    }

    pub(super) fn lower(self) -> StoreConfig {
        match self.file {
            None => StoreConfig { at: self.at, path: None, power: false, key: None },
            Some(file) => StoreConfig {
                at: self.at,
                path: Some(file.path),
                power: matches!(file.durability, DurabilityText::Power),
                key: file.key.map(|key| Secret(key.0)),
            },
        }
    }
}

settings! {
    /// A service that gives out tokens; routes with `tokens: NAME` are where it is asked.
    pub(super) struct TokenServiceText {
        /// What tokens are given for.
        grants: NonEmpty<GrantType> = "[key, client_credentials, refresh_token]",
        /// Where users are known whom `password` gives tokens to: one place, or a list of those that are asked in turn while the user is known
        /// to none.
        users: UserSources = "embedded",
        /// Where users log in with a browser; `authorization_code` needs it.
        provider: Option<ProviderText>,
        /// One-time codes, which a login in a browser comes to.
        code: CodeText = "{}",
        /// Whose SAML assertions `saml2_bearer` gives tokens for.
        saml: Option<Box<SamlConfig>>,
        /// Access tokens.
        access: AccessText = "{}",
        /// Refresh tokens, or `off`.
        refresh: OrOff<RefreshText> = "{}",
        /// How long a login lasts at most, however often it is refreshed.
        login: TimeLimit = "2160h",
        /// Header with the API key that tokens are given for.
        key_header: FieldName = "X-Api-Key",
        /// The service's own URL, which clients know it by (RFC 8414); signed tokens need it.
        issuer: Option<WebUrl>,
        /// Where clients find it, as its metadata tells them.
        urls: UrlsText = "{}",
        /// What the answer with tokens holds, in this order, for clients that know no other; `access_token` is among it.
        answer: NonEmpty<TokenMember> = "[access_token, token_type, expires_in, refresh_token, refresh_expires_in, scope]",
        /// What `WWW-Authenticate` asks of a client whose credentials are not good: a scheme and its parameters.
        challenge: Challenge = "Basic realm=\"daemun\"",
        /// Tokens that one consumer or user may have at once, of all services together.
        max_tokens: Bounded<2, 100_000_000> = "100000",
    }
    check TokenServiceText::check;
}

settings! {
    /// One-time codes.
    struct CodeText {
        /// How long one is good; at most `1m`.
        lifetime: TimeLimit = "30s",
    }
    check CodeText::check;
}

impl CodeText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if self.lifetime.0 > LONGEST_CODE {
            let at = node.get("lifetime").unwrap_or(node);
            cx.key("lifetime", |cx| cx.bad_value(at, "a code is good for `1m` at most"));
        }
    }
}

settings! {
    /// Access tokens.
    struct AccessText {
        /// How long one lasts.
        lifetime: TimeLimit = "15m",
        /// What they are.
        format: FormatText = "opaque",
        /// What they are signed with, where they are signed.
        algorithm: AlgorithmText = "ES256",
        /// Whom signed tokens are for, their `aud`; the `issuer` when absent.
        audience: Option<OneOrMany<AudienceText>>,
        /// After what time another key signs; `off` keeps the first.
        rotate: OrOff<TimeLimit> = "720h",
    }
    check AccessText::check;
}

settings! {
    /// What access tokens are.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum FormatText {
        /// A random text; what it stands for is kept in memory and in the store.
        Opaque = "opaque",
        /// A signed text that others can verify as well (RFC 9068); it is kept all the same, so that it can be revoked.
        Jwt = "jwt",
    }
}

settings! {
    /// What signed tokens are signed with.
    #[derive(Clone, Copy)]
    enum AlgorithmText {
        /// ECDSA over P-256 with SHA-256.
        Es256 = "ES256",
        /// Ed25519.
        EdDsa = "EdDSA",
        /// RSA, PKCS #1 v1.5, with SHA-256; slow, for those who verify nothing else.
        Rs256 = "RS256",
    }
}

settings! {
    /// Where clients find a service. Each is a URL, or a path that is put behind `issuer`.
    struct UrlsText {
        /// Where tokens are asked for.
        token: UrlText = "/token",
        /// Where the keys of signed tokens are.
        jwks: UrlText = "/.well-known/jwks.json",
        /// Where tokens are revoked; not told when absent.
        revoke: Option<UrlText>,
        /// Where it is told what tokens stand for; not told when absent.
        introspect: Option<UrlText>,
        /// Where clients send browsers to log in.
        authorize: UrlText = "/authorize",
        /// Where the provider sends them back to, as it is registered there; of the same site as `authorize`.
        callback: UrlText = "/callback",
    }
}

/// A URL, or a path.
struct UrlText(String);

impl Setting for UrlText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a URL, or a path")?;
        let is_path = written.starts_with('/') && !written.starts_with("//");
        let is_path = is_path && written.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_path && let Err(why) = WebUrl::parse(written) {
            let message = format!("`{}` is neither a URL nor a path: {why}", crate::tree::clip(written));
            cx.bad_value_help(node, message, "write `https://api.example.com/auth`, or `/auth`");
            return None;
        }
        Some(Self(written.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("URL or path", "A URL of `http` or `https`, or a path.", "^(?:/|[hH][tT][tT][pP][sS]?://)")
    }
}

impl UrlText {
    fn behind(self, issuer: &str) -> String {
        if self.0.starts_with('/') { format!("{}{}", issuer.trim_end_matches('/'), self.0) } else { self.0 }
    }

    /// Scheme, host and port; none for a path.
    fn site(&self) -> Option<String> {
        let url = WebUrl::parse(&self.0).ok()?;
        Some(format!("{} {}", url.is_https(), url.server(None).authority))
    }
}

/// Longest time that codes are good: they go straight from the browser to the client.
const LONGEST_CODE: Duration = Duration::from_secs(60);
/// How fast keys change at most.
const FASTEST: Duration = Duration::from_secs(1);

/// Bytes of one audience.
const LONGEST_AUDIENCE: usize = 256;
/// Audiences of one service.
const MOST_AUDIENCES: usize = 16;

/// Whom tokens are for.
struct AudienceText(String);

impl Setting for AudienceText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a text")?;
        if written.is_empty() || written.len() > LONGEST_AUDIENCE {
            cx.bad_value(
                node,
                format!("an audience has 1 to {LONGEST_AUDIENCE} bytes, and this one {}", written.len()),
            );
            return None;
        }
        Some(Self(written.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_AUDIENCE, "title": "audience" })
    }
}

impl AccessText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if self.format == FormatText::Opaque {
            for name in ["algorithm", "audience", "rotate"] {
                if let Some(entry) = node.entry(name) {
                    let message = format!("`{name}` is of signed tokens, and these are opaque");
                    let found = Diagnostic::error(CONFLICTING_KEYS, entry.key_at, message);
                    cx.key(name, |cx| cx.report(found.help("add `format: jwt`")));
                }
            }
            return;
        }
        let at = |name: &str| node.get(name).unwrap_or(node);
        if let OrOff::On(rotate) = self.rotate
            && rotate.0 < self.lifetime.0.max(FASTEST)
        {
            let message = "keys would change faster than tokens end, or than within a second";
            let help = "make `rotate` at least as long as `lifetime`";
            cx.key("rotate", |cx| cx.bad_value_help(at("rotate"), message, help));
        }
        if let Some(audience) = &self.audience
            && !(1..=MOST_AUDIENCES).contains(&audience.0.len())
        {
            let message = format!("a service has 1 to {MOST_AUDIENCES} audiences, and this one {}", audience.0.len());
            cx.key("audience", |cx| cx.bad_value(at("audience"), message));
        }
    }

    fn lower(self, issuer: Option<&str>, store: Option<&StoreConfig>) -> TokenFormat {
        if self.format == FormatText::Opaque {
            return TokenFormat::Opaque;
        }
        let issuer = issuer.unwrap_or_default();
        let audience = self.audience.map(|list| list.0.into_iter().map(|audience| audience.0).collect());
        TokenFormat::Jwt(Box::new(SignedTokens {
            issuer: issuer.to_owned(),
            algorithm: match self.algorithm {
                AlgorithmText::Es256 => SigningAlgorithm::Es256,
                AlgorithmText::EdDsa => SigningAlgorithm::EdDsa,
                AlgorithmText::Rs256 => SigningAlgorithm::Rs256,
            },
            audience: audience.unwrap_or_else(|| vec![issuer.to_owned()]),
            rotate: match self.rotate {
                OrOff::On(rotate) => Some(rotate.0),
                OrOff::Off => None,
            },
            seal: store.filter(|store| store.path.is_some()).and_then(|store| store.key.clone()),
        }))
    }
}

settings! {
    /// Refresh tokens: each is good for one more pair.
    struct RefreshText {
        /// How long one lasts.
        lifetime: TimeLimit = "720h",
        /// Header that may hold it, for clients that send no form.
        header: Option<FieldName>,
    }
}

impl TokenServiceText {
    /// Whether its access tokens are signed.
    pub(super) fn signs(&self) -> bool {
        self.access.format == FormatText::Jwt
    }

    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let access = node.get("access").unwrap_or(node);
        if self.signs() && node.get("issuer").is_none() {
            let message = "signed tokens say who issued them, and there is no `issuer`";
            let found = Diagnostic::error(MISSING_KEY, access.at, message);
            cx.report(found.help("write `issuer: https://api.example.com` beside `access`"));
        }
        if let (Some(issuer), Some(at)) = (&self.issuer, node.get("issuer"))
            && issuer.written().contains('?')
        {
            cx.key("issuer", |cx| cx.bad_value(at, "an issuer has no query (RFC 8414, section 2)"));
        }
        let refreshes = self.grants.0.contains(&GrantType::RefreshToken);
        if !refreshes && let (OrOff::On(_), Some(entry)) = (&self.refresh, node.entry("refresh")) {
            let message = "refresh tokens are given out, and `grants` takes none";
            let found = Diagnostic::error(CONFLICTING_KEYS, entry.key_at, message);
            cx.key("refresh", |cx| cx.report(found.help("add `refresh_token` to `grants`, or write `refresh: off`")));
        }
        if let (false, Some(entry)) = (self.gives_for_passwords(), node.entry("users")) {
            let message = "users are never asked for: `grants` does not have `password`";
            cx.key("users", |cx| cx.report(Diagnostic::warning(NO_EFFECT, entry.key_at, message)));
        }
        self.check_codes(node, cx);
        self.check_answer(node, cx);
        self.check_saml(node, cx);
        let longer = |name: &str, lifetime: &TimeLimit, cx: &mut Decoder<'_>| {
            if lifetime.0 > self.login.0 {
                let at = node.get(name).or_else(|| node.get("login")).unwrap_or(node).at;
                let message = format!("`{name}` tokens would last longer than a login does");
                cx.key(name, |cx| cx.report(Diagnostic::error(BAD_VALUE, at, message)));
            }
        };
        longer("access", &self.access.lifetime, cx);
        if let OrOff::On(refresh) = &self.refresh {
            longer("refresh", &refresh.lifetime, cx);
        }
    }

    /// What a service that gives tokens for codes has beside, and no other one.
    fn check_codes(&self, node: &Node, cx: &mut Decoder<'_>) {
        if !self.gives_for_codes() {
            for name in ["provider", "code"] {
                if let Some(entry) = node.entry(name) {
                    let message = format!("`{name}` is never used: `grants` does not have `authorization_code`");
                    cx.key(name, |cx| cx.report(Diagnostic::warning(NO_EFFECT, entry.key_at, message)));
                }
            }
            return;
        }
        let at = node.get("grants").unwrap_or(node).at;
        for (name, message, help) in [
            (
                "provider",
                "for `authorization_code` users log in somewhere, and there is no `provider`",
                "write `provider: { issuer: https://accounts.example.com, client_id: …, client_secret: …, secret: … }`",
            ),
            (
                "issuer",
                "for `authorization_code` the service says who it is, and there is no `issuer`",
                "write `issuer: https://api.example.com`",
            ),
        ] {
            if node.get(name).is_none() {
                cx.report(Diagnostic::error(MISSING_KEY, at, message).help(help));
            }
        }
        let of_issuer =
            || self.issuer.as_ref().map(|issuer| format!("{} {}", issuer.is_https(), issuer.server(None).authority));
        let site = |url: &UrlText| url.site().or_else(of_issuer);
        if site(&self.urls.authorize) != site(&self.urls.callback) {
            let at = node.get("urls").unwrap_or(node);
            let message = "`authorize` and `callback` are of two sites, and a browser shows its cookie to one alone";
            cx.key("urls", |cx| cx.bad_value(at, message));
        }
    }

    /// Whether it gives tokens for codes of logins.
    pub(super) fn gives_for_codes(&self) -> bool {
        self.grants.0.contains(&GrantType::AuthorizationCode)
    }

    fn check_answer(&self, node: &Node, cx: &mut Decoder<'_>) {
        let (members, at) = (&self.answer.0, node.get("answer").unwrap_or(node));
        let twice =
            members.iter().enumerate().find(|(index, member)| members.iter().take(*index).any(|m| m == *member));
        cx.key("answer", |cx| {
            if let Some((_, member)) = twice {
                cx.bad_value(at, format!("`{}` stands twice", member.as_str()));
            }
            if !members.contains(&TokenMember::AccessToken) {
                let help = "add `access_token`";
                cx.bad_value_help(at, "an answer without the access token is of no use to anybody", help);
            }
        });
    }

    fn check_saml(&self, node: &Node, cx: &mut Decoder<'_>) {
        let gives = self.grants.0.contains(&GrantType::Saml2Bearer);
        match (gives, node.entry("saml")) {
            (true, None) => {
                let message = "`grants` has `saml2_bearer`, and nothing says whose assertions are taken";
                let found = Diagnostic::error(MISSING_KEY, node.get("grants").unwrap_or(node).at, message);
                let help = "write `saml: { issuer: …, certificates: …, audience: …, recipient: … }`";
                cx.report(found.help(help));
            }
            (false, Some(entry)) => {
                let message = "no assertion is ever taken: `grants` does not have `saml2_bearer`";
                cx.key("saml", |cx| cx.report(Diagnostic::warning(NO_EFFECT, entry.key_at, message)));
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn gives_for_passwords(&self) -> bool {
        self.grants.0.contains(&GrantType::Password)
    }

    /// Whether tokens are given to the configuration's own users and to nobody else who has a password.
    pub(super) fn needs_users(&self) -> bool {
        self.gives_for_passwords() && self.users.0.iter().all(|source| *source == UserSource::Embedded)
    }

    pub(super) fn lower(self, name: Spanned<Name>, store: Option<&StoreConfig>) -> TokenService {
        let refreshes = self.grants.0.contains(&GrantType::RefreshToken);
        let issuer = self.issuer.map(|url| url.written().to_owned());
        let access = self.access.lifetime.0;
        let format = self.access.lower(issuer.as_deref(), store);
        let of = issuer.as_deref().unwrap_or_default();
        let urls = ServiceUrls {
            token: self.urls.token.behind(of),
            jwks: self.urls.jwks.behind(of),
            revoke: self.urls.revoke.map(|url| url.behind(of)),
            introspect: self.urls.introspect.map(|url| url.behind(of)),
            authorize: self.urls.authorize.behind(of),
            callback: self.urls.callback.behind(of),
        };
        let (refresh, refresh_header) = match self.refresh {
            OrOff::On(refresh) if refreshes => (Some(refresh.lifetime.0), refresh.header.map(|name| name.0)),
            OrOff::On(_) | OrOff::Off => (None, None),
        };
        TokenService {
            name: Spanned { value: name.value.0, at: name.at },
            grants: self.grants.0,
            users: self.users,
            provider: self.provider.map(|provider| Box::new(provider.lower())),
            saml: self.saml,
            format,
            access,
            code: self.code.lifetime.0,
            refresh,
            longest: self.login.0,
            key_header: self.key_header.0,
            refresh_header,
            issuer,
            urls,
            answer: self.answer.0,
            challenge: self.challenge.0,
            most: u32::try_from(self.max_tokens.get()).unwrap_or(u32::MAX),
        }
    }
}

/// The settings of a policy that a route ends in, which the policy reads itself.
pub(super) struct EndText {
    /// As written.
    pub(super) node: Node,
    /// Whether nothing is wrong with them.
    pub(super) sound: bool,
}

/// The policy that answers for a token service.
pub(super) const TOKENS: &str = "tokens";

impl Setting for EndText {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let before = cx.error_count();
        let known = cx.known_policies().iter().find(|policy| policy.name == TOKENS)?;
        (known.check)(node, cx);
        let sound = cx.is_sound_since(before, node);
        Some(Self { node: node.clone(), sound })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        match s.known_policies().iter().find(|policy| policy.name == TOKENS) {
            Some(policy) => (policy.schema)(s),
            None => json!({ "not": {} }),
        }
    }
}
