//! From a request's head to its route: path read, host and conditions looked up, parameters kept, misses turned into faults.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use daemun_pipeline::bounded::Budget;
use daemun_pipeline::expression::{self, Expression, Place, ReadBody};
use daemun_pipeline::{Exchange, Fault, Method, Reason, Request, Span};
use daemun_sys::prefetch;

use crate::router::{Captures, Conditions, Explanation, Outcome, PathError, Query, ReadPath, path, values};
use crate::snapshot::{Route, Snapshot};

/// Why no route is found.
pub(crate) enum Miss {
    /// There is none, or what was asked cannot be told.
    Fault(Fault),
    /// A route that could take it asks for its body, of at most so many bytes. Once that is in the exchange, it is to be looked up again.
    Body(u64),
}

impl From<Fault> for Miss {
    fn from(fault: Fault) -> Miss {
        Miss::Fault(fault)
    }
}

/// Finds the route, and puts the path in its one reading and the parameters into the exchange.
pub(crate) fn find<'s>(snapshot: &'s Snapshot, exchange: &mut Exchange) -> Result<&'s Route, Miss> {
    let outcome = look(snapshot, exchange)?;
    Ok(taken(snapshot, exchange, outcome)?)
}

fn taken<'s>(snapshot: &'s Snapshot, exchange: &mut Exchange, outcome: Outcome) -> Result<&'s Route, Fault> {
    let route = match outcome {
        Outcome::Found(found) => snapshot.routes.get(found.route as usize),
        Outcome::NotFound => return Err(Fault::new(Reason::NoRoute, "no route matches this host and path")),
        Outcome::EncodedSlash => {
            return Err(Fault::new(Reason::BadPath, "the path holds `%2F`, which is not allowed here"));
        }
        Outcome::MethodNotAllowed(allow) => {
            let allow = snapshot.router.allow(allow).collect::<Vec<_>>().join(", ");
            return Err(
                Fault::new(Reason::MethodNotAllowed, "this path is served with other methods").field("allow", allow)
            );
        }
    };
    let route = route.ok_or_else(|| Fault::new(Reason::Internal, "a route is missing"))?;
    exchange.route_key = route.key;
    if let Some(names) = &route.own.param_names {
        exchange.param_names = Some(Arc::clone(names));
    }
    // read when the exchange is recorded; of very many routes, neither is likely to be at hand
    prefetch(&*route.cells);
    prefetch(&*route.name);
    Ok(route)
}

/// Reads the path and looks it up; the reading's forwarded form becomes `request.path`.
fn look(snapshot: &Snapshot, exchange: &mut Exchange) -> Result<Outcome, Miss> {
    let mut captures = Captures::new();
    let mut buffer = Vec::new(); // allocates only for a path that is not in its normal form
    let request = &exchange.request;
    let raw = request.head.bytes(request.path);
    let reading = path::read(raw, &mut buffer).map_err(|error| bad_path(&error))?;
    let view = reading.view(raw, &buffer);
    let asked = Asked::new(exchange);
    let outcome = ask(snapshot, &asked, &view, &mut captures);
    asked.end()?;
    let keep = matches!(outcome, Outcome::Found(found) if found.keep_slashes);
    let offset = if reading.is_borrowed() {
        exchange.request.path.start()
    } else {
        let forwarded = view.forwarded(keep).to_vec();
        exchange.request.path = exchange.request.head.store(&forwarded);
        exchange.request.path.start()
    };
    for index in 0..captures.len() {
        if let (Some(range), Ok(name)) = (captures.get(index), u16::try_from(index)) {
            exchange.params.push((name, Span::new(offset + range.start, offset + range.end)));
        }
    }
    Ok(outcome)
}

fn ask(snapshot: &Snapshot, asked: &Asked<'_>, view: &ReadPath<'_>, captures: &mut Captures) -> Outcome {
    let request = &asked.exchange.request;
    let query = query_of(asked, view);
    if let Some(method) = preflight_method(request) {
        let found = snapshot.router.find_preflight(&Query { method, ..query }, captures);
        if answers_preflights(snapshot, found) {
            return found;
        }
        *captures = Captures::new();
    }
    snapshot.router.find(&query, captures)
}

/// Only a route that answers preflights itself may be found without its conditions and before its authenticators.
fn answers_preflights(snapshot: &Snapshot, found: Outcome) -> bool {
    matches!(found, Outcome::Found(hit)
        if snapshot.routes.get(hit.route as usize).is_some_and(|route| route.chain.answers_preflights()))
}

/// Why an exchange takes its route, and the method it announces where it takes it as a CORS preflight.
pub(crate) fn explain<'e>(
    snapshot: &Snapshot,
    exchange: &'e Exchange,
    view: &ReadPath<'_>,
) -> (Explanation, Option<&'e str>) {
    let asked = Asked::new(exchange);
    let query = query_of(&asked, view);
    if let Some(method) = preflight_method(&exchange.request) {
        let explanation = snapshot.router.explain_preflight(&Query { method, ..query });
        if answers_preflights(snapshot, explanation.outcome) {
            return (explanation, Some(method));
        }
    }
    (snapshot.router.explain(&query), None)
}

/// What the router is asked for an exchange.
fn query_of<'a>(asked: &'a Asked<'a>, view: &'a ReadPath<'a>) -> Query<'a> {
    let request = &asked.exchange.request;
    Query { host: request.head.bytes(request.host), path: view, method: request.method_text(), request: asked }
}

/// The method a CORS preflight asks for (Fetch standard, section 4.8).
fn preflight_method(request: &Request) -> Option<&str> {
    if request.method != Method::Options || request.head.get_id(daemun_pipeline::FieldId::Origin).is_none() {
        return None;
    }
    std::str::from_utf8(request.head.get("access-control-request-method")?).ok()
}

pub(crate) fn bad_path(error: &PathError) -> Fault {
    let reason = if matches!(error, PathError::TooLong) { Reason::TargetTooLong } else { Reason::BadPath };
    Fault::new(reason, error.to_string())
}

/// An exchange that conditions are asked of, and what stood in the way of an answer.
struct Asked<'a> {
    exchange: &'a Exchange,
    /// The largest body that an expression would have read; 0 when none would.
    body: Cell<u64>,
    /// What expressions have read of it.
    read: ReadBody,
    /// What all of them may cost together.
    budget: Budget,
    fault: RefCell<Option<Fault>>,
}

impl<'a> Asked<'a> {
    fn new(exchange: &'a Exchange) -> Asked<'a> {
        let budget = Budget::default();
        Asked { exchange, body: Cell::new(0), read: ReadBody::default(), budget, fault: RefCell::new(None) }
    }

    /// What the answers are worth.
    fn end(self) -> Result<(), Miss> {
        match (self.fault.into_inner(), self.body.get()) {
            (Some(fault), _) => Err(Miss::Fault(fault)),
            (None, 0) => Ok(()),
            (None, body) => Err(Miss::Body(body)),
        }
    }
}

impl Conditions for Asked<'_> {
    fn header(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for value in self.exchange.request.head.values(name) {
            if !visit(value) {
                return;
            }
        }
    }

    fn query(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        values::query_values(self.exchange.request.query_text().unwrap_or_default().as_bytes(), name, visit);
    }

    fn cookie(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        for field in self.exchange.request.head.values_id(daemun_pipeline::FieldId::Cookie) {
            if !values::cookie_values(field, name, visit) {
                return;
            }
        }
    }

    fn client_ip(&self) -> Option<IpAddr> {
        let client = &self.exchange.client;
        (!client.unreadable).then_some(client.ip)
    }

    fn when(&self, when: &Expression, body: u64, place: Place<'_>) -> bool {
        let request = &self.exchange.request;
        if when.needs_body() && request.body.is_none() {
            if expression::has_json(request) {
                self.body.set(self.body.get().max(body));
            }
            return false;
        }
        when.test_at(self.exchange, place, &self.read, &self.budget).unwrap_or_else(|fault| {
            *self.fault.borrow_mut() = Some(fault);
            false
        })
    }

    fn spend(&self, work: u64) -> bool {
        self.budget.spend(work)
    }

    fn too_long(&self) {
        *self.fault.borrow_mut() = Some(expression::too_costly());
    }
}
