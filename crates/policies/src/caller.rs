//! What every authenticator does once it knows who calls: notes the consumer, and tells the upstream. Knows no credential.

use std::sync::Arc;

use daemun_accounts::{Accounts, Holder};
use daemun_config::diagnostic;
use daemun_pipeline::exchange::{CONSUMER_NAME, CONSUMER_ROLES};
use daemun_pipeline::identity::{is_sendable, is_sent_role};
use daemun_pipeline::{BuildContext, Consumer, ConsumerId, Directory, Exchange, FieldId, Head, Identity, Span};

/// Consumers whose name or roles cannot be sent in a header.
#[derive(Debug)]
pub(crate) struct Unsendable(Vec<String>);

impl Unsendable {
    /// Those of a directory.
    pub(crate) fn of(directory: &Directory) -> Unsendable {
        let fits =
            |consumer: &Consumer| is_sendable(&consumer.name) && consumer.roles.iter().all(|role| is_sent_role(role));
        Unsendable(directory.iter().filter(|(_, c)| !fits(c)).map(|(_, c)| c.name.clone()).collect())
    }

    /// Reports them; says whether there are none.
    pub(crate) fn report(&self, ctx: &mut BuildContext<'_>) -> bool {
        for name in &self.0 {
            let message =
                format!("the name or a role of consumer `{}` cannot be sent in a header", name.escape_debug());
            let help = "no control characters, no white space at the ends, and no comma in a role";
            ctx.error(diagnostic::BAD_VALUE, message, Some(help.to_owned()));
        }
        self.0.is_empty()
    }
}

/// Each consumer's roles as they are sent, by position; empty for none.
pub(crate) fn sent_roles(directory: &Directory) -> Box<[Box<str>]> {
    directory.iter().map(|(_, consumer)| consumer.roles.join(",").into()).collect()
}

/// Whether no authenticator before found somebody else, since a request has one caller, and the consumer was not disabled beside the
/// configuration.
#[inline]
pub(crate) fn agrees(exchange: &Exchange, consumer: ConsumerId) -> bool {
    exchange.consumer.is_none_or(|known| known == consumer)
        && !exchange.directory.as_ref().is_some_and(|known| known.is_cut_off(consumer))
}

/// An identity that was found, of which another reference is counted once it is kept and not before: with very many callers that would wait
/// for memory while all else that is looked at could be on its way.
pub(crate) trait Found {
    fn identity(&self) -> &Identity;

    fn keep(self) -> Arc<Identity>;
}

impl Found for Arc<Identity> {
    #[inline]
    fn identity(&self) -> &Identity {
        self
    }

    #[inline]
    fn keep(self) -> Arc<Identity> {
        self
    }
}

impl Found for &Arc<Identity> {
    #[inline]
    fn identity(&self) -> &Identity {
        self
    }

    #[inline]
    fn keep(self) -> Arc<Identity> {
        Arc::clone(self)
    }
}

impl Found for Holder {
    #[inline]
    fn identity(&self) -> &Identity {
        self
    }

    #[inline]
    fn keep(self) -> Arc<Identity> {
        Holder::into_inner(self)
    }
}

/// Notes a caller that a credential tells of beyond the configuration, and tells the upstream. One that is a consumer of the
/// configuration must be there; one that is none joins the consumer that another authenticator found. False, with nothing noted, when
/// that is not so, when another authenticator found somebody else, when its name cannot be sent, or when it has the name of a consumer of
/// the configuration without being said to be one: it would be taken for that one wherever callers are told by name. The request is then to be
/// refused.
pub(crate) fn note_identity(exchange: &mut Exchange, identity: impl Found) -> bool {
    note_as(exchange, identity, false)
}

/// The same; `anew` is whether what the upstream was told of the same caller is not what it is to be told, whatever the roles.
fn note_as(exchange: &mut Exchange, found: impl Found, anew: bool) -> bool {
    let identity = found.identity();
    let is_same = |known: &Arc<Identity>| known.subject == identity.subject && known.consumer == identity.consumer;
    if exchange.identity.as_ref().is_some_and(|known| !is_same(known)) {
        return false;
    }
    let told = exchange.is_known();
    let named = exchange.directory.as_ref().and_then(|known| known.named(identity));
    let consumer = match (&identity.consumer, named) {
        (Some(_), Some(found)) if agrees(exchange, found) => Some(found),
        (Some(_), _) => return false,
        (None, _) => exchange.consumer,
    };
    if consumer.is_none() && (named.is_some() || !identity.is_sendable()) {
        return false;
    }
    // the roles that were told before are those of the consumer, which stay, and of the identity, which this one takes the place of
    let same_roles = || exchange.identity.as_ref().map_or(&[][..], |known| &known.roles) == identity.roles;
    if told && !anew && exchange.consumer == consumer && same_roles() {
        exchange.identity = Some(found.keep());
        return true;
    }
    exchange.consumer = consumer;
    let identity = exchange.identity.insert(found.keep());
    let head = &mut exchange.request.head;
    if told {
        for field in head.fields.iter_mut().filter(|field| field.id == FieldId::Identity) {
            field.removed = true;
        }
    }
    let known = consumer.and_then(|consumer| exchange.directory.as_ref()?.get(consumer));
    exchange.consumer_text = match known {
        None => identity.tell(head),
        Some(known) => {
            let name = head.tell(CONSUMER_NAME, known.name.as_bytes());
            push_roles(head, &known.roles, identity.sent_roles());
            name
        }
    };
    true
}

/// Whether [`note_identity`] notes a caller where no other authenticator has found one.
pub(crate) fn may_call(directory: &Directory, identity: &Identity) -> bool {
    match (&identity.consumer, directory.named(identity)) {
        (Some(_), Some(found)) => !directory.is_cut_off(found),
        (None, None) => identity.is_sendable(),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// As [`note_identity`], of a caller whom another service tells of: one with the name of a consumer of the store would be taken for that one
/// just so, and is refused as well, unless another authenticator found that consumer.
#[inline]
pub(crate) fn note_other(exchange: &mut Exchange, found: impl Found, accounts: &Accounts) -> bool {
    let identity = found.identity();
    let takes_name = identity.consumer.is_none()
        && accounts.has_consumer(&identity.subject)
        && exchange.identity.as_ref().is_none_or(|known| known.subject != identity.subject);
    !takes_name && note_identity(exchange, found)
}

/// Tells the upstream the roles that can be sent, where there are any.
fn push_roles(head: &mut Head, own: &[String], others: &str) {
    let own = own.iter().map(String::as_str).filter(|role| is_sent_role(role));
    head.tell_list(CONSUMER_ROLES, own.chain(Some(others).filter(|others| !others.is_empty())));
}

/// Notes the caller on the exchange and tells the upstream; name and roles as they are sent. Once is enough.
#[inline]
pub(crate) fn note(exchange: &mut Exchange, consumer: ConsumerId, name: &[u8], roles: &[u8]) {
    if exchange.identity.is_some() {
        return join(exchange, consumer);
    }
    exchange.note_consumer(consumer, name, roles);
}

/// Notes a consumer beside an identity that another authenticator found.
#[cold]
fn join(exchange: &mut Exchange, consumer: ConsumerId) {
    if exchange.consumer == Some(consumer) {
        return;
    }
    exchange.consumer = Some(consumer);
    if let Some(identity) = exchange.identity.take() {
        // so far it was told by the name of the identity
        exchange.consumer_text = Span::default();
        note_as(exchange, identity, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{consumer, exchange, wait};

    fn known(subject: &str, consumer: Option<&str>, roles: &[&str]) -> Arc<Identity> {
        Arc::new(Identity {
            subject: subject.into(),
            consumer: consumer.map(Into::into),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Identity::default()
        })
    }

    fn asked() -> Exchange {
        let mut exchange = exchange("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let consumers = vec![consumer("shop-app", &["buyer"], &[]), consumer("other", &[], &[])];
        exchange.directory = Some(Arc::new(Directory::new(consumers)));
        exchange
    }

    /// What the upstream is told.
    fn told(exchange: &Exchange) -> Vec<String> {
        let told = exchange.request.head.iter().filter(|(id, _, _)| *id == FieldId::Identity);
        told.map(|(_, name, value)| format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)))
            .collect()
    }

    #[test]
    fn who_is_no_consumer_is_told_by_its_subject() {
        let mut exchange = asked();
        assert!(note_identity(&mut exchange, known("alice", None, &["admin", "a,b"])));
        assert_eq!(exchange.consumer_name(), Some("alice"));
        assert_eq!(told(&exchange), ["X-Consumer-Name: alice", "X-Consumer-Roles: admin"]);
        assert!(!note_identity(&mut exchange, known("bob", None, &[])));
        assert_eq!(exchange.consumer_name(), Some("alice"));
        assert!(!note_identity(&mut asked(), known("a\r\nb: c", None, &[])));
        assert!(!note_identity(&mut asked(), known("", None, &[])));
    }

    #[test]
    fn who_is_a_consumer_must_be_there_and_be_the_one_found_before() {
        let mut exchange = asked();
        assert!(!note_identity(&mut exchange, known("x", Some("nobody"), &[])));
        assert!(!exchange.is_known());
        assert!(note_identity(&mut exchange, known("x", Some("shop-app"), &["writer"])));
        assert_eq!(exchange.consumer_name(), Some("shop-app"));
        assert_eq!(told(&exchange), ["X-Consumer-Name: shop-app", "X-Consumer-Roles: buyer,writer"]);
        let mut exchange = asked();
        note(&mut exchange, ConsumerId(1), b"other", b"");
        assert!(!note_identity(&mut exchange, known("x", Some("shop-app"), &[])));
        assert_eq!(told(&exchange), ["X-Consumer-Name: other"]);
    }

    #[test]
    fn who_has_the_name_of_a_consumer_is_not_taken_for_it() {
        let mut exchange = asked();
        assert!(!note_identity(&mut exchange, known("shop-app", None, &["admin"])));
        assert!(!exchange.is_known() && exchange.consumer_name().is_none() && told(&exchange).is_empty());
        assert!(note_identity(&mut exchange, known("Shop-App", None, &[])), "names are told apart by case");
    }

    #[test]
    fn who_has_the_name_of_a_consumer_of_the_store_is_not_taken_for_it_where_others_tell_of_it() {
        let accounts = Accounts::in_memory();
        let partner = daemun_accounts::Consumer { name: "partner".to_owned(), ..daemun_accounts::Consumer::default() };
        wait(accounts.put_consumer(partner, 0)).unwrap();
        let mut exchange = asked();
        assert!(!note_other(&mut exchange, known("partner", None, &["admin"]), &accounts));
        assert!(!exchange.is_known() && told(&exchange).is_empty());
        assert!(note_other(&mut asked(), known("partners", None, &[]), &accounts));
        assert!(note_other(&mut asked(), known("partner", Some("shop-app"), &[]), &accounts));
        // the consumer itself, by a credential of its own, and another service says the same
        assert!(note_identity(&mut exchange, known("partner", None, &["reader"])));
        assert!(note_other(&mut exchange, known("partner", None, &[]), &accounts));
    }

    #[test]
    fn who_is_no_consumer_joins_the_one_found_before_or_after() {
        for first in [true, false] {
            let mut exchange = asked();
            let alice = known("alice", None, &["admin"]);
            if first {
                note(&mut exchange, ConsumerId(0), b"shop-app", b"buyer");
                assert!(note_identity(&mut exchange, &alice));
            } else {
                assert!(note_identity(&mut exchange, &alice));
                note(&mut exchange, ConsumerId(0), b"shop-app", b"buyer");
            }
            assert_eq!(exchange.consumer_name(), Some("shop-app"));
            assert_eq!(told(&exchange), ["X-Consumer-Name: shop-app", "X-Consumer-Roles: buyer,admin"]);
            assert!(exchange.has_role("buyer") && exchange.has_role("admin") && !exchange.has_role("a"));
        }
    }

    #[test]
    fn the_upstream_is_told_the_name_and_the_roles_that_are_gone_by_here_whoever_comes_first() {
        // a consumer's name, though the identity that came before has no roles
        let mut exchange = asked();
        assert!(note_identity(&mut exchange, known("alice", None, &[])));
        note(&mut exchange, ConsumerId(0), b"shop-app", b"buyer");
        assert_eq!(exchange.consumer_name(), Some("shop-app"));
        assert_eq!(told(&exchange), ["X-Consumer-Name: shop-app", "X-Consumer-Roles: buyer"]);
        // the roles of the identity that counts, of two that are of the same
        let mut exchange = asked();
        assert!(note_identity(&mut exchange, known("alice", None, &["admin"])));
        assert!(note_identity(&mut exchange, known("alice", None, &["reader"])));
        assert!(exchange.has_role("reader") && !exchange.has_role("admin"));
        assert_eq!(told(&exchange), ["X-Consumer-Name: alice", "X-Consumer-Roles: reader"]);
        // and those that a token of the consumer has beyond it
        let mut exchange = asked();
        note(&mut exchange, ConsumerId(0), b"shop-app", b"buyer");
        assert!(note_identity(&mut exchange, known("x", Some("shop-app"), &["writer"])));
        assert!(exchange.has_role("writer"));
        assert_eq!(told(&exchange), ["X-Consumer-Name: shop-app", "X-Consumer-Roles: buyer,writer"]);
    }
}
