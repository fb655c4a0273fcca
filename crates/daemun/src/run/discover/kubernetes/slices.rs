//! EndpointSlices (`discovery.k8s.io/v1`) as they are listed and as they change, and the targets they come to. Knows no connection.

use std::collections::{BTreeMap, HashSet};

use daemun_config::model::PortRef;
use daemun_dataplane::FoundTarget;
use serde_json::Value;

use super::super::feed::{at, sort};
use super::Ended;

/// Slices of one service that are kept.
const MOST_SLICES: usize = 1_000;
/// Endpoints of one slice, as Kubernetes has it.
const MOST_ENDPOINTS: usize = 1_000;

/// The slices of one service, by name.
#[derive(Debug, Default)]
pub(super) struct Slices {
    slices: BTreeMap<String, Slice>,
    version: String,
    /// Endpoints of slices beyond the bounds, at the last count.
    left_out: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Slice {
    v6: bool,
    /// Name and number of each port over TCP.
    ports: Vec<(String, u16)>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    address: String,
    ready: bool,
    /// Going away, but still answering.
    lasts: bool,
    zone: Option<String>,
    /// What tells one that has addresses of both families.
    uid: Option<String>,
}

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The slices have changed.
    Changed,
    /// How far we are, at most.
    Nothing,
    /// The changes since then are not to be had any more.
    Expired,
}

impl Slices {
    /// Up to which change this goes.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Endpoints that are not kept.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Takes one page of a list up, and says how to ask for the next.
    pub(super) fn add_page(&mut self, body: &[u8]) -> Result<Option<String>, Ended> {
        let page: Value = read(body)?;
        let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice);
        let Some(items) = items.or_else(|| page.get("items").filter(|items| items.is_null()).map(|_| &[][..])) else {
            return Err(Ended::Failed("the list has no `items`".to_owned()));
        };
        for item in items {
            self.put(item);
        }
        let metadata = page.get("metadata");
        let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
        self.version = text("resourceVersion").unwrap_or_default().to_owned();
        Ok(text("continue").filter(|token| !token.is_empty()).map(str::to_owned))
    }

    /// Takes one event of a watch up, a line of JSON.
    pub(super) fn event(&mut self, line: &[u8]) -> Result<Told, Ended> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(Told::Nothing);
        }
        let event: Value = read(line)?;
        let object = event.get("object").unwrap_or(&Value::Null);
        let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "ERROR" {
            let code = object.get("code").and_then(Value::as_u64);
            let expired = code == Some(410) || object.get("reason").and_then(Value::as_str) == Some("Expired");
            if expired {
                return Ok(Told::Expired);
            }
            let code = code.map_or_else(|| "an error".to_owned(), |code| code.to_string());
            return Err(Ended::Failed(format!("the watch ends with {code}")));
        }
        let told = match kind {
            "ADDED" | "MODIFIED" => self.put(object),
            "DELETED" => self.remove(object),
            // BOOKMARK, and whatever comes later
            _ => Told::Nothing,
        };
        let version =
            object.get("metadata").and_then(|metadata| metadata.get("resourceVersion")).and_then(Value::as_str);
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            version.clone_into(&mut self.version);
        }
        Ok(told)
    }

    fn put(&mut self, object: &Value) -> Told {
        let Some(name) = name(object) else { return Told::Nothing };
        let slice = Slice::read(object);
        if self.slices.len() >= MOST_SLICES && !self.slices.contains_key(name) {
            self.left_out += slice.endpoints.len();
            return Told::Nothing;
        }
        if self.slices.get(name) == Some(&slice) {
            return Told::Nothing;
        }
        self.slices.insert(name.to_owned(), slice);
        Told::Changed
    }

    fn remove(&mut self, object: &Value) -> Told {
        match name(object).and_then(|name| self.slices.remove(name)) {
            Some(_) => Told::Changed,
            None => Told::Nothing,
        }
    }

    /// The targets: endpoints that are ready, or while none is, those that still answer on their way out. One that has addresses of
    /// both families is called over IPv4.
    pub(super) fn targets(&self, port: Option<&PortRef>, tls: bool) -> Result<Vec<FoundTarget>, String> {
        let old: HashSet<&str> = self.endpoints(false).filter_map(|(_, endpoint)| endpoint.uid.as_deref()).collect();
        let twice = |endpoint: &Endpoint| endpoint.uid.as_deref().is_some_and(|uid| old.contains(uid));
        let all: Vec<(&Slice, &Endpoint)> =
            self.endpoints(false).chain(self.endpoints(true).filter(|(_, endpoint)| !twice(endpoint))).collect();
        let any_ready = all.iter().any(|(_, endpoint)| endpoint.ready);
        let mut targets = Vec::new();
        for (slice, endpoint) in all {
            if if any_ready { endpoint.ready } else { endpoint.lasts } {
                let Some(port) = slice.port(port)? else { continue };
                let mut target = at(&endpoint.address, port, tls);
                target.zone.clone_from(&endpoint.zone);
                targets.push(target);
            }
        }
        sort(&mut targets);
        Ok(targets)
    }

    fn endpoints(&self, v6: bool) -> impl Iterator<Item = (&Slice, &Endpoint)> {
        let slices = self.slices.values().filter(move |slice| slice.v6 == v6);
        slices.flat_map(|slice| slice.endpoints.iter().map(move |endpoint| (slice, endpoint)))
    }
}

impl Slice {
    fn read(object: &Value) -> Self {
        let list = |key: &str| object.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let port = |port: &Value| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
            let number = port.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            let name = port.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            (protocol == "TCP").then_some((name, number.filter(|number| *number > 0)?))
        };
        Self {
            v6: object.get("addressType").and_then(Value::as_str) == Some("IPv6"),
            ports: list("ports").iter().filter_map(port).collect(),
            endpoints: list("endpoints").iter().take(MOST_ENDPOINTS).filter_map(Endpoint::read).collect(),
        }
    }

    /// The port that is meant; `None` where this slice does not have it.
    fn port(&self, wanted: Option<&PortRef>) -> Result<Option<u16>, String> {
        match (wanted, self.ports.as_slice()) {
            (Some(PortRef::Number(wanted)), ports) => {
                Ok(ports.iter().map(|(_, port)| *port).find(|port| port == wanted))
            }
            (Some(PortRef::Name(wanted)), ports) => {
                Ok(ports.iter().find(|(name, _)| name == wanted).map(|(_, port)| *port))
            }
            (None, []) => Ok(None),
            (None, [(_, port)]) => Ok(Some(*port)),
            (None, several) => {
                let names: Vec<String> = several.iter().map(|(name, port)| format!("`{name}` ({port})")).collect();
                Err(format!("the service has several ports, of which `port` must name one: {}", names.join(", ")))
            }
        }
    }
}

impl Endpoint {
    fn read(endpoint: &Value) -> Option<Self> {
        // all addresses of an endpoint are the same one, of which the first is to be used
        let address = endpoint.get("addresses")?.as_array()?.first()?.as_str()?.to_owned();
        let conditions = endpoint.get("conditions");
        let condition = |key: &str| conditions.and_then(|conditions| conditions.get(key)).and_then(Value::as_bool);
        let ready = condition("ready").unwrap_or(true);
        let lasts = condition("serving").unwrap_or(ready) && condition("terminating").unwrap_or(false);
        let uid = endpoint.get("targetRef").and_then(|target| target.get("uid")).and_then(Value::as_str);
        let zone = endpoint.get("zone").and_then(Value::as_str);
        Some(Self { address, ready, lasts, zone: zone.map(str::to_owned), uid: uid.map(str::to_owned) })
    }
}

fn name(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("name")?.as_str()
}

fn read(text: &[u8]) -> Result<Value, Ended> {
    serde_json::from_slice(text)
        .map_err(|error| Ended::Failed(format!("the API server does not answer with JSON: {error}")))
}

#[cfg(test)]
mod tests;
