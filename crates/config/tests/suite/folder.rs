//! A folder is one file.

use std::path::Path;

use crate::support::{VOCABULARY, World};
use daemun_config::{Loaded, load};

fn folder(world: &World) -> Loaded {
    load(Some(Path::new("conf")), world, &VOCABULARY)
}

#[test]
fn files_join_in_the_order_of_their_names() {
    let world = World::default()
        .file("conf/20-routes.json", r#"{"routes": [{"name": "b", "upstream": "u"}], "upstreams": {"v": {"targets": ["http://v"]}}}"#)
        .file("conf/10-base.yaml", "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams: { u: { targets: [\"http://u\"] } }\nroutes: [{ name: a, match: { path: /a }, upstream: u }]\n")
        .file("conf/30.toml", "[[routes]]\nname = \"c\"\nupstream = \"v\"\n[[listeners]]\nbind = \"127.0.0.1:0\"\n")
        .file("conf/.hidden.yaml", "nonsense: [")
        .file("conf/notes.txt", "nonsense");
    let loaded = folder(&world);
    assert_eq!(loaded.diagnostics.render(&loaded.sources, false), "");
    let config = loaded.config.unwrap();
    let names: Vec<&str> = config.routes.iter().map(|route| route.name.value.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.upstreams.len(), 2);
    assert_eq!(loaded.files.len(), 4, "the folder and its files");
}

#[test]
fn what_is_defined_twice_shows_both_places() {
    let base = "listeners: [{ bind: 127.0.0.1:0 }]\nworkers: 2\nadmin: { bind: 127.0.0.1:1 }\nupstreams:\n  u: { targets: [\"http://u\"] }\nroutes: [{ name: a, upstream: u }]\nconsumers: [{ name: c }]\n";
    let more = "workers: 3\nadmin: { bind: 127.0.0.1:1 }\nupstreams:\n  u: { targets: [\"http://v\"] }\nroutes: [{ name: a, upstream: u, match: { path: /x } }]\nconsumers: [{ name: c }]\nerrors: {}\n";
    let world = World::default().file("conf/a.yaml", base).file("conf/b.yaml", more);
    let loaded = folder(&world);
    let rendered = loaded.diagnostics.render(&loaded.sources, false);
    let expected = "\
error[duplicate_key] workers: `workers` is set in two files
  --> conf/b.yaml:1:1
1 | workers: 3
  | ^^^^^^^
  ::: conf/a.yaml:2:1
2 | workers: 2
  | ------- first set here

error[duplicate_key] admin: `admin` is set in two files
  --> conf/b.yaml:2:1
2 | admin: { bind: 127.0.0.1:1 }
  | ^^^^^
  ::: conf/a.yaml:3:1
3 | admin: { bind: 127.0.0.1:1 }
  | ----- first set here

error[duplicate_name] upstreams.u: `u` is defined in two files
  --> conf/b.yaml:4:3
4 |   u: { targets: [\"http://v\"] }
  |   ^
  ::: conf/a.yaml:5:3
5 |   u: { targets: [\"http://u\"] }
  |   - first defined here

error[duplicate_name] routes.a.name: there are two routes `a`
  --> conf/b.yaml:5:18
5 | routes: [{ name: a, upstream: u, match: { path: /x } }]
  |                  ^
  ::: conf/a.yaml:6:18
6 | routes: [{ name: a, upstream: u }]
  |                  - the first is here

error[duplicate_name] consumers.c.name: there are two consumers `c`
  --> conf/b.yaml:6:21
6 | consumers: [{ name: c }]
  |                     ^
  ::: conf/a.yaml:7:21
7 | consumers: [{ name: c }]
  |                     - the first is here

5 errors
";
    assert_eq!(rendered, expected);
}

#[test]
fn paths_refer_to_the_folder_of_their_file_and_a_broken_file_is_named() {
    let world = World::default()
        .file("conf/a.yaml", "listeners: [{ bind: 127.0.0.1:0, tls: { certificates: [{ cert: a.crt, key: a.key }] } }]\nroutes: [{ name: a, upstream: elsewhere }, { name: b, answr: {} }]\n")
        .file("conf/b.yaml", "upstreams: [\n");
    let loaded = folder(&world);
    // The other files are checked all the same, but for what the broken one may have said.
    let codes: Vec<&str> = loaded.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["missing_key", "unknown_key", "syntax"]);
    let world = World::default().file("conf/a.yaml", "listeners: [{ bind: 127.0.0.1:0, tls: { certificates: [{ cert: a.crt, key: a.key }] } }]\nroutes: [{ name: a, answer: {} }]\n");
    let config = folder(&world).config.unwrap();
    assert_eq!(config.listeners[0].tls.as_ref().unwrap().certificates[0].cert.value, Path::new("conf/a.crt"));
}

#[test]
fn a_configuration_that_is_not_there_is_said_so() {
    let said = |path: Option<&str>, world: &World| {
        let loaded = load(path.map(Path::new), world, &VOCABULARY);
        loaded.diagnostics.iter().map(|found| format!("{}: {}", found.code, found.message)).collect::<Vec<_>>()
    };
    let nothing = World::default();
    assert_eq!(
        said(None, &nothing),
        ["file: there is no configuration: neither `daemun.yaml` nor `/etc/daemun/daemun.yaml` is there"]
    );
    assert_eq!(said(Some("x.yaml"), &nothing), ["file: `x.yaml` cannot be read: no such file"]);
    assert_eq!(
        said(Some("d"), &World::default().file("d/readme", "")),
        ["file: the folder `d` holds no configuration"]
    );
    assert_eq!(
        said(Some("x.yaml"), &World::default().file("x.yaml", b"a: 1\nb: \xff\n")),
        ["file: `x.yaml` is not UTF-8 text"]
    );
    let second = World::default()
        .file("/etc/daemun/daemun.yaml", "listeners: [{ bind: 127.0.0.1:0 }]\nroutes: [{ name: a, answer: {} }]");
    assert_eq!(said(None, &second), [""; 0]);
    let both = second.file("daemun.yaml", "workers: 0");
    assert_eq!(load(None, &both, &VOCABULARY).files, [Path::new("daemun.yaml")]);
}
