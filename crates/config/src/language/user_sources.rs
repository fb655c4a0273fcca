//! Where users are known: in the configuration, a directory, a database.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::consumer::names;
use crate::decode::{Decoder, FieldValue, Mapping, Name, OneOrMany, SchemaBuilder, Setting, TimeLimit, WebUrl, text};
use crate::diagnostic::{CONFLICTING_KEYS, Diagnostic, INSECURE, MISSING_KEY};
use crate::model::{LdapGroups, LdapSource, Secret, SqlSource, UserSource};
use crate::settings;
use crate::tree::Node;

/// Where users are known: one place, or several that are asked in turn while the user is known to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSources(pub Vec<UserSource>);

settings! {
    /// Where users are known.
    enum UserSourceText {
        /// `users` of this configuration.
        Embedded = "embedded",
        /// A directory that is asked by LDAP.
        Ldap(Box<LdapText>) = "ldap",
        /// A database of PostgreSQL that is asked by SQL.
        Sql(Box<SqlText>) = "sql",
    }
}

impl Setting for UserSources {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let OneOrMany(sources) = OneOrMany::<UserSourceText>::decode(node, cx)?;
        let sources: Vec<UserSource> = sources.into_iter().map(UserSourceText::lower).collect();
        if sources.is_empty() {
            cx.bad_value_help(node, "there is no place where users are known", "write `embedded` for those of `users`");
            return None;
        }
        Some(Self(sources))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        OneOrMany::<UserSourceText>::schema(s)
    }
}

impl UserSourceText {
    fn lower(self) -> UserSource {
        match self {
            UserSourceText::Embedded => UserSource::Embedded,
            UserSourceText::Ldap(ldap) => UserSource::Ldap(Box::new(ldap.lower())),
            UserSourceText::Sql(sql) => UserSource::Sql(Box::new(sql.lower())),
        }
    }
}

settings! {
    /// A directory that is asked by LDAP: it is searched for the user's entry, and that is bound to with the password.
    struct LdapText {
        /// Address: `ldaps://directory.internal`, or `ldap://…` with `start_tls`.
        url: LdapUrl,
        /// Whether a connection of `ldap:` is secured before anything is asked.
        start_tls: bool = "false",
        /// PEM file with the authorities of the server's certificate; the system's when absent.
        ca_file: Option<PathBuf>,
        /// Who searches, as a distinguished name; nobody in particular when absent.
        bind_dn: Option<FieldValue>,
        /// Its password, best out of a reference like `${env:LDAP_PASSWORD}`.
        bind_password: Option<FieldValue>,
        /// Entry below which users are: `ou=people,dc=shop,dc=example`.
        base: FieldValue,
        /// What the entry of a user is like (RFC 4515); `{username}` is what was typed, escaped.
        filter: FieldValue = "(uid={username})",
        /// Attribute with the user's name, which it is known by here; what was typed must be the same but for the case of letters.
        name: FieldValue = "uid",
        /// Where the groups of users are.
        groups: Option<LdapGroupsText>,
        /// Roles of the members of groups, by the group's name.
        roles: Mapping<String, OneOrMany<Name>> = "{}",
        /// Time for all of it.
        timeout: TimeLimit = "5s",
    }
    check LdapText::check;
}

settings! {
    /// Where the groups of users are in a directory.
    struct LdapGroupsText {
        /// Entry below which groups are; when absent, the user's own entry names them.
        base: Option<FieldValue>,
        /// What the entries of a user's groups are like; `{dn}` is the name of the user's entry, `{username}` what was typed.
        filter: FieldValue = "(member={dn})",
        /// Attribute that names a group: `cn`, or `memberOf` of the user's own entry. Of a distinguished name, its first part counts.
        attribute: Option<FieldValue>,
    }
}

impl LdapText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if self.bind_dn.is_some() != self.bind_password.is_some() {
            let message = "`bind_dn` and `bind_password` need each other";
            cx.report(
                Diagnostic::error(MISSING_KEY, node.at, message)
                    .help("leave both out to search as nobody in particular"),
            );
        }
        if let Some(at) = node.get("bind_password").filter(|at| at.as_str() == Some("")) {
            // a directory would take it for no login at all (RFC 4513, section 5.1.2)
            cx.key("bind_password", |cx| cx.bad_value(at, "the password is empty"));
        }
        let filter = &self.filter.0;
        if !filter.contains("{username}") || !filter.starts_with('(') || !filter.ends_with(')') {
            let at = node.get("filter").unwrap_or(node);
            let help = "write it like `(uid={username})`, in parentheses and with `{username}`";
            cx.key("filter", |cx| cx.bad_value_help(at, format!("`{}` finds no user", at.shown()), help));
        }
        if let (true, Some(entry)) = (self.url.tls, node.entry("start_tls"))
            && self.start_tls
        {
            let found = Diagnostic::error(
                CONFLICTING_KEYS,
                entry.key_at,
                "`start_tls` is for `ldap:`, and `ldaps:` is secured from the start",
            );
            cx.key("start_tls", |cx| cx.report(found));
        }
        if !self.url.tls && !self.start_tls && !is_here(&self.url.host) {
            let at = node.get("url").unwrap_or(node).at;
            let found = Diagnostic::warning(INSECURE, at, "passwords go to the directory in clear");
            cx.key("url", |cx| cx.report(found.help("write `ldaps:`, or `start_tls: true`")));
        }
    }

    fn lower(self) -> LdapSource {
        let groups = self.groups.map(|groups| {
            let usual = if groups.base.is_some() { "cn" } else { "memberOf" };
            LdapGroups {
                base: groups.base.map(|base| base.0),
                filter: groups.filter.0,
                attribute: groups.attribute.map_or_else(|| usual.to_owned(), |attribute| attribute.0),
            }
        });
        LdapSource {
            url: self.url.written,
            start_tls: self.start_tls,
            ca_file: self.ca_file,
            bind: self.bind_dn.zip(self.bind_password).map(|(dn, password)| (dn.0, Secret(password.0))),
            base: self.base.0,
            filter: self.filter.0,
            name: self.name.0,
            groups,
            roles: self.roles.0.into_iter().map(|(group, roles)| (group.value, names(roles.0))).collect(),
            timeout: self.timeout.0,
        }
    }
}

/// Whether a connection to it does not leave the machine.
pub(super) fn is_here(host: &str) -> bool {
    let local = host.is_empty() || host.eq_ignore_ascii_case("localhost") || host.starts_with('/');
    local || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The address of a directory.
struct LdapUrl {
    written: String,
    host: String,
    tls: bool,
}

impl Setting for LdapUrl {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "an address of `ldaps` or `ldap`")?;
        let tls = written.starts_with("ldaps://");
        let authority = written.strip_prefix("ldaps://").or_else(|| written.strip_prefix("ldap://"));
        // hosts and ports are written as everywhere
        let web = authority.filter(|authority| !authority.contains(['/', '?']));
        let web = web.and_then(|authority| WebUrl::parse(&format!("http://{authority}")).ok());
        let Some(web) = web else {
            let help = "write it like `ldaps://directory.internal` or `ldap://directory.internal:389`, with nothing behind the port";
            cx.bad_value_help(node, format!("`{}` is not the address of a directory", node.shown()), help);
            return None;
        };
        Some(Self { written: written.to_owned(), host: web.host().to_owned(), tls })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Address of a directory: `ldaps://directory.internal`.";
        s.pattern("directory", doc, "^ldaps?://([0-9A-Za-z_.-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?$")
    }
}

settings! {
    /// A database of PostgreSQL that is asked by SQL.
    struct SqlText {
        /// Address, without a password: `postgres://daemun@database.internal/shop`, or `postgres://daemun@/shop?host=/run/postgresql`,
        /// a socket of this machine, with `tls: false`.
        url: SqlUrl,
        /// Password of the database's user, best out of a reference like `${env:DATABASE_PASSWORD}`.
        password: Option<FieldValue>,
        /// Whether the connection is TLS; only one that does not leave the machine should not be.
        tls: bool = "true",
        /// PEM file with the authorities of the server's certificate; the system's when absent.
        ca_file: Option<PathBuf>,
        /// Query that gives one row for a user and none for nobody; `$1` is the name. Columns: `name`, `password_hash`, and if they are
        /// there `roles`, `groups` (lists, or texts with commas) and `disabled`.
        query: SqlQuery,
        /// Time for one answer.
        timeout: TimeLimit = "5s",
    }
    check SqlText::check;
}

impl SqlText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        if !self.tls && !is_here(&self.url.host) {
            let at = node.get("tls").unwrap_or(node).at;
            let found = Diagnostic::warning(INSECURE, at, "hashes of passwords come from the database in clear");
            cx.key("tls", |cx| cx.report(found.help("leave `tls: false` out")));
        }
        if self.tls && self.url.host.starts_with('/') {
            let at = node.get("tls").or_else(|| node.get("url")).unwrap_or(node).at;
            let found =
                Diagnostic::error(CONFLICTING_KEYS, at, "the address is a socket of this machine, which has no TLS");
            cx.key("tls", |cx| cx.report(found.help("write `tls: false`")));
        }
    }

    fn lower(self) -> SqlSource {
        SqlSource {
            url: self.url.written,
            password: self.password.map(|password| Secret(password.0)),
            tls: self.tls,
            ca_file: self.ca_file,
            query: self.query.0,
            timeout: self.timeout.0,
        }
    }
}

/// The address of a database.
struct SqlUrl {
    written: String,
    host: String,
}

impl Setting for SqlUrl {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "an address of `postgres`")?;
        let rest = written.strip_prefix("postgres://").or_else(|| written.strip_prefix("postgresql://"));
        let Some(rest) = rest else {
            let help = "write it like `postgres://daemun@database.internal/shop`";
            cx.bad_value_help(node, "this is not the address of a PostgreSQL database", help);
            return None;
        };
        let (authority, more) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') || more.contains("password=") {
            let help = "give it as `password: \"${env:DATABASE_PASSWORD}\"` beside `url`";
            cx.bad_value_help(node, "the address of the database holds a password", help);
            return None;
        }
        if more.contains("sslmode=") {
            cx.bad_value_help(
                node,
                "the address of the database says `sslmode`",
                "`tls: true` beside `url`, which is the default, says it",
            );
            return None;
        }
        let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((ip, _)) => ip,
            None => host.split(':').next().unwrap_or_default(),
        };
        let elsewhere = more.split(['?', '&']).find_map(|part| part.strip_prefix("host="));
        let host = elsewhere.unwrap_or(host);
        Some(Self { written: written.to_owned(), host: host.replace("%2F", "/").replace("%2f", "/") })
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("database", "Address of a PostgreSQL database, without a password.", "^postgres(ql)?://")
    }
}

/// A query with one parameter.
struct SqlQuery(String);

impl Setting for SqlQuery {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let query = text(node, cx, "a query")?;
        if !query.contains("$1") || query.contains("$2") || query.len() > 16 * 1024 {
            let help = "write it like `select name, password_hash, roles from users where name = $1`";
            cx.bad_value_help(node, "the query does not ask for one user: `$1` is the name", help);
            return None;
        }
        Some(Self(query.to_owned()))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("query", "SQL with `$1` for the name of the user.", "\\$1")
    }
}
