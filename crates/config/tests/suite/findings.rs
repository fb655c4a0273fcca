//! What operators are told, word for word, and what is fine.

use crate::support::{load, said};

pub(crate) const FRAME: &str = "listeners: [{ bind: 127.0.0.1:0 }]\n";

/// The findings of a configuration without their places: `code path: message; help`.
#[track_caller]
pub(crate) fn finds(text: &str, expected: &[&str]) {
    let loaded = load(&format!("{FRAME}{text}"));
    let found: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|found| {
            let help = found.help.as_ref().map(|help| format!("; {help}")).unwrap_or_default();
            format!("{} {}: {}{help}", found.code, found.path, found.message)
        })
        .collect();
    assert_eq!(found, expected, "{text}");
    assert_eq!(loaded.config.is_some(), !loaded.diagnostics.has_errors());
}

/// The findings of one route, that is named `a`.
#[track_caller]
pub(crate) fn route(text: &str, expected: &[&str]) {
    finds(
        &format!(
            "upstreams: {{ u: {{ targets: [\"http://h\"] }} }}\nroutes: [{{ name: a, {text} }}, {{ name: z, match: {{ path: /z }}, upstream: u }}]"
        ),
        expected,
    );
}

#[test]
fn groups_of_an_expression_are_told_to_be_no_parameters() {
    route(
        "match: { path_regex: \"/items/(?<id>[0-9]+)\" }, upstream: u, rewrite: { path: \"/x/{id}\" }",
        &["unknown_parameter routes.a.rewrite.path: there is no parameter `{id}` in the route's `path`; \
           parameters come out of a `path`, as `/items/{id}` has one; groups of a `path_regex` cannot be named"],
    );
}

/// The findings of one upstream, that is named `u`.
#[track_caller]
pub(crate) fn upstream(text: &str, expected: &[&str]) {
    finds(&format!("upstreams: {{ u: {{ {text} }} }}\nroutes: [{{ name: a, upstream: u }}]"), expected);
}

#[test]
fn a_finding_shows_place_snippet_and_help() {
    let text = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams:\n  orders: { targets: [\"http://h\"] }\nroutes:\n  - name: a\n    upstream: order\n  - name: b\n    match: { path: /b }\n    upstream: orders\n";
    let expected = "\
error[unknown_upstream] routes.a.upstream: there is no upstream `order`
  --> daemun.yaml:6:15
6 |     upstream: order
  |               ^^^^^
help: did you mean `orders`?

1 error
";
    assert_eq!(said(text), expected);
    let loaded = load(text);
    let json = loaded.diagnostics.to_json(&loaded.sources);
    assert_eq!(json["errors"], 1);
    assert_eq!(json["diagnostics"][0]["code"], "unknown_upstream");
    assert_eq!(json["diagnostics"][0]["at"]["line"], 6);
    assert_eq!(json["diagnostics"][0]["at"]["file"], "daemun.yaml");
    assert!(
        loaded.diagnostics.render(&loaded.sources, true).starts_with("\u{1b}[1;31merror[unknown_upstream]\u{1b}[0m")
    );
}

#[test]
fn an_empty_mapping_lacks_a_listener() {
    assert_eq!(
        said("{}"),
        "\
error[no_listener] listeners: there is no listener, so nobody could call
  --> daemun.yaml:1:1
1 | {}
  | ^^
help: write `listeners: [{ bind: 0.0.0.0:8080 }]`

warning[no_route] routes: there is no route, so every request is answered with 404
  --> daemun.yaml:1:1
1 | {}
  | ^^

1 error, 1 warning
"
    );
}

#[test]
fn the_proxy_protocol_names_who_is_believed_and_one_client_for_each_connection() {
    let listener = |proxy: &str| {
        format!(
            "listeners: [{{ bind: \"127.0.0.1:1\", proxy_protocol: {proxy} }}]\nroutes: [{{ name: a, answer: {{}} }}]"
        )
    };
    let found = |text: &str| -> Vec<String> {
        load(text).diagnostics.iter().map(|found| format!("{} {}", found.code, found.path)).collect()
    };
    assert_eq!(found(&listener("true")), ["missing_key listeners[0].proxy_protocol"]);
    assert_eq!(found(&format!("trusted_proxies: [10.0.0.1]\n{}", listener("true"))), [""; 0]);
    assert_eq!(found(&listener("off")), [""; 0]);
    assert_eq!(found(&listener("{ from: [10.0.0.1] }")), [""; 0]);
    finds(
        "upstreams: { u: { targets: [\"http://h\"], protocol: h2c, proxy_protocol: v2 } }\nroutes: [{ name: a, upstream: u }]",
        &[
            "conflicting_keys upstreams.u.proxy_protocol: `proxy_protocol` names one client for each connection, and over HTTP/2 many share one; leave `protocol` out; it is `http1` then",
        ],
    );
}

#[test]
fn files_stay_below_their_root() {
    for name in ["../a", "a/../b", "/a", "a//b", "."] {
        finds(
            &format!("routes: [{{ name: a, files: {{ root: ., fallback: {name} }} }}]"),
            &[&format!(
                "bad_value routes.a.files.fallback: `{name}` is no file below `root`; write it like `index.html` or `app/index.html`"
            )],
        );
    }
    finds(
        "routes: [{ name: a, files: { root: ., index: a/b.html } }]",
        &["bad_value routes.a.files.index: `index` is the name of a file, without a folder"],
    );
    finds(
        "routes: [{ name: a, files: { root: . }, rewrite: { path: /b }, timeouts: { response: 1s } }]",
        &["no_effect routes.a.timeouts: `timeouts` has no effect: this route is not sent to an upstream"],
    );
}

#[test]
fn routes_end_in_one_place() {
    route(
        "match: { path: /a }",
        &["missing_key routes.a: one of `upstream`, `answer`, `redirect`, `files` and `tokens` is missing"],
    );
    route(
        "upstream: u, answer: { body: x }",
        &["conflicting_keys routes.a.answer: `upstream` and `answer` exclude each other"],
    );
    finds("routes: [{ match: { path: /a }, answer: {} }]", &["missing_key routes[0]: `name` is missing"]);
    finds(
        "routes: [{ name: a, answer: {} }, { name: a, match: { path: /x }, answer: {} }]",
        &["duplicate_name routes.a.name: there are two routes `a`"],
    );
    finds(
        "routes: [{ name: \"a b\", answer: {} }]",
        &["bad_value routes.a b.name: `a b` is not a name; a name has 1 to 128 letters, digits and `_ - . : / @ +`"],
    );
    finds("routes: [{ name: 주문-목록, answer: {} }]", &[]);
    finds("routes: []", &["no_route routes: there is no route, so every request is answered with 404"]);
    finds(
        "routes: { a: {} }",
        &[
            "wrong_type routes: expected a list, found a mapping; write each item below it behind `- `, or all as `[one, two]`",
        ],
    );
}

#[test]
fn paths_that_could_never_match_are_refused() {
    for (path, reason) in [
        ("products", "it does not begin with `/`"),
        ("/a?b=c", "it has a query"),
        ("/a b", "it has a character that no path has"),
        ("/a\\\\b", "it has a character that no path has"),
        ("/a/../b", "dot segments are resolved before matching, so it would never match"),
        ("/a/%2e%2E/b", "dot segments are resolved before matching, so it would never match"),
        ("/a/%5cb", "`%00` and `%5C` are refused in every request"),
        ("/a/%zz", "a `%` is not followed by two hexadecimal digits"),
        ("/a;v=1", "`;parameters` are ignored in matching"),
        ("/items/{id}.json", "a parameter takes a whole segment"),
        ("/{*rest}/a", "`{*…}` takes the whole remainder"),
        ("/{id}/{id}", "it names a parameter twice"),
        ("/{}", "a parameter has a name of letters, digits and `_`"),
        ("/{1d}", "a parameter has a name of letters, digits and `_`"),
        ("/{id", "a parameter takes a whole segment"),
    ] {
        let text = load(&format!("{FRAME}routes: [{{ name: a, match: {{ path: \"{path}\" }}, answer: {{}} }}]"));
        let found = text.diagnostics.iter().next().expect(path);
        assert!(found.message.ends_with(&format!("is not a path pattern: {reason}")), "{path}: {}", found.message);
        assert!(found.help.is_some());
    }
    route(
        "match: { path: /a//b }, answer: {}",
        &[
            "bad_value routes.a.match.path: `/a//b` would never match: empty segments are collapsed; write `slashes: keep` beside `match`, or one slash",
        ],
    );
    route(
        "match: { path: /a%2Fb }, answer: {}",
        &[
            "bad_value routes.a.match.path: `/a%2Fb` would never match: `%2F` is refused; write `encoded_slash: keep` beside `match`",
        ],
    );
    route(
        "match: { prefix: \"/a/{id}\" }, answer: {}",
        &[
            "bad_value routes.a.match.prefix: `/a/{id}` is not a prefix: a prefix has no parameters; write `path: /shops/{id}/{*rest}` instead",
        ],
    );
    route(
        "match: { prefix: \"/a/*\" }, answer: {}",
        &[
            "bad_value routes.a.match.prefix: `/a/*` is not a prefix: a prefix ends without `*`; leave out the `*`: a prefix matches everything below it",
        ],
    );
    route(
        "match: { path: /상품/{id} }, answer: {}",
        &[
            "syntax routes.a.match: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'; within `{…}` and `[…]`, quote texts that hold `{`, `}`, `[`, `]` or `,`",
        ],
    );
    route("match: { path: \"/상품/{id}/{*rest}\" }, answer: {}", &[]);
}

#[test]
fn conditions_are_of_their_kind() {
    route(
        "match: { hosts: [\"*\"] }, answer: {}",
        &["bad_value routes.a.match.hosts[0]: `*` is not a host: it has no name; leave `hosts` out to match any host"],
    );
    route(
        "match: { hosts: [\"a.com:80\"] }, answer: {}",
        &[
            "bad_value routes.a.match.hosts[0]: `a.com:80` is not a host: it has a port; leave out the port: hosts are matched without it",
        ],
    );
    route(
        "match: { hosts: [a.*.com] }, answer: {}",
        &[
            "bad_value routes.a.match.hosts[0]: `a.*.com` is not a host: `*` stands at the beginning only, for whole labels; write it like `api.example.com` or `*.example.com`",
        ],
    );
    route(
        "match: { hosts: [대문.example] }, answer: {}",
        &[
            "bad_value routes.a.match.hosts[0]: `대문.example` is not a host: it has letters that stand in no `Host`; write the form that is sent, which begins with `xn--`",
        ],
    );
    route(
        "match: { hosts: [] }, answer: {}",
        &["bad_value routes.a.match.hosts: expected at least one item, found an empty list"],
    );
    route(
        "match: { methods: [get, \"G T\"] }, answer: {}",
        &[
            "bad_value routes.a.match.methods[0]: `get` is not a method; methods are written in upper case: `GET`",
            "bad_value routes.a.match.methods[1]: `G T` is not a method; a method is a word in upper case, like `GET`",
        ],
    );
    route(
        "match: { headers: { \"x y\": a } }, answer: {}",
        &[
            "bad_value routes.a.match.headers.x y: `x y` is not the name of a header; a header name has letters, digits and `-`, and no colon or space",
        ],
    );
    route(
        "match: { headers: { X-A: a, x-a: b } }, answer: {}",
        &["duplicate_key routes.a.match.headers: this key means the same as an earlier one"],
    );
    route(
        "match: { headers: { x: yes, y: true } }, answer: {}",
        &[
            "wrong_type routes.a.match.headers.y: expected a text to match, a list of texts, `{regex: …}` or `{present: …}`, found the boolean `true`; quote it: `\"true\"`",
        ],
    );
    route(
        "match: { headers: { x: { regexp: a } } }, answer: {}",
        &["unknown_key routes.a.match.headers.x.regexp: there is no key `regexp` here; did you mean `regex`?"],
    );
    route(
        "match: { headers: { x: { regex: \"(\" } } }, answer: {}",
        &["bad_value routes.a.match.headers.x.regex: `(` is not a regular expression; unclosed group"],
    );
    route(
        "match: { path_regex: \"a{1000}{1000}\" }, answer: {}",
        &[
            "bad_value routes.a.match.path_regex: `a{1000}{1000}` is not a regular expression; it is too large when compiled",
        ],
    );
    route(
        "match: { client_ip: [] }, answer: {}",
        &["bad_value routes.a.match.client_ip: expected at least one item, found an empty list"],
    );
    route(
        "match: { cookies: { \"a b\": c } }, answer: {}",
        &["bad_value routes.a.match.cookies.a b: `a b` is not the name of a cookie"],
    );

    let hosts = load(&format!(
        "{FRAME}routes: [{{ name: a, match: {{ hosts: [API.Example.com., \"*.Shop.io\"], headers: {{ X-A: b }} }}, answer: {{}} }}]"
    ));
    let config = hosts.config.unwrap();
    let names: Vec<&str> = config.routes[0].matches.hosts.iter().map(|host| host.value.as_str()).collect();
    assert_eq!(names, ["api.example.com", "*.shop.io"]);
    assert_eq!(config.routes[0].matches.headers[0].0.value, "x-a");
}

#[test]
fn templates_name_parameters_of_the_path() {
    route(
        "match: { path: \"/a/{id}\" }, upstream: u, rewrite: { path: \"/b/{ident}/{x}\" }",
        &[
            "unknown_parameter routes.a.rewrite.path: there is no parameter `{ident}` in the route's `path`",
            "unknown_parameter routes.a.rewrite.path: there is no parameter `{x}` in the route's `path`",
        ],
    );
    route(
        "match: { path: \"/a/{item}\" }, upstream: u, rewrite: { path: \"/b/{itm}\" }",
        &[
            "unknown_parameter routes.a.rewrite.path: there is no parameter `{itm}` in the route's `path`; did you mean `{item}`?",
        ],
    );
    route(
        "match: { prefix: /a }, upstream: u, rewrite: { path: \"/b/{rest}\" }",
        &["unknown_parameter routes.a.rewrite.path: there is no parameter `{rest}` in the route's `path`"],
    );
    route(
        "match: { path: \"/a/{*rest}\" }, upstream: u, rewrite: { path: \"/b/{*rest}\" }",
        &[
            "bad_value routes.a.rewrite.path: `/b/{*rest}` is not a path to forward: a template names a remainder without `*`; write `{rest}` where the path has `{*rest}`",
        ],
    );
    route("match: { path: \"/a/{*rest}\" }, upstream: u, rewrite: { path: \"/b/{rest}\" }", &[]);
    route(
        "upstream: u, rewrite: { path: /b, strip_prefix: /a }",
        &["conflicting_keys routes.a.rewrite.strip_prefix: `path` and `strip_prefix` exclude each other"],
    );
    route(
        "match: { prefix: /ab }, upstream: u, rewrite: { strip_prefix: /a }",
        &["no_effect routes.a.rewrite.strip_prefix: `/a` is not at the beginning of `prefix`, so nothing is removed"],
    );
    route("match: { prefix: /a/b }, upstream: u, rewrite: { strip_prefix: /a }", &[]);
    route("match: { prefix: /a }, upstream: u, rewrite: { replace_prefix: /b }", &[]);
    route(
        "match: { path: /a }, upstream: u, rewrite: { replace_prefix: /b }",
        &[
            "missing_key routes.a.rewrite.replace_prefix: `replace_prefix` replaces the `prefix` of `match`, and there is none; write `match: { prefix: /orders }`, or `path` here",
        ],
    );
    route(
        "match: { prefix: /a }, upstream: u, rewrite: { strip_prefix: /a, replace_prefix: /b }",
        &["conflicting_keys routes.a.rewrite.replace_prefix: `strip_prefix` and `replace_prefix` exclude each other"],
    );
    route("redirect: { to: /new }", &[]);
    route("redirect: { to: \"https://{host}{path}?{query}\" }", &[]);
    route(
        "redirect: { to: new }",
        &[
            "bad_value routes.a.redirect.to: `new` is not where a redirect may lead: it begins with neither `/` nor `https://`; write it like `https://shop.example.com{path}` or `/new/{id}`",
        ],
    );
    route(
        "redirect: { to: //evil.example }",
        &[
            "bad_value routes.a.redirect.to: `//evil.example` is not where a redirect may lead: it begins with neither `/` nor `https://`; write it like `https://shop.example.com{path}` or `/new/{id}`",
        ],
    );
    route(
        "redirect: { to: /new, status: 304 }",
        &["bad_value routes.a.redirect.status: expected 301, 302, 303, 307 or 308, found the number `304`"],
    );
}

#[test]
fn answers_and_their_companions_make_sense() {
    route(
        "answer: { status: 204, body: x }",
        &["bad_value routes.a.answer.body: an answer with status 204 has no body"],
    );
    route(
        "answer: { status: 101 }",
        &["bad_value routes.a.answer.status: expected a whole number from 200 to 599, found the number `101`"],
    );
    route(
        "answer: { headers: { Content-Length: \"5\" } }",
        &["bad_value routes.a.answer.headers: the gateway itself sets `content-length`"],
    );
    route(
        "answer: { headers: { x: \"a\\nb\" } }",
        &[
            "bad_value routes.a.answer.headers.x: `a\\u{a}b` cannot be the value of a header; it may hold no control characters and no white space at its ends",
        ],
    );
    route(
        "answer: {}, rewrite: { path: /b }",
        &["no_effect routes.a.rewrite: `rewrite` has no effect: this route is not sent to an upstream"],
    );
    route(
        "upstream: u, match: { headers: { x_flag: a } }",
        &[
            "no_effect routes.a.match.headers.x_flag: no request has the field `x_flag`: fields with `_` in their names are dropped; write `-`, or keep such fields with `underscores: keep`",
        ],
    );
    route("upstream: u, upgrades: [h2c]", &["bad_value routes.a.upgrades[0]: `h2c` by upgrade is never passed on"]);
    route(
        "upstream: u, slashes: maybe",
        &["bad_value routes.a.slashes: expected one of `collapse`, `keep`, found the text `maybe`"],
    );
}

#[test]
fn listeners_have_addresses_of_their_own() {
    let bind = |bind: &str| load(&format!("listeners: [{{ bind: {bind} }}]\nroutes: [{{ name: a, answer: {{}} }}]"));
    for (address, help) in [
        ("\":8080\"", "for all addresses, write `0.0.0.0:8080`"),
        ("\"*:8080\"", "for all addresses, write `0.0.0.0:8080`"),
        ("localhost:8080", "write the address itself: `127.0.0.1:8080`"),
        ("8080", "write the address as well: `0.0.0.0:8080`"),
        ("0.0.0.0", "write it like `0.0.0.0:8080`, `[::]:8080` or `unix:/run/daemun.sock`"),
    ] {
        let loaded = bind(address);
        assert_eq!(loaded.diagnostics.iter().next().unwrap().help.as_deref(), Some(help), "{address}");
        assert_eq!(loaded.diagnostics.len(), 1, "{address}");
    }
    let twice = |first: &str, second: &str| {
        let text = format!(
            "listeners: [{{ bind: {first:?} }}, {{ bind: {second:?} }}]\nroutes: [{{ name: a, answer: {{}} }}]"
        );
        load(&text).diagnostics.iter().map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!(twice("127.0.0.1:80", "127.0.0.1:80"), ["port_twice"]);
    assert_eq!(twice("0.0.0.0:80", "127.0.0.1:80"), ["port_twice"]);
    assert_eq!(twice("unix:/run/a", "unix:/run/a"), ["port_twice"]);
    assert_eq!(twice("127.0.0.1:0", "127.0.0.1:0"), [""; 0]);
    assert_eq!(twice("127.0.0.1:80", "127.0.0.2:80"), [""; 0]);
    assert_eq!(twice("127.0.0.1:80", "[::1]:80"), [""; 0]);

    let tls = |text: &str| {
        load(&format!(
            "listeners: [{{ bind: \"0.0.0.0:1\", tls: {{ {text} }} }}]\nroutes: [{{ name: a, answer: {{}} }}]"
        ))
    };
    let one = |text: &str| {
        tls(text).diagnostics.iter().map(|found| format!("{}: {}", found.path, found.message)).collect::<Vec<_>>()
    };
    assert_eq!(
        one("certificates: []"),
        ["listeners[0].tls.certificates: expected at least one item, found an empty list"]
    );
    assert_eq!(
        one("certificates: [{ cert: a, key: b }], min_version: 1.2"),
        ["listeners[0].tls.min_version: expected one of `1.2`, `1.3`, found the number `1.2`"]
    );
    assert_eq!(
        one("certificates: [{ cert: a, key: b }], client_auth: none, client_ca: c"),
        ["listeners[0].tls.client_auth: expected one of `required`, `optional`, found the text `none`"]
    );
}

#[test]
fn the_admin_listener_stays_on_loopback() {
    let admin = |bind: &str| {
        let loaded = load(&format!("{FRAME}admin: {{ bind: {bind:?} }}\nroutes: [{{ name: a, answer: {{}} }}]"));
        loaded.diagnostics.iter().map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!(admin("127.0.0.1:9900"), [""; 0]);
    assert_eq!(admin("127.8.8.8:9900"), [""; 0]);
    assert_eq!(admin("[::1]:9900"), [""; 0]);
    assert_eq!(admin("unix:/run/admin.sock"), [""; 0]);
    assert_eq!(admin("0.0.0.0:9900"), ["admin_not_loopback"]);
    assert_eq!(admin("10.0.0.1:9900"), ["admin_not_loopback"]);
    assert_eq!(admin("[::]:9900"), ["admin_not_loopback"]);
}

#[test]
fn policies_are_known_and_switched_off_where_they_are_on() {
    route(
        "answer: {}, policies: { rate_limits: {} }",
        &["unknown_policy routes.a.policies.rate_limits: there is no policy `rate_limits`; did you mean `rate_limit`?"],
    );
    route(
        "answer: {}, policies: { zzz: {} }",
        &[
            "unknown_policy routes.a.policies.zzz: there is no policy `zzz`; the policies are cors, key_auth, rate_limit, headers, validate",
        ],
    );
    route(
        "answer: {}, policies: { cors: off }",
        &[
            "no_effect routes.a.policies.cors: `cors: off` has no effect: `policies` does not switch it on for every route",
        ],
    );
    route(
        "answer: {}, policies: { key_auth: { headr: x } }",
        &["unknown_key routes.a.policies.key_auth.headr: there is no key `headr` here; did you mean `header`?"],
    );
    route(
        "answer: {}, policies: { key_auth: true }",
        &[
            "wrong_type routes.a.policies.key_auth: expected the settings of `key_auth`, found the boolean `true`; none of them is needed: write `key_auth: {}`",
        ],
    );
    route(
        "answer: {}, policies: [key_auth]",
        &[
            "wrong_type routes.a.policies: expected a mapping, found a list; write `key: value` lines without `-` before them",
        ],
    );
    route(
        "answer: {}, policies: { rate_limit: { limit: 5/s } }",
        &["missing_key routes.a.policies.rate_limit: `by` is missing"],
    );
    finds(
        "policies: { cors: off }\nroutes: [{ name: a, answer: {} }]",
        &[
            "no_effect policies.cors: `cors: off` has no effect here: only a route can switch off what `policies` switches on",
        ],
    );
    route(
        "answer: {}, policies: { key_auth: {} }, authenticate: { any: [key_auth, cors, keyauth] }",
        &[
            "not_an_authenticator routes.a.authenticate.any: `cors` does not tell who calls",
            "unknown_policy routes.a.authenticate.any: there is no policy `keyauth`; did you mean `key_auth`?",
        ],
    );
    route(
        "answer: {}, policies: { key_auth: {} }, authenticate: { anonymous: nobody }",
        &[
            "unknown_consumer routes.a.authenticate.anonymous: there is no consumer `nobody`; `consumers` defines it: `consumers: [{ name: guest, roles: [reader] }]`",
        ],
    );
    route(
        "answer: {}, policies: { key_auth: {} }, authenticate: { any: [key_auth], all: [key_auth] }",
        &["conflicting_keys routes.a.authenticate.all: `any` and `all` exclude each other"],
    );
    route(
        "answer: {}, authenticate: { any: [key_auth] }",
        &["not_an_authenticator routes.a.authenticate.any: the route does not have the policy `key_auth`"],
    );
}

#[test]
fn consumers_are_told_apart() {
    let found = |text: &str, expected: &[&str]| {
        finds(&format!("routes: [{{ name: a, answer: {{}} }}]\nconsumers: [{text}]"), expected)
    };
    found("{ name: a }, { name: a }", &["duplicate_name consumers.a.name: there are two consumers `a`"]);
    found(
        "{ name: a, keys: [aaaaaaaaaaaaaaaa] }, { name: b, keys: [aaaaaaaaaaaaaaaa] }",
        &["key_reused consumers.b.keys: this key is another consumer's as well"],
    );
    found(
        "{ name: a, keys: [aaaaaaaaaaaaaaaa, aaaaaaaaaaaaaaaa] }",
        &["key_reused consumers.a.keys: this key is given twice"],
    );
    found(
        "{ name: a, keys: [aaaaaaaaaaaaaaa] }",
        &[
            "short_key consumers.a.keys[0]: a key has at least 16 bytes, and this one 15; `daemun key new` makes a good one",
        ],
    );
    found(
        "{ name: a, keys: [{ sha256: abc }] }",
        &[
            "bad_value consumers.a.keys[0].sha256: this is not a SHA-256 digest; it has 64 hexadecimal digits; `daemun key hash` prints it",
        ],
    );
    found(
        "{ name: a, key: [aaaaaaaaaaaaaaaa] }",
        &["unknown_key consumers.a.key: there is no key `key` here; did you mean `keys`?"],
    );
    // A key and the digest of the same key.
    let digest = "{ sha256: 15eb1e64d6c2a0b8fcb4bf8e7a0ea10eb5ac2a5ea4b8d1a8ef31a3ec09d9d6a7 }";
    found(
        &format!("{{ name: a, keys: [{digest}] }}, {{ name: b, keys: [{digest}] }}"),
        &["key_reused consumers.b.keys: this key is another consumer's as well"],
    );
}

#[test]
fn how_long_a_key_is_good_is_written_so_that_it_can_be_read() {
    let found = |key: &str, expected: &str| {
        finds(
            &format!("routes: [{{ name: a, answer: {{}} }}]\nconsumers: [{{ name: a, keys: [{key}] }}]"),
            &[expected],
        );
    };
    let key = "key: aaaaaaaaaaaaaaaa";
    found("{}", "missing_key consumers.a.keys[0]: one of `key` and `sha256` is missing");
    found(
        &format!("{{ {key}, sha256: 15eb1e64d6c2a0b8fcb4bf8e7a0ea10eb5ac2a5ea4b8d1a8ef31a3ec09d9d6a7 }}"),
        "conflicting_keys consumers.a.keys[0].sha256: `key` and `sha256` exclude each other",
    );
    for wrong in ["yesterday", "2027-02-30"] {
        found(
            &format!("{{ {key}, expires: {wrong} }}"),
            // nothing that stands below `keys` is shown
            "bad_value consumers.a.keys[0].expires: `…` is no moment; write it in UTC like `2027-01-31T00:00:00Z`, \
             or a day like `2027-01-31`, with which it begins; from 1970 to 2500",
        );
    }
    found(
        &format!("{{ {key}, label: \"\" }}"),
        "bad_value consumers.a.keys[0].label: this cannot be a label; it has 1 to 256 bytes and no control characters",
    );
}

#[test]
fn errors_are_for_error_statuses() {
    finds("errors: { 404: { body: x } }\nroutes: [{ name: a, answer: {} }]", &[]);
    finds(
        "errors: { 200: { body: x } }\nroutes: [{ name: a, answer: {} }]",
        &["bad_value errors.200: `200` is not an error status; error statuses are 400 to 599"],
    );
    finds(
        "errors: { 404: x }\nroutes: [{ name: a, answer: {} }]",
        &[
            "wrong_type errors.404: expected a mapping, found the text `x`; write `key: value` lines below it, or `{ key: value }`; the keys here are `content_type` and `body`",
        ],
    );
}

#[test]
fn errors_of_a_route_are_for_error_statuses_as_well() {
    finds("routes: [{ name: a, answer: {}, errors: { 401: { body: x, content_type: text/plain } } }]", &[]);
    finds(
        "routes: [{ name: a, answer: {}, errors: { 302: { body: x }, 404: {} } }]",
        &[
            "bad_value routes.a.errors.302: `302` is not an error status; error statuses are 400 to 599",
            "missing_key routes.a.errors.404: `body` is missing",
        ],
    );
}

#[test]
fn keys_of_other_gateways_are_told_what_they_are_here() {
    let upstream = |key: &str| format!("upstreams: {{ u: {{ targets: [\"http://a\"], {key}: 1 }} }}");
    let route = |key: &str| format!("routes: [{{ name: a, answer: {{}}, {key}: 1 }}]");
    let top = |key: &str| format!("{key}: 1");
    for (text, meant) in [
        (upstream("servers"), "targets: ["),
        (upstream("nodes"), "targets: ["),
        (upstream("retries"), "retry: {"),
        (upstream("health_checks"), "health: {"),
        (upstream("circuit_breaker"), "breaker: {"),
        (upstream("outlier-detection"), "outliers: {"),
        (upstream("connect_timeout"), "timeouts: { connect:"),
        (upstream("lb_policy"), "balance: "),
        (route("plugins"), "policies: {"),
        (route("strip_path"), "rewrite: { strip_prefix:"),
        (route("paths"), "match: {"),
        (route("backend"), "upstream: NAME"),
        (top("services"), "upstreams: {"),
        (top("apis"), "routes: ["),
        (top("clusters"), "upstreams: {"),
    ] {
        let loaded = load(&text);
        let found = loaded.diagnostics.iter().find(|found| found.code == "unknown_key");
        let help = found.and_then(|found| found.help.as_deref()).unwrap_or_default();
        assert!(help.contains(meant), "{text}: {found:?}");
    }
}
