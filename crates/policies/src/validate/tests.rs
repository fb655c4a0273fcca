//! What `validate` holds beyond its page.

use std::path::PathBuf;

use daemun_pipeline::{BodyNeed, Fault, Flow, Outcome, Stop};
use serde_json::{Value, json};

use super::document::find;
use super::form::Pairs;
use super::openapi::parameter::{Coding, Location, Style};
use super::openapi::paths::Paths;
use super::text::Shape;
use crate::testing::{Bench, Chain, exchange, problem, status};

/// A folder that is gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Folder {
        let path = std::env::temp_dir().join(format!("daemun-validate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            std::fs::write(path.join(file), text).unwrap();
        }
        Folder(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(settings).unwrap()
}

fn errors(settings: &str) -> Vec<String> {
    Bench::new(Vec::new()).errors(settings)
}

/// What a request with a body comes to: status and violations; `(0, [])` when it passes.
fn sent(chain: &Chain, head: &str, body: &[u8]) -> (u16, Vec<String>) {
    let mut exchange = exchange(head);
    if !body.is_empty() {
        exchange.request.head.append("Content-Length", body.len().to_string().as_bytes());
    }
    if let BodyNeed::Whole { max } = chain.steps[0].1.request_body(&exchange) {
        assert!(body.len() as u64 <= max, "the body is small enough");
        exchange.request.body = Some(body.to_vec());
    }
    match chain.inward(&mut exchange).1 {
        Ok(()) => (0, Vec::new()),
        Err(Stop::Fault(fault)) => (fault.reason.status(), violations(&fault)),
        Err(stop) => (status(&stop), Vec::new()),
    }
}

fn violations(fault: &Fault) -> Vec<String> {
    let problem = problem(fault);
    let list = problem["violations"].as_array().cloned().unwrap_or_default();
    let text = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
    let mut lines: Vec<String> =
        list.iter().map(|v| format!("{} {}: {}", text(v, "in"), text(v, "at"), text(v, "message"))).collect();
    lines.sort();
    lines
}

const JSON: &str = "POST /orders HTTP/1.1\nHost: a\nContent-Type: application/json\n";

const ORDER: &str = r##"
validate:
  body:
    $schema: http://json-schema.org/draft-07/schema#
    type: object
    required: [item, count]
    additionalProperties: false
    properties:
      item: { type: string, minLength: 3 }
      count: { type: integer, minimum: 1 }
      tags: { type: array, items: { type: string }, uniqueItems: true }
      kind: { enum: [a, b] }
      pay:
        oneOf:
          - { type: object, required: [card], properties: { card: { type: string } } }
          - { type: string, format: email }
"##;

#[test]
fn every_violation_is_told_with_its_place() {
    let chain = chain(ORDER);
    let (status, found) =
        sent(&chain, JSON, br#"{"item":"x","count":0,"tags":["a",1,"a"],"kind":"c","z/y":1,"pay":{}}"#);
    assert_eq!(status, 400);
    for expected in [
        "body /item: must have at least 3 characters",
        "body /count: must be 1 or more",
        "body /tags/1: must be a string",
        "body /tags: must not hold the same item twice",
        "body /kind: must be one of `\"a\"`, `\"b\"`",
        "body /z~1y: this key is not known here",
        "body /pay/card: is missing",
    ] {
        assert!(found.iter().any(|line| line == expected), "{expected} in {found:#?}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");
    assert_eq!(sent(&chain, JSON, br#"{"item":"xyz","count":1}"#), (0, vec![]));
    assert_eq!(
        sent(&chain, JSON, br#"{"item":"xyz","count":1,"pay":5}"#).1,
        ["body /pay: must be an object or a string"]
    );
}

#[test]
fn violations_are_bounded_in_number_and_search() {
    let chain = chain("validate: { body: { items: { type: string } } }");
    let body = format!("[{}1]", "1,".repeat(200));
    assert_eq!(sent(&chain, JSON, body.as_bytes()).1.len(), 50);
    let body = format!("[{}1]", "1,".repeat(100_000));
    assert_eq!(
        sent(&chain, JSON, body.as_bytes()).1,
        ["body : does not match its schema; it is too large to say where"]
    );
}

/// A tree that is wrong in its deepest leaf.
fn tree(depth: usize) -> String {
    (0..depth).fold(r#"{"kind":1}"#.to_owned(), |inner, _| format!(r#"{{"children":[{inner}],"kind":"and"}}"#))
}

/// A schema of trees whose nodes are what these keywords say.
fn of_trees(node: &str) -> Chain {
    chain(&format!("validate: {{ body: {{ $ref: '#/$defs/node', $defs: {{ node: {{ {node} }} }} }} }}"))
}

#[test]
fn what_a_deep_value_costs_does_not_double_with_each_level() {
    let children = "children: { items: { $ref: '#/$defs/node' } }";
    let and = format!("{{ properties: {{ {children}, kind: {{ const: and }} }} }}");
    let or = format!("{{ properties: {{ {children}, kind: {{ const: or }} }} }}");
    let parts = |kind: &str| {
        format!("{{ allOf: [{{ properties: {{ {children} }} }}, {{ properties: {{ kind: {{ const: {kind} }} }} }}] }}")
    };
    for (node, doubles) in [
        (format!("oneOf: [{and}, {or}]"), true),
        (format!("anyOf: [{and}, {or}]"), true),
        (format!("allOf: [{and}, {and}]"), true),
        (format!("oneOf: [{}, {}]", parts("and"), parts("or")), true),
        (format!("if: {or}, then: {or}, else: {and}, anyOf: [{and}, {or}]"), true),
        (format!("oneOf: [{and}, {or}], unevaluatedProperties: false"), true),
        (format!("dependentSchemas: {{ kind: {and} }}, properties: {{ {children} }}"), true),
        (format!("oneOf: [{and}, {{ properties: {{ kind: {{ const: or }} }}, not: {{ not: {and} }} }}]"), false),
        (format!("not: {{ not: {{ anyOf: [{and}, {or}] }} }}"), false),
    ] {
        let chain = of_trees(&node);
        for depth in [20, 60] {
            let (status, found) = sent(&chain, JSON, tree(depth).as_bytes());
            assert_eq!(status, 400, "{node}");
            let told = found == ["body : does not match its schema; it is too deep to say where"];
            assert!(told || !doubles, "{node}: {found:#?}");
        }
        let found = sent(&chain, JSON, tree(2).as_bytes()).1;
        assert!(!found.is_empty() && !found[0].contains("too deep"), "{node}: {found:#?}");
    }
    let simple = of_trees(&format!("required: [kind], properties: {{ {children}, kind: {{ type: string }} }}"));
    let at = format!("body {}/kind: must be a string", "/children/0".repeat(22));
    assert_eq!(sent(&simple, JSON, tree(22).as_bytes()).1, [at], "where nothing doubles, it is told");
}

#[test]
fn no_way_to_refer_to_itself_makes_a_schema_costly() {
    for (own, reference) in [
        ("$dynamicAnchor: node", "$dynamicRef: '#node'"),
        ("$schema: 'https://json-schema.org/draft/2019-09/schema', $recursiveAnchor: true", "$recursiveRef: '#'"),
        ("$anchor: node", "$ref: '#node'"),
        ("$id: 'https://a.test/node'", "$ref: '/node'"),
        ("title: node", "$ref: '#'"),
    ] {
        let either = |kind: &str| {
            format!("{{ properties: {{ children: {{ items: {{ {reference} }} }}, kind: {{ const: {kind} }} }} }}")
        };
        let chain = chain(&format!("validate: {{ body: {{ {own}, anyOf: [{}, {}] }} }}", either("and"), either("or")));
        let found = sent(&chain, JSON, tree(60).as_bytes());
        assert_eq!(
            found,
            (400, vec!["body : does not match its schema; it is too deep to say where".to_owned()]),
            "{reference}"
        );
        assert!(
            sent(&chain, JSON, tree(2).as_bytes()).1.iter().any(|line| line.contains("/children/0/children/0/kind"))
        );
    }
}

#[test]
fn where_a_discriminator_names_the_alternative_deep_values_are_told_in_full() {
    let kind = |name: &str| {
        format!(
            "{name}: {{ type: object, properties: {{ children: {{ type: array, items: {{ $ref: '#/components/schemas/Node' }} }}, kind: {{ type: string }}, size: {{ type: integer }} }} }}"
        )
    };
    let chain = chain(&format!(
        "validate: {{ openapi: {{ openapi: 3.0.3, paths: {{ /orders: {{ post: {{ requestBody: {{ content: {{ application/json: {{ schema: {{ $ref: '#/components/schemas/Node' }} }} }} }} }} }} }}, components: {{ schemas: {{ {}, {}, Node: {{ oneOf: [{{ $ref: '#/components/schemas/and' }}, {{ $ref: '#/components/schemas/or' }}], discriminator: {{ propertyName: kind }} }} }} }} }} }}",
        kind("and"),
        kind("or")
    ));
    let leaf = tree(20).replace(r#"{"kind":1}"#, r#"{"kind":"or","size":"x"}"#);
    let at = format!("body {}/size: must be an integer", "/children/0".repeat(20));
    assert_eq!(sent(&chain, JSON, leaf.as_bytes()), (400, vec![at]));
}

#[test]
fn alternatives_within_alternatives_are_told_with_their_place() {
    let kind = |name: &str| {
        format!("{{ properties: {{ children: {{ items: {{ $ref: '#/$defs/node' }} }}, kind: {{ const: {name} }} }} }}")
    };
    let chain = of_trees(&format!("oneOf: [{}, {}]", kind("and"), kind("or")));
    let none = "fits none of 2 alternatives; the nearest lacks what follows";
    assert_eq!(
        sent(&chain, JSON, tree(2).as_bytes()).1,
        [
            "body /children/0/children/0/kind: must be `\"and\"`".to_owned(),
            format!("body /children/0/children/0: {none}"),
            format!("body /children/0: {none}"),
            format!("body : {none}"),
        ]
    );
}

#[test]
fn json_is_read_in_one_way_only() {
    let chain = chain("validate: { body: true }");
    for (body, expected) in [
        (r#"{"a":{"b":1,"b":2}}"#.to_owned(), "body /a/b: this key stands twice"),
        (r#"{"a":1,"\u0061":2}"#.to_owned(), "body /a: this key stands twice"),
        ("{".to_owned(), "body : the JSON text ends too early"),
        ("{} {}".to_owned(), "body : not JSON at line 1 column 4"),
        ("[1e999]".to_owned(), "body : a number out of range at line 1 column 6"),
        (format!("{}{}", "[".repeat(200), "]".repeat(200)), "body : nested deeper than 128 at line 1 column 128"),
        ("\"\u{0}\"".to_owned(), "body : not JSON at line 1 column 2"),
        ("NaN".to_owned(), "body : not JSON at line 1 column 1"),
    ] {
        assert_eq!(sent(&chain, JSON, body.as_bytes()), (400, vec![expected.to_owned()]), "{body:.40}");
    }
    assert_eq!(sent(&chain, JSON, b"\"\xff\"").0, 400);
    let latin = "POST /o HTTP/1.1\nContent-Type: application/json; charset=iso-8859-1\n";
    assert_eq!(sent(&chain, latin, b"1").1, ["body : must be in UTF-8"]);
    let utf8 = "POST /o HTTP/1.1\nContent-Type: Application/JSON; Charset=\"UTF-8\"\n";
    assert_eq!(sent(&chain, utf8, b"1").0, 0);
}

#[test]
fn a_file_that_is_named_in_a_mapping_is_no_schema_that_lets_all_pass() {
    for settings in ["validate: { body: { file: order.json } }", "validate: { openapi: { url: order.json } }"] {
        let found = errors(settings);
        assert_eq!(found.len(), 1, "{settings} {found:?}");
        assert!(found[0].contains("is no document"), "{found:?}");
    }
    assert!(errors("validate: { body: { required: [id] } }").is_empty());
}

#[test]
fn what_cannot_be_looked_at_is_refused() {
    let chain = chain("validate: { body: true }");
    for (head, status) in [
        ("POST /o HTTP/1.1\nContent-Type: application/json\nContent-Encoding: gzip\n", 415),
        ("POST /o HTTP/1.1\nContent-Type: application/json\nContent-Encoding: identity\n", 0),
        ("POST /o HTTP/1.1\nContent-Type: text/plain\n", 415),
        ("POST /o HTTP/1.1\n", 415),
        ("POST /o HTTP/1.1\nContent-Type: application/json\nContent-Type: text/plain\n", 415),
        ("POST /o HTTP/1.1\nContent-Type: application/vnd.x+json\n", 0),
    ] {
        assert_eq!(sent(&chain, head, b"1").0, status, "{head}");
    }
    assert_eq!(sent(&chain, JSON, b""), (400, vec!["body : is missing".to_owned()]));
    assert_eq!(sent(&chain, "GET /o HTTP/1.1\n", b"").0, 0);
    // one that was not given although it is there
    let mut unread = exchange(&format!("{JSON}Content-Length: 9\n"));
    assert_eq!(chain.status(&mut unread), 400);
    assert_eq!(chain.explain(&mut unread).0, Outcome::Pass);
}

#[test]
fn query_headers_and_path_have_schemas_of_their_own() {
    let chain = chain(
        "validate:\n  query: { additionalProperties: false, required: [q], properties: { q: { minLength: 2 }, n: { type: integer, maximum: 9 }, t: { type: array, items: { type: boolean } } } }\n  headers: { properties: { x-size: { type: integer } }, required: [x-size] }\n",
    );
    let ask = |target: &str, size: &str| sent(&chain, &format!("GET {target} HTTP/1.1\nX-Size: {size}\n"), b"");
    assert_eq!(ask("/?q=%41b&n=7&t=true&t=false", "3"), (0, vec![]));
    assert_eq!(
        ask("/?q=a&n=70&t=true&t=x&z=1", "big").1,
        [
            "header /x-size: must be an integer",
            "query /n: must be 9 or less",
            "query /q: must have at least 2 characters",
            "query /t/1: must be a boolean",
            "query /z: this key is not known here",
        ]
    );
    assert_eq!(ask("/?n=x&n=1", "1").1, ["query /n: must be an integer", "query /q: is missing"]);
    assert_eq!(ask("/?q=%ff", "1").1, ["query q: is not UTF-8"]);
}

#[test]
fn schemas_that_cannot_be_used_are_told_with_their_place() {
    let found = errors("validate:\n  body:\n    type: objet\n    properties:\n      a: { minLength: -1 }\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found.iter().all(|line| line.starts_with("schema routes.items.policies.validate: ")), "{found:#?}");
    for (schema, expected) in [
        ("{ pattern: '(?=a)b' }", "linear time"),
        ("{ pattern: '(a)\\1' }", "linear time"),
        ("{ pattern: '(((a{1000}){1000}){1000})' }", "linear time"),
        ("{ $ref: 'https://example.com/a.json' }", "nothing over a network"),
        ("{ $ref: '#/nothing' }", "nothing"),
        ("{ $ref: 'other.json' }", "cannot name others"),
    ] {
        let found = errors(&format!("validate: {{ body: {schema} }}"));
        assert!(found.len() == 1 && found[0].contains(expected), "{schema}: {found:#?}");
    }
    let named = "documents: { 'https://example.com/a.json': { $defs: { n: { type: integer } } } }";
    let chain = chain(&format!("validate: {{ body: {{ $ref: 'https://example.com/a.json#/$defs/n' }}, {named} }}"));
    assert_eq!(sent(&chain, JSON, b"\"x\"").1, ["body : must be an integer"]);
    assert!(errors("validate: { body: true, documents: { a.json: true } }")[0].contains("by its address"));
    assert!(errors("validate: {}")[0].contains("nothing says what is valid"));
    assert!(errors("validate: { body: true, base_path: /x }")[0].starts_with("conflicting_keys"));
    assert!(errors("validate: { body: true, responses: report }")[0].starts_with("missing_key"));
    assert!(errors("validate: { openapi: /nowhere/a.yaml }")[0].starts_with("file"));
}

#[test]
fn a_schema_may_refer_to_files_of_its_own_folder_and_no_other() {
    let folder = Folder::new(
        "refs",
        &[
            ("order.json", r#"{"properties":{"to":{"$ref":"address.yaml#/$defs/address"}}}"#),
            ("address.yaml", "$defs: { address: { type: object, required: [street] } }\n"),
            ("out.json", r#"{"$ref":"../secret.json"}"#),
            ("bad.yaml", "type: object\nproperties:\n  a:\n    type: strin\n"),
        ],
    );
    let chain = chain(&format!("validate: {{ body: '{}' }}", folder.file("order.json")));
    assert_eq!(sent(&chain, JSON, br#"{"to":{}}"#).1, ["body /to/street: is missing"]);
    assert_eq!(sent(&chain, JSON, br#"{"to":{"street":1}}"#).0, 0);
    assert_eq!(errors(&format!("validate: {{ body: '{}' }}", folder.file("out.json"))).len(), 1);
    let found = errors(&format!("validate: {{ body: '{}' }}", folder.file("bad.yaml")));
    assert!(found[0].contains("bad.yaml`, line 4, column 11: "), "{found:#?}");
}

const SHOP: &str = r##"
validate:
  openapi:
    openapi: 3.0.3
    servers: [{ url: "https://{host}/v1", variables: { host: { default: a.test } } }]
    paths:
      /items/{id}:
        parameters:
          - { name: id, in: path, required: true, schema: { type: integer, format: int32 } }
        get:
          parameters:
            - { name: fields, in: query, explode: false, schema: { type: array, maxItems: 2, items: { type: string } } }
            - { name: sort, in: query, schema: { type: string, enum: [up, down] } }
            - { name: X-Trace, in: header, schema: { type: boolean } }
            - { name: theme, in: cookie, schema: { type: string, pattern: "^[a-z]+$" } }
            - { name: filter, in: query, style: deepObject, schema: { type: object, properties: { since: { type: integer } }, additionalProperties: false } }
            - { name: where, in: query, content: { application/json: { schema: { type: object } } } }
            - { name: flag, in: query, allowEmptyValue: true, schema: { type: boolean } }
          responses:
            "200":
              description: the item
              headers: { X-Left: { required: true, schema: { type: integer } } }
              content: { application/json: { schema: { $ref: "#/components/schemas/Item" } } }
            4XX: { description: no }
        put:
          requestBody: { $ref: "#/components/requestBodies/Item" }
          responses: { default: { description: any } }
      /items/new:
        post:
          requestBody:
            required: true
            content:
              application/x-www-form-urlencoded: { schema: { type: object, required: [n], properties: { n: { type: integer }, t: { type: array, items: { type: string } } } } }
              multipart/form-data: { schema: { type: object } }
              text/*: {}
          responses: { "201": { description: made } }
    components:
      requestBodies:
        Item: { required: true, content: { application/json: { schema: { $ref: "#/components/schemas/Item" } } } }
      schemas:
        Item:
          type: object
          required: [id, name, secret]
          properties:
            id: { type: integer, readOnly: true }
            secret: { type: string, writeOnly: true }
            name: { type: string, nullable: true }
            price: { type: number, minimum: 0, exclusiveMinimum: true }
            parent: { nullable: true, allOf: [{ $ref: "#/components/schemas/Ref" }] }
            pet: { $ref: "#/components/schemas/Pet" }
        Ref: { type: object, required: [to], properties: { to: { type: string } } }
        Cat: { type: object, required: [lives], properties: { kind: { type: string }, lives: { type: integer } } }
        Dog: { type: object, required: [barks], properties: { kind: { type: string }, barks: { type: boolean } } }
        Pet:
          oneOf: [{ $ref: "#/components/schemas/Cat" }, { $ref: "#/components/schemas/Dog" }]
          discriminator: { propertyName: kind, mapping: { cat: "#/components/schemas/Cat" } }
  responses: enforce
"##;

#[test]
fn parameters_are_judged_as_the_description_has_them() {
    let chain = chain(SHOP);
    let ask = |target: &str, fields: &str| sent(&chain, &format!("GET {target} HTTP/1.1\nHost: a\n{fields}"), b"");
    let good =
        "/v1/items/7?fields=a,b&sort=up&filter[since]=5&filter%5Bsince%5D=&where=%7B%22a%22%3A1%7D&flag=&other=1";
    assert_eq!(ask("/v1/items/7", ""), (0, vec![]));
    assert_eq!(ask(&good.replace("&filter%5Bsince%5D=", ""), "X-Trace: true\nCookie: a=1; theme=dark\n"), (0, vec![]));
    assert_eq!(
        ask("/v1/items/x?fields=a,b,c&sort=left&filter[until]=5&where=[]&flag=maybe", "X-Trace: 1\nCookie: theme=D\n")
            .1,
        [
            "cookie theme: must match the pattern `^[a-z]+$`",
            "header X-Trace: must be a boolean",
            "path id: must be an integer",
            "query fields: must have at most 2 items",
            "query filter/until: this key is not known here",
            "query flag: must be a boolean",
            "query sort: must be one of `\"up\"`, `\"down\"`",
            "query where: must be an object",
        ]
    );
    assert_eq!(ask("/v1/items/3000000000", "").1, ["path id: must be 2147483647 or less"]);
    assert_eq!(ask("/v1/items/7?sort=up&sort=down", "").1, ["query sort: must be given once only"]);
    assert_eq!(ask(good, "").1, ["query filter: has a key that is both a value and an object"]);
}

#[test]
fn an_object_in_a_query_is_not_deeper_than_sixteen_keys() {
    let chain = chain(SHOP);
    for (keys, expected) in [
        (16, "query filter/a: this key is not known here"),
        (17, "query filter: has more than 16 keys in brackets"),
        (300_000, "query filter: has more than 16 keys in brackets"),
    ] {
        let head = format!("GET /v1/items/7?filter{}=1 HTTP/1.1\nHost: a\n", "[a]".repeat(keys));
        assert_eq!(sent(&chain, &head, b""), (400, vec![expected.to_owned()]), "{keys}");
    }
}

#[test]
fn what_cannot_be_read_is_not_left_out() {
    let many = format!("{}theme=DARK", "a=1; ".repeat(1000));
    let (shop, headers) = (chain(SHOP), chain("validate: { headers: { properties: { x-a: { maxLength: 5 } } } }"));
    for (chain, name, value, expected) in [
        (&shop, "Cookie", &b"theme=DARK; a=\xff"[..], "cookie : is not UTF-8"),
        (&shop, "Cookie", many.as_bytes(), "cookie : has more than 1000 cookies"),
        (&shop, "X-Trace", b"\xff", "header X-Trace: is not UTF-8"),
        (&headers, "X-A", b"\xff", "header x-a: is not UTF-8"),
    ] {
        let mut exchange = exchange("GET /v1/items/7 HTTP/1.1\nHost: a\n");
        assert!(exchange.request.head.append(name, value));
        let Err(Stop::Fault(fault)) = chain.inward(&mut exchange).1 else { panic!("{expected}") };
        assert_eq!(violations(&fault), [expected]);
    }
    let mut other = exchange("GET /v1/items/7 HTTP/1.1\nHost: a\n");
    assert!(other.request.head.append("X-B", b"\xff"));
    assert_eq!(headers.status(&mut other), 0, "what the schema does not name is not refused for its letters");
}

#[test]
fn where_answers_are_looked_at_no_part_of_one_is_asked_for() {
    let get = "GET /v1/items/7 HTTP/1.1\nHost: a\nRange: bytes=0-1\nIf-Range: \"x\"\nAccept-Encoding: gzip\n";
    for (settings, kept) in [(SHOP.to_owned(), false), (SHOP.replace("responses: enforce", "responses: off"), true)] {
        let chain = chain(&settings);
        for explained in [false, true] {
            let mut exchange = exchange(get);
            if explained {
                assert_eq!(chain.explain(&mut exchange).0, Outcome::Pass);
            } else {
                assert_eq!(chain.status(&mut exchange), 0);
            }
            let head = &exchange.request.head;
            assert!(["range", "if-range", "accept-encoding"].iter().all(|name| head.get(name).is_some() == kept));
        }
    }
}

#[test]
fn letting_pass_what_is_not_described_is_warned_of() {
    let bench = Bench::new(Vec::new());
    let settings = "validate: { openapi: { openapi: 3.1.0, paths: { /a: { get: {} } } }, unknown_operations: pass }";
    let found = bench.build(settings).unwrap().findings.lines();
    assert!(found.len() == 1 && found[0].starts_with("insecure routes.items.policies.validate"), "{found:?}");
}

#[test]
fn calls_that_are_not_described_are_refused_or_pass() {
    let chain = chain(SHOP);
    let ask = |line: &str| sent(&chain, &format!("{line} HTTP/1.1\nHost: a\n"), b"").0;
    assert_eq!(ask("GET /items/7"), 404);
    assert_eq!(ask("GET /v1/orders"), 404);
    assert_eq!(ask("GET /v1/items/7/"), 404);
    assert_eq!(ask("DELETE /v1/items/7"), 405);
    assert_eq!(ask("HEAD /v1/items/7"), 0);
    assert_eq!(ask("GET /v1/items/new"), 405);
    let moved = SHOP.replace("  responses: enforce", "  base_path: /shop/\n  unknown_operations: pass");
    let chain = self::chain(&moved);
    assert_eq!(sent(&chain, "GET /shop/items/x HTTP/1.1\nHost: a\n", b"").0, 400);
    assert_eq!(sent(&chain, "GET /v1/items/x HTTP/1.1\nHost: a\n", b"").0, 0);
}

#[test]
fn bodies_are_judged_by_their_media_type() {
    let chain = chain(SHOP);
    let put = "PUT /v1/items/1 HTTP/1.1\nHost: a\nContent-Type: application/json\n";
    assert_eq!(
        sent(&chain, put, br#"{"name":null,"secret":"s","price":1,"parent":null,"pet":{"kind":"cat","lives":9}}"#),
        (0, vec![])
    );
    assert_eq!(
        sent(&chain, put, br#"{"id":1,"name":"n","price":0,"parent":{},"pet":{"kind":"Dog"}}"#).1,
        [
            "body /id: must not be here",
            "body /parent/to: is missing",
            "body /pet/barks: is missing",
            "body /price: must be more than 0",
            "body /secret: is missing",
        ]
    );
    assert_eq!(sent(&chain, put, b"").1, ["body : is missing"]);
    let new =
        |media: &str, body: &[u8]| sent(&chain, &format!("POST /v1/items/new HTTP/1.1\nContent-Type: {media}\n"), body);
    assert_eq!(new("application/x-www-form-urlencoded", b"n=1&t=a&t=b+c").0, 0);
    assert_eq!(new("application/x-www-form-urlencoded", b"n=x&t=a").1, ["body /n: must be an integer"]);
    assert_eq!(new("multipart/form-data; boundary=x", b"--x--").0, 0);
    assert_eq!(new("text/plain", b"anything").0, 0);
    assert_eq!(new("application/json", b"{}").0, 415);
    assert_eq!(sent(&chain, "GET /v1/items/1 HTTP/1.1\n", b"{}").1, ["body : must not be here: none is described"]);
}

/// What an answer comes to.
fn answered(chain: &Chain, head: &str, answer: (u16, &[(&str, &str)], Option<&str>)) -> Result<Option<String>, Fault> {
    let mut exchange = exchange(head);
    assert!(matches!(chain.steps[0].1.on_request(&mut exchange), Flow::Now(Ok(()))));
    assert!(exchange.request.head.get("Accept-Encoding").is_none(), "a coded answer is not asked for");
    exchange.response.status = answer.0;
    for (name, value) in answer.1 {
        exchange.response.head.append(name, value.as_bytes());
    }
    exchange.response.body = answer.2.map(|body| body.as_bytes().to_vec());
    match chain.outward(1, &mut exchange) {
        Ok(()) => Ok(exchange.remark.take().map(Into::into)),
        Err(Stop::Fault(fault)) => Err(fault),
        Err(Stop::Answer(_)) => panic!("a fault"),
    }
}

#[test]
fn answers_are_judged_and_never_told_to_the_caller() {
    let get = "GET /v1/items/7 HTTP/1.1\nHost: a\nAccept-Encoding: gzip\n";
    let json = ("Content-Type", "application/json");
    let good = r#"{"id":1,"name":"n"}"#;
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let cases: [(u16, Fields<'_>, Option<&str>, &str); 8] = [
        (200, &[json, ("X-Left", "5")], Some(good), ""),
        (200, &[json], Some(good), "header X-Left is missing"),
        (200, &[json, ("X-Left", "x")], Some(good), "header X-Left must be an integer"),
        (200, &[json, ("X-Left", "5")], Some(r#"{"id":"hidden","name":"n","secret":"s"}"#), "/secret must not be here"),
        (200, &[("Content-Type", "text/html"), ("X-Left", "5")], None, "not described"),
        (200, &[json, ("X-Left", "5")], None, "too large"),
        (404, &[json], Some("{}"), "not described"),
        (500, &[], None, "500 is not described"),
    ];
    let (enforce, report) = (chain(SHOP), chain(&SHOP.replace("responses: enforce", "responses: report")));
    for (status, fields, body, expected) in cases {
        let reported = answered(&report, get, (status, fields, body)).unwrap().unwrap_or_default();
        match answered(&enforce, get, (status, fields, body)) {
            Ok(_) => assert_eq!((expected, reported.as_str()), ("", "")),
            Err(fault) => {
                assert!(!expected.is_empty(), "{fault:?}");
                assert_eq!(fault.reason.status(), 502);
                assert!(!problem(&fault).to_string().contains("hidden") && fault.members.is_none(), "{fault:?}");
                assert!(!reported.contains("hidden"));
                assert!(reported.contains(expected), "{expected} in {reported}");
                assert_eq!(fault.cause.as_deref(), Some(reported.as_str()));
            }
        }
    }
    let mut own = exchange(get);
    let stop = Stop::Fault(Fault::new(daemun_pipeline::Reason::UpstreamTimeout, "late"));
    crate::testing::respond(&stop, &mut own);
    assert!(enforce.outward(1, &mut own).is_ok(), "the gateway's own answers are not judged");
    assert_eq!(answered(&enforce, &get.replace("GET", "HEAD"), (200, &[json, ("X-Left", "1")], None)), Ok(None));
}

#[test]
fn a_description_that_cannot_be_used_is_told_with_its_place() {
    for (paths, expected) in [
        ("{ /a: { get: { parameters: [{ name: x, in: body }] } } }", "`in` is one of"),
        ("{ /a: { get: { parameters: [{ $ref: '#/components/nothing' }] } } }", "nothing is at"),
        ("{ a: { get: {} } }", "begins with `/`"),
        ("{ '/{a}{b}': { get: {} } }", "side by side"),
        ("{ /a: { get: { parameters: [{ name: x, in: query, style: label, schema: {} }] } } }", "not a style"),
        (
            "{ /a: { get: { parameters: [{ name: x, in: query, schema: { type: integr } }] } } }",
            "must be one of `\"array\"`",
        ),
        (
            "{ /a: { get: { parameters: [{ name: x, in: query, schema: { type: string, pattern: '(?=x)' } }] } } }",
            "linear time",
        ),
        ("{ /a: { get: { parameters: [{ name: x, in: query, schema: { $ref: 'http://x/y' } }] } } }", "network"),
    ] {
        let found = errors(&format!("validate: {{ openapi: {{ openapi: 3.1.0, paths: {paths} }} }}"));
        assert!(found.iter().any(|line| line.contains(expected)), "{paths}: {found:#?}");
    }
    assert!(errors("validate: { openapi: { swagger: '2.0' } }")[0].contains("Swagger 2"));
    assert!(errors("validate: { openapi: { openapi: 4.0.0 } }")[0].contains("no version"));
}

#[test]
fn one_document_is_compiled_once_for_all_routes_and_anew_when_it_changes() {
    let text = "openapi: 3.1.0\npaths: { /a: { get: { parameters: [{ $ref: 'more.yaml#/p' }] } } }\n";
    let folder = Folder::new(
        "shared",
        &[("api.yaml", text), ("more.yaml", "p: { name: n, in: query, required: true, schema: { type: integer } }\n")],
    );
    let bench = Bench::new(Vec::new());
    let settings = format!("validate: {{ openapi: '{}' }}", folder.file("api.yaml"));
    let first = bench.build(&settings).unwrap();
    assert_eq!(sent(&first, "GET /a HTTP/1.1\n", b"").1, ["query n: is missing"]);
    std::fs::write(folder.0.join("more.yaml"), "p: { name: n, in: query, schema: { type: integer, maximum: 5 } }\n")
        .unwrap();
    let second = bench.build(&settings).unwrap();
    assert_eq!(sent(&second, "GET /a HTTP/1.1\n", b"").0, 0);
    assert_eq!(sent(&second, "GET /a?n=6 HTTP/1.1\n", b"").1, ["query n: must be 5 or less"]);
}

fn shape(schema: &Value) -> Shape {
    let node = daemun_config::parse_text(&schema.to_string(), &mut daemun_config::Diagnostics::new()).unwrap();
    let documents = super::document::Documents::load(&super::Source::Inline(node), &Vec::new()).ok().unwrap();
    Shape::of(&documents, documents.root().unwrap())
}

#[test]
fn parameters_are_read_in_every_style() {
    let list = json!({ "type": "array", "items": { "type": "string" } });
    let object = json!({ "type": "object", "properties": { "R": { "type": "integer" }, "G": { "type": "integer" } } });
    let colors = json!(["blue", "black"]);
    let rgb = json!({ "R": 100, "G": 200 });
    for (style, explode, schema, text, expected) in [
        (Style::Simple, false, &list, "blue,black", &colors),
        (Style::Simple, false, &object, "R,100,G,200", &rgb),
        (Style::Simple, true, &object, "R=100,G=200", &rgb),
        (Style::Label, false, &list, ".blue,black", &colors),
        (Style::Label, true, &list, ".blue.black", &colors),
        (Style::Label, false, &object, ".R,100,G,200", &rgb),
        (Style::Label, true, &object, ".R=100.G=200", &rgb),
        (Style::Matrix, false, &list, ";color=blue,black", &colors),
        (Style::Matrix, true, &list, ";color=blue;color=black", &colors),
        (Style::Matrix, false, &object, ";color=R,100,G,200", &rgb),
        (Style::Matrix, true, &object, ";R=100;G=200", &rgb),
    ] {
        let coding = Coding {
            name: "color".into(),
            location: Location::Path,
            style,
            explode,
            shape: shape(schema),
            json: false,
        };
        assert_eq!(coding.of_segment(text).unwrap().as_ref(), Some(expected), "{style:?} {explode} {text}");
    }
    for (style, explode, schema, text, expected) in [
        (Style::Form, true, &list, "color=blue&color=black", &colors),
        (Style::Form, false, &list, "color=blue,black", &colors),
        (Style::Form, false, &object, "color=R,100,G,200", &rgb),
        (Style::Form, true, &object, "R=100&G=200", &rgb),
        (Style::SpaceDelimited, false, &list, "color=blue%20black", &colors),
        (Style::SpaceDelimited, false, &list, "color=blue+black", &colors),
        (Style::PipeDelimited, false, &list, "color=blue|black", &colors),
        (Style::PipeDelimited, false, &list, "color=blue%7Cblack", &colors),
        (Style::DeepObject, true, &object, "color[R]=100&color%5BG%5D=200", &rgb),
    ] {
        let coding = Coding {
            name: "color".into(),
            location: Location::Query,
            style,
            explode,
            shape: shape(schema),
            json: false,
        };
        assert_eq!(
            coding.of_pairs(&Pairs::parse(text).unwrap()).unwrap().as_ref(),
            Some(expected),
            "{style:?} {explode} {text}"
        );
    }
}

#[test]
fn literal_paths_win_over_templates_and_dead_ends_are_left() {
    let mut paths = Paths::default();
    for (index, path) in ["/a/{x}", "/a/b", "/a/b/{y}/d", "/a/{x}/c", "/f/{n}.json", "/f/{n}", "/"].iter().enumerate() {
        paths.add(path, index).unwrap();
    }
    for (path, index, values) in [
        ("/a/b", 1, &[][..]),
        ("/a/z", 0, &[("x", "z")]),
        ("/a/b/c", 3, &[("x", "b")]),
        ("/a/b/q/d", 2, &[("y", "q")]),
        ("/f/v.json", 4, &[("n", "v")]),
        ("/f/v.xml", 5, &[("n", "v.xml")]),
        ("/", 6, &[]),
    ] {
        let found = paths.find(path).unwrap_or_else(|| panic!("{path}"));
        assert_eq!((found.index, &*found.values), (index, values), "{path}");
    }
    assert!(paths.find("/a/").is_none() && paths.find("/a/b/q").is_none() && paths.find("/f/.json/x").is_none());
    assert!(paths.add("/a/b", 9).is_err() && paths.add("/{x", 9).is_err());
}

#[test]
fn pointers_lead_through_maps_and_lists() {
    let node = daemun_config::parse_text("{ 'a/b': [{ '~': 1 }] }", &mut daemun_config::Diagnostics::new()).unwrap();
    assert!(find(&node, "/a~1b/0/~0").is_some());
    assert!(find(&node, "/a~1b/1").is_none());
}
