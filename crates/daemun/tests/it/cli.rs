//! The commands that answer and end: their text and their exit codes.

use daemun::Code;

use crate::support::{Folder, daemun};

const SHOP: &str = r#"
listeners: [{ bind: "127.0.0.1:8080" }]
upstreams:
  catalog: { targets: ["http://10.0.0.11:9001", { url: "http://10.0.0.12:9001/base", weight: 3 }] }
policies:
  key_auth: { header: X-Api-Key }
routes:
  - name: get-item
    match: { hosts: [api.example.com], path: "/products/items/{id}", methods: [GET] }
    upstream: catalog
    rewrite: { path: "/v2/items/{id}" }
  - name: in-korea
    match: { hosts: [api.example.com], prefix: /products, headers: { x-country: KR } }
    upstream: catalog
  - name: hello
    match: { path: /hello }
    answer: { status: 200, body: hello }
    policies: { key_auth: off }
consumers:
  - { name: shop-app, keys: [key-of-the-shop-app] }
"#;

fn shop() -> (Folder, String) {
    let folder = Folder::new();
    let path = folder.write("daemun.yaml", SHOP).display().to_string();
    (folder, path)
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what_is_wrong() {
    for (arguments, text) in [
        (&["serve"][..], "unrecognized subcommand 'serve'"),
        (&["check", "--formt", "json"], "--format"),
        (&["explain", "GET"], "<URL>"),
        (&["chekc"], "a similar subcommand exists: 'check'"),
        (&["rotues"], "a similar subcommand exists: 'routes'"),
        (&["key", "nwe"], "a similar subcommand exists: 'new'"),
        (&[], "Usage: daemun <COMMAND>"),
    ] {
        let ran = daemun(arguments);
        assert_eq!(ran.code, Code::Usage, "{arguments:?}");
        assert!(ran.err.contains(text), "{arguments:?}: {}", ran.err);
        assert_eq!(ran.out, "");
    }
}

#[test]
fn help_goes_to_standard_output() {
    let ran = daemun(&["--help"]);
    assert_eq!((ran.code, ran.err.as_str()), (Code::Done, ""));
    for command in ["run", "check", "explain", "routes", "key", "schema", "demo", "version"] {
        assert!(ran.out.contains(&format!("\n  {command} ")), "{command}: {}", ran.out);
    }
}

#[test]
fn a_sound_configuration_passes() {
    let (_folder, path) = shop();
    let ran = daemun(&["check", "-c", &path]);
    assert_eq!(ran.out, "ok: 1 listener, 3 routes, 1 upstream, 1 consumer\n", "{}", ran.err);
    assert_eq!(ran.code, Code::Done);
}

#[test]
fn every_mistake_is_shown_at_once_and_exits_with_1() {
    let folder = Folder::new();
    let path = folder.write(
        "a.yaml",
        &SHOP.replace("upstream: catalog", "upstream: catalogue").replace("body: hello }", "body: hello, x: 1 }"),
    );
    let path = path.display().to_string();
    let ran = daemun(&["check", "-c", &path]);
    assert_eq!(ran.code, Code::Wrong);
    assert_eq!(ran.out, "");
    assert_eq!(ran.err.matches("error[unknown_upstream]").count(), 2, "{}", ran.err);
    assert_eq!(ran.err.matches("error[unknown_key]").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("help: did you mean `catalog`?"));

    let json = daemun(&["check", "-c", &path, "--format", "json"]);
    assert_eq!(json.code, Code::Wrong);
    let found: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(found["errors"], 3);
    assert_eq!(found["diagnostics"][0]["at"]["file"], path);
}

#[test]
fn what_compiling_finds_is_shown_as_well() {
    let folder = Folder::new();
    let twin = SHOP
        .replace("  - name: hello\n", "  - name: twin\n    match: { path: /hello }\n    answer: {}\n  - name: hello\n");
    let ran = daemun(&["check", "-c", &folder.write("a.yaml", &twin).display().to_string()]);
    assert_eq!(ran.code, Code::Wrong);
    assert!(ran.err.contains("error[route_conflict]"), "{}", ran.err);
}

#[test]
fn a_configuration_that_is_not_there_exits_with_69() {
    let folder = Folder::new();
    let path = folder.path("none.yaml").display().to_string();
    for arguments in
        [&["check", "-c", &path][..], &["routes", "-c", &path], &["explain", "-c", &path, "GET", "http://a/"]]
    {
        let ran = daemun(arguments);
        assert_eq!(ran.code, Code::Unavailable, "{}", ran.err);
        assert!(ran.err.contains(&path), "{}", ran.err);
    }
}

#[test]
fn odd_input_is_told_with_its_place_and_exits_with_1() {
    let folder = Folder::new();
    let nested = "[".repeat(100_000);
    for (name, text, place, message) in [
        ("empty.yaml", &b""[..], ":1:1\n", "is empty"),
        ("comment.yaml", b"# nothing\n", ":1:1\n", "is empty"),
        ("binary.yaml", b"a: 1\nb\xc3\xa9: \x7fELF\xff\x00\n", ":2:9\n", "is not UTF-8 text"),
        ("utf16.yaml", b"\xff\xfea\0:\0", ":1:1\n", "save it as UTF-8"),
        ("zeros.yaml", &[0; 4096], ":1:1\n", "this is not YAML: found unprintable character"),
        ("deep.yaml", nested.as_bytes(), ":1:", "nested deeper than 64"),
        ("deep.json", nested.as_bytes(), ":1:65\n", "nested deeper than 64"),
        ("deep.toml", format!("a = {nested}").as_bytes(), ":1:", "nested deeper than 64"),
        ("twice.yaml", b"routes: []\nlisteners: []\nroutes: []\n", ":3:1\n", "`routes` is given twice"),
        ("twice.json", b"{\"routes\": [],\n \"routes\": []}", ":2:2\n", "`routes` is given twice"),
        ("tabs.yaml", b"listeners:\n\t- bind: 127.0.0.1:1\n", ":2:2\n", "YAML is indented with spaces"),
        ("mark.yaml", b"\xef\xbb\xbfnonsense: 1\n", ":1:1\n", "there is no key `nonsense` here"),
        ("windows.yaml", b"workers: 1\r\nnonsense: 1\r\n", ":2:1\n", "there is no key `nonsense` here"),
        ("text.yaml", b"hello\n", ":1:1\n", "expected a mapping, found the text `hello`"),
    ] {
        let path = folder.path(name);
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let ran = daemun(&["check", "-c", &path]);
        assert_eq!((ran.code, ran.out.as_str()), (Code::Wrong, ""), "{name}: {}", ran.err);
        let place = format!("--> {path}{place}");
        assert!(ran.err.contains(&place) && ran.err.contains(message), "{name}: no {place:?} in {}", ran.err);
    }
    let large = folder.path("large.yaml");
    // what is never written is read as zeros, and takes no room
    std::fs::File::create(&large).unwrap().set_len((100 << 20) + 1).unwrap();
    let empty = folder.path("folder");
    std::fs::create_dir(&empty).unwrap();
    for (path, message) in [(large, "larger than 100 MiB"), (empty, "holds no configuration")] {
        let path = path.display().to_string();
        let ran = daemun(&["check", "-c", &path]);
        assert_eq!(ran.code, Code::Wrong, "{}", ran.err);
        assert!(ran.err.contains(message) && ran.err.contains(&path), "{}", ran.err);
    }
}

#[test]
fn twenty_thousand_mistakes_on_one_line_are_counted_and_listed() {
    let folder = Folder::new();
    let keys: Vec<String> = (0..20_000).map(|number| format!("\"k{number}\": \"${{env:NONE:-secret}}\"")).collect();
    let text = format!("{{ \"listeners\": [{{ \"bind\": \"127.0.0.1:0\" }}], \"routes\": [], {} }}", keys.join(", "));
    let path = folder.write("a.json", &text).display().to_string();
    let ran = daemun(&["check", "-c", &path]);
    assert_eq!(ran.code, Code::Wrong);
    assert_eq!(ran.err.matches("error[unknown_key]").count(), 100);
    assert!(
        ran.err
            .ends_with("… and 19901 more, which `--format json` of `daemun check` lists\n\n20000 errors, 1 warning\n")
    );
    assert!(!ran.err.contains("secret") && ran.err.len() < 80_000, "{}", ran.err.len());
    let listed: serde_json::Value =
        serde_json::from_str(&daemun(&["check", "-c", &path, "--format", "json"]).out).unwrap();
    assert_eq!(listed["diagnostics"].as_array().unwrap().len(), 20_001);
}

/// A certificate and its key by openssl, in a folder.
fn certificate(folder: &Folder, name: &str, extension: &[&str]) {
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=a", "-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
    let made = openssl.args(extension).current_dir(folder.path("")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_in_words() {
    let folder = Folder::new();
    certificate(&folder, "good", &["-addext", "subjectAltName=DNS:a"]);
    certificate(&folder, "other", &["-addext", "subjectAltName=DNS:b"]);
    // one of version 1 has no extensions, and openssl makes none such any more
    let old = ["x509", "-x509toreq", "-in", "good.crt", "-signkey", "good.key", "-out", "old.csr"];
    let sign = ["x509", "-req", "-in", "old.csr", "-signkey", "good.key", "-out", "old.crt"];
    for arguments in [&old[..], &sign] {
        let ran = std::process::Command::new("openssl").args(arguments).current_dir(folder.path("")).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
    folder.write("damaged.crt", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    folder.write("text.crt", "no certificate\n");
    for (cert, key, told) in [
        ("old.crt", "good.key", "`old.crt` cannot be used: it is a certificate of version 1"),
        ("good.crt", "other.key", "do not go together: the key is another certificate's"),
        ("damaged.crt", "good.key", "what it holds is not a certificate, or is damaged"),
        ("text.crt", "good.key", "it holds no certificate"),
        ("none.crt", "good.key", "`none.crt` cannot be used: no such file"),
    ] {
        let tls = format!("tls: {{ certificates: [{{ cert: {cert}, key: {key} }}] }}");
        let text = format!("listeners: [{{ bind: 127.0.0.1:0, {tls} }}]\nroutes: [{{ name: a, answer: {{}} }}]\n");
        let path = folder.write("daemun.yaml", &text).display().to_string();
        let err = daemun(&["check", "-c", &path]).err.replace(&folder.path("").display().to_string(), "");
        assert!(err.contains(told) && !err.contains("Other("), "{cert}: {err}");
        assert!(err.ends_with("1 error\n"), "{cert}: {err}");
    }
}

#[test]
fn routes_are_shown_in_the_order_they_match() {
    let (_folder, path) = shop();
    let ran = daemun(&["routes", "-c", &path]);
    let table = "\
HOST             PATH                  METHODS  CONDITIONS           ROUTE     TO                POLICIES
api.example.com  /products/items/{id}  GET      -                    get-item  upstream catalog  key_auth
api.example.com  /products[/…]         *        header x-country=KR  in-korea  upstream catalog  key_auth
*                /hello                *        -                    hello     answer 200        -
";
    assert_eq!(ran.out, table);
    let json: serde_json::Value =
        serde_json::from_str(&daemun(&["routes", "-c", &path, "--format", "json"]).out).unwrap();
    assert_eq!(json[1]["route"], "in-korea");
    assert_eq!(json[1]["policies"][0], "key_auth");
}

#[test]
fn explain_shows_the_route_the_verdicts_and_what_is_sent() {
    let (_folder, path) = shop();
    let url = "https://api.example.com/products/items/7?color=red";
    let ran =
        daemun(&["explain", "-c", &path, "GET", url, "-H", "X-Api-Key: key-of-the-shop-app", "-H", "Cookie: s=1"]);
    assert_eq!(ran.code, Code::Done, "{}", ran.err);
    for line in [
        "route: get-item",
        "  get-item  api.example.com  takes it",
        "  in-korea  api.example.com  wants another header `x-country`",
        "  {id} = 7",
        "destination: upstream catalog",
        "  GET /v2/items/7?color=red HTTP/1.1",
        "  Cookie: …",
    ] {
        assert!(ran.out.lines().any(|shown| shown == line), "{line}\nin\n{}", ran.out);
    }
    assert!(!ran.out.contains("key-of-the-shop-app"), "{}", ran.out);
}

const CALLS: &str = r#"
listeners: [{ bind: "127.0.0.1:8080" }]
zone: a
upstreams:
  plain: { targets: ["http://10.0.0.1:1"] }
  spare: { targets: ["http://10.0.0.2:1"] }
  shop:
    targets: [{ url: "http://10.0.0.3:1", tier: 1, zone: a }, { url: "http://10.0.0.4:1", zone: b }]
    balance: { hash: { header: x-user } }
    retry: { retries: 2, on: [reset, "503"] }
    hedge: { after: 80ms }
    breaker: { failure_ratio: 12.5%, consecutive: 7 }
    fallback: { cached: { for: 10m }, upstream: spare, on: [failure, "503"] }
    limits: { requests: 9, queue: 3, per_target: { connections: 4 } }
    concurrency: adaptive
  bound: { targets: ["http://10.0.0.5:1"], balance: { sticky: { cookie: at } } }
  named: { discover: { dns: { name: shop.internal, port: 80 } } }
  served: { discover: { consul: { service: web, address: "http://127.0.0.1:8500" } } }
  listed: { discover: { file: { path: LIST } } }
  empty: { discover: { file: { path: NOTHING } } }
routes:
  - { name: plain, match: { path: /plain }, upstream: plain }
  - { name: shop, match: { path: /shop }, upstream: shop, importance: high, mirror: { upstream: spare, share: 10% } }
  - { name: off, match: { path: /off }, upstream: shop, retry: off, fallback: { cached: {} } }
  - { name: bound, match: { path: /bound }, upstream: bound }
  - { name: named, match: { path: /named }, upstream: named }
  - { name: served, match: { path: /served }, upstream: served }
  - { name: listed, match: { path: /listed }, upstream: listed }
  - { name: empty, match: { path: /empty }, upstream: empty }
"#;

/// The calls of [`CALLS`], and where they are.
fn calls() -> (Folder, String) {
    let folder = Folder::new();
    let list = folder.write("list.yaml", "- http://10.0.0.9:1/base\n");
    let text = CALLS.replace("LIST", &list.display().to_string());
    let text = text.replace("NOTHING", &folder.path("nothing.yaml").display().to_string());
    let path = folder.write("daemun.yaml", &text).display().to_string();
    (folder, path)
}

#[test]
fn explain_tells_who_gets_a_call_what_bounds_it_and_what_is_done_when_it_fails() {
    let (_folder, path) = calls();
    let destination = |method: &str, target: &str, fields: &[&str]| {
        let url = format!("http://a{target}");
        let mut arguments = vec!["explain", "-c", &path, method, &url];
        for field in fields {
            arguments.extend(["-H", field]);
        }
        let ran = daemun(&arguments);
        assert_eq!(ran.code, Code::Done, "{}", ran.err);
        let told = ran.out.split_once("destination: ").map(|(_, told)| told.split("\n\n").next().unwrap_or_default());
        told.unwrap_or_default().to_owned()
    };
    assert_eq!(destination("GET", "/plain", &[]), "upstream plain\n  target: http://10.0.0.1:1");
    assert_eq!(
        destination("GET", "/shop", &["X-User: kim"]),
        "upstream shop\n  target: http://10.0.0.4:1\n  standing: tier 0, zone b\n  \
         balance: hash of the header `x-user`, here `kim`\n  importance: high\n  \
         limits: 9 calls at once, 4 connections to each target, 3 more wait up to 1s\n  \
         concurrency: learned, 8 to 1000 calls at once\n  \
         retry: up to 2 times, after reset, 503, 20% of all calls at most\n  \
         hedge: a second call after 80ms, 10% of all calls at most\n  \
         breaker: opens after 12.5% failed calls of 10s or 7 failed calls in a row, for 5s\n  \
         fallback: after failure, 503, the last good answer, if it is no older than 10m, else upstream spare\n  \
         mirror: 10% of the calls to upstream spare as well"
    );
    let post = destination("POST", "/shop", &[]);
    for line in [
        "  balance: hash of the header `x-user`, which the request lacks",
        "  retry: up to 2 times, after reset, 503, 20% of all calls at most; `POST` only where it had no effect",
        "  hedge: none for `POST`",
        "  fallback: after failure, 503, upstream spare; `POST` only where it had no effect",
    ] {
        assert!(post.lines().any(|shown| shown == line), "{line}\nin\n{post}");
    }
    let off = destination("POST", "/off", &[]);
    assert!(off.contains("  retry: off\n") && off.contains("  fallback: none for `POST`"), "{off}");
    assert!(destination("GET", "/bound", &["Cookie: at=secret"]).ends_with("sticky by the cookie `at`, here `…`"));
    let json = daemun(&["explain", "-c", &path, "GET", "http://a/shop", "--format", "json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["call"]["importance"], "high");
    assert_eq!(json["call"]["mirror"], "10% of the calls to upstream spare as well");
}

#[test]
fn explain_tells_how_targets_are_found_and_reads_those_of_a_file() {
    let (folder, path) = calls();
    let explain = |target: &str| daemun(&["explain", "-c", &path, "GET", &format!("http://a{target}")]).out;
    let (list, nothing) = (folder.path("list.yaml"), folder.path("nothing.yaml"));
    for (target, found) in [
        ("/named", "found while the gateway runs, by A and AAAA records of `shop.internal`".to_owned()),
        ("/served", "found while the gateway runs, by the service `web` of Consul at `127.0.0.1:8500`".to_owned()),
        ("/empty", format!("of the file `{}`, which cannot be read: ", nothing.display())),
        ("/listed", format!("of the file `{}`, as it is now", list.display())),
    ] {
        let shown = explain(target);
        assert!(shown.lines().any(|line| line.starts_with(&format!("  targets: {found}"))), "{shown}");
        assert!(!shown.contains("refused"), "{shown}");
    }
    let shown = explain("/listed");
    assert!(shown.contains("\n  target: http://10.0.0.9:1/base\n"), "{shown}");
    assert!(shown.contains("\n  GET /base/listed HTTP/1.1\n"), "{shown}");
}

#[test]
fn explain_tells_what_may_have_been_meant_where_no_route_takes_a_request() {
    let (_folder, path) = shop();
    let explain = |url: &str| daemun(&["explain", "-c", &path, "GET", url]).out;
    let not_tried = "  hello  *  not tried, though it would take it: other routes name `api.example.com`, and `hosts_fall_through` is off\n";
    let shown = explain("http://api.example.com/hello");
    assert!(shown.contains("route: none\n") && shown.contains(not_tried), "{shown}");
    assert!(!shown.contains("near:"), "{shown}");
    let shown = explain("http://api.example.com/product/items/7?a=b");
    assert!(shown.contains("  near: get-item  /products/items/{id}\n  near: in-korea  /products[/…]\n"), "{shown}");
    assert!(!shown.contains("not tried"), "{shown}");
    let shown = explain("http://other.example.com/helo");
    assert!(shown.contains("  near: hello  /hello\n"), "{shown}");
    let shown = explain("http://other.example.com/hello");
    assert!(!shown.contains("near:") && !shown.contains("not tried"), "{shown}");
    let json = daemun(&["explain", "-c", &path, "GET", "http://api.example.com/hello", "--format", "json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["not_tried"][0]["route"], &json["not_tried"][0]["host"]), (&"hello".into(), &"*".into()));
}

#[test]
fn explain_exits_with_0_whatever_the_verdict() {
    let (_folder, path) = shop();
    for (method, url, status, reason) in [
        ("GET", "http://api.example.com/products/items/7", 401, None),
        ("DELETE", "http://api.example.com/products/items/7", 405, Some("method_not_allowed")),
        ("GET", "http://api.example.com/hello", 404, Some("no_route")),
        ("GET", "http://other.example.com/hello", 200, None),
        ("GET", "http://other.example.com/a%00b", 400, Some("bad_path")),
    ] {
        let ran = daemun(&["explain", "-c", &path, method, url, "--format", "json"]);
        assert_eq!(ran.code, Code::Done);
        let explained: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(explained["status"], status, "{method} {url}: {}", ran.out);
        assert_eq!(explained["fault"]["reason"].as_str(), reason, "{method} {url}");
    }
}

#[test]
fn a_request_nobody_could_send_exits_with_1() {
    let (_folder, path) = shop();
    let ran = daemun(&["explain", "-c", &path, "GET", "not a url"]);
    assert_eq!(ran.code, Code::Wrong);
    assert!(ran.err.starts_with("error: `not a url` is not a whole URL"), "{}", ran.err);
}

#[test]
fn nothing_that_a_terminal_acts_on_is_printed_raw() {
    let active = |text: &str| text.contains(|char: char| char != '\n' && daemun_config::is_active(char));
    let folder = Folder::new();
    let odd = "\u{1b}]0;t\u{7}\u{9b}2J\u{202e}";
    let path = folder.path(&format!("a{odd}.yaml"));
    let text = SHOP
        .replace("hello }", "\"hello\\e[2J\\u202E\" }")
        .replace("name: in-korea", "name: in-korea\n    \"k\\e\": 1");
    std::fs::write(&path, text.replace("x-country: KR", "x-country: \"K\\u202eR\"")).unwrap();
    let wrong = path.display().to_string();
    let (_folder, sound) = shop();
    let field = "X-A: \u{9b}2J\u{202e}obs";
    let url = "http://api.example.com/products/items/7";
    let (odd_url, no_host) = (format!("http://a/{odd}"), format!("http:///{odd}\nx"));
    let (odd_field, missing) = (format!("X{odd}: a"), format!("/nowhere/{odd}"));
    for (arguments, wanted) in [
        (&["check", "-c", &wrong][..], "\\u{1b}]0;t\\u{7}\\u{9b}2J\\u{202e}.yaml:"),
        (&["check", "-c", &missing], "nowhere/\\u{1b}"),
        (&["explain", "-c", &sound, odd, url], "`\\u{1b}]0;t"),
        (&["explain", "-c", &sound, "GET", odd], "`\\u{1b}]0;t"),
        (&["explain", "-c", &sound, "GET", &odd_url], "the URL holds '\\u{1b}'"),
        (&["explain", "-c", &sound, "GET", &no_host], "\\u{202e}\\u{a}x` names no host"),
        (&["explain", "-c", &sound, "GET", url, "-H", &odd_field], "a field is written"),
        (
            &["explain", "-c", &sound, "GET", url, "-H", "X-Api-Key: key-of-the-shop-app", "-H", field],
            "X-A: \\u{9b}2J\\u{202e}obs",
        ),
        (&["check", odd], ""),
        (&[odd], ""),
    ] {
        let ran = daemun(arguments);
        assert!(!active(&ran.out) && !active(&ran.err), "{arguments:?}: {:?} {:?}", ran.out, ran.err);
        assert!(format!("{}{}", ran.out, ran.err).contains(wanted), "{arguments:?}: {} {}", ran.out, ran.err);
    }
    let arguments =
        ["explain", "-c", &sound, "GET", url, "-H", "X-Api-Key: key-of-the-shop-app", "-H", field, "--format", "json"];
    let ran = daemun(&arguments);
    assert!(!active(&ran.out), "{:?}", ran.out);
    let explained: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!(explained["upstream_head"].as_str().unwrap().contains(field), "{}", ran.out);
}

#[test]
fn a_new_key_comes_with_the_digest_that_hash_gives() {
    let ran = daemun(&["key", "new", "--format", "json"]);
    let made: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("dmn_") && key.len() == 40, "{key}");
    let hashed = daemun(&["key", "hash", key]);
    assert_eq!(hashed.out.trim_end(), made["sha256"].as_str().unwrap());
    assert!(hashed.err.contains("can be seen in the list of processes"));
    assert_eq!(daemun(&["key", "hash", "short"]).code, Code::Wrong);
}

#[test]
fn a_digest_made_here_lets_the_key_in() {
    let made: serde_json::Value = serde_json::from_str(&daemun(&["key", "new", "--format", "json"]).out).unwrap();
    let (key, digest) = (made["key"].as_str().unwrap(), made["sha256"].as_str().unwrap());
    let folder = Folder::new();
    let path = folder.write("a.yaml", &SHOP.replace("key-of-the-shop-app", &format!("{{ sha256: {digest} }}")));
    let field = format!("X-Api-Key: {key}");
    let url = "http://api.example.com/products/items/7";
    let ran = daemun(&["explain", "-c", &path.display().to_string(), "GET", url, "-H", &field, "--format", "json"]);
    let explained: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(explained["policies"][0]["outcome"], "pass", "{}", ran.out);
}

#[test]
fn the_schema_describes_every_policy() {
    let schema: serde_json::Value = serde_json::from_str(&daemun(&["schema"]).out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let text = schema.to_string();
    for policy in daemun_policies::REGISTRY {
        assert!(text.contains(&format!("\"{}\"", policy.name)), "{}", policy.name);
    }
}

#[test]
fn version_tells_version_commit_and_features() {
    let ran = daemun(&["version"]);
    let starts: Vec<&str> = ran.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(starts, ["daemun", "commit", "features", "policies"]);
}
