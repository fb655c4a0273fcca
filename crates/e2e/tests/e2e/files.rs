//! Files of a folder: what is told of them, parts, conditions, and that nothing outside the folder is ever sent.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use daemun_e2e::gateway::Folder;
use daemun_e2e::http2::{Answer, Ending, Http2};
use daemun_e2e::{Broken, Gateway, Response, wait_until};

const OUTSIDE: &str = "what is outside";

/// A site in `public`, with something outside of it and a gateway that serves it.
struct Site {
    gateway: Gateway,
    root: PathBuf,
}

impl Site {
    /// `files` is put behind `root: public`, `more` stands in the route.
    fn start(files: &str, more: &str) -> Self {
        let folder = Folder::new();
        let root = folder.path().join("public");
        for name in ["css", "docs", "empty", ".git", ".well-known"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for (name, text) in [
            ("index.html", "<h1>home</h1>"),
            ("hello.txt", "0123456789abcdefghij"),
            ("none.bin", ""),
            ("a b.txt", "spaced"),
            ("%41.txt", "percent"),
            ("css/app.css", "body {}"),
            ("css/app.css.br", "coded"),
            ("docs/index.html", "docs"),
            (".git/config", "hidden"),
            (".env", "hidden"),
            (".well-known/about", "known"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        fs::File::options().write(true).open(root.join("hello.txt")).unwrap().set_modified(then).unwrap();
        fs::write(folder.path().join("secret.txt"), OUTSIDE).unwrap();
        let yaml = format!(
            "workers: 1\nlisteners: [{{ bind: 127.0.0.1:0 }}]\nstatus: {{ bind: 127.0.0.1:0 }}\nroutes:\n  - name: site\n    match: {{ prefix: / }}\n    files: {{ root: public{files} }}\n{more}"
        );
        Self { gateway: Gateway::start_in(folder, &yaml), root }
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> Response {
        let mut client = self.gateway.connect();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: e2e.test\r\n{fields}\r\n"));
        client.response_to(method).unwrap_or_else(|broken| panic!("{method} {target} {fields:?}: {broken}"))
    }

    fn get(&self, target: &str, fields: &str) -> Response {
        self.ask("GET", target, fields)
    }

    fn over_http2(&self, target: &str, fields: &[(&str, &str)]) -> Answer {
        let mut client = Http2::connect(self.gateway.address());
        let all = [(":method", "GET"), (":scheme", "http"), (":path", target), (":authority", "e2e.test")];
        client.headers(1, &[&all[..], fields].concat(), true);
        match client.ending(1).unwrap() {
            Ending::Answer(answer) => *answer,
            other @ (Ending::Reset(_) | Ending::GoAway(_) | Ending::Closed) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_file_is_sent_with_what_a_client_needs_to_keep_it() {
    let site = Site::start(", cache_control: \"public, max-age=60\"", "");
    let answer = site.get("/hello.txt", "");
    assert_eq!((answer.status, answer.text().as_str()), (200, "0123456789abcdefghij"));
    let etag = answer.field("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with("-14\""), "{etag}");
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "20"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("accept-ranges", "bytes"),
        ("cache-control", "public, max-age=60"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
    assert!(answer.field("date").is_some() && answer.field("x-request-id").is_some());
    let head = site.ask("HEAD", "/hello.txt", "");
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, Some("20"), 0));
    let http2 = site.over_http2("/hello.txt", &[]);
    assert_eq!((http2.status, http2.body.as_slice()), (200, answer.body.as_slice()));
    assert_eq!(http2.field("etag"), Some(etag.as_str()));
    assert_eq!(http2.field("content-length"), Some("20"));
    let empty = site.get("/none.bin", "");
    assert_eq!((empty.status, empty.field("content-length"), empty.body.len()), (200, Some("0"), 0));
    assert_eq!(empty.field("content-type"), Some("application/octet-stream"));
    assert_eq!(site.over_http2("/none.bin", &[]).status, 200);
}

#[test]
fn a_connection_goes_on_behind_a_file() {
    let site = Site::start("", "");
    let mut client = site.gateway.connect();
    for target in ["/hello.txt", "/css/app.css", "/none.bin", "/missing", "/hello.txt"] {
        let status = client.get(target).status;
        assert_eq!(status, if target == "/missing" { 404 } else { 200 }, "{target}");
    }
    client.send("HEAD /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /none.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response_to("HEAD").unwrap().status, 200);
    assert_eq!(client.response().unwrap().status, 200);
}

#[test]
fn names_folders_and_codings_lead_to_their_file() {
    let site = Site::start(", precompressed: [br, gzip]", "");
    for (target, fields, text) in [
        ("/", "", "<h1>home</h1>"),
        ("/docs/", "", "docs"),
        ("/a%20b.txt", "", "spaced"),
        ("/%2541.txt", "", "percent"),
        ("/./css/../hello.txt", "", "0123456789abcdefghij"),
        ("/.well-known/about", "", "known"),
        ("/css/app.css", "", "body {}"),
        ("/css/app.css", "Accept-Encoding: gzip\r\n", "body {}"),
        ("/css/app.css", "Accept-Encoding: gzip, br\r\n", "coded"),
        ("/css/app.css", "Accept-Encoding: br;q=0\r\n", "body {}"),
    ] {
        let answer = site.get(target, fields);
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{target} {fields}");
        assert_eq!(answer.field("vary"), Some("accept-encoding"));
        assert_eq!(answer.field("content-encoding"), (text == "coded").then_some("br"));
    }
    assert_eq!(
        site.get("/css/app.css", "Accept-Encoding: br\r\n").field("content-type"),
        Some("text/css; charset=utf-8")
    );
    for (target, location) in [("/docs", "./docs/"), ("/docs?a=b&c", "./docs/?a=b&c")] {
        let answer = site.get(target, "");
        assert_eq!((answer.status, answer.field("location")), (308, Some(location)));
    }
    for target in ["/empty/", "/docs/none", "/hello.txt/", "/docs/index.html/x"] {
        assert_eq!(site.get(target, "").status, 404, "{target}");
    }
}

#[test]
fn where_no_file_stands_for_a_folder_it_is_not_there_with_or_without_a_slash() {
    let site = Site::start(", index: off", "");
    for target in ["/", "/docs", "/docs/", "/empty", "/docs?a=b"] {
        let answer = site.get(target, "");
        assert_eq!((answer.status, answer.field("location")), (404, None), "{target}");
    }
    assert_eq!(site.get("/docs/index.html", "").text(), "docs");
    let with_fallback = Site::start(", index: off, fallback: index.html", "");
    assert_eq!(with_fallback.get("/docs", "").text(), "<h1>home</h1>");
}

#[test]
fn a_redirect_to_a_folder_never_leads_to_another_host() {
    let site = Site::start("", "    slashes: keep\n");
    fs::create_dir_all(site.root.join("evil.test")).unwrap();
    for target in
        ["//evil.test", "//evil.test/", "///evil.test", "/evil.test", "//evil.test/%2e%2e/evil.test", "/http:evil.test"]
    {
        let answer = site.get(target, "");
        let location = answer.field("location").unwrap_or("./");
        assert!(location.starts_with("./") && !location.contains("//"), "{target}: {location}");
    }
    fs::create_dir_all(site.root.join("x:y")).unwrap();
    assert_eq!(site.get("/x:y", "").field("location"), Some("./x:y/"));
}

#[test]
fn conditions_hold_of_the_file_as_it_is() {
    let site = Site::start("", "");
    let etag = site.get("/hello.txt", "").field("etag").unwrap().to_owned();
    for (fields, status) in [
        (format!("If-None-Match: {etag}\r\n"), 304),
        (format!("If-None-Match: W/{etag}\r\n"), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(), 304),
        ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(), 200),
        (format!("If-Match: {etag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
        ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(), 412),
    ] {
        let mut client = site.gateway.connect();
        client.send(format!("GET /hello.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let answer = client.response().unwrap();
        assert_eq!(answer.status, status, "{fields}");
        if status == 304 {
            assert_eq!((answer.field("etag"), answer.field("content-length")), (Some(etag.as_str()), None));
        }
        assert_eq!(client.get("/hello.txt").status, 200, "behind {fields}");
    }
    assert_eq!(site.over_http2("/hello.txt", &[("if-none-match", &etag)]).status, 304);
    fs::write(site.root.join("hello.txt"), "other").unwrap();
    assert_eq!(site.get("/hello.txt", &format!("If-None-Match: {etag}\r\n")).text(), "other");
}

#[test]
fn parts_are_sent_as_they_are_asked_for() {
    let site = Site::start("", "");
    let etag = site.get("/hello.txt", "").field("etag").unwrap().to_owned();
    for (fields, said, text) in [
        ("Range: bytes=0-3\r\n".to_owned(), "bytes 0-3/20", "0123"),
        ("Range: bytes=15-\r\n".to_owned(), "bytes 15-19/20", "fghij"),
        ("Range: bytes=-2\r\n".to_owned(), "bytes 18-19/20", "ij"),
        (format!("Range: bytes=1-1\r\nIf-Range: {etag}\r\n"), "bytes 1-1/20", "1"),
    ] {
        let answer = site.get("/hello.txt", &fields);
        assert_eq!((answer.status, answer.field("content-range")), (206, Some(said)), "{fields}");
        assert_eq!(answer.text(), text, "{fields}");
    }
    for fields in [
        "Range: bytes=5-1\r\n".to_owned(),
        "Range: lines=1-2\r\n".to_owned(),
        "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n".to_owned(),
        format!("Range: bytes={}\r\n", ["0-0"; 17].join(",")),
        "Range: bytes=0-,0-\r\n".to_owned(),
    ] {
        let answer = site.get("/hello.txt", &fields);
        assert_eq!((answer.status, answer.body.len()), (200, 20), "{fields}");
    }
    let none = site.get("/hello.txt", "Range: bytes=20-\r\n");
    assert_eq!((none.status, none.field("content-range")), (416, Some("bytes */20")));
    assert_eq!(site.ask("HEAD", "/hello.txt", "Range: bytes=0-1\r\n").status, 200);
    let answer = site.over_http2("/hello.txt", &[("range", "bytes=2-4")]);
    assert_eq!((answer.status, answer.body.as_slice()), (206, b"234".as_slice()));
    let answer = site.get("/hello.txt", "Range: bytes=0-1,-2\r\n");
    let of = answer.field("content-type").unwrap();
    let boundary = of.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, text: &str| {
        format!(
            "\r\n--{boundary}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-range: bytes {range}/20\r\n\r\n{text}"
        )
    };
    let expected = part("0-1", "01") + &part("18-19", "ij") + &format!("\r\n--{boundary}--\r\n");
    assert_eq!((answer.status, answer.text()), (206, expected));
}

#[test]
fn files_are_only_read() {
    let site = Site::start("", "");
    for method in ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"] {
        let answer = site.ask(method, "/hello.txt", "Content-Length: 0\r\n");
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, OPTIONS")), "{method}");
    }
    let answer = site.ask("OPTIONS", "/hello.txt", "");
    assert_eq!((answer.status, answer.field("allow")), (204, Some("GET, HEAD, OPTIONS")));
    let mut client = site.gateway.connect();
    client.send("GET /hello.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().unwrap().status, 200);
    assert_eq!(client.get("/hello.txt").status, 200);
}

#[test]
fn the_fallback_stands_for_pages_that_are_not_there_but_not_for_their_parts() {
    let site = Site::start(", fallback: index.html", "");
    for (target, fields, found) in [
        ("/users/7", "", true),
        ("/users/7/", "", true),
        ("/users/john.doe", "Accept: text/html,*/*;q=0.8\r\n", true),
        ("/app.123.js", "Accept: */*\r\n", false),
        ("/.git/config", "Accept: text/html\r\n", false),
        ("/.env", "Accept: text/html\r\n", false),
    ] {
        let answer = site.get(target, fields);
        assert_eq!(answer.status, if found { 200 } else { 404 }, "{target}");
        assert_eq!(answer.text() == "<h1>home</h1>", found, "{target}");
    }
    assert_eq!(site.get("/users/7", "").field("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn a_rewrite_chooses_the_file() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path().join("public/docs")).unwrap();
    fs::write(folder.path().join("public/docs/index.html"), "docs").unwrap();
    fs::write(folder.path().join("public/a.txt"), "a").unwrap();
    let yaml = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes:\n\
        \x20 - { name: stripped, match: { prefix: /assets }, rewrite: { strip_prefix: /assets }, files: { root: public } }\n\
        \x20 - { name: one, match: { path: \"/item/{id}\" }, rewrite: { path: \"/{id}.txt\" }, files: { root: public } }\n\
        \x20 - { name: fixed, match: { path: /help/ }, rewrite: { path: /docs }, files: { root: public } }\n";
    let gateway = Gateway::start_in(folder, yaml);
    for (target, status, text) in
        [("/assets/a.txt", 200, "a"), ("/assets/docs/", 200, "docs"), ("/item/a", 200, "a"), ("/help/", 200, "docs")]
    {
        let answer = gateway.get(target);
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{target}");
    }
    assert_eq!(gateway.get("/assets/docs").field("location"), Some("./docs/"));
    for target in ["/assets/../../secret", "/item/..%2fsecret", "/item/%2e%2e", "/a.txt"] {
        assert!([400, 404].contains(&gateway.get(target).status), "{target}");
    }
}

/// Targets that try to leave the folder, or to see what is hidden in it.
fn hostile(root: &Path) -> Vec<String> {
    let up = [
        "..",
        "%2e%2e",
        ".%2e",
        "%2E.",
        "%252e%252e",
        "..;",
        "..%00",
        "..%5c",
        "..\\",
        "%c0%ae%c0%ae",
        "%uff0e%uff0e",
        "..%20",
        "...",
        "..%09",
    ];
    let slash = ["/", "%2f", "%252f", "//", "/./", "%5c", "\\"];
    let mut all = Vec::new();
    for up in up {
        for slash in slash {
            all.push(format!("/{up}{slash}secret.txt"));
            all.push(format!("/css/{up}{slash}{up}{slash}secret.txt"));
        }
    }
    let path = root.with_file_name("secret.txt");
    let path = path.display();
    for target in [
        "/../../../../../../etc/passwd",
        "/link.txt",
        "/folder/secret.txt",
        "/etc/passwd",
        "/absolute",
        "/proc/self/environ",
        "/process/self/environ",
        "/pipe",
        "/.git/config",
        "/.env",
        "/%2egit/config",
        "/%2Eenv",
        "/css/../.env",
        "/css/%2e%2e/.env",
        "/.well-known/../.env",
        "/.well-known/%2e%2e/.env",
        "/.env%00.txt",
        "/hello.txt%00",
        "/.env;x",
        "/.env/",
        "/.//.env",
        "/%2e%65nv",
        "/.ENV",
        "/file:///etc/passwd",
    ] {
        all.push(target.to_owned());
    }
    all.extend([format!("/{path}"), format!("{path}"), format!("/%2f{path}"), format!("http://e2e.test/..{path}")]);
    all
}

#[test]
fn nothing_outside_the_folder_and_nothing_hidden_is_ever_sent() {
    for (files, slashes) in [("", ""), (", symlinks: within", ""), ("", "    slashes: keep\n    encoded_slash: keep\n")]
    {
        let site = Site::start(files, slashes);
        symlink("../secret.txt", site.root.join("link.txt")).unwrap();
        symlink("..", site.root.join("folder")).unwrap();
        symlink("/etc/passwd", site.root.join("absolute")).unwrap();
        symlink("/proc", site.root.join("process")).unwrap();
        assert!(Command::new("mkfifo").arg(site.root.join("pipe")).status().unwrap().success());
        let all = hostile(&site.root);
        assert!(all.len() >= 40);
        for target in &all {
            for answer in [site.get(target, ""), site.ask("HEAD", target, "")] {
                assert!([400, 404].contains(&answer.status), "{target}: {answer:?}");
                let text = answer.text();
                assert!(
                    !text.contains(OUTSIDE) && !text.contains("hidden") && !text.contains("root:"),
                    "{target}: {text}"
                );
                assert!(!text.contains("public") && !text.contains("daemun-e2e"), "{target} shows a path: {text}");
            }
        }
        let link = format!("{}/hello.txt", if files.is_empty() { "/none" } else { "/css/up" });
        symlink("../", site.root.join("css/up")).unwrap();
        assert_eq!(site.get(&link, "").status, if files.is_empty() { 404 } else { 200 });
    }
}

#[test]
fn policies_stand_before_files_and_their_fields_on_them() {
    let more = "    policies:\n      key_auth: { header: X-Api-Key }\n      headers: { response: { set: { x-frame-options: DENY }, remove: [etag] } }\n\
                consumers:\n  - { name: one, keys: [0123456789abcdef0123] }\n";
    let site = Site::start("", more);
    assert_eq!(site.get("/hello.txt", "").status, 401);
    let answer = site.get("/hello.txt", "X-Api-Key: 0123456789abcdef0123\r\n");
    assert_eq!((answer.status, answer.field("x-frame-options"), answer.field("etag")), (200, Some("DENY"), None));
}

#[test]
fn a_large_file_is_never_in_memory_and_its_reader_sets_the_pace() {
    let site = Site::start("", "");
    let size = 100u64 << 20;
    fs::File::create(site.root.join("large.bin")).unwrap().set_len(size).unwrap();
    assert_eq!(site.get("/hello.txt", "").status, 200);
    let before = site.gateway.resident_kib();
    let mut slow = Vec::new();
    for _ in 0..8 {
        let mut client = site.gateway.connect();
        client.wire.stream.shrink_receive_buffer();
        client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.wire.head().unwrap().one("content-length"), Some(size.to_string().as_str()));
        slow.push(client);
    }
    let mut quick = site.gateway.connect();
    quick.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    quick.wire.head().unwrap();
    let mut got = quick.wire.buffer.len() as u64;
    while got < size {
        got += quick.wire.fill().unwrap() as u64;
        quick.wire.buffer.clear();
    }
    let after = site.gateway.resident_kib();
    assert!(after < before + 16 * 1024, "{before} KiB became {after} KiB");
    drop(slow);
    wait_until("those who left are let go", Duration::from_secs(10), || {
        (site.gateway.metrics().sum("daemun_connections_open", &[]) < 1.5).then_some(())
    });
    drop(quick);
}

#[test]
fn a_reader_that_stops_is_let_go() {
    let site = Site::start("", "timeouts: { write_idle: 300ms }\n");
    fs::File::create(site.root.join("large.bin")).unwrap().set_len(50 << 20).unwrap();
    let mut client = site.gateway.connect();
    client.wire.stream.shrink_receive_buffer();
    client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until("the exchange ended", Duration::from_secs(10), || {
        site.gateway
            .access_log()
            .iter()
            .any(|line| line["reason"] == "client_stalled" || line.to_string().contains("client_stalled"))
            .then_some(())
    });
    let bytes = site.gateway.access_log()[0]["bytes_out"].as_u64().unwrap();
    assert!(bytes > 0 && bytes < 50 << 20, "{bytes}");
}

#[test]
fn a_file_that_becomes_shorter_breaks_its_answer_off() {
    let site = Site::start("", "");
    let path = site.root.join("large.bin");
    let size = 30u64 << 20;
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    let mut client = site.gateway.connect();
    client.wire.stream.shrink_receive_buffer();
    client.send("GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire.head().unwrap();
    let mut http2 = Http2::connect(site.gateway.address());
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", "/large.bin"), (":authority", "a")];
    http2.headers(1, &fields, true);
    while http2.so_far(1).status == 0 {
        http2.step().unwrap();
    }
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let body = client.wire.counted(size);
    assert!(matches!(body.broken, Some(Broken::Reset | Broken::Truncated | Broken::Closed)), "{:?}", body.broken);
    assert!((body.bytes.len() as u64) < size);
    assert!(matches!(http2.ending(1).unwrap(), Ending::Reset(_)));
}

#[test]
fn bytes_are_told_and_counted() {
    let site = Site::start("", "");
    site.get("/hello.txt", "");
    site.get("/hello.txt", "Range: bytes=0-4\r\n");
    let lines = wait_until("both are logged", Duration::from_secs(5), || {
        let lines = site.gateway.access_log();
        (lines.len() >= 2).then_some(lines)
    });
    let told: Vec<_> = lines.iter().map(|line| (line["status"].as_u64(), line["bytes_out"].as_u64())).collect();
    assert_eq!(told, [(Some(200), Some(20)), (Some(206), Some(5))]);
}

#[test]
fn a_real_client_resumes_a_download() {
    let site = Site::start("", "");
    let whole: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).take(3_000_000).collect();
    fs::write(site.root.join("large.bin"), &whole).unwrap();
    let part = site.root.with_file_name("download");
    fs::write(&part, &whole[..1_234_567]).unwrap();
    let url = format!("http://{}/large.bin", site.gateway.address());
    let output = Command::new("curl").args(["-sS", "-f", "-C", "-", "-o"]).arg(&part).arg(&url).output().expect("curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read(&part).unwrap() == whole, "the file is not whole");
}

#[test]
fn a_folder_that_is_not_there_is_told_before_it_is_needed() {
    let yaml = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes: [{ name: a, files: { root: ./nowhere } }]\n";
    let refusal = Gateway::launch(Folder::new(), yaml, &[]).err().expect("it does not start");
    assert_eq!(refusal.code, Some(1));
    assert!(refusal.stderr.contains("files_root") && refusal.stderr.contains("nowhere"), "{}", refusal.stderr);
}
