//! The calls the demo shows: each one line for a shell, with the status it gets behind it.

use std::fmt;

/// A call to try.
#[derive(Debug)]
pub(super) struct Call {
    /// What it shows.
    note: &'static str,
    /// The line.
    command: String,
    /// The status it gets.
    status: u16,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n# {}\n{}  # → {}", self.note, self.command, self.status)
    }
}

/// The calls, for a gateway at these URLs.
pub(super) fn calls(gateway: &str, status: &str, admin: &str) -> Vec<Call> {
    const KEY: &str = "-H 'X-Api-Key: shop-app-demo-key'";
    let call = |note, command: String, status| Call { note, command, status };
    let of = |options: &str, target: &str| {
        format!("curl -i {options}{}'{gateway}{target}'", if options.is_empty() { "" } else { " " })
    };
    let given = |name: &str| {
        format!("{name}=$(curl -s -X POST {KEY} '{gateway}/auth' | sed 's/.*\"{name}_token\":\"\\([^\"]*\\).*/\\1/')")
    };
    let (access, refresh) = (given("access"), given("refresh"));
    let account = format!("curl -i -H \"X-Api-Access-Token: $access\" '{gateway}/account'");
    let again = format!("-d grant_type=refresh_token -d \"refresh_token=$refresh\" '{gateway}/auth'");
    let report = format!("'{gateway}/orders/report'");
    vec![
        call("an answer of the gateway's own", of("", "/hello"), 200),
        call("with a key: the backend shows what reached it", of(KEY, "/products/items/7?color=red"), 200),
        call("without a key", of("", "/products/items/7"), 401),
        call("with a key nobody has", of("-H 'X-Api-Key: no-such-key-at-all'", "/products/items/7"), 401),
        call(
            "a body goes through",
            of(&format!("{KEY} -d '{{\"item\": 7}}' -H 'Content-Type: application/json'"), "/orders"),
            201,
        ),
        call(
            "one call a minute is allowed: the second of two",
            format!("curl -s -o /dev/null {KEY} {report} --next -i {KEY} {report}"),
            429,
        ),
        call("tokens for a key, to be used in its place", format!("curl -i -X POST {KEY} '{gateway}/auth'"), 200),
        call("with the access token", format!("{access}; {account}"), 200),
        call(
            "with an access token that has ended, which takes five seconds here",
            format!("{access}; sleep 6; {account}"),
            401,
        ),
        call("another pair for the refresh token", format!("{refresh}; curl -i {again}"), 200),
        call(
            "a refresh token that is used twice: its whole login is revoked",
            format!("{refresh}; curl -s -o /dev/null {again}; curl -i {again}"),
            400,
        ),
        call(
            "an access token that was revoked",
            format!("{access}; curl -s -o /dev/null -d \"token=$access\" '{gateway}/auth/revoke'; {account}"),
            401,
        ),
        call("a path that has a route, with another method", of("-X DELETE", "/hello"), 405),
        call("a path that has no route", of("", "/nowhere"), 404),
        call("a redirect", of("", "/shop/items/7"), 308),
        call(
            "what a browser asks before it calls from another origin",
            of(
                "-X OPTIONS -H 'Origin: https://shop.example.com' -H 'Access-Control-Request-Method: GET'",
                "/products/items/7",
            ),
            204,
        ),
        call("a path that could be read in two ways", of("--path-as-is", "/products/..%5Cadmin"), 400),
        call("HTTP/2, without TLS", of("--http2-prior-knowledge", "/hello"), 200),
        call("whether it is ready", format!("curl -i '{status}/readyz'"), 200),
        call("what it has counted", format!("curl -i '{status}/metrics'"), 200),
        call("the latest requests, with the time of each step", format!("curl -i '{admin}/requests'"), 200),
    ]
}
