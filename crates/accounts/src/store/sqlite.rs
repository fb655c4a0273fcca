//! The embedded store: SQLite with a write-ahead log.
//!
//! Rows are only appended to the ends of their tables, by ids that grow with time, so that a commit writes few pages whatever the
//! number of tokens. Every row has the number of the commit that last changed it, by which another process that has the store open as well,
//! as one does that takes over, finds what is new.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, Transaction, params};
use serde_json::json;

use super::{Store, StoreError};
use crate::change::{Change, GrantRow, SigningKeyRow, TokenRow};
use crate::consumer::{Consumer, Credential, CredentialKind};
use crate::grant::Kind;
use crate::plan::{self, Plan, Used};
use crate::{ended, once};

/// How long another process may hold the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tells a store of Daemun from other databases (`PRAGMA application_id`): `dmun`.
const APPLICATION: i64 = 0x646d_756e;

/// What brings a store from one version to the next, in order; never changed, only added to.
const MIGRATIONS: [&str; 4] = [
    "
CREATE TABLE commits(number INTEGER NOT NULL) STRICT;
INSERT INTO commits VALUES (0);
CREATE TABLE grants(
  id INTEGER PRIMARY KEY, number INTEGER NOT NULL, service TEXT NOT NULL, subject TEXT NOT NULL, consumer INTEGER NOT NULL,
  credential TEXT NOT NULL, says TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL, revoked INTEGER NOT NULL) STRICT;
CREATE INDEX grants_number ON grants(number);
CREATE INDEX grants_expires ON grants(expires);
CREATE TABLE tokens(
  id INTEGER PRIMARY KEY, number INTEGER NOT NULL, grant_id INTEGER NOT NULL, kind INTEGER NOT NULL, digest BLOB NOT NULL,
  issued INTEGER NOT NULL, expires INTEGER NOT NULL, spent INTEGER NOT NULL) STRICT;
CREATE INDEX tokens_number ON tokens(number);
CREATE INDEX tokens_expires ON tokens(expires);
CREATE TABLE voids(name TEXT PRIMARY KEY, number INTEGER NOT NULL, before INTEGER NOT NULL) STRICT;
CREATE TABLE consumers(
  name TEXT PRIMARY KEY, number INTEGER NOT NULL, says TEXT NOT NULL, disabled INTEGER NOT NULL, created INTEGER NOT NULL,
  gone INTEGER NOT NULL) STRICT;
CREATE TABLE credentials(
  id TEXT PRIMARY KEY, number INTEGER NOT NULL, consumer TEXT NOT NULL, kind TEXT NOT NULL, digest BLOB NOT NULL, label TEXT NOT NULL,
  created INTEGER NOT NULL, expires INTEGER, disabled INTEGER NOT NULL, used INTEGER NOT NULL, gone INTEGER NOT NULL) STRICT;
CREATE INDEX credentials_consumer ON credentials(consumer);
CREATE TABLE signing_keys(
  id TEXT PRIMARY KEY, number INTEGER NOT NULL, service TEXT NOT NULL, algorithm TEXT NOT NULL, sealed BLOB NOT NULL,
  created INTEGER NOT NULL, since INTEGER NOT NULL, until INTEGER) STRICT;
",
    // what a token may be used for, words with spaces between them, where that is less than its login is for
    "ALTER TABLE tokens ADD COLUMN scopes TEXT;",
    // codes are tokens of a kind of their own from here on, which a version before this one would take for refresh tokens
    "DELETE FROM tokens WHERE kind > 1;
CREATE INDEX voids_number ON voids(number);
CREATE INDEX consumers_number ON consumers(number);
CREATE INDEX credentials_number ON credentials(number);
CREATE INDEX signing_keys_number ON signing_keys(number);
",
    // of a plan what it says, as one of the configuration is written; of its use only what is added up, which no process need hear of
    "
CREATE TABLE plans(name TEXT PRIMARY KEY, number INTEGER NOT NULL, says TEXT NOT NULL, gone INTEGER NOT NULL) STRICT;
CREATE INDEX plans_number ON plans(number);
CREATE TABLE usage(
  consumer TEXT NOT NULL, plan TEXT NOT NULL, day INTEGER NOT NULL, calls INTEGER NOT NULL,
  PRIMARY KEY (consumer, plan, day)) STRICT, WITHOUT ROWID;
CREATE INDEX usage_day ON usage(day);
",
];

/// What acknowledged changes survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, however it ends.
    Process,
    /// The end of the power as well.
    Power,
}

/// An open store.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    /// Number of the last commit that was seen, with all before it.
    seen: i64,
    /// What SQLite counts changes of other processes by.
    version: i64,
}

impl Sqlite {
    /// Opens the store at a path, which is made where there is none, with nobody else's access; brings it up to this version.
    ///
    /// # Errors
    /// When it cannot be opened, is none of Daemun's, or was made by a newer version.
    pub fn open(path: &Path, durability: Durability) -> Result<Sqlite, StoreError> {
        let told = |error: rusqlite::Error| StoreError(format!("`{}`: {error}", path.display()));
        make_private(path).map_err(|error| match (error.kind(), path.parent()) {
            (std::io::ErrorKind::NotFound, Some(folder)) => {
                let (path, folder) = (path.display(), folder.display());
                StoreError(format!(
                    "`{path}`: there is no folder `{folder}`; make it, for the user that the gateway runs as"
                ))
            }
            _ => StoreError(format!("`{}`: {error}", path.display())),
        })?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(told)?;
        connection.busy_timeout(PATIENCE).map_err(told)?;
        migrate(&mut connection, path)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(told)?;
        let synchronous = match durability {
            Durability::Process => "normal",
            Durability::Power => "full",
        };
        connection.pragma_update(None, "synchronous", synchronous).map_err(told)?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000).map_err(told)?;
        connection.pragma_update(None, "cache_size", -32_000).map_err(told)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Sqlite { connection, seen: 0, version: 0 })
    }

    fn data_version(&self) -> rusqlite::Result<i64> {
        self.connection.pragma_query_value(None, "data_version", |row| row.get(0))
    }
}

/// Makes the file where there is none, for its owner alone.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let told = |error: rusqlite::Error| StoreError(format!("`{}`: {error}", path.display()));
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(told)?;
    let number = |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id").map_err(told)?, number("user_version").map_err(told)?);
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(told)?;
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if application != APPLICATION && tables > 0 {
        return Err(StoreError(format!("`{}` is a database of another program", path.display())));
    }
    if version > newest {
        return Err(StoreError(format!(
            "`{}` was made by a newer version of Daemun: its format is {version}, and this one knows {newest}",
            path.display()
        )));
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(migration).map_err(told)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(told)?;
    transaction.pragma_update(None, "user_version", newest).map_err(told)?;
    transaction.commit().map_err(told)
}

impl Store for Sqlite {
    fn apply(&mut self, asked: &[&[Change]]) -> Result<Vec<bool>, StoreError> {
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(told)?;
        let number: i64 = transaction
            .prepare_cached("UPDATE commits SET number = number + 1 RETURNING number")
            .and_then(|mut next| next.query_row([], |row| row.get(0)))
            .map_err(told)?;
        let mut done = Vec::with_capacity(asked.len());
        for changes in asked {
            // of these more than one may not be done, and what stands before it goes with it
            let is_apart = matches!(changes.first(), Some(Change::Consumer(_) | Change::Credential(_)));
            if is_apart {
                transaction.execute_batch("SAVEPOINT apart").map_err(told)?;
            }
            let mut all = true;
            for change in *changes {
                all = write(&transaction, (self.seen, number), change).map_err(told)?;
                if !all {
                    break;
                }
            }
            if is_apart {
                let end = if all { "RELEASE apart" } else { "ROLLBACK TO apart; RELEASE apart" };
                transaction.execute_batch(end).map_err(told)?;
            }
            done.push(all);
        }
        transaction.commit().map_err(told)?;
        if self.seen + 1 == number {
            self.seen = number;
        }
        Ok(done)
    }

    fn read(&mut self, visit: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        let version = self.data_version().map_err(told)?;
        let transaction = self.connection.transaction().map_err(told)?;
        let last: i64 = transaction.query_row("SELECT number FROM commits", [], |row| row.get(0)).map_err(told)?;
        read(&transaction, self.seen, visit).map_err(told)?;
        transaction.commit().map_err(told)?;
        (self.seen, self.version) = (last, version);
        Ok(())
    }

    fn has_news(&mut self) -> Result<bool, StoreError> {
        self.data_version().map(|version| version != self.version).map_err(told)
    }

    fn usage(&mut self, consumer: &str) -> Result<Vec<Used>, StoreError> {
        let mut statement =
            self.connection.prepare_cached("SELECT day, plan, calls FROM usage WHERE consumer = ?1").map_err(told)?;
        let rows = statement
            .query_map([consumer], |row| Ok(Used { day: row.get(0)?, plan: row.get(1)?, calls: moment(row.get(2)?) }));
        rows.and_then(Iterator::collect).map_err(told)
    }

    fn forget(&mut self, before: u64, most: usize) -> Result<usize, StoreError> {
        let (before, most) = (signed(before), i64::try_from(most).unwrap_or(i64::MAX));
        let mut gone = 0;
        // one commit for all of it
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior).map_err(told)?;
        for table in ["tokens", "grants"] {
            let statement = format!(
                "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE expires < ?1 ORDER BY expires LIMIT ?2)"
            );
            let mut statement = transaction.prepare_cached(&statement).map_err(told)?;
            gone += statement.execute(params![before, most]).map_err(told)?;
        }
        // by their names, which begin with when they end
        let statement = "DELETE FROM voids WHERE name IN (SELECT name FROM voids WHERE name > ?1 AND name < ?2 ORDER BY name LIMIT ?3)";
        let mut statement = transaction.prepare_cached(statement).map_err(told)?;
        for kind in [once::KIND, ended::KIND] {
            let (first, last) = (format!("{kind}:"), format!("{kind}:{before:016x}"));
            gone += statement.execute(params![first, last, most]).map_err(told)?;
        }
        drop(statement);
        let statement = "DELETE FROM usage WHERE (consumer, plan, day) IN \
             (SELECT consumer, plan, day FROM usage WHERE day <= ?1 ORDER BY day LIMIT ?2)";
        let mut statement = transaction.prepare_cached(statement).map_err(told)?;
        let last = i64::from(plan::day_of(moment(before))) - i64::from(plan::DAYS);
        gone += statement.execute(params![last, most]).map_err(told)?;
        drop(statement);
        transaction.commit().map_err(told)?;
        Ok(gone)
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the form that `map_err` wants")]
fn told(error: rusqlite::Error) -> StoreError {
    StoreError(error.to_string())
}

fn signed(moment: u64) -> i64 {
    i64::try_from(moment).unwrap_or(i64::MAX)
}

fn moment(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// What a token is for, as it is written.
fn number_of(kind: Kind) -> i64 {
    match kind {
        Kind::Access => 0,
        Kind::Refresh => 1,
        Kind::Code => 2,
    }
}

fn kind_of(number: i64) -> Option<Kind> {
    [Kind::Access, Kind::Refresh, Kind::Code].into_iter().find(|kind| number_of(*kind) == number)
}

/// Says whether nobody else was first; consumers and credentials may not have changed since what was `seen` last.
#[allow(clippy::too_many_lines, reason = "one statement for each kind of change")]
fn write(to: &Transaction<'_>, (seen, number): (i64, i64), change: &Change) -> rusqlite::Result<bool> {
    let changed = |statement: &str, values: &[&dyn rusqlite::ToSql]| to.prepare_cached(statement)?.execute(values);
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| changed(statement, values).map(|_| true);
    match change {
        Change::Grant(row) => run(
            "INSERT INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                row.id,
                number,
                row.service,
                row.subject,
                row.consumer,
                row.credential,
                row.says,
                signed(row.created),
                signed(row.expires),
                row.revoked
            ],
        ),
        Change::Token(row) => run(
            "INSERT INTO tokens(id, number, grant_id, kind, digest, issued, expires, spent, scopes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                row.id,
                number,
                row.grant,
                number_of(row.kind),
                row.digest,
                signed(row.issued),
                signed(row.expires),
                row.spent,
                row.scopes.as_ref().map(|scopes| scopes.join(" "))
            ],
        ),
        Change::Spend(id) => {
            let statement = "UPDATE tokens SET spent = 1, number = ?2 WHERE id = ?1 AND spent = 0";
            changed(statement, params![id, number]).map(|rows| rows > 0)
        }
        Change::UseUp { name, before } => {
            let statement = "INSERT INTO voids VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET number = ?2, before = ?3 WHERE before < ?3";
            changed(statement, params![name, number, signed(*before)]).map(|rows| rows > 0)
        }
        Change::Spent(id) => run("UPDATE tokens SET spent = 1, number = ?2 WHERE id = ?1", params![id, number]),
        Change::Revoked(id) => run("UPDATE grants SET revoked = 1, number = ?2 WHERE id = ?1", params![id, number]),
        Change::Void { name, before } => run(
            "INSERT INTO voids VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET number = ?2, before = max(before, ?3)",
            params![name, number, signed(*before)],
        ),
        Change::Consumer(row) => changed(
            "INSERT INTO consumers VALUES (?1, ?2, ?3, ?4, ?5, 0) ON CONFLICT DO UPDATE SET number = ?2, says = ?3, disabled = ?4, \
             created = ?5, gone = 0 WHERE number <= ?6",
            params![
                row.name,
                number,
                json!({
                    "roles": row.roles, "groups": row.groups, "tags": row.tags, "scopes": row.scopes,
                    "redirect_uris": row.redirect_uris, "had_secret": row.had_secret, "plans": row.plans,
                })
                .to_string(),
                row.disabled,
                signed(row.created),
                seen
            ],
        )
        .map(|rows| rows > 0),
        Change::NoConsumer(name) => {
            run("UPDATE consumers SET gone = 1, number = ?2 WHERE name = ?1", params![name, number])?;
            run("UPDATE credentials SET gone = 1, number = ?2 WHERE consumer = ?1", params![name, number])?;
            // whoever has the name next has used nothing
            run("DELETE FROM usage WHERE consumer = ?1", params![name])
        }
        Change::Credential(row) => changed(
            "INSERT INTO credentials SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0, 0 \
             WHERE EXISTS (SELECT 1 FROM consumers WHERE name = ?3 AND gone = 0) ON CONFLICT DO UPDATE SET number = ?2, \
             consumer = ?3, kind = ?4, digest = ?5, label = ?6, created = ?7, expires = ?8, disabled = ?9, \
             used = CASE WHEN gone THEN 0 ELSE used END, gone = 0 WHERE number <= ?10",
            params![
                row.id,
                number,
                row.consumer,
                row.kind.as_str(),
                row.digest,
                row.label,
                signed(row.created),
                row.expires.map(signed),
                row.disabled,
                seen
            ],
        )
        .map(|rows| rows > 0),
        Change::NoCredential(id) => {
            run("UPDATE credentials SET gone = 1, number = ?2 WHERE id = ?1", params![id, number])
        }
        // not told to other processes: each knows the uses it has seen
        Change::Used { id, at } => {
            run("UPDATE credentials SET used = max(used, ?2) WHERE id = ?1", params![id, signed(*at)])
        }
        Change::Plan(plan) => run(
            "INSERT OR REPLACE INTO plans VALUES (?1, ?2, ?3, 0)",
            params![plan.name, number, says(plan).to_string()],
        ),
        Change::NoPlan(name) => run("UPDATE plans SET gone = 1, number = ?2 WHERE name = ?1", params![name, number]),
        Change::Usage { consumer, plan, day, calls } => run(
            "INSERT INTO usage VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET calls = calls + ?4",
            params![consumer, plan, day, signed(*calls)],
        ),
        Change::SigningKey(row) => run(
            "INSERT OR REPLACE INTO signing_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                row.id,
                number,
                row.service,
                row.algorithm,
                row.sealed,
                signed(row.created),
                signed(row.from),
                row.until.map(signed)
            ],
        ),
        Change::NoSigningKey(id) => run("DELETE FROM signing_keys WHERE id = ?1", params![id]),
    }
}

/// A plan as one of the configuration is written.
fn says(plan: &Plan) -> serde_json::Value {
    let mut says = json!({ "limit": plan.limit.to_string() });
    if let (Some(burst), Some(says)) = (plan.burst, says.as_object_mut()) {
        says.insert("burst".to_owned(), burst.into());
    }
    says
}

fn read(from: &Transaction<'_>, seen: i64, visit: &mut dyn FnMut(Change)) -> rusqlite::Result<()> {
    let mut each = |statement: &str, row: fn(&Row<'_>) -> rusqlite::Result<Option<Change>>| -> rusqlite::Result<()> {
        let mut statement = from.prepare(statement)?;
        let mut rows = statement.query([seen])?;
        while let Some(found) = rows.next()? {
            if let Some(change) = row(found)? {
                visit(change);
            }
        }
        Ok(())
    };
    each("SELECT name, before FROM voids WHERE number > ?1", |row| {
        Ok(Some(Change::Void { name: row.get(0)?, before: moment(row.get(1)?) }))
    })?;
    // before the consumers that are on them
    each("SELECT name, says, gone FROM plans WHERE number > ?1", plan)?;
    // rows of credentials that were taken away are kept
    each(
        "SELECT name, says, disabled, created, gone, EXISTS (SELECT 1 FROM credentials WHERE consumer = name AND kind = 'client') \
         FROM consumers WHERE number > ?1",
        |row| consumer(row).map(Some),
    )?;
    each(
        "SELECT id, consumer, kind, digest, label, created, expires, disabled, gone FROM credentials WHERE number > ?1",
        credential,
    )?;
    each("SELECT id, used FROM credentials WHERE number > ?1 AND used > 0 AND gone = 0", |row| {
        Ok(Some(Change::Used { id: row.get(0)?, at: moment(row.get(1)?) }))
    })?;
    each(
        "SELECT id, service, subject, consumer, credential, says, created, expires, revoked FROM grants WHERE number > ?1",
        |row| grant(row).map(Some),
    )?;
    each("SELECT id, grant_id, kind, digest, issued, expires, spent, scopes FROM tokens WHERE number > ?1", |row| {
        let digest: Vec<u8> = row.get(3)?;
        let (Ok(digest), Some(kind)) = (digest.try_into(), kind_of(row.get(2)?)) else { return Ok(None) };
        Ok(Some(Change::Token(TokenRow {
            id: row.get(0)?,
            grant: row.get(1)?,
            kind,
            digest,
            issued: moment(row.get(4)?),
            expires: moment(row.get(5)?),
            spent: row.get(6)?,
            scopes: row
                .get::<_, Option<String>>(7)?
                .map(|scopes| scopes.split_whitespace().map(str::to_owned).collect()),
        })))
    })?;
    each("SELECT id, service, algorithm, sealed, created, since, until FROM signing_keys WHERE number > ?1", |row| {
        Ok(Some(Change::SigningKey(SigningKeyRow {
            id: row.get(0)?,
            service: row.get(1)?,
            algorithm: row.get(2)?,
            sealed: row.get(3)?,
            created: moment(row.get(4)?),
            from: moment(row.get(5)?),
            until: row.get::<_, Option<i64>>(6)?.map(moment),
        })))
    })
}

fn consumer(row: &Row<'_>) -> rusqlite::Result<Change> {
    let name: String = row.get(0)?;
    if row.get(4)? {
        return Ok(Change::NoConsumer(name));
    }
    let says: String = row.get(1)?;
    let says: serde_json::Value = serde_json::from_str(&says).map_err(|error| unreadable(1, error))?;
    let list = |key: &str| {
        let list = says.get(key).and_then(serde_json::Value::as_array).into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let (roles, groups, tags, scopes) = (list("roles"), list("groups"), list("tags"), list("scopes"));
    let (redirect_uris, plans) = (list("redirect_uris"), list("plans"));
    // a version that knew no clients does not say it
    let had_secret = match says.get("had_secret").and_then(serde_json::Value::as_bool) {
        Some(had) => had,
        None => row.get(5)?,
    };
    let (disabled, created) = (row.get(2)?, moment(row.get(3)?));
    let consumer = Consumer { name, roles, groups, tags, scopes, redirect_uris, plans, had_secret, disabled, created };
    Ok(Change::Consumer(consumer))
}

/// One that cannot be read is not there: whoever is on it is refused.
fn plan(row: &Row<'_>) -> rusqlite::Result<Option<Change>> {
    let (name, says): (String, String) = (row.get(0)?, row.get(1)?);
    if row.get(2)? {
        return Ok(Some(Change::NoPlan(name)));
    }
    Ok(daemun_config::read_plan(&name, &says).ok().map(Change::Plan))
}

fn credential(row: &Row<'_>) -> rusqlite::Result<Option<Change>> {
    let id: String = row.get(0)?;
    if row.get(8)? {
        return Ok(Some(Change::NoCredential(id)));
    }
    let (kind, digest): (String, Vec<u8>) = (row.get(2)?, row.get(3)?);
    let (Some(kind), Ok(digest)) = (CredentialKind::of(&kind), digest.try_into()) else { return Ok(None) };
    Ok(Some(Change::Credential(Credential {
        id,
        consumer: row.get(1)?,
        kind,
        digest,
        label: row.get(4)?,
        created: moment(row.get(5)?),
        expires: row.get::<_, Option<i64>>(6)?.map(moment),
        disabled: row.get(7)?,
    })))
}

fn grant(row: &Row<'_>) -> rusqlite::Result<Change> {
    Ok(Change::Grant(GrantRow {
        id: row.get(0)?,
        service: row.get(1)?,
        subject: row.get(2)?,
        consumer: row.get(3)?,
        credential: row.get(4)?,
        says: row.get(5)?,
        created: moment(row.get(6)?),
        expires: moment(row.get(7)?),
        revoked: row.get(8)?,
    }))
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Value::Null.data_type(), Box::new(error))
}
