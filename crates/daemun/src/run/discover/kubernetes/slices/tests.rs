use serde_json::json;

use super::*;

fn slice(name: &str, version: &str, kind: &str, endpoints: Value) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "shop", "resourceVersion": version },
        "addressType": kind,
        "ports": [
            { "name": "http", "protocol": "TCP", "port": 8080 },
            { "name": "dns", "protocol": "UDP", "port": 53 },
        ],
        "endpoints": endpoints,
    })
}

fn page(items: &[Value], version: &str, next: Option<&str>) -> Vec<u8> {
    let list = json!({
        "kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1",
        "metadata": { "resourceVersion": version, "continue": next },
        "items": items,
    });
    serde_json::to_vec(&list).unwrap()
}

fn event(slices: &mut Slices, kind: &str, object: &Value) -> Told {
    let line = serde_json::to_vec(&json!({ "type": kind, "object": object })).unwrap();
    slices.event(&line).unwrap_or_else(|_| panic!("{kind} is refused"))
}

fn urls(slices: &Slices) -> Vec<String> {
    let targets = slices.targets(None, false).unwrap();
    targets.iter().map(|target| target.url.trim_start_matches("http://").to_owned()).collect()
}

fn ends(result: Result<Told, Ended>) -> String {
    match result {
        Err(Ended::Failed(why)) => why,
        Err(Ended::Expired) => "expired".to_owned(),
        Ok(told) => format!("{told:?}"),
    }
}

#[test]
fn slices_of_several_pages_are_one_list_and_events_go_on_from_there() {
    let mut slices = Slices::default();
    let first = slice("a", "1", "IPv4", json!([{ "addresses": ["10.0.0.1"] }]));
    let second = slice("b", "2", "IPv4", json!([{ "addresses": ["10.0.0.2"] }, { "addresses": ["10.0.0.1"] }]));
    assert_eq!(slices.add_page(&page(&[first], "10", Some("more"))).ok().flatten().as_deref(), Some("more"));
    assert_eq!(slices.add_page(&page(&[second], "10", None)).ok().flatten(), None);
    assert_eq!(slices.version(), "10");
    assert_eq!(urls(&slices), ["10.0.0.1:8080", "10.0.0.1:8080", "10.0.0.2:8080"]);

    let third = slice("c", "11", "IPv4", json!([{ "addresses": ["10.0.0.3"] }]));
    assert_eq!(event(&mut slices, "ADDED", &third), Told::Changed);
    let second = slice("b", "12", "IPv4", json!([{ "addresses": ["10.0.0.4"] }]));
    assert_eq!(event(&mut slices, "MODIFIED", &second), Told::Changed);
    assert_eq!(
        event(&mut slices, "MODIFIED", &slice("b", "13", "IPv4", json!([{ "addresses": ["10.0.0.4"] }]))),
        Told::Nothing
    );
    assert_eq!(event(&mut slices, "DELETED", &slice("a", "14", "IPv4", json!([]))), Told::Changed);
    assert_eq!(urls(&slices), ["10.0.0.3:8080", "10.0.0.4:8080"]);
    let bookmark = json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": "99" } });
    assert_eq!(event(&mut slices, "BOOKMARK", &bookmark), Told::Nothing);
    assert_eq!(slices.version(), "99");
}

#[test]
fn a_version_that_is_gone_and_other_errors_are_told_apart() {
    let mut slices = Slices::default();
    let gone = json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version" });
    assert_eq!(event(&mut slices, "ERROR", &gone), Told::Expired);
    let line = br#"{"type":"ERROR","object":{"kind":"Status","code":500}}"#;
    assert_eq!(ends(slices.event(line)), "the watch ends with 500");
    assert!(ends(slices.event(b"not json")).starts_with("the API server does not answer with JSON"));
    assert_eq!(ends(slices.event(b"\r\n")), "Nothing");
    assert_eq!(ends(slices.event(b"{}")), "Nothing");
    assert!(slices.add_page(b"{}").is_err());
    assert!(slices.add_page(br#"{"items": null, "metadata": {"resourceVersion": "1"}}"#).is_ok());
}

#[test]
fn endpoints_are_called_by_their_conditions() {
    let endpoints = |conditions: Value| json!([{ "addresses": ["10.0.0.1"], "conditions": conditions }]);
    for (conditions, called) in [
        (json!({}), true),
        (json!({ "ready": null }), true),
        (json!({ "ready": true, "serving": true, "terminating": false }), true),
        (json!({ "ready": false, "serving": false }), false),
        // on its way out, but nobody else is there
        (json!({ "ready": false, "serving": true, "terminating": true }), true),
        (json!({ "ready": false, "serving": false, "terminating": true }), false),
    ] {
        let mut slices = Slices::default();
        assert!(slices.add_page(&page(&[slice("a", "1", "IPv4", endpoints(conditions.clone()))], "1", None)).is_ok());
        assert_eq!(urls(&slices).len(), usize::from(called), "{conditions}");
    }
}

#[test]
fn one_on_its_way_out_is_not_called_while_others_are_ready() {
    let mut slices = Slices::default();
    let leaving =
        json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": false, "serving": true, "terminating": true } });
    let ready = json!({ "addresses": ["10.0.0.2"], "zone": "kr-a" });
    assert!(slices.add_page(&page(&[slice("a", "1", "IPv4", json!([leaving, ready]))], "1", None)).is_ok());
    let targets = slices.targets(None, true).unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].url.as_str(), targets[0].zone.as_deref()), ("https://10.0.0.2:8080", Some("kr-a")));
}

#[test]
fn an_endpoint_with_addresses_of_both_families_is_one_target() {
    let both = |address: &str| json!([{ "addresses": [address], "targetRef": { "kind": "Pod", "uid": "u1" } }]);
    let alone = json!([{ "addresses": ["2001:db8::2"], "targetRef": { "kind": "Pod", "uid": "u2" } }]);
    let mut slices = Slices::default();
    let items = [
        slice("a", "1", "IPv6", both("2001:db8::1")),
        slice("b", "1", "IPv4", both("10.0.0.1")),
        slice("c", "1", "IPv6", alone),
    ];
    assert!(slices.add_page(&page(&items, "1", None)).is_ok());
    assert_eq!(urls(&slices), ["10.0.0.1:8080", "[2001:db8::2]:8080"]);
}

#[test]
fn the_port_is_the_one_that_is_named() {
    let mut two = slice("a", "1", "IPv4", json!([{ "addresses": ["10.0.0.1"] }]));
    two["ports"] = json!([{ "name": "http", "port": 80 }, { "name": "admin", "port": 9000 }]);
    let mut slices = Slices::default();
    assert!(slices.add_page(&page(&[two], "1", None)).is_ok());
    let port = |wanted: Option<PortRef>| {
        slices.targets(wanted.as_ref(), false).map(|targets| targets.first().map(|target| target.url.clone()))
    };
    assert_eq!(port(Some(PortRef::Name("admin".into()))).unwrap().as_deref(), Some("http://10.0.0.1:9000"));
    assert_eq!(port(Some(PortRef::Number(80))).unwrap().as_deref(), Some("http://10.0.0.1:80"));
    assert_eq!(port(Some(PortRef::Number(81))).unwrap(), None);
    let why = port(None).unwrap_err();
    assert_eq!(why, "the service has several ports, of which `port` must name one: `http` (80), `admin` (9000)");
}

#[test]
fn slices_beyond_the_bound_are_counted_and_not_kept() {
    let mut slices = Slices::default();
    let items: Vec<Value> = (0..=MOST_SLICES)
        .map(|number| {
            slice(
                &format!("s{number}"),
                "1",
                "IPv4",
                json!([{ "addresses": [format!("10.0.{}.{}", number / 256, number % 256)] }]),
            )
        })
        .collect();
    assert!(slices.add_page(&page(&items, "1", None)).is_ok());
    assert_eq!((urls(&slices).len(), slices.left_out()), (MOST_SLICES, 1));
}
