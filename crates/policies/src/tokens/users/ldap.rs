//! Users of a directory (LDAP version 3, RFC 4511): their entry is searched for, and bound to with the password that was shown.

use std::collections::HashMap;
use std::sync::Arc;

use daemun_accounts::{Accounts, Checks};
use daemun_config::model::LdapSource;
use daemun_pipeline::{Identity, World};
use ldap3::{Ldap as Connection, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, SearchOptions, ldap_escape};

use super::elsewhere::{Asking, Tls};
use super::{Found, Refused};

/// Result codes (RFC 4511, appendix A).
const SUCCESS: u32 = 0;
const SIZE_LIMIT: u32 = 4;
const INVALID_CREDENTIALS: u32 = 49;
/// Codes of a bind that say that this name and password do not belong together: no such entry, no password, no right to bind.
const NOT_THIS_ONE: [u32; 5] = [INVALID_CREDENTIALS, 32, 48, 50, 53];
/// Groups of one user that are looked at.
const MOST_GROUPS: usize = 1000;

/// A directory.
pub(super) struct Directory {
    settings: Arc<LdapSource>,
    tls: Arc<Tls>,
    asking: Asking,
    accounts: Arc<Accounts>,
}

/// What a directory says.
enum Answer {
    Nobody,
    Wrong(&'static str),
    Right(Box<Identity>),
}

impl Directory {
    pub(super) fn new(settings: &LdapSource, accounts: &Arc<Accounts>) -> Directory {
        Directory {
            settings: Arc::new(settings.clone()),
            tls: Arc::new(Tls::new(settings.ca_file.clone())),
            asking: Asking::new(settings.timeout),
            accounts: Arc::clone(accounts),
        }
    }

    pub(super) async fn ask(&self, world: &dyn World, name: &str, password: &[u8]) -> Result<Found, Refused> {
        let Ok(password) = std::str::from_utf8(password) else {
            return Ok(Found::Wrong("the password is not UTF-8, which a directory asks for"));
        };
        let (settings, tls) = (Arc::clone(&self.settings), Arc::clone(&self.tls));
        let (name, password, accounts) = (name.to_owned(), password.to_owned(), Arc::clone(&self.accounts));
        let work = async move {
            let answer = ask(&settings, &tls, (&name, &password), accounts.checks()).await;
            if answer.is_err() {
                tls.forget();
            }
            answer.map_err(|why| format!("the directory: {why}"))
        };
        Ok(match self.asking.ask(world, work).await? {
            Answer::Nobody => Found::Nobody { worked: true },
            Answer::Wrong(why) => Found::Wrong(why),
            Answer::Right(identity) => Found::Right(*identity),
        })
    }
}

fn told(error: ldap3::LdapError) -> String {
    error.to_string()
}

async fn ask(
    settings: &LdapSource,
    tls: &Tls,
    (name, password): (&str, &str),
    checks: &Checks,
) -> Result<Answer, String> {
    // a bind without a password would be one as nobody, which succeeds (RFC 4513, section 5.1.2)
    if password.is_empty() {
        return Ok(Answer::Wrong("the password is empty"));
    }
    let mut options = LdapConnSettings::new().set_starttls(settings.start_tls);
    if settings.start_tls || settings.url.starts_with("ldaps:") {
        options = options.set_config(tls.config().await?);
    }
    let (connection, mut directory) = LdapConnAsync::with_settings(options, &settings.url).await.map_err(told)?;
    // ends with the last handle
    drop(tokio::spawn(async move { drop(connection.drive().await) }));
    log_in(settings, &mut directory).await?;
    let Some((entry, known)) = search(settings, &mut directory, name).await? else {
        // the work of a bind, for a name that nobody has
        let nobody = format!("cn={},{}", unheard_of()?, settings.base);
        drop(directory.simple_bind(&nobody, password).await.map_err(told)?);
        checks.note_bind();
        let _ = directory.unbind().await;
        return Ok(Answer::Nobody);
    };
    let bound = directory.simple_bind(&entry.dn, password).await.map_err(told)?.rc;
    checks.note_bind();
    if NOT_THIS_ONE.contains(&bound) {
        let _ = directory.unbind().await;
        return Ok(Answer::Wrong("the directory does not take the password"));
    }
    if bound != SUCCESS {
        return Err(format!("a bind as the user comes to result code {bound}"));
    }
    let groups = groups(settings, &mut directory, &entry, name).await?;
    let _ = directory.unbind().await;
    let mut roles: Vec<String> = Vec::new();
    for (_, of_group) in settings.roles.iter().filter(|(group, _)| groups.contains(group)) {
        let new: Vec<String> = of_group.iter().filter(|role| !roles.contains(role)).cloned().collect();
        roles.extend(new);
    }
    let credential = Some(format!("ldap:{known}").into());
    let identity = Identity { subject: known.into(), roles, groups, credential, ..Identity::default() };
    Ok(Answer::Right(Box::new(identity)))
}

/// Becomes who searches.
async fn log_in(settings: &LdapSource, directory: &mut Connection) -> Result<(), String> {
    let Some((dn, password)) = &settings.bind else { return Ok(()) };
    match directory.simple_bind(dn, &password.0).await.map_err(told)?.rc {
        SUCCESS => Ok(()),
        code => Err(format!("a bind as `bind_dn` comes to result code {code}")),
    }
}

/// The one entry of a user, and the name it has there.
async fn search(
    settings: &LdapSource,
    directory: &mut Connection,
    name: &str,
) -> Result<Option<(SearchEntry, String)>, String> {
    let filter = settings.filter.replace("{username}", &ldap_escape(name));
    let own = settings.groups.as_ref().filter(|groups| groups.base.is_none());
    let mut attributes = vec![settings.name.as_str()];
    attributes.extend(own.map(|groups| groups.attribute.as_str()));
    directory.with_search_options(SearchOptions::new().sizelimit(2));
    let found = directory.search(&settings.base, Scope::Subtree, &filter, attributes).await.map_err(told)?;
    if found.1.rc != SUCCESS && found.1.rc != SIZE_LIMIT {
        return Err(format!("the search for a user comes to result code {}", found.1.rc));
    }
    let mut entries = found.0.into_iter().filter(|entry| !entry.is_ref() && !entry.is_intermediate());
    let (Some(entry), None) = (entries.next(), entries.next()) else { return Ok(None) };
    let entry = SearchEntry::construct(entry);
    // spaces and letters that a directory holds for the same would be other users here
    let known = values(&entry.attrs, &settings.name).iter().find(|known| known.eq_ignore_ascii_case(name)).cloned();
    Ok(known.filter(|_| found.1.rc == SUCCESS && !entry.dn.is_empty()).map(|known| (entry, known)))
}

/// Values of an attribute, whose name a directory may write in other letters.
fn values<'a>(attributes: &'a HashMap<String, Vec<String>>, name: &str) -> &'a [String] {
    attributes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(&[], |(_, values)| values)
}

async fn groups(
    settings: &LdapSource,
    directory: &mut Connection,
    user: &SearchEntry,
    name: &str,
) -> Result<Vec<String>, String> {
    let Some(groups) = &settings.groups else { return Ok(Vec::new()) };
    let mut found: Vec<String> = match &groups.base {
        None => values(&user.attrs, &groups.attribute).to_vec(),
        Some(base) => {
            // as who searches: a user need not be able to
            log_in(settings, directory).await?;
            let filter =
                groups.filter.replace("{dn}", &ldap_escape(user.dn.as_str())).replace("{username}", &ldap_escape(name));
            let attributes = vec![groups.attribute.as_str()];
            let entries = directory.search(base, Scope::Subtree, &filter, attributes).await.map_err(told)?;
            let entries = entries.success().map_err(|error| format!("the search for groups: {error}"))?.0;
            let entries = entries.into_iter().filter(|entry| !entry.is_ref() && !entry.is_intermediate());
            let entries = entries.take(MOST_GROUPS).map(SearchEntry::construct);
            entries.flat_map(|entry| values(&entry.attrs, &groups.attribute).to_vec()).collect()
        }
    };
    found.truncate(MOST_GROUPS);
    let mut named: Vec<String> = found.iter().map(|name| first_part(name).to_owned()).collect();
    named.sort();
    named.dedup();
    Ok(named)
}

/// The first value of a distinguished name; what is none, or cannot be read so simply, as it is.
fn first_part(name: &str) -> &str {
    match name.split_once('=') {
        Some((_, rest)) if !name.contains('\\') => rest.split([',', '+']).next().unwrap_or(rest),
        Some(_) | None => name,
    }
}

/// A name that no entry has.
fn unheard_of() -> Result<String, String> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_known_by_the_first_part_of_its_name() {
        for (name, first) in [
            ("cn=clerks,ou=groups,dc=shop", "clerks"),
            ("CN=Domain Users,CN=Users", "Domain Users"),
            ("clerks", "clerks"),
            ("cn=a\\,b,dc=shop", "cn=a\\,b,dc=shop"),
        ] {
            assert_eq!(first_part(name), first);
        }
    }
}
