use std::sync::Arc;

use cel::Value;
use proptest::prelude::*;

use super::facts::Facts;
use super::native::{Test, lower};
use super::program::Program;
use super::*;
use crate::directory::{Consumer, ConsumerId, Directory};
use crate::exchange::Method;
use crate::identity::Identity;

/// An exchange: method, path, query and fields.
fn exchange(method: &str, path: &str, query: &str, fields: &[(&str, &str)]) -> Exchange {
    let mut exchange = Exchange::default();
    let request = &mut exchange.request;
    request.method = Method::of(method.as_bytes());
    request.method_span = request.head.store(method.as_bytes());
    request.path = request.head.store(path.as_bytes());
    request.query = (!query.is_empty()).then(|| request.head.store(query.as_bytes()));
    request.host = request.head.store(b"shop.example.com");
    for (name, value) in fields {
        assert!(request.head.append(name, value.as_bytes()));
    }
    exchange.client.ip = "10.1.2.3".parse().unwrap();
    exchange
}

fn params() -> Vec<String> {
    ["id", "rest"].map(str::to_owned).into()
}

fn scope(params: &[String]) -> Scope<'_> {
    Scope { params, any_params: false, consumer: true, answer: true, body: true }
}

fn parse(text: &str) -> Result<Expression, ExpressionError> {
    Expression::parse(text, &scope(&params()))
}

fn holds(text: &str, exchange: &Exchange) -> bool {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).test(exchange).unwrap()
}

fn shop() -> Exchange {
    let fields =
        [("X-Country", "KR"), ("x-country", "JP"), ("Cookie", "a=1; b=\"2\""), ("X-List", "a,b,c"), ("X-N", "7")];
    let mut exchange = exchange("GET", "/items/a%20b/x", "q=1&q=%31&n%61me=x+y%2B", &fields);
    let start = exchange.request.path.start();
    exchange.params = vec![(0, crate::Span::new(start + 7, start + 12)), (1, crate::Span::new(start + 13, start + 14))];
    let consumer = Consumer { name: "app".into(), roles: vec!["buyer".into(), "admin".into()], ..Consumer::default() };
    exchange.directory = Some(Arc::new(Directory::new(vec![consumer])));
    exchange.consumer = Some(ConsumerId(0));
    exchange.response.status = 503;
    exchange.response.head.append("Retry-After", b"5");
    exchange
}

#[test]
fn every_variable_is_what_the_page_says() {
    let exchange = shop();
    for text in [
        "request.method == 'GET'",
        "request.path == '/items/a%20b/x' && request.host == 'shop.example.com' && request.scheme == 'http'",
        "request.header['x-COUNTRY'] == 'KR, JP' && request.header.host == ''",
        "'X-Country' in request.header && !('x-none' in request.header) && has(request.header.cookie)",
        "request.query['q'] == '1' && request.query.name == 'x y+' && request.query['none'] == ''",
        "request.query_string == 'q=1&q=%31&n%61me=x+y%2B'",
        "request.cookie['a'] == '1' && request.cookie.b == '\"2\"' && !has(request.cookie.c)",
        "params['id'] == 'a b' && params.rest == 'x' && 'id' in params && !('ix' in params)",
        "client.ip == '10.1.2.3' && in_network(client.ip, '10.0.0.0/8') && !in_network(client.ip, '10.1.2.4')",
        "consumer.name == 'app' && 'admin' in consumer.roles && !('root' in consumer.roles)",
        "tls.fingerprint == ''",
        "response.status >= 500 && 504 > response.status && response.header['retry-after'] == '5'",
        "request.method in ['PUT', 'GET'] && request.path.startsWith('/items/') && request.path.endsWith('x')",
        "request.path.contains('%20') && request.path.matches('^/items/[^/]+/x$') && !matches(request.path, 'y')",
        "request.header['x-list'].split(',').exists(part, part == 'b')",
        "request.header['x-list'].split(',').map(part, part + '!').join('-') == 'a!-b!-c!'",
        "request.header.exists(name, name.startsWith('x-c'))",
        "request.header['X-' + 'Country'] == 'KR, JP' && request.header['x-' + 'none'] == ''",
        "('X-' + 'Country') in request.header && request.query['nam' + 'e'] == 'x y+'",
        "int(request.header['x-n']) + 1 == 8 && size(request.header['x-n']) == 1",
        "(request.header['x-none'] == '' ? 'none' : 'some') == 'none'",
        "request.header['x-list'].upperAscii().replace('A', '').substring(1) == 'B,C'",
        "consumer.roles.size() == 2 && consumer.roles[0] == 'buyer' && consumer.roles.all(role, role != '')",
        "consumer.roles.filter(role, role.contains('u')) == ['buyer']",
    ] {
        assert!(holds(text, &exchange), "{text}");
    }
}

/// The same caller, with what a credential says of it.
fn with_claims() -> Exchange {
    let mut exchange = shop();
    let claims = serde_json::json!({
        "tenant": "a b", "level": 3, "share": 0.5, "verified": true, "amr": ["pwd", "otp"], "nothing": null,
        "https://shop.example.com/plan": "gold", "realm": { "roles": ["clerk"] }
    });
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    exchange.identity = Some(Arc::new(Identity {
        subject: "alice".into(),
        roles: texts(&["clerk"]),
        groups: texts(&["staff"]),
        tags: texts(&["internal"]),
        scopes: texts(&["orders:read", "orders:write"]),
        claims: claims.as_object().unwrap().clone().into(),
        credential: Some("key-7".into()),
        ..Identity::default()
    }));
    exchange
}

#[test]
fn what_a_credential_says_can_be_asked_for() {
    let exchange = with_claims();
    for text in [
        "consumer.name == 'app' && consumer.credential == 'key-7'",
        "'buyer' in consumer.roles && 'clerk' in consumer.roles && consumer.roles.size() == 3",
        "'staff' in consumer.groups && 'internal' in consumer.tags && !('staff' in consumer.tags)",
        "'orders:read' in consumer.scopes && consumer.scopes.all(scope, scope.startsWith('orders:'))",
        "consumer.claims.tenant == 'a b' && 'a b' == consumer.claims['tenant']",
        "consumer.claims.tenant == params['id'] && consumer.claims.tenant != params.rest",
        "consumer.claims.tenant in ['x', 'a b'] && !(consumer.claims.level in ['3'])",
        "consumer.claims.level == 3 && consumer.claims.level > 2 && consumer.claims.level + 1 == 4",
        "consumer.claims.share < 1.0 && consumer.claims.verified && consumer.claims.verified == true",
        "'otp' in consumer.claims.amr && consumer.claims.amr[0] == 'pwd' && consumer.claims.amr.size() == 2",
        "consumer.claims['https://shop.example.com/plan'] == 'gold'",
        "'clerk' in consumer.claims.realm.roles && 'roles' in consumer.claims['realm'] && consumer.claims.nothing == null",
        "has(consumer.claims.tenant) && has(consumer.claims.realm.roles) && 'level' in consumer.claims",
        "!has(consumer.claims.none) && !has(consumer.claims.none.deeper) && !('none' in consumer.claims)",
        "consumer.claims.exists(name, name == 'amr') && consumer.claims['ten' + 'ant'] == 'a b'",
        "consumer.claims.level != '3'",
    ] {
        assert!(holds(text, &exchange), "{text}");
    }
    let scope = Scope { params: &[], any_params: false, consumer: false, answer: false, body: false };
    for text in
        ["consumer.claims.a == 'b'", "has(consumer.claims.a)", "'a' in consumer.groups", "consumer.credential == ''"]
    {
        let error = Expression::parse(text, &scope).unwrap_err();
        assert!(error.message.contains("who calls is not known yet"), "{text}: {error:?}");
    }
    let value = |text: &str| {
        let text = Text::parse(text, &Scope { consumer: true, ..Scope::default() }).unwrap();
        String::from_utf8(text.value(&exchange).unwrap().into_owned()).unwrap()
    };
    assert_eq!(
        value("${consumer.claims.tenant}/${consumer.claims.level}/${consumer.claims.none}/${consumer.credential}"),
        "a b/3//key-7"
    );
}

#[test]
fn a_claim_that_is_not_there_makes_no_condition_hold() {
    for exchange in [with_claims(), shop()] {
        for text in [
            "consumer.claims.none == 'a'",
            "consumer.claims.none != 'a'",
            "!(consumer.claims.none == 'a')",
            "consumer.claims.none in ['a']",
            "!(consumer.claims.none in ['a'])",
            "consumer.claims.none == params['id']",
            "consumer.claims.none != params['id']",
            "'a' in consumer.claims.none",
            "!('a' in consumer.claims.none)",
            "!('a' in consumer.claims.level)",
            "consumer.claims.none.deeper != 'a'",
            "consumer.claims.tenant.deeper != 'a'",
            "consumer.claims['no' + 'ne'] != 'a'",
            "!consumer.claims.none",
            "consumer.claims.none > 3 || false",
        ] {
            assert!(!holds(text, &exchange), "{text}");
            assert!(parse(text).unwrap().test_or(&exchange, true).unwrap(), "{text} is in doubt");
        }
    }
    let nobody = exchange("GET", "/", "", &[]);
    assert!(holds("!has(consumer.claims.a) && consumer.scopes == [] && consumer.credential == ''", &nobody));
}

#[test]
fn claims_that_are_too_large_are_not_gone_through() {
    let mut exchange = shop();
    let many = vec![serde_json::Value::from("x".repeat(100)); 20_000];
    let claims = serde_json::json!({ "many": many, "small": "a" });
    let claims = claims.as_object().unwrap().clone();
    exchange.identity = Some(Arc::new(Identity { claims: claims.into(), ..Identity::default() }));
    let fault = |text: &str| parse(text).unwrap().test(&exchange).unwrap_err().reason;
    assert_eq!(fault("consumer.claims.many.exists(item, item == 'a')"), Reason::ExpressionCost);
    assert_eq!(fault("consumer.claims.exists(name, name == 'a')"), Reason::ExpressionCost);
    assert!(holds("consumer.claims.small == 'a' && !('a' in consumer.claims.many)", &exchange));
}

#[test]
fn a_body_is_read_as_json_when_it_says_that_it_is() {
    let mut exchange = exchange("POST", "/", "", &[("Content-Type", "application/problem+json; charset=utf-8")]);
    exchange.request.body = Some(br#"{"type":"a","n":3,"tags":["x","y"],"deep":{"f":1.5}}"#.to_vec());
    assert!(parse("request.body.type == 'a'").unwrap().needs_body());
    assert!(!parse("request.path == 'a'").unwrap().needs_body());
    for text in [
        "request.body.type == 'a' && request.body.n == 3 && request.body.n + 1 == 4 && request.body['deep'].f > 1.0",
        "'x' in request.body.tags && request.body.tags.size() == 2 && has(request.body.deep) && !has(request.body.none)",
        "request.body.none == 'x' || true",
    ] {
        assert!(holds(text, &exchange), "{text}");
    }
    // what is not there, or not of this kind, makes no condition hold: neither it nor its opposite
    for text in [
        "request.body.none == 'x'",
        "request.body.none != 'x'",
        "!(request.body.none == 'x')",
        "request.body.type + 1 == 2",
    ] {
        assert!(!holds(text, &exchange), "{text}");
    }
    for (kind, body) in [("text/plain", "{\"type\":\"a\"}"), ("application/json", "")] {
        exchange.request.head.remove("content-type");
        exchange.request.head.append("content-type", kind.as_bytes());
        exchange.request.body = Some(body.as_bytes().to_vec());
        assert!(
            !holds("request.body.type == 'a'", &exchange) && !holds("request.body.type != 'a'", &exchange),
            "{kind}"
        );
    }
    exchange.request.body = None;
    assert!(!holds("request.body == null || true == request.body", &exchange));
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    for (text, place, message) in [
        ("request.methud == 'GET'", "1:8", "`request` has no `methud`"),
        ("requst.method == 'GET'", "1:1", "there is no variable `requst`"),
        ("request", "1:1", "`request` is no value by itself"),
        ("request.method == 1", "1:16", "`==` does not take a text and a whole number"),
        ("true &&\n  request.path > 5", "2:16", "`>` does not take a text and a whole number"),
        ("'가' == request.method && request.nix == ''", "1:33", "`request` has no `nix`"),
        ("request.path.startWith('/')", "1:23", "there is no function `startWith`"),
        ("request.path.startsWith()", "1:24", "`startsWith` is not called like this"),
        ("request.path.startsWith(1)", "1:24", "`startsWith` does not take a text and a whole number"),
        ("request.path", "1:1", "a condition is true or false, this is a text"),
        ("request.path.matches('(')", "1:22", "`(` is not a regular expression: unclosed group"),
        ("request.path.matches('\\\\w{99}{99}')", "1:22", "needs more than 262144 bytes when compiled"),
        ("request.path.matches(request.host)", "1:29", "a regular expression is written out"),
        ("in_network(client.ip, '10.0.0.1/8')", "1:23", "`10.0.0.1/8` has bits set behind its prefix"),
        ("in_network(client.ip, 'x')", "1:23", "`x` is not an address"),
        ("params.ix == ''", "1:7", "the route's path has no parameter `ix`"),
        ("request.method == 'GET' &&", "1:27", "it ends too early"),
        ("request.method == 'GET", "1:19", "means nothing here"),
        ("request.method === 'GET'", "1:18", "means nothing here"),
        ("'가' == request.method &&& true", "1:25", "means nothing here"),
        ("", "1:1", "an expression is missing"),
        ("duration('1s') == duration('2s')", "1:9", "there is no function `duration`"),
        ("[1].map(x, [1].map(y, [1].map(z, z))) == []", "1:30", "macros that go over lists are more than 2 within"),
        ("[1].map(request, request) == []", "1:8", "`request` is a variable of its own already"),
        ("request.path.all(c, c == '')", "1:17", "a text is nothing to go over"),
        ("consumer.roles == 'x'", "1:16", "`==` does not take a list and a text"),
        ("has(request.path)", "1:4", "`request.path` is always there"),
        ("request.path.length == 1", "1:13", "a text has no field `length`"),
        ("Msg{a: 1} == 1", "1:4", "messages cannot be built here"),
        ("request.?path == ''", "1:8", "unsupported syntax"),
        ("type(1) == int", "1:5", "there is no function `type`"),
        ("@0 == ''", "1:1", "means nothing here"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(format!("{}:{}", error.line, error.column), place, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
    assert_eq!(parse("request.methud == ''").unwrap_err().help.as_deref(), Some("did you mean `request.method`?"));
    let bare = Scope::default();
    for (text, message) in [
        ("consumer.name == ''", "who calls is not known yet where this stands"),
        ("response.status == 200", "there is no answer yet where this stands"),
        ("response.header.x == ''", "there is no answer yet where this stands"),
        ("request.body.x == 1", "the body is not read here"),
        ("params.id == ''", "there is no parameter `id`: the route's path has none"),
    ] {
        assert_eq!(Expression::parse(text, &bare).unwrap_err().message, message);
    }
}

#[test]
fn what_would_overwhelm_the_parser_is_refused_before_it() {
    let repeated = |one: &str, times: usize| one.repeat(times);
    for text in [
        format!("{}1{} == 1", repeated("(", 2_000), repeated(")", 2_000)),
        format!("{}1", repeated("!", 4_000)),
        format!("{}1", repeated("-", 4_000)),
        format!("{}[", repeated("[", 4_000)),
        format!("1{}", repeated("+1", 2_000)),
        format!("a{}", repeated(".a", 2_000)),
        format!("a{}", repeated("[0]", 1_300)),
        format!("a{}", repeated("?a:a", 1_000)),
        format!("a{}", repeated("?a", 2_000)),
        format!("true{}", repeated("||true", 600)),
        format!("r'\\'{}1", repeated("(", 4_000)),
        format!("\"\"\"\"\"\"{}1", repeated("(", 4_000)),
        format!("// '\n{}1", repeated("(", 4_000)),
        format!("'{}'", repeated("x", 5_000)),
        repeated("{", 4_000),
        format!("[1]{} == []", repeated(".map(x,x)", 90)),
        // what is just within the bounds of the text, and goes as deep as it can
        format!("{}true", repeated("!", 390)),
        format!("1{} == 1", repeated("+1", 190)),
        format!("a{}", repeated(".a", 195)),
        format!("'a'{}", repeated("[0]", 23)),
        format!("{}1{} == 1", repeated("(", 24), repeated(")", 24)),
        format!("{}1", repeated("[", 24)),
    ] {
        let _ = parse(&text);
    }
    assert!(
        parse(&format!("{}1{} == 1", "(".repeat(25), ")".repeat(25)))
            .unwrap_err()
            .message
            .contains("within each other")
    );
    assert!(parse(&"(".repeat(20)).is_err());
    assert!(holds(&format!("{}true{}", "(".repeat(20), ")".repeat(20)), &shop()));
}

#[test]
fn what_would_cost_too_much_is_stopped_before_it_begins() {
    let with = |size: usize| exchange("GET", "/", "", &[("x", &"a,".repeat(size))]);
    let all = "request.header.x.split(',').all(a, a != 'b')";
    assert_eq!(parse(all).unwrap().test(&with(500)), Ok(true));
    let quadratic = "request.header.x.split(',').all(a, request.header.x.split(',').all(b, a != 'c' || b != 'c'))";
    assert_eq!(parse(quadratic).unwrap().test(&with(10)), Ok(true));
    let stopped = |text: &str, exchange: &Exchange| {
        let fault = parse(text).unwrap().test(exchange).unwrap_err();
        assert_eq!(fault.reason, Reason::ExpressionCost, "{text}");
    };
    stopped(quadratic, &with(500));
    let doubled = format!("['aaaaaaaa']{}.all(x, x == 'a')", ".map(x,x+x)".repeat(25));
    stopped(&doubled, &with(1));
    stopped(&format!("request.header.x{}== ''", ".replace('','aaaaaaaaaaaaaaaaaaaaa')".repeat(8)), &with(100));
    // what decides before it is reached costs nothing
    assert_eq!(parse(&format!("request.method == 'PUT' && {quadratic}")).unwrap().test(&with(500)), Ok(false));
}

#[test]
fn common_forms_need_no_interpreter() {
    for text in [
        "request.header['x-country'] == 'KR'",
        "'KR' != request.header['x-country']",
        "request.method in ['GET', 'HEAD'] && !request.path.startsWith('/a')",
        "request.path.endsWith('a') || request.path.contains('b') || request.path.matches('c')",
        "has(request.header.x) && 'y' in request.query",
        "in_network(client.ip, '10.0.0.0/8') && 'admin' in consumer.roles",
        "response.status >= 500 && 600 > response.status",
        "request.header.a == request.cookie.a",
    ] {
        let expression = parse(text).unwrap();
        assert!(!has_program(&expression.0.test), "{text}: {:?}", expression.0.test);
    }
    assert!(has_program(&parse("size(request.path) > 4").unwrap().0.test));
}

fn has_program(test: &Test) -> bool {
    match test {
        Test::Program(_) => true,
        Test::Not(one) => has_program(one),
        Test::And(one, other) | Test::Or(one, other) => has_program(one) || has_program(other),
        _ => false,
    }
}

#[test]
fn text_is_put_together_of_pieces() {
    let exchange = shop();
    let text = |text: &str| {
        let mut out = Vec::new();
        Text::parse(text, &scope(&params()))
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .push(&exchange, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text("Bearer ${request.header[\"x-country\"]} for ${consumer.name}"), "Bearer KR, JP for app");
    assert_eq!(text("$5 ${'}' + \"{\"} ${ {'a': 'b'}['a'] }${'$'}{"), "$5 }{ b${");
    assert_eq!(text("${response.status}${1 == 1}${1.5}${request.header.none}"), "503true1.5");
    assert_eq!(text("<${int(request.header['x-country'])}>"), "<>");
    assert_eq!(Text::parse("a $b", &Scope::default()).unwrap().literal(), Some("a $b"));
    assert_eq!(Text::parse("", &Scope::default()).unwrap().literal(), Some(""));
    assert_eq!(Text::parse("${request.id}", &Scope::default()).unwrap().literal(), None);
    for (text, at, message) in [
        ("a ${request.id", "1:3", "has no closing `}`"),
        ("a ${request.ix}", "1:12", "`request` has no `ix`"),
        ("a\n${ }", "2:3", "an expression is missing"),
        ("${consumer.roles}", "1:3", "a list is no text"),
        ("${request.id}${'a' + 1}", "1:20", "`+` does not take a text and a whole number"),
    ] {
        let error = Text::parse(text, &scope(&params())).unwrap_err();
        assert_eq!(format!("{}:{}", error.line, error.column), at, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_value_stays_one_segment() {
    let encoded = |value: &[u8]| {
        let mut out = Vec::new();
        encode_segment(value, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(encoded(b"a b/../c?d#e;f%2F\\\r\n\xff"), "a%20b%2F..%2Fc%3Fd%23e%3Bf%252F%5C%0D%0A%FF");
}

#[test]
fn an_expression_goes_through_a_long_text_only_as_far_as_its_regular_expressions_allow() {
    let with = |size: usize| exchange("GET", "/", "", &[("x", &"01".repeat(size / 2))]);
    for pattern in ["[01]*1[01]{600}2", "[01]*1[01]{100}2"] {
        for text in [
            format!("request.header.x.matches('{pattern}')"),
            format!("(request.header.x + '0').matches('{pattern}')"),
            format!("!request.header.x.matches('{pattern}')"),
        ] {
            assert!(parse(&text).unwrap().test(&with(200)).is_ok(), "{text}");
            let fault = parse(&text).unwrap().test(&with(60_000)).unwrap_err();
            assert_eq!((fault.reason, fault.reason.status()), (Reason::ExpressionCost, 413), "{text}");
        }
    }
    // together no more than one
    let many = vec!["request.header.x.matches('[01]*1[01]{100}2')"; 20].join(" || ");
    assert_eq!(parse(&many).unwrap().test(&with(200)), Ok(false));
    assert_eq!(parse(&many).unwrap().test(&with(2_000)).unwrap_err().reason, Reason::ExpressionCost);
    // ordinary ones go through what heads hold
    for pattern in ["(?i)bot|crawler", "^[0-9]+$", "^/items/[^/]+/x$", "^Bearer [A-Za-z0-9._-]+$"] {
        let text = format!("request.header.x.matches('{pattern}')");
        assert!(parse(&text).unwrap().test(&with(8_000)).is_ok(), "{text}");
    }
}

#[test]
fn very_many_names_are_gone_through_in_proportion_to_their_number() {
    let cookies: Vec<String> = (0..12_000).map(|n| format!("{n:x}=")).collect();
    let mut exchange = exchange("GET", "/", "", &[("cookie", &cookies.join(";"))]);
    let query = cookies.join("&");
    exchange.request.query = Some(exchange.request.head.store(query.as_bytes()));
    for names in ["request.cookie", "request.query"] {
        let test = parse(&format!("{names}.exists(name, name == 'x')")).unwrap();
        // compared pair by pair, these would be billions of steps in all
        for _ in 0..20 {
            assert!(test.test(&exchange).is_err() || test.test(&exchange) == Ok(false));
        }
    }
}

/// An exchange with a JSON body.
fn posted(body: &str) -> Exchange {
    let mut exchange = exchange("POST", "/", "", &[("Content-Type", "application/json")]);
    exchange.request.body = Some(body.as_bytes().to_vec());
    exchange
}

#[test]
fn lists_of_ordinary_bodies_are_gone_through() {
    let lines = |count: usize| {
        let line = |n: usize| {
            format!(r#"{{"sku":"sku-{n:08}","amount":{n},"price":1.5,"note":"a few words","tags":["a","b"]}}"#)
        };
        posted(&format!(r#"{{"lines":[{}]}}"#, (0..count).map(line).collect::<Vec<_>>().join(",")))
    };
    for text in [
        "request.body.lines.filter(line, line.sku == 'a').size() == 0",
        "request.body.lines.map(line, line.amount).exists(amount, amount > 10)",
        "request.body.lines.map(line, line.sku).join(',').size() > 10",
        "request.body.lines.all(line, line.tags.exists(tag, tag == 'a'))",
        "request.body.lines.size() > 10 && request.body.lines[0].amount == 0",
    ] {
        assert_eq!(parse(text).unwrap().test(&lines(50)), Ok(true), "{text}");
    }
    assert_eq!(parse("request.body.lines.all(line, line.amount >= 0)").unwrap().test(&lines(500)), Ok(true));
    // and copies that grow are still known beforehand
    let text = "request.body.lines.map(a, request.body.lines.map(b, a.sku + b.sku)).size() > 0";
    assert_eq!(parse(text).unwrap().test(&lines(500)).unwrap_err().reason, Reason::ExpressionCost);
}

#[test]
fn a_body_of_very_many_items_is_not_read_to_its_end() {
    let exchange = posted(&format!("[{}0]", "0,".repeat(500_000)));
    let fault = parse("request.body.size() > 0").unwrap().test(&exchange).unwrap_err();
    assert_eq!((fault.reason, fault.reason.status()), (Reason::ExpressionCost, 413));
}

#[test]
fn a_path_is_what_routes_match_and_the_full_one_what_is_forwarded() {
    let mut exchange = exchange("GET", "/items;v=1/a%20b;c;d/x", "", &[]);
    let start = exchange.request.path.start();
    exchange.params = vec![(0, crate::Span::new(start + 11, start + 20))];
    for text in [
        "request.path == '/items/a%20b/x' && request.path.startsWith('/items/')",
        "request.full_path == '/items;v=1/a%20b;c;d/x'",
        "params['id'] == 'a b' && params.id.size() == 3",
    ] {
        assert!(holds(text, &exchange), "{text}");
    }
    let place = Place { path: b"/a", full: b"/a;b", params: &[] };
    let test = parse("request.path == '/a' && request.full_path == '/a;b'").unwrap();
    assert_eq!(test.test_at(&exchange, place, &ReadBody::default(), &Budget::default()), Ok(true));
}

#[test]
fn a_body_is_read_once_for_all_that_ask() {
    let mut exchange = posted(r#"{"a":1}"#);
    let (body, place) = (ReadBody::default(), Place { path: b"/", full: b"/", params: &[] });
    let test = parse("request.body.a == 1").unwrap();
    assert_eq!(test.test_at(&exchange, place, &body, &Budget::default()), Ok(true));
    exchange.request.body = Some(b"[".to_vec());
    assert_eq!(test.test_at(&exchange, place, &body, &Budget::default()), Ok(true));
    assert!(test.test_at(&exchange, place, &ReadBody::default(), &Budget::default()).is_err());
}

#[test]
fn json_that_not_everyone_reads_alike_is_no_answer_of_a_condition() {
    let test = parse("request.body.a == 1 && request.method == 'POST'").unwrap();
    let read = |kind: &str, body: &[u8]| {
        let mut exchange = exchange("POST", "/", "", &[("Content-Type", kind)]);
        exchange.request.body = Some(body.to_vec());
        test.test(&exchange).map_err(|fault| fault.reason)
    };
    for kind in ["application/json", "Text/JSON; charset=utf-8", "application/vnd.x+json"] {
        assert_eq!(read(kind, br#" {"a":1} "#), Ok(true), "{kind}");
        for body in [
            "\u{feff}{\"a\":1}".as_bytes(),
            br#"{"a":1}x"#,
            b"{\"a\":1,\"b\":\"\xff\"}",
            br#"{"a":1,"a":2}"#,
            br#"{"a":1,"b":{"c":1,"\u0063":1}}"#,
            br#"{"a":1"#,
            b"\x1f\x8b\x08",
        ] {
            assert_eq!(read(kind, body), Err(Reason::InvalidRequest), "{kind} {}", String::from_utf8_lossy(body));
        }
    }
    assert_eq!(read("text/plain", b"a"), Ok(false));
    assert_eq!(read("application/json", b""), Ok(false));
}

#[test]
fn several_values_of_a_name_are_never_taken_for_the_first() {
    let repeated = |name: &str, query: &str, values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| (name, *value)).collect();
        exchange("GET", "/", query, &fields)
    };
    let roles = repeated("X-Role", "", &["user", "admin"]);
    assert!(holds("request.header['x-role'] == 'user, admin' && request.header['x-role'].contains('admin')", &roles));
    assert!(holds("request.header['x-' + 'role'] == 'user, admin'", &roles));
    assert!(!holds("request.header['x-role'] == 'user'", &roles));
    for (of, exchange) in [
        ("request.query", repeated("x", "role=user&role=admin", &[])),
        ("request.cookie", repeated("cookie", "", &["role=user", "role=admin"])),
        ("request.cookie", repeated("cookie", "", &["role=user; role=admin"])),
    ] {
        for text in ["!= 'admin'", "== 'user'", "== 'admin'", "in ['user']", "in ['admin']"] {
            for text in
                [format!("{of}.role {text}"), format!("!({of}.role {text})"), format!("{of}['ro' + 'le'] {text}")]
            {
                assert!(!holds(&text, &exchange), "{text}");
            }
        }
        assert!(holds(&format!("'role' in {of} && has({of}.role)"), &exchange));
    }
    assert!(holds("request.query.role == 'a'", &repeated("x", "role=a&role=%61", &[])));
}

#[test]
fn the_scheme_is_what_the_next_trusted_proxy_says() {
    let mut exchange = exchange("GET", "/", "", &[("X-Forwarded-Proto", "https")]);
    assert!(holds("request.scheme == 'http'", &exchange));
    exchange.client.trusted = true;
    assert!(holds("request.scheme == 'https'", &exchange));
}

#[test]
fn a_name_with_dashes_behind_a_dot_is_told() {
    for (text, meant) in [
        ("request.header.x-tenant == 'a'", "request.header[\"x-tenant\"]"),
        ("request.header.x-forwarded-proto == 'a'", "request.header[\"x-forwarded-proto\"]"),
        ("request.query.page-size.matches('a')", "request.query[\"page-size\"]"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.help, Some(format!("write `{meant}`")), "{text}: {error}");
    }
    let nested = format!("{}true", "request.path == 'a' ? true : ".repeat(12));
    assert!(parse(&nested).is_ok(), "{:?}", parse(&nested));
    let nested = format!("{}true", "request.path == 'a' ? true : ".repeat(30));
    let error = parse(&nested).unwrap_err();
    assert!(error.message.contains("conditionals"), "{error}");
}

/// A text of an exchange or a literal.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("request.method".to_owned()),
        Just("request.path".to_owned()),
        Just("request.header['X-A']".to_owned()),
        Just("request.header.b".to_owned()),
        Just("request.query['a']".to_owned()),
        Just("request.cookie['a']".to_owned()),
        Just("params.id".to_owned()),
        Just("client.ip".to_owned()),
        Just("consumer.name".to_owned()),
        literal(),
    ]
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![Just("''"), Just("'a'"), Just("'ab'"), Just("'GET'"), Just("'/a'"), Just("'b é'"), Just("'10.0.0.1'")]
        .prop_map(str::to_owned)
}

fn claim() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("d.a"), Just("d.b")]
        .prop_map(|name| format!("consumer.claims.{name}"))
}

fn said() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    prop_oneof![
        Just(json!("")),
        Just(json!("a")),
        Just(json!("ab")),
        Just(json!(7)),
        Just(json!(true)),
        Just(json!(null)),
        Just(json!(["a", 1])),
        Just(json!({ "a": "ab" })),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (value(), prop_oneof![Just("=="), Just("!=")], value()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (value(), proptest::collection::vec(literal(), 0..3))
            .prop_map(|(a, list)| format!("{a} in [{}]", list.join(","))),
        (value(), prop_oneof![Just("startsWith"), Just("endsWith"), Just("contains")], literal())
            .prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
        (value(), prop_oneof![Just("'^a'"), Just("'b.$'"), Just("''")]).prop_map(|(a, r)| format!("{a}.matches({r})")),
        Just("has(request.header.b)".to_owned()),
        Just("'a' in request.query".to_owned()),
        Just("in_network(client.ip, '10.0.0.0/31')".to_owned()),
        Just("'a' in consumer.roles".to_owned()),
        Just("'a' in consumer.scopes".to_owned()),
        Just("has(consumer.claims.a)".to_owned()),
        (claim(), prop_oneof![Just("=="), Just("!=")], value()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (value(), prop_oneof![Just("=="), Just("!=")], claim()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
        (claim(), proptest::collection::vec(literal(), 0..3))
            .prop_map(|(a, list)| format!("{a} in [{}]", list.join(","))),
        (literal(), claim()).prop_map(|(a, claim)| format!("{a} in {claim}")),
        (claim(), claim()).prop_map(|(a, b)| format!("{a} == {b}")),
        (prop_oneof![Just("=="), Just("!="), Just("<"), Just("<="), Just(">"), Just(">=")], any::<bool>()).prop_map(
            |(op, left)| if left { format!("response.status {op} 200") } else { format!("200 {op} response.status") }
        ),
        // errors, which `&&` and `||` may absorb
        Just("1 / response.status == 0".to_owned()),
        Just("int(request.path) == 1".to_owned()),
        prop_oneof![Just("true"), Just("false")].prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || ({b})")),
        ]
    })
}

fn any_exchange() -> impl Strategy<Value = Exchange> {
    let text = || prop_oneof![Just(""), Just("a"), Just("ab"), Just("b é"), Just("%61"), Just("a+b"), Just("x")];
    let method = prop_oneof![Just("GET"), Just("PUT")];
    let status = prop_oneof![Just(0_u16), Just(200), Just(404)];
    let claims = proptest::option::of(proptest::collection::btree_map("[abcd]", said(), 0..4));
    (method, text(), text(), text(), proptest::option::of(text()), any::<bool>(), status, claims).prop_map(
        |(method, path, query, a, b, known, status, claims)| {
            let mut fields = vec![("x-a", a)];
            fields.extend(b.map(|b| ("B", b)));
            let cookie = format!("a={a}; b=1");
            fields.push(("cookie", &cookie));
            let mut exchange = exchange(method, &format!("/{path}"), &format!("a={query}"), &fields);
            let start = exchange.request.path.start();
            exchange.params = vec![(0, crate::Span::new(start + 1, start + 1 + path.len()))];
            if known {
                let consumer = Consumer { name: "ab".into(), roles: vec!["a".into()], ..Consumer::default() };
                exchange.directory = Some(Arc::new(Directory::new(vec![consumer])));
                exchange.consumer = Some(ConsumerId(0));
                exchange.client.ip = "10.0.0.1".parse().unwrap();
            }
            if let Some(claims) = claims {
                let identity =
                    Identity { claims: claims.into_iter().collect(), scopes: vec!["a".into()], ..Identity::default() };
                exchange.identity = Some(Arc::new(identity));
            }
            exchange.response.status = status;
            exchange
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn the_short_way_and_the_interpreter_agree(text in condition(), exchange in any_exchange()) {
        let params = params();
        let Ok((tree, _, tables)) = compile(&text, &scope(&params)) else { return Err(TestCaseError::fail(text)) };
        let short = lower(&tree, &tables);
        let tables = Arc::new(tables);
        let facts = Facts::of(&exchange);
        let long = Program::new(tree).run(&facts, &tables);
        match (short.holds(&facts, &tables), long) {
            (Ok(short), Ok(Value::Bool(long))) => prop_assert_eq!(short, long, "{}", text),
            (Err(_), Err(_)) => {}
            (short, long) => return Err(TestCaseError::fail(format!("{text}: {short:?} {long:?}"))),
        }
    }

    #[test]
    fn no_text_breaks_the_reader(text in "[a-z(){}\\[\\]'\"?:.,!&|<>=+*/%0-9r\\\\ \n-]{0,80}") {
        let _ = parse(&text);
        let _ = Text::parse(&text, &Scope::default());
    }
}

#[test]
fn the_examples_of_the_page_are_expressions() {
    let page = include_str!("../../../../docs/reference/expressions.md");
    let block = page.split("```cel\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for line in block.lines() {
        assert!(Text::expression(line, &scope(&params())).is_ok(), "{line}");
        let test = Expression::parse(line, &scope(&params()));
        assert!(test.is_ok() || line.contains('?') || line.contains(" + "), "{line}: {test:?}");
    }
    for function in functions::ALL {
        assert!(page.contains(&format!("{}(", function.name)), "`{}` is not on the page", function.name);
    }
}

#[test]
fn what_other_languages_write_is_refused_with_what_is_written_here() {
    let scope = Scope { params: &[], any_params: false, consumer: false, answer: false, body: false };
    for (text, help) in [
        ("request.method = 'GET'", "`==` compares"),
        ("request.method === 'GET'", "`==` compares"),
        ("request.path =~ '^/a'", "matches"),
        ("request.path == '/a' and request.method == 'GET'", "`&&` for and"),
        ("not request.path == '/a'", "`!` for not"),
        ("$host == 'a'", "request.host"),
        ("${request.host} == 'a'", "leave `${`"),
        ("request.method == GET", "a text stands in quotes: `\"GET\"`"),
        ("client.ip in '10.0.0.0/8'", "in_network(client.ip, \"10.0.0.0/8\")"),
        ("client.ip in ['10.0.0.1', '10.0.0.0/8']", "in_network(client.ip, \"10.0.0.0/8\")"),
        ("client.ip == '10.0.0.0/8'", "in_network(client.ip, \"10.0.0.0/8\")"),
        ("request.method in 'GET'", "stands a list"),
        ("consumer.name == 'a'", "`when` of a policy"),
    ] {
        let error = Expression::parse(text, &scope).unwrap_err();
        assert!(error.help.as_deref().is_some_and(|found| found.contains(help)), "{text}: {error:?}");
    }
    assert!(Expression::parse("client.ip in ['10.0.0.1', '::1'] && request.path == '/a/10.0.0.0/8'", &scope).is_ok());
}
