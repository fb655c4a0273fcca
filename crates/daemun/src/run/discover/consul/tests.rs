use daemun_config::model::{Secret, Server, TargetAddress};
use serde_json::json;

use super::*;

fn source() -> ConsulSource {
    ConsulSource {
        server: Server {
            address: TargetAddress::Tcp { host: "127.0.0.1".into(), port: 8500 },
            tls: false,
            authority: "127.0.0.1:8500".into(),
            ca_file: None,
        },
        base_path: String::new(),
        service: "web".into(),
        tag: None,
        datacenter: None,
        namespace: None,
        token: Some(Secret("secret".into())),
        only_passing: true,
        near: None,
    }
}

#[test]
fn the_question_waits_only_when_it_knows_for_what() {
    assert_eq!(target(&source(), Index(0)), "/v1/health/service/web?passing=1");
    assert_eq!(target(&source(), Index(7)), "/v1/health/service/web?passing=1&index=7&wait=60s");
    let full = ConsulSource {
        base_path: "/consul".into(),
        service: "a/b".into(),
        tag: Some("v&2".into()),
        datacenter: Some("dc1".into()),
        namespace: Some("shop".into()),
        near: Some("_agent".into()),
        only_passing: false,
        ..source()
    };
    let expected = "/consul/v1/health/service/a%2Fb?tag=v%262&dc=dc1&ns=shop&near=_agent";
    assert_eq!(target(&full, Index(0)), expected);
    assert_eq!(target(&ConsulSource { only_passing: false, ..source() }, Index(0)), "/v1/health/service/web");
}

#[test]
fn an_index_that_goes_backwards_or_is_none_is_not_waited_for() {
    let mut index = Index(0);
    for (next, expected) in
        [(Some(5), 5), (Some(5), 5), (Some(9), 9), (Some(3), 0), (Some(3), 3), (Some(0), 0), (None, 0)]
    {
        index.follow(next);
        assert_eq!(index.0, expected, "{next:?}");
    }
}

fn instance(address: &str, status: &str) -> Value {
    json!({
        "Node": { "Node": "n1", "Address": "10.1.1.1", "Locality": { "Region": "kr", "Zone": "kr-a" } },
        "Service": {
            "ID": "web-1", "Service": "web", "Address": address, "Port": 8080, "Weights": { "Passing": 10, "Warning": 2 },
        },
        "Checks": [{ "CheckID": "serfHealth", "Status": "passing" }, { "CheckID": "web", "Status": status }],
    })
}

fn found(list: &[Value], only_passing: bool) -> Vec<String> {
    let body = serde_json::to_vec(&Value::from(list.to_vec())).unwrap();
    let targets = targets(&body, only_passing, false, false).unwrap();
    let text =
        |target: &FoundTarget| format!("{} {} {}", target.url, target.weight, target.zone.as_deref().unwrap_or("-"));
    targets.iter().map(text).collect()
}

#[test]
fn instances_are_called_at_their_own_address_else_at_their_nodes() {
    let list = [instance("10.0.0.2", "passing"), instance("", "passing")];
    assert_eq!(found(&list, true), ["http://10.0.0.2:8080 10 kr-a", "http://10.1.1.1:8080 10 kr-a"]);
}

#[test]
fn one_that_warns_has_its_own_weight_and_one_that_is_critical_is_never_called() {
    let list = [instance("10.0.0.2", "warning"), instance("10.0.0.3", "critical"), instance("10.0.0.4", "passing")];
    assert_eq!(found(&list, true), ["http://10.0.0.4:8080 10 kr-a"]);
    assert_eq!(found(&list, false), ["http://10.0.0.2:8080 2 kr-a", "http://10.0.0.4:8080 10 kr-a"]);
}

#[test]
fn what_is_no_instance_is_passed_over_and_what_is_no_list_is_refused() {
    let mut without_port = instance("10.0.0.2", "passing");
    without_port["Service"]["Port"] = json!(0);
    let odd = [without_port, json!({}), json!(1), json!({ "Service": { "Port": 70_000, "Address": "a" } })];
    assert!(found(&odd, true).is_empty());
    for body in [&b"{}"[..], b"", b"[", b"\xff"] {
        assert!(targets(body, true, false, false).is_err());
    }
}
