//! What every authenticator does once it knows who calls: notes the consumer, and tells the upstream. Knows no credential.

use daemun_config::diagnostic;
use daemun_pipeline::head::{Field, is_value};
use daemun_pipeline::{BuildContext, Consumer, ConsumerId, Directory, Exchange, FieldId, Head, Span};

/// Tells the upstream who calls.
const NAME_FIELD: &str = "X-Consumer-Name";
/// Tells the upstream what roles the caller has, separated by commas.
const ROLES_FIELD: &str = "X-Consumer-Roles";

/// Consumers whose name or roles cannot be sent in a header.
#[derive(Debug)]
pub(crate) struct Unsendable(Vec<String>);

impl Unsendable {
    /// Those of a directory.
    pub(crate) fn of(directory: &Directory) -> Unsendable {
        let sendable = |text: &str| !text.is_empty() && text.bytes().all(is_value) && text.trim() == text;
        let fits = |consumer: &Consumer| {
            sendable(&consumer.name) && consumer.roles.iter().all(|role| sendable(role) && !role.contains(','))
        };
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

/// Whether no authenticator before found somebody else: a request has one caller.
#[inline]
pub(crate) fn agrees(exchange: &Exchange, consumer: ConsumerId) -> bool {
    exchange.consumer.is_none_or(|known| known == consumer)
}

/// Notes the caller on the exchange and tells the upstream; name and roles as they are sent. Once is enough.
#[inline]
pub(crate) fn note(exchange: &mut Exchange, consumer: ConsumerId, name: &[u8], roles: &[u8]) {
    if exchange.consumer.replace(consumer).is_some() {
        return;
    }
    let head = &mut exchange.request.head;
    exchange.consumer_text = push(head, NAME_FIELD, name);
    if !roles.is_empty() {
        push(head, ROLES_FIELD, roles);
    }
}

/// Appends one of the gateway's own fields; the value was checked when the directory was taken in ([`Unsendable`]).
fn push(head: &mut Head, name: &str, value: &[u8]) -> Span {
    let name = head.store(name.as_bytes());
    let value = head.store(value);
    head.fields.push(Field { name, value, id: FieldId::Identity, removed: false });
    value
}
