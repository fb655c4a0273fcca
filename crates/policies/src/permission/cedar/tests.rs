//! What policies in Cedar come to, and what is found in their files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemun_pipeline::{Consumer, Exchange, Identity, Outcome, Stop};
use serde_json::json;

use crate::testing::{Bench, Chain, consumer};

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Folder {
        let path = std::env::temp_dir().join(format!("daemun-cedar-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        let folder = Folder(path);
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench() -> Bench {
    let with = |name: &str, roles: &[&str], groups: &[&str]| Consumer {
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..consumer(name, roles, &[])
    };
    Bench::new(vec![
        with("app", &["buyer"], &[]),
        with("clerk", &["seller"], &["staff"]),
        with("boss", &["chief"], &[]),
    ])
}

fn chain(folder: &Folder, more: &str) -> Chain {
    bench().build(&format!("permission: {{ cedar: {{ policies: {}{more} }} }}", folder.0.display())).unwrap()
}

fn errors(folder: &Folder, more: &str) -> Vec<String> {
    bench().errors(&format!("permission: {{ cedar: {{ policies: {}{more} }} }}", folder.0.display()))
}

fn call(chain: &Chain, who: &str, text: &str) -> Exchange {
    let mut exchange = chain.exchange(text);
    exchange.consumer = exchange.directory.as_ref().unwrap().find(who);
    exchange.client.ip = "10.1.2.3".parse().unwrap();
    exchange
}

fn status(chain: &Chain, who: &str, text: &str) -> u16 {
    chain.status(&mut call(chain, who, text))
}

const POLICIES: &str = r#"
@id("reading")
permit (principal in Role::"buyer", action == Action::"GET", resource in Route::"items");

@id("selling")
permit (principal in Role::"seller", action, resource) when { resource.path like "/items/*" && context.ip.isInRange(ip("10.0.0.0/8")) };

permit (principal is Subject, action, resource) when { principal.claims.tenant == context.headers["x-tenant"] && "items:read" in principal.scopes_set };

@id("no-secrets")
forbid (principal, action, resource) when { resource.path like "*secret*" };
"#;

#[test]
fn policies_decide_by_role_method_path_address_and_route() {
    let folder = Folder::new(
        "decide",
        &[(
            "items.cedar",
            &POLICIES.replace("\"items:read\" in principal.scopes_set", "principal.scopes.contains(\"items:read\")"),
        )],
    );
    let chain = chain(&folder, ", headers: [x-tenant]");
    for (who, text, expected) in [
        ("app", "GET /items/1 HTTP/1.1", 0),
        ("app", "HEAD /items/1 HTTP/1.1", 0),
        ("app", "POST /items/1 HTTP/1.1", 403),
        ("app", "GET /items/secret HTTP/1.1", 403),
        ("clerk", "POST /items/1 HTTP/1.1", 0),
        ("clerk", "POST /others HTTP/1.1", 403),
        ("boss", "GET /items/1 HTTP/1.1", 403),
        ("nobody", "GET /items/1 HTTP/1.1", 401),
        ("nobody", "GET /items/secret HTTP/1.1", 403),
    ] {
        assert_eq!(status(&chain, who, text), expected, "{who} {text}");
    }
    let mut away = call(&chain, "clerk", "POST /items/1 HTTP/1.1");
    away.client.ip = "192.0.2.1".parse().unwrap();
    assert_eq!(chain.status(&mut away), 403);
    let token = |scopes: &[&str], tenant: &str| Identity {
        subject: "alice".into(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        claims: json!({ "tenant": tenant, "share": 0.5, "none": null }).as_object().unwrap().clone().into(),
        ..Identity::default()
    };
    for (scopes, tenant, field, expected) in [
        (&["items:read"][..], "shop", "\nX-Tenant: shop", 0),
        (&["items:read"], "mill", "\nX-Tenant: shop", 403),
        (&[], "shop", "\nX-Tenant: shop", 403),
        // what is not there cannot be compared, and what cannot be evaluated denies
        (&["items:read"], "shop", "", 403),
    ] {
        let mut exchange = chain.exchange(&format!("GET /items HTTP/1.1{field}"));
        exchange.identity = Some(Arc::new(token(scopes, tenant)));
        assert_eq!(chain.status(&mut exchange), expected, "{scopes:?} {tenant} {field}");
    }
}

#[test]
fn explanations_and_the_log_name_the_policy_that_decided() {
    let folder = Folder::new(
        "explain",
        &[
            (
                "a.cedar",
                "@id(\"reading\") permit (principal in Role::\"buyer\", action, resource);\nforbid (principal, action, resource) when { resource.path == \"/shut\" };",
            ),
            (
                "b.cedar",
                "@id(\"broken\") forbid (principal, action, resource) when { resource.path == \"/odd\" && context.headers[\"x-n\"] == \"1\" };",
            ),
        ],
    );
    let chain = chain(&folder, "");
    for (who, path, outcome, words) in [
        ("app", "/", Outcome::Pass, "the Cedar policy `reading` permits it"),
        ("app", "/shut", Outcome::Refuse(403, "forbidden"), "the Cedar policy `a.cedar#2` forbids it"),
        ("boss", "/", Outcome::Refuse(403, "forbidden"), "no Cedar policy permits it"),
        ("app", "/odd", Outcome::Refuse(403, "forbidden"), "the Cedar policy `broken` cannot be evaluated"),
        ("nobody", "/", Outcome::Refuse(401, "unauthenticated"), "no Cedar policy permits it"),
    ] {
        let mut exchange = call(&chain, who, &format!("GET {path} HTTP/1.1"));
        let (found, detail) = chain.explain(&mut exchange);
        assert_eq!(found, outcome, "{who} {path}: {detail}");
        assert!(detail.contains(words), "{detail}");
        if let Err(Stop::Fault(fault)) = chain.inward(&mut exchange).1 {
            assert!(fault.cause.as_deref().unwrap().contains(words), "{fault:?}");
            assert!(!fault.detail.contains("olicy"), "{fault:?}");
        }
    }
}

#[test]
fn rules_and_policies_must_both_let_a_call_pass() {
    let folder = Folder::new("both", &[("a.cedar", "permit (principal in Role::\"buyer\", action, resource);")]);
    let settings = |more: &str| format!("permission: {{ cedar: {{ policies: {} }}, {more} }}", folder.path("a.cedar"));
    let chain = bench().build(&settings("allow: [{ methods: [GET] }], deny: [{ client_ip: 192.0.2.0/24 }]")).unwrap();
    assert_eq!(status(&chain, "app", "GET / HTTP/1.1"), 0);
    assert_eq!(status(&chain, "app", "PUT / HTTP/1.1"), 403);
    assert_eq!(status(&chain, "clerk", "GET / HTTP/1.1"), 403);
    let mut denied = call(&chain, "app", "GET / HTTP/1.1");
    denied.client.ip = "192.0.2.1".parse().unwrap();
    assert_eq!(chain.status(&mut denied), 403);
}

#[test]
fn action_resource_and_types_are_as_the_settings_say() {
    let folder = Folder::new(
        "mapped",
        &[(
            "a.cedar",
            "permit (principal == Shop::App::\"app\", action == Shop::Action::\"view\", resource == Shop::Order::\"17\");",
        )],
    );
    let chain = chain(
        &folder,
        ", namespace: Shop, principal: { consumer: App }, action: '${request.method == \"GET\" ? \"view\" : \"edit\"}', resource: { type: Order, id: '${request.query[\"id\"]}' }",
    );
    assert_eq!(status(&chain, "app", "GET /orders?id=17 HTTP/1.1"), 0);
    assert_eq!(status(&chain, "app", "PUT /orders?id=17 HTTP/1.1"), 403);
    assert_eq!(status(&chain, "app", "GET /orders?id=18 HTTP/1.1"), 403);
    // what comes to nothing denies
    assert_eq!(status(&chain, "app", "GET /orders HTTP/1.1"), 403);
    assert_eq!(status(&chain, "app", "GET /orders?id=17&id=18 HTTP/1.1"), 403);
}

#[test]
fn entities_of_the_file_stand_above_those_of_a_request() {
    let entities = json!([
        { "uid": { "type": "Role", "id": "chief" }, "attrs": {}, "parents": [{ "type": "Role", "id": "seller" }] },
        { "uid": { "type": "Role", "id": "seller" }, "attrs": {}, "parents": [{ "type": "Group", "id": "house" }] },
        { "uid": { "type": "Group", "id": "house" }, "attrs": { "open": true }, "parents": [] },
        { "uid": { "type": "Consumer", "id": "app" }, "attrs": { "level": 3, "owner": { "__entity": { "type": "Consumer", "id": "boss" } } }, "parents": [{ "type": "Group", "id": "partners" }] },
        { "uid": { "type": "Consumer", "id": "boss" }, "attrs": { "level": 9 }, "parents": [] },
        { "uid": { "type": "Path", "id": "/plans" }, "attrs": { "level": 5 }, "parents": [{ "type": "Part", "id": "office" }] }
    ]);
    let policies = "permit (principal in Group::\"house\", action, resource) when { Group::\"house\".open };
        permit (principal in Group::\"partners\", action, resource) when { principal.owner.level == 9 && principal.name == \"app\" };
        forbid (principal, action, resource in Part::\"office\") unless { principal has level && principal.level >= resource.level };";
    let folder = Folder::new("entities", &[("a.cedar", policies), ("entities.json", &entities.to_string())]);
    let chain = chain(&folder, &format!(", entities: {}", folder.path("entities.json")));
    for (who, path, expected) in [
        ("boss", "/", 0),
        ("clerk", "/", 0),
        ("app", "/", 0),
        ("app", "/plans", 403),
        ("boss", "/plans", 0),
        ("clerk", "/plans", 403),
    ] {
        assert_eq!(status(&chain, who, &format!("GET {path} HTTP/1.1")), expected, "{who} {path}");
    }
}

#[test]
fn everything_wrong_in_the_files_is_found_with_its_place() {
    let folder = Folder::new(
        "wrong",
        &[
            (
                "a.cedar",
                "permit (principal, action, resource);\npermit (principal, action, resource) when { foo bar };",
            ),
            (
                "b.cedar",
                "@id(\"x\") permit (principal, action, resource);\n@id(\"x\") forbid (principal, action, resource);",
            ),
            ("c.cedar", "permit (principal == ?principal, action, resource);"),
            ("entities.json", "[{}]"),
        ],
    );
    let found =
        errors(&folder, &format!(", entities: {}, schema: {}", folder.path("entities.json"), folder.path("none.json")));
    let at = "cedar routes.items.policies.permission.cedar: ";
    for (start, words) in [
        (format!("{at}`{}`, line 2, column 49: ", folder.path("a.cedar")), "unexpected token `bar`"),
        (format!("{at}`{}`: ", folder.path("b.cedar")), "two policies of the name `x`"),
        (format!("{at}`{}`: ", folder.path("c.cedar")), "is a template"),
        (format!("{at}`{}`: ", folder.path("entities.json")), "uid"),
        (format!("{at}`{}`: ", folder.path("none.json")), "no such file"),
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(&start) && line.contains(words)),
            "{start} {words}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 5, "{found:#?}");
    let empty = Folder::new("empty", &[]);
    assert!(errors(&empty, "")[0].contains("has no file that ends in `.cedar`"));
    empty.write("a.cedar", "// nothing\n");
    assert!(errors(&empty, "")[0].contains("there is no policy"));
}

#[test]
fn policies_must_fit_the_schema() {
    let schema = "entity Role; entity Group; entity Route;
        entity Consumer in [Role, Group] { known: Bool, name?: String, roles: Set<String>, level?: Long };
        entity Path in [Route] { path: String, host: String };
        action GET, PUT appliesTo { principal: Consumer, resource: Path, context: { method: String, scheme: String, now: Long } };";
    let good = "permit (principal, action == Action::\"GET\", resource) when { principal.name == \"app\" };";
    let files = [
        (
            "good.cedar",
            "permit (principal in Role::\"buyer\", action == Action::\"GET\", resource) when { context.scheme == \"http\" };",
        ),
        ("shop.cedarschema", schema),
    ];
    let folder = Folder::new("schema", &files);
    let with = format!(", schema: {}", folder.path("shop.cedarschema"));
    let chain = chain(&folder, &with);
    assert_eq!(status(&chain, "app", "GET / HTTP/1.1"), 0);
    assert_eq!(status(&chain, "clerk", "GET / HTTP/1.1"), 403);
    folder.write("good.cedar", good);
    folder.write("other.cedar", "permit (principal, action == Action::\"GETT\", resource);\npermit (principal, action == Action::\"PUT\", resource) when { principal.nam == \"a\" };");
    let found = errors(&folder, &with);
    for (file, words) in
        [("good.cedar`, line 1", "name"), ("other.cedar`, line 1", "GETT"), ("other.cedar`, line 2", "nam")]
    {
        assert!(found.iter().any(|line| line.contains(file) && line.contains(words)), "{file} {words}: {found:#?}");
    }
}

#[test]
fn routes_that_name_the_same_files_share_them_until_they_change() {
    let folder = Folder::new("shared", &[("a.cedar", "permit (principal in Role::\"buyer\", action, resource);")]);
    let bench = bench();
    let settings = format!("permission: {{ cedar: {{ policies: {} }} }}", Path::new(&folder.0).display());
    let first = bench.build(&settings).unwrap();
    let second = bench.build(&settings).unwrap();
    for chain in [&first, &second] {
        assert_eq!((status(chain, "app", "GET / HTTP/1.1"), status(chain, "clerk", "GET / HTTP/1.1")), (0, 403));
    }
    folder.write("a.cedar", "permit (principal in Role::\"seller\", action, resource);  ");
    let third = bench.build(&settings).unwrap();
    assert_eq!((status(&third, "app", "GET / HTTP/1.1"), status(&third, "clerk", "GET / HTTP/1.1")), (403, 0));
    assert_eq!(status(&first, "app", "GET / HTTP/1.1"), 0);
}
