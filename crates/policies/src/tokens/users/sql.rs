//! Users of a PostgreSQL database: a query gives the hash of a password, which is checked as those of the configuration are.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwapOption;
use daemun_config::model::{PasswordHash, SqlSource};
use daemun_pipeline::{Identity, World};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, NoTls, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Row, Statement};

use super::Refused;
use super::elsewhere::{Asking, Tls};

/// Roles and groups of one user that are looked at.
const MOST: usize = 1000;

/// A database.
pub(super) struct Database {
    shared: Arc<Shared>,
    asking: Asking,
    /// A hash as users have it, for those that are not there.
    like: ArcSwapOption<PasswordHash>,
}

struct Shared {
    config: Config,
    settings: SqlSource,
    tls: Tls,
    kept: Mutex<Option<Arc<Kept>>>,
}

/// A connection, with what is asked over it.
struct Kept {
    client: Client,
    query: Statement,
}

/// What a database knows of a user.
pub(super) struct Known {
    pub(super) hash: Arc<PasswordHash>,
    pub(super) identity: Identity,
    pub(super) disabled: bool,
}

impl Database {
    /// # Errors
    /// What is wrong with the address, without it.
    pub(super) fn new(settings: &SqlSource) -> Result<Database, String> {
        let mut config: Config =
            settings.url.parse().map_err(|_| "the address of the database is malformed".to_owned())?;
        if config.get_user().is_none() {
            return Err("the address of the database has no user".to_owned());
        }
        if let Some(password) = &settings.password {
            config.password(&password.0);
        }
        config.application_name("daemun").ssl_mode(if settings.tls { SslMode::Require } else { SslMode::Disable });
        let shared = Shared {
            config,
            settings: settings.clone(),
            tls: Tls::new(settings.ca_file.clone()),
            kept: Mutex::default(),
        };
        Ok(Database { shared: Arc::new(shared), asking: Asking::new(settings.timeout), like: ArcSwapOption::empty() })
    }

    /// What is known of a user; `None` where there is none.
    pub(super) async fn ask(&self, world: &dyn World, name: &str) -> Result<Option<Known>, Refused> {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        let work = async move { shared.ask(&name).await.map_err(|why| format!("the database: {why}")) };
        let known = self.asking.ask(world, work).await?;
        if let Some(known) = &known {
            self.like.store(Some(Arc::clone(&known.hash)));
        }
        Ok(known)
    }

    /// A hash as users of it have.
    pub(super) fn like(&self) -> Option<Arc<PasswordHash>> {
        self.like.load_full()
    }
}

fn told(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        // without its detail, which may hold what was asked
        (Some(error), _) => format!("{} ({})", error.message(), error.code().code()),
        // what the server's certificate lacks, say
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

impl Shared {
    async fn ask(&self, name: &str) -> Result<Option<Known>, String> {
        let (kept, fresh) = self.kept().await?;
        let rows = match kept.client.query(&kept.query, &[&name]).await {
            Ok(rows) => rows,
            Err(error) => {
                *self.kept.lock().await = None;
                // a connection may have ended while it rested, and a table may have changed
                if fresh {
                    return Err(told(&error));
                }
                let (kept, _) = self.kept().await?;
                kept.client.query(&kept.query, &[&name]).await.map_err(|error| told(&error))?
            }
        };
        match rows.as_slice() {
            [] => Ok(None),
            [row] => known(row, name),
            _ => Err("the query gives more than one row for a user".to_owned()),
        }
    }

    /// The connection that is kept, and whether it was made just now.
    async fn kept(&self) -> Result<(Arc<Kept>, bool), String> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| !kept.client.is_closed()) {
            return Ok((Arc::clone(kept), false));
        }
        let client = self.connect().await.inspect_err(|_| self.tls.forget())?;
        let query = client.prepare(&self.settings.query).await.map_err(|error| told(&error))?;
        for column in ["password_hash", "name"] {
            if !query.columns().iter().any(|known| known.name() == column) {
                return Err(format!("the query gives no column `{column}`"));
            }
        }
        let fresh = Arc::new(Kept { client, query });
        *kept = Some(Arc::clone(&fresh));
        Ok((fresh, true))
    }

    async fn connect(&self) -> Result<Client, String> {
        if !self.settings.tls {
            let (client, connection) = self.config.connect(NoTls).await.map_err(|error| told(&error))?;
            drop(tokio::spawn(async move { drop(connection.await) }));
            return Ok(client);
        }
        let tls = Secured(self.tls.config().await?);
        let (client, connection) = self.config.connect(tls).await.map_err(|error| told(&error))?;
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(client)
    }
}

/// What a row says; nothing where it is another's, whose name the database holds for the same. The name is that of the row, so that a user
/// has one, however it was typed.
fn known(row: &Row, asked: &str) -> Result<Option<Known>, String> {
    let hash = text(row, "password_hash")?.ok_or("the query gives no `password_hash`")?;
    let hash =
        PasswordHash::parse(hash.trim()).map_err(|allowed| format!("`password_hash` of a user is not {allowed}"))?;
    // of a column that is filled up with spaces, without them
    let name = text(row, "name")?.ok_or("`name` of a user is null")?.trim_end().to_owned();
    if name.is_empty() || !name.eq_ignore_ascii_case(asked) {
        return Ok(None);
    }
    let disabled = if has(row, "disabled") {
        row.try_get::<_, Option<bool>>("disabled").map_err(|error| told(&error))?.unwrap_or(false)
    } else {
        false
    };
    let identity = Identity {
        credential: Some(format!("sql:{name}").into()),
        subject: name.into(),
        roles: list(row, "roles")?,
        groups: list(row, "groups")?,
        ..Identity::default()
    };
    Ok(Some(Known { hash: Arc::new(hash), identity, disabled }))
}

fn has(row: &Row, column: &str) -> bool {
    row.columns().iter().any(|known| known.name() == column)
}

fn text(row: &Row, column: &str) -> Result<Option<String>, String> {
    if has(row, column) { row.try_get(column).map_err(|error| told(&error)) } else { Ok(None) }
}

/// A list, or a text with commas.
fn list(row: &Row, column: &str) -> Result<Vec<String>, String> {
    if !has(row, column) {
        return Ok(Vec::new());
    }
    let list = match row.try_get::<_, Option<Vec<String>>>(column) {
        Ok(list) => list.unwrap_or_default(),
        Err(_) => {
            let text = text(row, column)?.unwrap_or_default();
            text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
        }
    };
    Ok(list.into_iter().take(MOST).collect())
}

/// TLS for the driver, by rustls.
#[derive(Clone)]
struct Secured(Arc<ClientConfig>);

/// TLS towards one host.
struct Towards(Arc<ClientConfig>, ServerName<'static>);

/// A connection that is secured.
struct Secure<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Secured {
    type Stream = Secure<S>;
    type TlsConnect = Towards;
    type Error = rustls_pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Towards, Self::Error> {
        Ok(Towards(Arc::clone(&self.0), ServerName::try_from(host.to_owned())?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Towards {
    type Stream = Secure<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Secure<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.0);
        Box::pin(async move { connector.connect(self.1, stream).await.map(Secure) })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Secure<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Secure<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Secure<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
