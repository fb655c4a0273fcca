//! What of an exchange is put to Cedar policies: who calls, what is done, to what, and what else is known. Knows no policy.

use std::collections::{HashMap, HashSet};
use std::str::FromStr as _;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
};
use daemun_config::decode::JsonValue;
use daemun_pipeline::exchange::taken;
use daemun_pipeline::expression::Text;
use daemun_pipeline::{BuildContext, Exchange, Fault, Method};

use super::super::config::CedarConfig;
use super::files::Known;

/// How an exchange is put.
pub(super) struct Asking {
    types: Types,
    /// What is done, where that is written down; the method where it is not.
    action: Option<Text>,
    /// To what, likewise; the path where it is not.
    resource: Option<Text>,
    /// The route, above its resources.
    route: Option<EntityUid>,
    headers: Box<[Box<str>]>,
    params: Box<[String]>,
}

struct Types {
    consumer: EntityTypeName,
    subject: EntityTypeName,
    nobody: EntityUid,
    role: EntityTypeName,
    group: EntityTypeName,
    action: EntityTypeName,
    resource: EntityTypeName,
}

/// A value of JSON that Cedar has no like of is left out.
fn value(json: &JsonValue) -> Option<Value> {
    match json {
        JsonValue::Null => None,
        JsonValue::Bool(value) => Some(Value::new_bool(*value)),
        JsonValue::Number(number) => number.as_i64().map(Value::new_long),
        JsonValue::String(text) => Some(Value::new_string(text.clone())),
        JsonValue::Array(items) => Some(Value::new_set(items.iter().filter_map(value))),
        JsonValue::Object(object) => {
            record(object.iter().filter_map(|(name, json)| Some((name.clone(), value(json)?))))
        }
    }
}

fn record(pairs: impl Iterator<Item = (String, Value)>) -> Option<Value> {
    Value::new_record(pairs).ok()
}

fn texts<'a>(list: impl Iterator<Item = &'a str>) -> Value {
    Value::new_set(list.map(|text| Value::new_string(text.to_owned())))
}

fn lossy(bytes: &[u8]) -> Value {
    Value::new_string(String::from_utf8_lossy(bytes).into_owned())
}

fn uid(kind: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// An entity before it is one.
struct Draft {
    uid: EntityUid,
    attributes: HashMap<String, Value>,
    parents: HashSet<EntityUid>,
}

impl Draft {
    /// With what the file of entities says of it, which wins.
    fn finish(mut self, known: &Known) -> Result<Entity, String> {
        if let Some(said) = known.entities.get(&self.uid) {
            let (_, attributes, parents) = said.clone().into_inner();
            self.attributes.extend(attributes);
            self.parents.extend(parents);
        }
        // what stands above what is above it
        let above: Vec<EntityUid> = self
            .parents
            .iter()
            .flat_map(|parent| known.entities.ancestors(parent).into_iter().flatten().cloned())
            .collect();
        self.parents.extend(above);
        self.parents.remove(&self.uid);
        Entity::new(self.uid, self.attributes, self.parents)
            .map_err(|_| "an attribute cannot be put to Cedar".to_owned())
    }
}

impl Asking {
    /// `None` after what is wrong was reported.
    pub(super) fn build(settings: CedarConfig, ctx: &mut BuildContext<'_>) -> Option<Asking> {
        let namespace = settings.namespace.as_ref().map(|name| format!("{}::", name.0)).unwrap_or_default();
        // names were checked while the settings were read
        let of = |name: &str| EntityTypeName::from_str(&format!("{namespace}{name}")).ok();
        let types = Types {
            consumer: of(&settings.principal.consumer.0)?,
            subject: of(&settings.principal.subject.0)?,
            nobody: uid(&of("Nobody")?, "nobody"),
            role: of(&settings.principal.role.0)?,
            group: of(&settings.principal.group.0)?,
            action: of("Action")?,
            resource: of(&settings.resource.kind.0)?,
        };
        let route_type = of("Route")?;
        let route = ctx.route.map(|name| uid(&route_type, name));
        let mut read =
            |key: &str, text: Option<daemun_config::model::Spanned<daemun_config::decode::TemplateText>>| match text {
                Some(text) => {
                    let text = daemun_config::model::Spanned { value: text.value.0, at: text.at };
                    ctx.text(key, &text, false).map(Some)
                }
                None => Some(None),
            };
        let action = read("cedar.action", settings.action);
        let resource = read("cedar.resource.id", settings.resource.id);
        Some(Asking {
            types,
            action: action?,
            resource: resource?,
            route,
            headers: settings.headers.0.into_iter().map(|name| name.0.into()).collect(),
            params: ctx.param_names.into(),
        })
    }

    /// The question and the entities it speaks of; or why it cannot be put.
    ///
    /// # Errors
    /// When an expression would cost more than it may.
    pub(super) fn ask(&self, exchange: &Exchange, known: &Known) -> Result<Result<(Request, Entities), String>, Fault> {
        let action = match &self.action {
            Some(text) => named(text, exchange)?,
            None if exchange.request.method == Method::Head => Some("GET".to_owned()),
            None => Some(exchange.request.method_text().to_owned()),
        };
        let resource = match &self.resource {
            Some(text) => named(text, exchange)?,
            None => Some(exchange.request.matched_path().into_owned()),
        };
        let (Some(action), Some(resource)) = (action, resource) else {
            return Ok(Err("`action` or `resource` of `cedar` comes to nothing".to_owned()));
        };
        Ok(self.put(exchange, known, &action, &resource))
    }

    fn put(
        &self,
        exchange: &Exchange,
        known: &Known,
        action: &str,
        resource: &str,
    ) -> Result<(Request, Entities), String> {
        let principal = self.principal(exchange).finish(known)?;
        let action = uid(&self.types.action, action);
        let resource = self.resource(exchange, resource).finish(known)?;
        let request = Request::new(principal.uid(), action.clone(), resource.uid(), self.context(exchange)?, None)
            .map_err(|_| "the request cannot be put to Cedar".to_owned())?;
        let mut leads_to = vec![action];
        for entity in [&principal, &resource] {
            leads_to.extend(parents(entity));
        }
        let mut all = vec![principal, resource];
        let around = known.around(&all, leads_to);
        all.extend(around);
        let entities =
            Entities::from_entities(all, None).map_err(|_| "the entities contradict each other".to_owned())?;
        Ok((request, entities))
    }

    fn principal(&self, exchange: &Exchange) -> Draft {
        let types = &self.types;
        let uid_of = match (exchange.consumer(), exchange.identity.as_deref()) {
            (Some(consumer), _) => uid(&types.consumer, &consumer.name),
            (None, Some(identity)) => uid(&types.subject, &identity.subject),
            (None, None) => types.nobody.clone(),
        };
        let mut attributes = HashMap::new();
        let parents = exchange
            .roles()
            .map(|role| uid(&types.role, role))
            .chain(exchange.groups().map(|group| uid(&types.group, group)))
            .collect();
        attributes.insert("known".to_owned(), Value::new_bool(exchange.is_proven()));
        if let Some(name) = exchange.consumer_bytes() {
            attributes.insert("name".to_owned(), lossy(name));
        }
        attributes.insert("roles".to_owned(), texts(exchange.roles()));
        attributes.insert("groups".to_owned(), texts(exchange.groups()));
        attributes.insert("tags".to_owned(), texts(exchange.tags()));
        attributes.insert("scopes".to_owned(), texts(exchange.scopes()));
        let claims = exchange.claims().into_iter().flatten();
        let claims = record(claims.filter_map(|(name, json)| Some((name.clone(), value(json)?))));
        attributes.extend(claims.map(|claims| ("claims".to_owned(), claims)));
        Draft { uid: uid_of, attributes, parents }
    }

    fn resource(&self, exchange: &Exchange, id: &str) -> Draft {
        let request = &exchange.request;
        let mut attributes = HashMap::new();
        attributes.insert("path".to_owned(), Value::new_string(request.matched_path().into_owned()));
        attributes.insert("full_path".to_owned(), Value::new_string(request.path_text().to_owned()));
        attributes.insert("host".to_owned(), Value::new_string(request.host_text().to_owned()));
        let params = exchange.params.iter().filter_map(|(index, span)| {
            let name = self.params.get(usize::from(*index))?;
            Some((name.clone(), lossy(&taken(request.head.bytes(*span)))))
        });
        attributes.extend(record(params).map(|params| ("params".to_owned(), params)));
        Draft { uid: uid(&self.types.resource, id), attributes, parents: self.route.iter().cloned().collect() }
    }

    fn context(&self, exchange: &Exchange) -> Result<Context, String> {
        let request = &exchange.request;
        let client = &exchange.client;
        let mut pairs = vec![
            ("method".to_owned(), Value::new_string(request.method_text().to_owned())),
            ("scheme".to_owned(), Value::new_string(if exchange.is_https() { "https" } else { "http" }.to_owned())),
            ("now".to_owned(), Value::new_long(i64::try_from(exchange.wall / 1_000_000_000).unwrap_or(i64::MAX))),
        ];
        if !client.unreadable {
            pairs.push(("ip".to_owned(), Value::new_ip(client.ip.to_canonical().to_string())));
        }
        let fields = self.headers.iter().filter_map(|name| {
            let mut values = request.head.values(name);
            let first = values.next()?;
            let all = values.fold(first.to_vec(), |mut all, more| {
                all.extend_from_slice(b", ");
                all.extend_from_slice(more);
                all
            });
            Some((name.to_string(), lossy(&all)))
        });
        pairs.extend(record(fields).map(|fields| ("headers".to_owned(), fields)));
        Context::from_pairs(pairs).map_err(|_| "the context cannot be put to Cedar".to_owned())
    }
}

/// What is directly above an entity.
fn parents(entity: &Entity) -> HashSet<EntityUid> {
    let (_, _, parents) = entity.clone().into_inner();
    parents
}

/// What a text comes to; `None` where that is nothing, or no text.
fn named(text: &Text, exchange: &Exchange) -> Result<Option<String>, Fault> {
    let value = text.value(exchange)?;
    Ok(std::str::from_utf8(&value).ok().filter(|value| !value.is_empty()).map(str::to_owned))
}
