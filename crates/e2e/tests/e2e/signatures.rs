//! Signed requests on the wire: who comes in, once, and with which body; what is in the guide is run as it stands there.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::{Client, Gateway, Lane, Origin, wait_until};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/certificates-and-signatures.md");
pub(crate) const SECRET: &str = "correct horse battery staple";

fn yaml(policies: &str, route: &str) -> String {
    format!(
        "workers: 2\naccess_log: off\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nupstreams: {{ origin: {{ targets: [\"{{origin}}\"] }} }}\n\
         policies: {policies}\nroutes: [{{ name: all, upstream: origin{route} }}]\nconsumers:\n  \
         - {{ name: shop-app, roles: [buyer], keys: [shop-app-key-0123456789], hmac: {{ id: shop, secret: {SECRET} }} }}\n"
    )
}

/// Runs a script with these variables; what it printed.
pub(crate) fn shell(script: &str, variables: &[(&str, &str)]) -> String {
    let folder = Folder::new();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .envs(variables.iter().copied())
        .env_remove("http_proxy")
        .current_dir(folder.path())
        .output()
        .expect("`bash` must be installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The blocks of the guide in this language, that hold a text.
fn blocks(language: &str, holds: &str) -> Vec<String> {
    let guide = std::fs::read_to_string(GUIDE).unwrap();
    let fence = format!("```{language}\n");
    let behind = guide.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    behind.filter(|block| block.contains(holds)).map(str::to_owned).collect()
}

/// A request that is signed now, without what ends its head.
pub(crate) fn signed(method: &str, target: &str, rest: &str) -> String {
    let script = format!(
        "date=$(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S GMT')\n\
         text=$(printf '(request-target): %s %s\\nhost: e2e.test\\ndate: %s{}' {} '{target}' \"$date\")\n\
         signature=$(printf '%s' \"$text\" | openssl dgst -sha512 -hmac \"$SECRET\" -binary | openssl base64 -A)\n\
         printf '%s\\n%s' \"$date\" \"$signature\"\n",
        rest.to_lowercase().replace("digest: sha-256", "digest: SHA-256"),
        method.to_lowercase(),
    );
    let printed = shell(&script, &[("SECRET", SECRET)]);
    let (date, signature) = printed.split_once('\n').unwrap();
    let covered = if rest.is_empty() { "(request-target) host date" } else { "(request-target) host date x-nonce" };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: e2e.test\r\nDate: {date}\r\n{}Authorization: Signature keyId=\"shop\",algorithm=\"hmac-sha512\",\
         headers=\"{covered}\",signature=\"{signature}\"\r\n",
        if rest.is_empty() { String::new() } else { format!("{}\r\n", rest.trim_start_matches("\\n")) },
    )
}

#[test]
fn the_call_of_the_guide_passes_and_no_other_body_does() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&yaml("{ hmac_auth: {} }", "").replace("{origin}", &origin.url()));
    let block = blocks("sh", "-hmac").remove(0);
    let script = block.replace("127.0.0.1:8080", &gateway.address().to_string());
    let printed = shell(&script, &[("SHOP_SECRET", SECRET)]);
    assert!(printed.starts_with("HTTP/1.1 200"), "{printed}");
    let request = origin.only_request();
    assert_eq!((request.target.as_str(), request.body.as_slice()), ("/orders?dry=1", &b"{\"sku\": 7}"[..]));
    assert_eq!(request.field("x-consumer-name"), Some("shop-app"));
    assert!(!request.has("authorization") && request.has("digest"), "{}", request.shown());
    for (changed, status) in [
        (script.replace("-d \"$body\"", "-d '{\"sku\": 8}'"), "401"),
        (script.replace("orders?dry=1'", "orders?dry=0'"), "401"),
        (script.replace("-d \"$body\"", "-X POST"), "401"),
        (script.replace("$SHOP_SECRET", "another secret"), "401"),
    ] {
        assert_ne!(changed, script);
        let printed = shell(&changed, &[("SHOP_SECRET", SECRET)]);
        assert!(printed.contains(&format!("HTTP/1.1 {status}")), "{printed}");
    }
    assert_eq!(origin.look(|log| log.requests.len()), 1);
}

#[test]
fn a_signature_lets_one_request_in_whichever_worker_it_reaches() {
    let lane = Lane::start(&yaml("{ hmac_auth: {} }", ""));
    let request = Arc::new(format!("{}\r\n", signed("GET", "/t", "")));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (request, address) = (Arc::clone(&request), lane.gateway.address().clone());
            std::thread::spawn(move || Client::connect(&address).call(request.as_bytes()).status)
        })
        .collect();
    let mut statuses: Vec<u16> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401, 401, 401]);
    assert_eq!(lane.origin.look(|log| log.requests.len()), 1);
}

#[test]
fn a_reload_forgets_no_signature() {
    let text = |settings: &str| format!("status: {{ bind: 127.0.0.1:0 }}\n{}", yaml(settings, ""));
    let lane = Lane::start(&text("{ hmac_auth: {} }"));
    let request = format!("{}\r\n", signed("GET", "/t", ""));
    assert_eq!(lane.connect().call(&request).status, 200);
    lane.gateway.rewrite(&text("{ hmac_auth: { clock_skew: 4m } }").replace("{origin}", &lane.origin.url()));
    lane.gateway.signal(Signal::HUP);
    wait_until("the other configuration", Duration::from_secs(10), || {
        let reloads = lane.gateway.metrics().sum("daemun_config_reloads_total", &["result=\"ok\""]);
        (reloads > 0.5).then_some(())
    });
    assert_eq!(lane.connect().call(&request).status, 401);
}

#[test]
fn a_signature_that_one_route_has_let_in_no_other_route_does() {
    let text = yaml("{ hmac_auth: { replay_entries: 1000, clock_skew: 1m } }", "");
    let other = "routes: [{ name: other, match: { headers: { x-way: other } }, upstream: origin, \
                 policies: { hmac_auth: { replay_entries: 5000 } } }, { name: all, upstream: origin }]";
    let lane = Lane::start(&text.replace("routes: [{ name: all, upstream: origin }]", other));
    let (first, way) = (signed("GET", "/t", ""), "X-Way: other\r\n\r\n");
    assert_eq!(lane.connect().call(format!("{first}{way}")).status, 200);
    assert_eq!(lane.connect().call(format!("{first}\r\n")).status, 401);
    let second = signed("GET", "/u", "");
    assert_eq!(lane.connect().call(format!("{second}\r\n")).status, 200);
    assert_eq!(lane.connect().call(format!("{second}{way}")).status, 401);
}

#[test]
fn a_body_that_was_not_signed_stays_out_where_another_way_would_do_as_well() {
    let any = ", authenticate: { any: [key_auth, hmac_auth] }";
    let lane = Lane::start(&yaml("{ key_auth: { header: X-Api-Key }, hmac_auth: {} }", any));
    let body = "Content-Length: 4\r\n\r\nbody";
    let post = signed("POST", "/t", "");
    assert_eq!(lane.connect().call(format!("{post}{body}")).status, 401, "its digest is not signed");
    assert_eq!(lane.connect().call(format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\n{body}")).status, 401);
    let key = format!("POST /t HTTP/1.1\r\nHost: e2e.test\r\nX-Api-Key: shop-app-key-0123456789\r\n{body}");
    assert_eq!(lane.connect().call(key).status, 200, "who proves itself in another way signs no body");
    let nonce = signed("POST", "/t", "\\nx-nonce: 1");
    assert_eq!(lane.connect().call(format!("{nonce}Content-Length: 0\r\n\r\n")).status, 200);
    assert_eq!(lane.origin.look(|log| log.requests.len()), 2);
}

#[test]
fn the_key_and_the_call_of_the_guide_pass_and_no_other_request_does() {
    let (origin, folder) = (Origin::echo(), Folder::new());
    let key = blocks("sh", "genpkey").remove(0);
    shell(&format!("cd '{}'\n{key}", folder.path().display()), &[]);
    let yaml = blocks("yaml", "signature_auth: {}").remove(0);
    let yaml = yaml.replace("http://10.0.0.11:9001", &origin.url()).replace("127.0.0.1:8080", "127.0.0.1:0");
    let folder_path = folder.path().to_owned();
    let gateway = Gateway::start_in(folder, &yaml);
    let block = blocks("sh", "-rawin").remove(0).replace("127.0.0.1:8080", &gateway.address().to_string());
    let script = format!("cd '{}'\n{block}", folder_path.display());
    let printed = shell(&script, &[]);
    assert!(printed.starts_with("HTTP/1.1 200"), "{printed}");
    let request = origin.only_request();
    assert_eq!((request.target.as_str(), request.field("x-consumer-name")), ("/orders?open=1", Some("partner")));
    assert!(!request.has("signature") && !request.has("signature-input"), "{}", request.shown());
    for (changed, status) in [
        (script.replace("/orders?open=1'", "/orders?open=2'"), "401"),
        (script.replace("/orders?open=1'", "/orders/x?open=1'"), "401"),
        (script.replace("curl -i", "curl -i -X DELETE"), "401"),
        (script.replace("curl -i", "curl -i -d unsigned -X GET"), "401"),
        (script.replace("date +%s", "date -d '-10 minutes' +%s"), "401"),
        (script.replace("date +%s", "date -d '-1 minute' +%s"), "200"),
    ] {
        assert_ne!(changed, script);
        let printed = shell(&changed, &[]);
        assert!(printed.contains(&format!("HTTP/1.1 {status}")), "{changed}\n{printed}");
    }
    assert_eq!(origin.look(|log| log.requests.len()), 2);
}
