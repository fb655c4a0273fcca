//! The store of accounts, and the services that give out tokens.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::decode::{
    Bounded, Decoder, FieldName, FieldValue, Name, NonEmpty, OrOff, SchemaBuilder, Setting, TimeLimit, WebUrl,
};
use crate::diagnostic::{BAD_VALUE, CONFLICTING_KEYS, Diagnostic, SHORT_KEY};
use crate::model::{GrantType, Secret, Spanned, StoreConfig, TokenFormat, TokenService};
use crate::settings;
use crate::tree::{At, Node};

/// Fewest bytes of the key that secrets are sealed under.
const SHORTEST: usize = 32;

/// The store: `memory`, or a file.
pub(super) struct StoreText {
    at: At,
    file: Option<StoreFileText>,
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
        grants: NonEmpty<GrantText> = "[key, client_credentials, refresh_token]",
        /// Access tokens.
        access: AccessText = "{}",
        /// Refresh tokens, or `off`.
        refresh: OrOff<RefreshText> = "{}",
        /// How long a login lasts at most, however often it is refreshed.
        login: TimeLimit = "2160h",
        /// Header with the API key that tokens are given for.
        key_header: FieldName = "X-Api-Key",
        /// The service's own URL, which clients know it by (RFC 8414).
        issuer: Option<WebUrl>,
        /// Tokens that one consumer may have at once.
        max_tokens: Bounded<2, 100_000_000> = "100000",
    }
    check TokenServiceText::check;
}

settings! {
    /// What tokens are given for.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum GrantText {
        /// An API key.
        Key = "key",
        /// A client's id and secret.
        ClientCredentials = "client_credentials",
        /// A refresh token.
        RefreshToken = "refresh_token",
    }
    not_available { "password", "authorization_code" }
}

settings! {
    /// Access tokens.
    struct AccessText {
        /// How long one lasts.
        lifetime: TimeLimit = "15m",
        /// What they are.
        format: FormatText = "opaque",
    }
}

settings! {
    /// What access tokens are.
    enum FormatText {
        /// A random text; what it stands for is kept in memory and in the store.
        Opaque = "opaque",
    }
    not_available { "jwt" }
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
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let refreshes = self.grants.0.contains(&GrantText::RefreshToken);
        if !refreshes && let (OrOff::On(_), Some(entry)) = (&self.refresh, node.entry("refresh")) {
            let message = "refresh tokens are given out, and `grants` takes none";
            let found = Diagnostic::error(CONFLICTING_KEYS, entry.key_at, message);
            cx.key("refresh", |cx| cx.report(found.help("add `refresh_token` to `grants`, or write `refresh: off`")));
        }
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

    pub(super) fn lower(self, name: Spanned<Name>) -> TokenService {
        let refreshes = self.grants.0.contains(&GrantText::RefreshToken);
        let grants = self.grants.0.into_iter().map(|grant| match grant {
            GrantText::Key => GrantType::Key,
            GrantText::ClientCredentials => GrantType::ClientCredentials,
            GrantText::RefreshToken => GrantType::RefreshToken,
        });
        let format = match self.access.format {
            FormatText::Opaque => TokenFormat::Opaque,
        };
        let (refresh, refresh_header) = match self.refresh {
            OrOff::On(refresh) if refreshes => (Some(refresh.lifetime.0), refresh.header.map(|name| name.0)),
            OrOff::On(_) | OrOff::Off => (None, None),
        };
        TokenService {
            name: Spanned { value: name.value.0, at: name.at },
            grants: grants.collect(),
            format,
            access: self.access.lifetime.0,
            refresh,
            longest: self.login.0,
            key_header: self.key_header.0,
            refresh_header,
            issuer: self.issuer.map(|url| url.written().to_owned()),
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
