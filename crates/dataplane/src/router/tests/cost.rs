//! What is asked of a request while its route is looked for is paid for together.

use std::cell::Cell;
use std::net::IpAddr;

use super::super::{Captures, Conditions, Outcome, Query, Router};
use super::{Request, TestRoute, get, route};
use daemun_config::diagnostic::Diagnostics;

/// A request that counts what is spent on it, and pays no more than it has.
struct Payer<'a> {
    request: &'a Request,
    left: Cell<u64>,
    refused: Cell<bool>,
}

impl Conditions for Payer<'_> {
    fn header(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        self.request.header(name, visit);
    }

    fn query(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        self.request.query(name, visit);
    }

    fn cookie(&self, name: &str, visit: &mut dyn FnMut(&[u8]) -> bool) {
        self.request.cookie(name, visit);
    }

    fn client_ip(&self) -> Option<IpAddr> {
        self.request.client_ip()
    }

    fn spend(&self, work: u64) -> bool {
        let left = self.left.get().checked_sub(work);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    fn too_long(&self) {
        self.refused.set(true);
    }
}

/// What a lookup spends of so much, and whether it was refused for it.
fn spent(routes: &[TestRoute], path: &str, purse: u64) -> (u64, bool) {
    let router = Router::build(routes.iter().map(TestRoute::spec), false, &mut Diagnostics::new()).unwrap();
    let request = get(path);
    let (reading, buffer) = request.read();
    let view = reading.view(request.path.as_bytes(), &buffer);
    let payer = Payer { request: &request, left: Cell::new(purse), refused: Cell::new(false) };
    let query = Query { host: request.host.as_bytes(), path: &view, method: &request.method, request: &payer };
    let outcome = router.find(&query, &mut Captures::new());
    assert!(payer.refused.get() || matches!(outcome, Outcome::Found(_)));
    (purse - payer.left.get(), payer.refused.get())
}

#[test]
fn taking_parameters_out_of_a_path_costs_as_much_as_four_searches() {
    let path = "/items/0123456789";
    let (plain, _) = spent(&[route("a").regex("/items/[0-9]+")], path, u64::MAX);
    let (named, _) = spent(&[route("a").regex("/items/(?<id>[0-9]+)")], path, u64::MAX);
    assert!(plain > 0 && (plain * 5..plain * 11).contains(&named), "{plain} {named}");
    assert_eq!(spent(&[route("a").regex("/items/(?<id>[0-9]+)")], path, named), (named, false));
    assert!(spent(&[route("a").regex("/items/(?<id>[0-9]+)")], path, named - 1).1);
}

#[test]
fn a_route_without_expressions_costs_nothing() {
    assert_eq!(spent(&[route("a").path("/items/{id}")], "/items/1", 0), (0, false));
}
