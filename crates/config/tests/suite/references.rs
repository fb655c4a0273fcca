//! `${…}` references: what they are replaced with, where they may stand, and how they fail.

use std::path::{Path, PathBuf};

use crate::support::{VOCABULARY, World};
use daemun_config::{Loaded, load, load_text};

fn with(world: &World, text: &str) -> Loaded {
    let text = format!("listeners: [{{ bind: 127.0.0.1:0 }}]\n{text}");
    load_text(Path::new("etc/daemun.yaml"), &text, world, &VOCABULARY)
}

fn body(world: &World, body: &str) -> String {
    let loaded = with(world, &format!("routes: [{{ name: a, answer: {{ body: {body:?} }} }}]"));
    let daemun_config::model::Destination::Answer(answer) =
        &loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.sources, false))).routes[0]
            .destination
    else {
        panic!("an answer")
    };
    answer.body.clone()
}

fn refused(world: &World, body: &str) -> String {
    let loaded = with(world, &format!("routes: [{{ name: a, answer: {{ body: {body:?} }} }}]"));
    let found: Vec<String> =
        loaded.diagnostics.iter().map(|found| format!("{} {}: {}", found.code, found.path, found.message)).collect();
    found.join("\n")
}

#[test]
fn references_are_replaced_in_texts() {
    let world = World::default()
        .variable("NAME", "world")
        .variable("EMPTY", "")
        .file("etc/secret", "from a file\n")
        .file("/abs", "x\r\n");
    assert_eq!(body(&world, "hello ${env:NAME}, ${env:NAME}!"), "hello world, world!");
    assert_eq!(body(&world, "${file:secret}"), "from a file");
    assert_eq!(body(&world, "${file:/abs}"), "x");
    assert_eq!(body(&world, "${env:MISSING:-default}"), "default");
    assert_eq!(body(&world, "${env:EMPTY:-default}"), "default");
    assert_eq!(body(&world, "[${env:MISSING:-}]"), "[]");
    assert_eq!(body(&world, "${env:NAME:-default}"), "world");
}

#[test]
fn other_dollars_stay_and_two_are_one() {
    let world = World::default().variable("NAME", "$$x${env:NAME}");
    assert_eq!(body(&world, "$5 ${status} $ {x} $"), "$5 ${status} $ {x} $");
    assert_eq!(body(&world, "$$5 $$$$ $${env:NAME}"), "$5 $$ ${env:NAME}");
    // What a reference holds is not read again.
    assert_eq!(body(&world, "${env:NAME}"), "$$x${env:NAME}");
}

#[test]
fn a_reference_may_stand_for_a_value_of_any_scalar_type() {
    let world = World::default()
        .variable("WORKERS", "3")
        .variable("ON", "true")
        .variable("TIME", "7s")
        .variable("SIZE", "1KiB")
        .variable("HOST", "10.0.0.1");
    let text = "workers: ${env:WORKERS}\nhosts_fall_through: ${env:ON}\ntimeouts: { head: \"${env:TIME}\" }\nlimits: { body: \"${env:SIZE}\" }\nupstreams: { u: { targets: [\"http://${env:HOST}:9001\"] } }\nroutes: [{ name: a, upstream: u }]";
    let loaded = with(&world, text);
    let config = loaded.config.unwrap();
    assert_eq!((config.workers, config.hosts_fall_through, config.limits.body), (Some(3), true, 1024));
    assert_eq!(config.timeouts.head.as_secs(), 7);
    assert_eq!(config.upstreams[0].targets[0].url.value, "http://10.0.0.1:9001");
    // A value that is quoted without a reference is a text.
    assert!(with(&world, "workers: \"3\"").config.is_none());
}

#[test]
fn a_reference_that_cannot_be_had_is_one_finding() {
    let world = World::default().variable("EMPTY", "").file("etc/empty", "\n").file("etc/binary", [0xff, 0xfe]);
    let world = world.file("etc/large", vec![b'x'; (1 << 20) + 1]);
    for (reference, message) in [
        ("${env:MISSING}", "the environment variable `MISSING` is not set, or empty"),
        ("${env:EMPTY}", "the environment variable `EMPTY` is not set, or empty"),
        ("${env:}", "`` is not the name of an environment variable"),
        ("${env:A B}", "`A B` is not the name of an environment variable"),
        ("${env:A", "a `${…}` reference has no closing `}`"),
        ("${file:}", "`${file:}` names no file"),
        ("${file:missing}", "the file `missing` cannot be read: no such file"),
        ("${file:empty}", "the file `empty` is empty"),
        ("${file:binary}", "the file `binary` is not UTF-8 text"),
        ("${file:large}", "the file `large` is larger than 1 MiB"),
    ] {
        assert_eq!(refused(&world, reference), format!("bad_reference routes.a.answer.body: {message}"));
    }
    // Nothing follows from it: the value is not said to be malformed as well.
    let loaded = with(&world, "workers: ${env:MISSING}\nroutes: [{ name: a, upstream: \"${env:MISSING}\" }]");
    let codes: Vec<&str> = loaded.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["bad_reference", "bad_reference"]);
}

#[test]
fn references_stand_in_values_only() {
    let world = World::default().variable("NAME", "x");
    let loaded =
        with(&world, "upstreams: { \"${env:NAME}\": { targets: [\"http://h\"] } }\nroutes: [{ name: a, answer: {} }]");
    assert!(loaded.diagnostics.iter().any(|found| found.code == "reference_in_key"));
    // A comment and the text of the file are not touched.
    assert!(with(&world, "# ${env:MISSING}\nroutes: [{ name: a, answer: {} }]").config.is_some());
}

#[test]
fn referenced_files_are_watched() {
    let text = "listeners: [{ bind: 127.0.0.1:0, tls: { certificates: [{ cert: tls/a.crt, key: /b.key }] } }]\nroutes: [{ name: a, answer: { body: \"${file:body.txt}\" } }]";
    let world = World::default().file("etc/daemun.yaml", text).file("etc/body.txt", "x");
    let loaded = load(Some(Path::new("etc/daemun.yaml")), &world, &VOCABULARY);
    let expected = ["etc/daemun.yaml", "etc/body.txt", "etc/tls/a.crt", "/b.key"].map(PathBuf::from);
    assert_eq!(loaded.files, expected);
}

#[test]
fn the_number_of_workers_in_the_environment_wins() {
    let text = "workers: 2\nroutes: [{ name: a, answer: {} }]";
    assert_eq!(with(&World::default().variable("DAEMUN_WORKERS", "5"), text).config.unwrap().workers, Some(5));
    assert_eq!(with(&World::default().variable("DAEMUN_WORKERS", ""), text).config.unwrap().workers, Some(2));
    assert!(with(&World::default().variable("DAEMUN_WORKERS", "many"), text).config.is_none());
    assert!(with(&World::default().variable("DAEMUN_WORKERS", "0"), text).config.is_none());
}
