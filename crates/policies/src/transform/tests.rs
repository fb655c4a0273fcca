//! What `transform` holds beyond its page: steps against a naive model, and input that is meant to do harm.

use daemun_pipeline::Exchange;
use proptest::prelude::*;
use serde_json::{Map, Value};

use super::body::{BodyEdit, BodyValue, Kind, edit};
use super::json::Keep;
use super::target::{BodyPath, Segment, Target};
use crate::testing::{Bench, Chain, field_lines, status, upstream_lines};

fn chain(settings: &str) -> Chain {
    Bench::new(Vec::new()).build(&format!("transform: {settings}")).unwrap()
}

fn request(chain: &Chain, head: &str, body: &str) -> (u16, Exchange) {
    let mut exchange = chain.exchange(head);
    let verdict = chain.inward_with(&mut exchange, body.as_bytes()).1;
    (verdict.err().map_or(0, |stop| status(&stop)), exchange)
}

/// What becomes of a body of a request; the status when it is refused.
fn body_of(steps: &str, kind: &str, body: &str) -> Result<String, u16> {
    let chain = chain(&format!("{{ request: [{steps}] }}"));
    let (status, exchange) = request(&chain, &format!("POST / HTTP/1.1\nContent-Type: {kind}"), body);
    let body = String::from_utf8(exchange.request.body.unwrap_or_default()).unwrap();
    if status == 0 { Ok(body) } else { Err(status) }
}

fn json(steps: &str, body: &str) -> Result<String, u16> {
    body_of(steps, "application/json", body)
}

fn xml(steps: &str, body: &str) -> Result<String, u16> {
    body_of(steps, "text/xml", body)
}

/// An answer that came out, or the status that is sent instead.
fn answer(settings: &str, status_sent: u16, fields: &[(&str, &str)], body: Option<&str>) -> Result<Exchange, u16> {
    let chain = chain(settings);
    let mut exchange = chain.exchange("GET /a HTTP/1.1");
    let (passed, verdict) = chain.inward(&mut exchange);
    verdict.unwrap();
    exchange.response.status = status_sent;
    for (name, value) in fields {
        assert!(exchange.response.head.append(name, value.as_bytes()));
    }
    if let Some(body) = body {
        chain.hold_answer(&mut exchange, body.as_bytes().to_vec());
    }
    chain.outward(passed, &mut exchange).map_err(|stop| status(&stop))?;
    Ok(exchange)
}

fn text(exchange: &Exchange) -> &str {
    std::str::from_utf8(exchange.response.body.as_deref().unwrap_or_default()).unwrap()
}

#[test]
fn json_steps_do_what_they_say() {
    for (steps, before, after) in [
        ("{ set: { body.a.b: 1 } }", "{}", Ok("{\"a\":{\"b\":1}}")),
        ("{ set: { body.a.b: x } }", "{\"a\":null}", Ok("{\"a\":{\"b\":\"x\"}}")),
        ("{ set: { body.a.b: x } }", "{\"a\":1}", Err(400)),
        ("{ set: { body.a: x } }", "[1]", Err(400)),
        ("{ set: { 'body[1]': x } }", "[1,2]", Ok("[1,\"x\"]")),
        ("{ set: { 'body[2]': x } }", "[1,2]", Err(400)),
        ("{ set: { 'body.a[*].b': true } }", "{\"a\":[{},{\"b\":1}]}", Ok("{\"a\":[{\"b\":true},{\"b\":true}]}")),
        ("{ set: { 'body.a[*].b': true } }", "{\"c\":0}", Ok("{\"c\":0}")),
        ("{ set: { 'body.a[*].b': true } }", "{\"a\":{\"b\":0}}", Err(400)),
        ("{ set: { 'body.a[*].b': true } }", "{\"a\":[1]}", Err(400)),
        ("{ set: { body: [1, { a: null }] } }", "{\"x\":1}", Ok("[1,{\"a\":null}]")),
        (
            "{ remove: [body.a, body.b.c, 'body.d[0]', 'body.e[*]'] }",
            "{\"d\":[1,2],\"e\":[3],\"b\":{\"c\":1},\"a\":0}",
            Ok("{\"d\":[2],\"e\":[],\"b\":{}}"),
        ),
        ("{ remove: body.a }", " { \"b\" : 1e400 } ", Ok(" { \"b\" : 1e400 } ")),
        ("{ remove: body.a }", "7", Ok("7")),
        ("{ remove: 'body[\"a.b\"]' }", "{\"a.b\":1,\"a\":{\"b\":2}}", Ok("{\"a\":{\"b\":2}}")),
        ("{ remove: body.a }", "{\"\\u0061\":1,\"\\u00e9\":-0}", Ok("{\"é\":-0}")),
        ("{ rename: { body.a: b } }", "{\"a\":1,\"b\":2,\"c\":3}", Ok("{\"b\":1,\"c\":3}")),
        ("{ rename: { 'body.x[*].a': b } }", "{\"x\":[{\"a\":1.0},{\"b\":2}]}", Ok("{\"x\":[{\"b\":1.0},{\"b\":2}]}")),
        (
            "{ keep: [body.a, body.b.c, 'body.d[1]'] }",
            "{\"z\":1,\"a\":[1],\"b\":{\"c\":2,\"d\":3},\"d\":[1,2]}",
            Ok("{\"a\":[1],\"b\":{\"c\":2},\"d\":[2]}"),
        ),
        ("{ keep: body.a.b }", "{\"a\":1,\"c\":2}", Ok("{}")),
        ("{ keep: body.a }", "[1]", Err(400)),
        ("{ keep: body.a }", "{\"a\":1}", Ok("{\"a\":1}")),
        ("{ keep: 'body[*].id' }", "[{\"id\":1,\"x\":2},3]", Ok("[{\"id\":1}]")),
        ("{ set: { body.a: 1 } }, { rename: { body.a: b } }, { remove: body.c }", "{\"c\":1}", Ok("{\"b\":1}")),
    ] {
        assert_eq!(json(steps, before).as_deref(), after.as_deref(), "{steps} {before}");
    }
}

#[test]
fn numbers_survive_unharmed_wherever_a_step_leads() {
    let numbers = "1.0,1e400,12345678901234567890,-0,1E+2,0.10000000000000000000000001,1.50";
    let body = format!("{{\"n\":[{numbers}],\"x\":1}}");
    assert_eq!(json("{ remove: body.x }", &body).unwrap(), format!("{{\"n\":[{numbers}]}}"));
    assert_eq!(json("{ remove: 'body.n[9]' }, { remove: body.x }", &body).unwrap(), format!("{{\"n\":[{numbers}]}}"));
    let all = json("{ template: { body: '{{ body.n | tojson }}' } }", &body).unwrap();
    assert_eq!(all, "[1.0,1e400,12345678901234567890,-0.0,100.0,0.10000000000000000000000001,1.5]");
    assert_eq!(json("{ template: { body: '{{ body.x + 1 }}' } }", &body).unwrap(), "2");
}

#[test]
fn harmful_json_is_refused_or_passes_whole() {
    let deep = format!("{{\"x\":1,\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    // nothing opens it, so that it costs one pass over its bytes
    assert_eq!(json("{ remove: body.x }", &deep).unwrap().len(), deep.len() - "\"x\":1,".len());
    assert_eq!(json("{ template: { body: '{{ body.x }}' } }", &deep), Err(400));
    for body in [
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"x\":{\"b\":1,\"b\":1},\"a\":{\"c\":1,\"c\":1}}",
        "{\"a\":1}x",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":\"\u{1}\"}",
        "{\"\\ud800\":1}",
        "\u{feff}{}",
        "{",
        "\0{}",
        " ",
    ] {
        assert_eq!(json("{ remove: [body.a.c] }", body), Err(400), "{body}");
    }
    let chain = chain("{ request: [{ remove: body.a }] }");
    for bytes in [&b"{\"b\":\"\xff\"}"[..], b"\xfe\xff\0{\0}", b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}"] {
        let mut exchange = chain.exchange("POST / HTTP/1.1\nContent-Type: application/json");
        let stop = chain.inward_with(&mut exchange, bytes).1.unwrap_err();
        assert_eq!(status(&stop), 400, "{bytes:?}");
    }
    let many = format!("{{\"a\":[{}0]}}", "0,".repeat(300_000));
    assert_eq!(json("{ remove: 'body.a[0]' }", &many), Err(400));
    assert_eq!(json("{ remove: body.a }", &many).unwrap(), "{}");
    let names: Vec<String> = (0..5000).map(|n| format!("\"{n}\":0")).collect();
    assert_eq!(
        json("{ remove: body.a }", &format!("{{{}}}", names.join(","))).unwrap().len(),
        names.join(",").len() + 2
    );
    assert_eq!(json("{ remove: body.a }", &format!("{{{},\"17\":0}}", names.join(","))), Err(400));
}

#[test]
fn bodies_of_other_types_are_refused_or_pass_as_they_came() {
    for (fields, body, refused) in [
        ("Content-Type: text/plain", "hello", true),
        ("Content-Type: application/json; charset=utf-16", "{}", true),
        ("Content-Type: application/json\nContent-Encoding: gzip", "xx", true),
        ("Content-Type: application/json\nContent-Type: text/plain", "{}", true),
        ("X: y", "{\"a\":1}", true),
        ("X: y", "", false),
        ("Content-Type: text/plain", "", false),
        ("Content-Type: application/json", "", false),
    ] {
        let head = format!("POST / HTTP/1.1\n{fields}");
        let steps = "request: [{ set: { body.a: 2, header.x-a: b } }]";
        let (status, _) = request(&chain(&format!("{{ {steps} }}")), &head, body);
        assert_eq!(status, if refused { 415 } else { 0 }, "{fields}");
        let (status, exchange) = request(&chain(&format!("{{ {steps}, on_other_body: pass }}")), &head, body);
        assert_eq!(status, 0, "{fields}");
        assert!(exchange.request.body.is_none_or(|held| held == body.as_bytes()), "{fields}");
        assert_eq!(exchange.request.head.get("x-a"), Some(&b"b"[..]), "{fields}");
    }
    let large = format!("[{}0]", "0,".repeat(600));
    let small = chain("{ request: [{ remove: body.a }], max_body: 1KiB }");
    assert_eq!(request(&small, "POST / HTTP/1.1\nContent-Type: application/json", &large).0, 413);
}

#[test]
fn nothing_is_held_where_no_step_is_about_a_body() {
    let chain = chain("{ request: [{ set: { header.a: b } }], response: [{ set: { header.c: d } }] }");
    let policy = &chain.steps[0].1;
    assert_eq!(policy.bodies(), daemun_pipeline::Bodies::default());
    let exchange = chain.exchange("POST / HTTP/1.1\nContent-Type: application/json");
    assert_eq!(policy.request_body(&exchange), daemun_pipeline::BodyNeed::Untouched);
    assert_eq!(policy.response_body(&exchange), daemun_pipeline::BodyNeed::Untouched);
    assert_eq!(policy.removed_from_requests(), ["a".into()]);
    assert_eq!(policy.removed_from_answers(), ["c".into()]);
}

#[test]
fn heads_are_changed_in_the_order_of_the_steps() {
    let chain = chain(
        "[{ rename: { header.a: b, query.old: new } }, { set: { header.c: '1', path: /v2/x } }, { remove: header.c }, \
         { keep: [header.b, header.host, query.new, query.p] }, { set: { query.p: 'ä &' } }]",
    );
    let head = "GET /v1/x?old=%20&z=1&p=2 HTTP/1.1\nHost: h\nA: 1\na: 2\nB: 3\nCookie: c\nContent-Type: text/plain\nConnection: close";
    let (status, exchange) = request(&chain, head, "");
    assert_eq!(status, 0);
    assert_eq!(
        upstream_lines(&exchange.request),
        [
            "GET /v2/x?new=%20&p=%C3%A4%20%26 HTTP/1.1",
            "Host: h",
            "b: 1",
            "b: 2",
            "Content-Type: text/plain",
            "Connection: close"
        ]
    );
    let (_, exchange) =
        request(&Bench::new(Vec::new()).build("transform: [{ remove: query.a }]").unwrap(), "GET /?a=1 HTTP/1.1", "");
    assert_eq!(exchange.request.query, None);
}

#[test]
fn forms_are_changed_field_by_field() {
    let form = |steps: &str, body: &str| body_of(steps, "application/x-www-form-urlencoded", body);
    assert_eq!(form("{ set: { body.a: 'x y&', body.n: 5 } }", "b=%41&a=1&a=2").unwrap(), "b=%41&a=x+y%26&n=5");
    assert_eq!(form("{ remove: 'body[\"user[name]\"]' }", "user%5Bname%5D=x&b=1").unwrap(), "b=1");
    assert_eq!(form("{ rename: { body.a: b } }", "a=1&b=2&c=3").unwrap(), "b=1&c=3");
    assert_eq!(form("{ keep: [body.a, body.z] }", "a=1&b=2&a=3").unwrap(), "a=1&a=3");
    assert_eq!(form("{ set: { body.a.b: x } }", "a=1"), Err(400));
    assert_eq!(form("{ set: { body.a: [1] } }", "a=1"), Err(400));
    assert_eq!(
        form("{ template: { body: 'n={{ body.a }}&m={{ body.b }}' } }", "a=%26x%3D1&b=+").unwrap(),
        "n=%26x%3D1&m=%20"
    );
}

#[test]
fn xml_steps_do_what_they_say() {
    for (steps, before, after) in [
        ("{ set: { body.a.b: 'x<y' } }", "<a/>", Ok("<a><b>x&lt;y</b></a>")),
        ("{ set: { body.a.b.c: 1 } }", "<a><b>t</b><b/></a>", Ok("<a><b>t<c>1</c></b><b><c>1</c></b></a>")),
        ("{ set: { 'body.a.b[1]': x } }", "<a><b>1</b> <b>2</b></a>", Ok("<a><b>1</b> <b>x</b></a>")),
        ("{ set: { 'body.a.b[1]': x } }", "<a><b/></a>", Err(400)),
        (
            "{ set: { 'body.a.b[*].@x': '\"' } }",
            "<a><b x='1' y='\"'/></a>",
            Ok("<a><b x=\"&quot;\" y=\"&quot;\"/></a>"),
        ),
        ("{ set: { 'body.a.b[*].c': x } }", "<a/>", Ok("<a/>")),
        ("{ set: { body.z.b: x } }", "<a/>", Err(400)),
        ("{ set: { body.a: [1] } }", "<a/>", Err(400)),
        ("{ set: { 'body.a[\"b c\"]': x } }", "<a/>", Err(400)),
        (
            "{ remove: [body.a.b, body.a.@c, 'body.a.d[0]'] }",
            "<a c='1'><b/>t<b>x</b><d/><d e='1'/></a>",
            Ok("<a>t<d e='1'/></a>"),
        ),
        ("{ remove: body.a }", "<a/>", Err(400)),
        ("{ remove: body.b }", "<a ><!-- c --></a >", Ok("<a ><!-- c --></a >")),
        (
            "{ rename: { body.a.b: c, body.a.@x: '@y' } }",
            "<a x='1'><b>&amp;</b></a>",
            Ok("<a y=\"1\"><c>&amp;</c></a>"),
        ),
        (
            "{ rename: { body.a: z } }",
            "<?xml version='1.0'?>\n<a>&#65;<![CDATA[<]]></a>\n",
            Ok("<?xml version='1.0'?>\n<z>&#65;<![CDATA[<]]></z>\n"),
        ),
        (
            "{ keep: [body.a.b, 'body.a.c[1]', body.a.@k] }",
            "<a k='1' l='2' xmlns='u'>t<b><x/></b><c>0</c><c>1</c><d/></a>",
            Ok("<a k=\"1\" xmlns=\"u\"><b><x/></b><c>1</c></a>"),
        ),
        ("{ keep: body.z.b }", "<a/>", Err(400)),
        (
            "{ set: { body.s:Envelope.s:Body: x } }",
            "<s:Envelope xmlns:s='u'><s:Body/></s:Envelope>",
            Ok("<s:Envelope xmlns:s='u'><s:Body>x</s:Body></s:Envelope>"),
        ),
    ] {
        assert_eq!(xml(steps, before).as_deref(), after.as_deref(), "{steps} {before}");
    }
    let written = xml(
        "{ template: { body: '<r id=\"{{ body.a[\"@i\"] }}\">{{ body.a.b[0] }}{{ body.a.b[1] | tojson }}</r>' } }",
        "<a i='1&amp;'><b>&lt;x&gt;</b><b>\"</b></a>",
    );
    assert_eq!(written.unwrap(), "<r id=\"1&amp;\">&lt;x&gt;&quot;\\&quot;&quot;</r>");
}

#[test]
fn harmful_xml_is_refused() {
    let deep = format!("{}{}", "<a>".repeat(70), "</a>".repeat(70));
    let many = format!("<a>{}</a>", "<b/>".repeat(120_000));
    let laughs = "<!DOCTYPE a [<!ENTITY x \"ha\"><!ENTITY y \"&x;&x;\">]><a>&y;</a>";
    let external = "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>";
    for body in [
        deep.as_str(),
        &many,
        laughs,
        external,
        "<a>&y;</a>",
        "<a b='&y;'/>",
        "<a>&#0;</a>",
        "<a>&#x1F;</a>",
        "<a>&</a>",
        "<a b='1' b='2'/>",
        "<a b=1/>",
        "<a b='<'/>",
        "<a><b></a></b>",
        "<a>",
        "</a>",
        "<a/><b/>",
        "<a/>text",
        "text",
        "",
        " ",
        "<a>]]></a>",
        "<a>\u{1}</a>",
        "<1a/>",
        "<a<b/>",
        "\u{feff}<a/>",
        " <?xml version='1.0'?><a/>",
        "<?xml version='1.0' encoding='utf-16'?><a/>",
        "<?xml version='1.0' encoding='latin1'?><a/>",
        "<a><!-- -- --></a>",
    ] {
        let shown: String = body.chars().take(60).collect();
        let refused = xml("{ remove: body.z.y }", body);
        // there is no body in an empty one
        assert_eq!(refused, if body.is_empty() { Ok(String::new()) } else { Err(400) }, "{shown}");
    }
}

#[test]
fn templates_cannot_be_broken_out_of_and_cannot_run_on() {
    let written = json("{ template: { body: '{\"a\": {{ body.a }}}' } }", "{\"a\":\"x\\\"}, {\\\"b\"}").unwrap();
    assert_eq!(written, "{\"a\": \"x\\\"}, {\\\"b\"}");
    // what is no JSON is not sent
    assert_eq!(json("{ template: { body: '{\"a\": \"{{ body.a }}\"}' } }", "{\"a\":\"x\"}"), Err(500));
    assert_eq!(json("{ template: { body: '{{ body.missing }}' } }", "{\"a\":1}"), Err(400));
    assert_eq!(json("{ template: { body: '{{ body.missing | default(1) }}' } }", "{\"a\":1}").unwrap(), "1");
    let endless = "{ template: { body: '{% for a in range(9999) %}{% for b in range(9999) %}{% set x = 1 %}{% endfor %}{% endfor %}1' } }";
    assert_eq!(json(endless, "{\"a\":1}"), Err(413));
    let long = "{ template: { body: '[{% for a in body %}{{ body | tojson }},{% endfor %}1]' } }";
    assert_eq!(json(long, &format!("[{}0]", "0,".repeat(60_000))), Err(413));
    let head = "GET /a?q=x%0D%0Aevil HTTP/1.1\nX-A: 1\nX-B: 2";
    let header = chain("[{ template: { header.x-b: '{{ query.q }}' } }]");
    assert_eq!(request(&header, head, "").0, 400);
    for (template, status, path) in [
        ("/v2/{{ header[\"x-a\"] }}/{{ query.q }}", 0, "/v2/1/x%0D%0Aevil"),
        ("/v2/{{ \"a/b\" }}", 400, ""),
        ("/v2/{{ \"..\" }}/x", 400, ""),
        ("/v2/{{ \";\" }}", 400, ""),
        ("/v2/{{ \"ä%\" | safe }}", 0, "/v2/%C3%A4%25"),
        ("v2", 400, ""),
    ] {
        let chain = chain(&format!("[{{ template: {{ path: '{template}' }} }}]"));
        let (found, exchange) = request(&chain, head, "");
        assert_eq!(found, status, "{template}");
        assert!(status != 0 || exchange.request.path_text() == path, "{}", exchange.request.path_text());
    }
}

#[test]
fn answers_are_refused_or_pass_where_they_cannot_be_changed_and_never_half() {
    let json = ("Content-Type", "application/json");
    let steps =
        "response: [{ set: { body.a.b: 1 } }, { template: { header.x: '{{ body.a.b }}' } }, { set: { body.c.d: 1 } }]";
    let refuse = format!("{{ {steps} }}");
    let pass = format!("{{ {steps}, on_bad_answer: pass, on_other_body: pass }}");
    for (fields, body) in [
        (vec![json], Some("{\"c\":1}")),
        (vec![json], Some("{")),
        (vec![json, ("Content-Encoding", "gzip")], Some("xx")),
        (vec![("Content-Type", "text/html")], Some("xx")),
        (vec![("Content-Type", "text/html")], None),
        (vec![json], None),
        (vec![], None),
    ] {
        assert_eq!(answer(&refuse, 200, &fields, body).err(), Some(502), "{fields:?} {body:?}");
        let passed = answer(&pass, 200, &fields, body).unwrap();
        if let Some(held) = &passed.response.body {
            assert_eq!(Some(held.as_slice()), body.map(str::as_bytes), "{fields:?}");
        }
        assert_eq!(
            field_lines(&passed.response.head).first().cloned(),
            fields.first().map(|(n, v)| format!("{n}: {v}"))
        );
    }
    let done = answer(&refuse, 200, &[json], Some("{}")).unwrap();
    assert_eq!(text(&done), "{\"a\":{\"b\":1},\"c\":{\"d\":1}}");
    assert_eq!(done.response.head.get("x"), Some(&b"1"[..]));
    let one = "{ response: [{ set: { body.a.b: 1 } }] }";
    // there is nothing to change in an answer without a body
    for status in [204, 304, 200] {
        assert!(answer(one, status, &[json], Some("")).is_ok(), "{status}");
    }
    assert_eq!(answer(one, 206, &[json], Some("{}")).err(), Some(502));
}

#[test]
fn an_answer_of_the_gateways_own_keeps_its_body_and_is_never_replaced() {
    let settings =
        "{ response: [{ keep: body.id }, { template: { header.x: '{{ body.id }}' } }, { set: { header.y: z } }] }";
    let chain = chain(settings);
    let mut exchange = chain.exchange("GET /a HTTP/1.1");
    let (passed, _) = chain.inward(&mut exchange);
    exchange.response.status = 429;
    exchange.response.own = true;
    exchange.response.head.append("content-type", b"application/problem+json");
    exchange.response.body = Some(b"{\"status\":429}".to_vec());
    chain.outward(passed, &mut exchange).unwrap();
    assert_eq!(text(&exchange), "{\"status\":429}");
    assert_eq!(field_lines(&exchange.response.head), ["content-type: application/problem+json", "y: z"]);
}

#[test]
fn answers_of_other_statuses_are_left_alone() {
    let json = ("Content-Type", "application/json");
    let settings = "{ response: [{ set: { body.a: 1, status: 201 } }], statuses: [2xx, 404] }";
    for (status, changed) in [(200, true), (299, true), (404, true), (400, false), (500, false), (304, false)] {
        let done = answer(settings, status, &[json], Some("{}")).unwrap();
        assert_eq!(done.response.status, if changed { 201 } else { status });
        assert_eq!(text(&done) == "{\"a\":1}", changed, "{status}");
    }
}

#[test]
fn what_the_caller_makes_too_much_is_the_callers_fault() {
    let chain = chain("[{ template: { header.x-q: '{{ query.q }}' } }]");
    let ask = |length: usize| request(&chain, &format!("GET /?q={} HTTP/1.1", "a".repeat(length)), "").0;
    assert_eq!((ask(8 << 10), ask((8 << 10) + 1)), (0, 413));
    let pairs = "{ template: { body: '{% for a in body %}{% for b in body %}{% endfor %}{% endfor %}1' } }";
    assert_eq!(json(pairs, "[1,2]"), Ok("1".to_owned()));
    assert_eq!(json(pairs, &format!("[{}0]", "0,".repeat(5_000))), Err(413));
    let chain = format!("{{ response: [{pairs}] }}");
    let body = format!("[{}0]", "0,".repeat(5_000));
    assert_eq!(answer(&chain, 200, &[("Content-Type", "application/json")], Some(&body)).err(), Some(502));
}

#[test]
fn a_template_reads_elements_of_many_names_as_fast_as_of_one() {
    let children: String = (0..90_000).map(|n| format!("<a{n}/>")).collect();
    let steps = "{ template: { body: '<n>{{ body.r | length }}</n>' } }";
    assert_eq!(xml(steps, &format!("<r>{children}</r>")), Ok("<n>90000</n>".to_owned()));
    assert_eq!(
        xml("{ template: { body: '<n>{{ body.r.a[1] }}{{ body.r.b }}</n>' } }", "<r><a>1</a><b>2</b><a>3</a></r>"),
        Ok("<n>32</n>".to_owned())
    );
}

#[test]
fn a_status_that_says_what_the_body_is_stays() {
    for (status, becomes) in [(200, 201), (404, 201), (204, 204), (206, 206), (304, 304)] {
        let fields = [("ETag", "\"x\""), ("Content-Range", "bytes 0-1/5")];
        let done = answer("{ response: [{ set: { status: 201 } }] }", status, &fields, None).unwrap();
        assert_eq!(done.response.status, becomes);
    }
}

#[test]
fn the_length_of_a_body_that_head_does_not_get_is_not_told_where_the_body_would_be_another() {
    let fields = [("Content-Type", "application/json"), ("Content-Length", "9"), ("ETag", "\"x\"")];
    for (steps, changed) in
        [("{ set: { body.a: 1 } }", true), ("{ template: { body: '1' } }", true), ("{ set: { header.x: y } }", false)]
    {
        let chain = chain(&format!("{{ response: [{steps}] }}"));
        let mut exchange = chain.exchange("HEAD /a HTTP/1.1");
        let (passed, _) = chain.inward(&mut exchange);
        exchange.response.status = 200;
        for (name, value) in fields {
            assert!(exchange.response.head.append(name, value.as_bytes()));
        }
        // of a file, none is there to be empty
        exchange.response.body = (!steps.starts_with("{ template")).then(Vec::new);
        chain.outward(passed, &mut exchange).unwrap();
        let head = &exchange.response.head;
        assert_eq!(head.get("content-length").is_none(), changed, "{steps}");
        assert_eq!(head.get("etag"), Some(if changed { &b"W/\"x\""[..] } else { &b"\"x\""[..] }), "{steps}");
    }
}

#[test]
fn an_answer_that_nothing_changed_has_the_validator_by_which_the_caller_knows_it() {
    for (steps, asked, told) in [
        ("{ set: { body.a: 1 } }", "W/\"x\"", "W/\"x\""),
        ("{ set: { body.a: 1 } }", "\"x\"", "\"x\""),
        ("{ set: { header.y: z } }", "W/\"x\"", "\"x\""),
    ] {
        let chain = chain(&format!("{{ response: [{steps}], statuses: 2xx }}"));
        let mut exchange = chain.exchange(&format!("GET /a HTTP/1.1\nIf-None-Match: {asked}"));
        let (passed, _) = chain.inward(&mut exchange);
        exchange.response.status = 304;
        exchange.response.head.append("ETag", b"\"x\"");
        chain.outward(passed, &mut exchange).unwrap();
        assert_eq!(exchange.response.head.get("etag"), Some(told.as_bytes()), "{steps} {asked}");
    }
}

#[test]
fn wrong_settings_are_found() {
    let bench = Bench::new(Vec::new());
    for (settings, codes) in [
        ("[]", vec!["bad_value"]),
        ("{}", vec!["missing_key"]),
        ("[{ set: { header.host: a } }]", vec!["bad_value"]),
        ("[{ set: { header.x-consumer-name: a } }]", vec!["bad_value"]),
        ("[{ rename: { header.a: content-length } }]", vec!["bad_value"]),
        ("[{ rename: { header.a: 'b c' } }]", vec!["bad_value"]),
        ("[{ rename: { header.a: header.b, query.a: query.b, body.a: body.b } }]", vec!["bad_value"; 3]),
        ("[{ set: { header.a: 5 } }]", vec!["wrong_type"]),
        ("[{ set: { header.a: \"b\\nc\" } }]", vec!["bad_value"]),
        ("[{ set: { query.a: true } }]", vec!["wrong_type"]),
        ("[{ set: { path: /a/../b } }]", vec!["bad_value"]),
        ("[{ set: { status: 200 } }]", vec!["bad_value"]),
        ("[{ set: { body.a: 0x10 } }]", vec!["bad_value"]),
        ("[{ remove: path }]", vec!["bad_value"]),
        ("[{ remove: body }]", vec!["bad_value"]),
        ("[{ rename: { 'body[0]': a } }]", vec!["bad_value"]),
        ("[{ remove: [] }]", vec!["bad_value"]),
        ("[{ remove: nothing }]", vec!["bad_value"]),
        ("[{ unset: x }]", vec!["unknown_key"]),
        ("[{ template: { body: '{{ body.a' } }]", vec!["bad_value"]),
        ("[{ template: { body: '{{ secret }}' } }]", vec!["bad_value"]),
        ("[{ template: { body: '{% include \"x\" %}' } }]", vec!["bad_value"]),
        ("[{ template: { body.a: x } }]", vec!["bad_value"]),
        ("[{ template: { header.a: x, content_type: text/plain } }]", vec!["bad_value"]),
        ("{ response: [{ set: { query.a: b } }, { set: { path: /a } }] }", vec!["bad_value"; 2]),
        ("{ response: [{ set: { status: 204 } }] }", vec!["bad_value"]),
        ("{ request: [{ remove: header.a }], max_body: 1GiB }", vec!["bad_value"]),
        ("{ request: [{ remove: header.a }], statuses: 1xx }", vec!["bad_value"]),
        ("{ response: [{ set: { status: 201, header.host: fine } }], statuses: [200, '3xx'] }", vec![]),
    ] {
        let errors = bench.errors(&format!("transform: {settings}"));
        let found: Vec<_> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
        assert_eq!(found, codes, "{settings}: {errors:?}");
    }
    let errors = bench.errors("transform: { request: [{ set: { header.host: a } }] }");
    assert_eq!(errors, ["bad_value routes.items.policies.transform.request[0]: `host` cannot be changed here"]);
}

#[test]
fn values_may_be_computed_from_the_message_in_their_turn() {
    let chain = chain(
        "[{ set: { header.x-b: 'of ${request.header[\"x-a\"]}', query.q: '${request.path} &', body.a: '${request.header[\"x-b\"]}\"' } }, \
         { set: { path: '/v2/${request.header[\"x-a\"]}', body.n: 5, header.x-none: '${request.header[\"nope\"]}' } }]",
    );
    let head = "POST /p HTTP/1.1\nContent-Type: application/json\nX-A: 1 2\nX-None: forged";
    let (status, exchange) = request(&chain, head, "{}");
    assert_eq!(status, 0);
    assert_eq!(
        upstream_lines(&exchange.request),
        ["POST /v2/1%202?q=%2Fp%20%26 HTTP/1.1", "Content-Type: application/json", "X-A: 1 2", "x-b: of 1 2"]
    );
    assert_eq!(exchange.request.body.as_deref(), Some(&b"{\"a\":\"of 1 2\\\"\",\"n\":5}"[..]));
    let (status, _) = request(&chain, "POST /p HTTP/1.1\nContent-Type: application/json\nX-A: a/b", "{}");
    assert_eq!(status, 400);
    let errors = Bench::new(Vec::new()).errors("transform: { request: [{ set: { header.a: '${nonsense}' } }] }");
    assert!(
        errors.len() == 1 && errors[0].starts_with("bad_value routes.items.policies.transform.request[0].set.header.a"),
        "{errors:?}"
    );
}

#[test]
fn explain_names_places_and_never_values() {
    let chain = chain(
        "{ request: [{ set: { header.a: secret, body.b: secret } }, { keep: query.q }], response: [{ remove: header.s }] }",
    );
    let (_, detail) = chain.explain(&mut chain.exchange("GET / HTTP/1.1"));
    assert_eq!(detail, "request: sets `header.a`, `body.b`, keeps only `query.q`; answer: removes `header.s`");
}

/// A step as the naive model does it: `None` when the document has not the shape for it.
fn model(value: &mut Value, way: &[Segment], act: &Act) -> Option<()> {
    let [segment, rest @ ..] = way else {
        if let Act::Set(new) = act {
            *value = new.clone();
        }
        return Some(());
    };
    if let (true, Act::Remove | Act::Rename(_)) = (rest.is_empty(), act) {
        match (segment, value, act) {
            (Segment::Name(name), Value::Object(map), Act::Remove) => {
                map.shift_remove(&**name);
            }
            (Segment::Index(n), Value::Array(items), Act::Remove) if *n < items.len() => {
                items.remove(*n);
            }
            (Segment::Every, Value::Array(items), Act::Remove) => items.clear(),
            (Segment::Name(name), Value::Object(map), Act::Rename(new)) if map.contains_key(&**name) => {
                let kept = std::mem::take(map).into_iter().filter(|(known, _)| *known == **name || known != new);
                *map = kept.map(|(known, inner)| (if known == **name { new.clone() } else { known }, inner)).collect();
            }
            _ => {}
        }
        return Some(());
    }
    let sets = matches!(act, Act::Set(_));
    match (segment, value) {
        (Segment::Name(name), Value::Object(map)) => match map.get_mut(&**name) {
            Some(inner) => model(inner, rest, act),
            None if !sets || rest.first() == Some(&Segment::Every) => Some(()),
            None => {
                let mut inner = Value::Null;
                model(&mut inner, rest, act)?;
                // where each of no items is set, nothing is
                if !rest.contains(&Segment::Every) {
                    map.insert(name.to_string(), inner);
                }
                Some(())
            }
        },
        (Segment::Name(_), value @ Value::Null) if sets => {
            let mut inner = Value::Object(Map::new());
            model(&mut inner, way, act)?;
            if !way.contains(&Segment::Every) {
                *value = inner;
            }
            Some(())
        }
        (Segment::Index(n), Value::Array(items)) => match items.get_mut(*n) {
            Some(inner) => model(inner, rest, act),
            None => (!sets).then_some(()),
        },
        (Segment::Every, Value::Array(items)) => items.iter_mut().try_for_each(|inner| model(inner, rest, act)),
        (Segment::Every, Value::Null) => Some(()),
        _ => (!sets).then_some(()),
    }
}

#[derive(Clone, Debug)]
enum Act {
    Set(Value),
    Remove,
    Rename(String),
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c"), Just("é\"")].prop_map(str::to_owned)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((names(), inner), 0..4).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn ways() -> impl Strategy<Value = Vec<Segment>> {
    let segment = prop_oneof![
        4 => names().prop_map(|name| Segment::Name(name.into())),
        1 => (0usize..3).prop_map(Segment::Index),
        1 => Just(Segment::Every),
    ];
    proptest::collection::vec(segment, 1..4)
}

fn acts() -> impl Strategy<Value = (Vec<Segment>, Act)> {
    let act = prop_oneof![values().prop_map(Act::Set), Just(Act::Remove), names().prop_map(Act::Rename)];
    (ways(), act)
}

proptest! {
    #[test]
    fn json_steps_do_what_a_naive_model_does(document in values(), steps in proptest::collection::vec(acts(), 1..4)) {
        let (mut expected, mut sound) = (document.clone(), true);
        let mut edits = Vec::new();
        for (way, act) in &steps {
            sound &= sound && model(&mut expected, way, act).is_some();
            let path = BodyPath(way.clone().into());
            edits.push(match act {
                Act::Set(value) => BodyEdit::Set(path, BodyValue { json: value.to_string().into(), text: None }),
                Act::Remove => BodyEdit::Remove(path),
                Act::Rename(new) => BodyEdit::Rename(path, new.as_str().into()),
            });
        }
        let text = serde_json::to_string_pretty(&document).unwrap();
        match edit(Kind::Json, text.as_bytes(), &edits, &[]) {
            Err(_) => prop_assert!(!sound),
            Ok(changed) => {
                prop_assert!(sound);
                let found: Value = serde_json::from_slice(changed.as_deref().unwrap_or(text.as_bytes())).unwrap();
                prop_assert_eq!(found.to_string(), expected.to_string());
            }
        }
    }

    #[test]
    fn what_is_kept_is_there_and_nothing_else(document in values(), way in ways()) {
        let mut keep = Keep::default();
        keep.add(&way);
        let text = document.to_string();
        let Ok(changed) = edit(Kind::Json, text.as_bytes(), &[BodyEdit::Keep(keep)], &[]) else { return Ok(()) };
        let found: Value = serde_json::from_slice(changed.as_deref().unwrap_or(text.as_bytes())).unwrap();
        fn leaves(value: &Value, way: &[Segment], out: &mut Vec<Value>) {
            match (way.split_first(), value) {
                (None, value) => out.push(value.clone()),
                (Some((Segment::Name(name), rest)), Value::Object(map)) => {
                    map.get(&**name).into_iter().for_each(|inner| leaves(inner, rest, out));
                }
                (Some((Segment::Index(n), rest)), Value::Array(items)) => {
                    items.get(*n).into_iter().for_each(|inner| leaves(inner, rest, out));
                }
                (Some((Segment::Every, rest)), Value::Array(items)) => items.iter().for_each(|inner| leaves(inner, rest, out)),
                _ => {}
            }
        }
        // an item that is kept is the first of its list afterwards
        let after: Vec<Segment> = way.iter().map(|s| if matches!(s, Segment::Index(_)) { Segment::Index(0) } else { s.clone() }).collect();
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        leaves(&document, &way, &mut before);
        leaves(&found, &after, &mut behind);
        prop_assert_eq!(before, behind);
        prop_assert!(found.to_string().len() <= text.len());
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "[\\[\\]{}\",:<>/&;a-c0-9 ='!?-]{0,60}") {
        let way = |text: &str| {
            let Ok(Target::Body(path)) = Target::parse(text) else { panic!("{text}") };
            path
        };
        for kind in [Kind::Json, Kind::Xml, Kind::Form] {
            let edits = [BodyEdit::Remove(way("body.a.b[*].c")), BodyEdit::Rename(way("body.a"), "b".into())];
            if let Ok(Some(out)) = edit(kind, text.as_bytes(), &edits, &[]) {
                prop_assert!(edit(kind, &out, &edits, &[]).is_ok(), "{}", String::from_utf8_lossy(&out));
            }
        }
    }
}
