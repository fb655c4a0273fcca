//! Three formats, one tree; what is malformed is reported at its place.

use std::path::Path;

use crate::support::{VOCABULARY, World};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::Node;
use daemun_config::{Format, Loaded, Severity, load_text, parse};

fn tree(text: &str, format: Format) -> Node {
    let mut diagnostics = Diagnostics::new();
    let node = parse(text, format, 0, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    node.unwrap()
}

fn load_as(name: &str, text: &str) -> Loaded {
    load_text(Path::new(name), text, &World::default(), &VOCABULARY)
}

/// The first error: `line:column code: message`.
fn first(name: &str, text: &str) -> String {
    let loaded = load_as(name, text);
    let found = loaded.diagnostics.iter().find(|found| found.severity == Severity::Error).expect("a finding");
    format!("{}:{} {}: {}", found.at.line, found.at.column, found.code, found.message)
}

#[test]
fn three_formats_give_one_tree() {
    let yaml = "workers: 2\nlisteners:\n  - bind: 127.0.0.1:0\nhosts_fall_through: true\nroutes:\n  - name: a\n    priority: -1\n    match: { path: \"/a/{id}\" }\n    answer: { body: \"héllo\\n\" }\n";
    let json = "{\n\t\"workers\": 2,\n\t\"listeners\": [{\"bind\": \"127.0.0.1:0\"}],\n\t\"hosts_fall_through\": true,\n\t\"routes\": [{\"name\": \"a\", \"priority\": -1, \"match\": {\"path\": \"/a/{id}\"}, \"answer\": {\"body\": \"h\\u00e9llo\\n\"}}]\n}\n";
    let toml = "workers = 2\nhosts_fall_through = true\n[[listeners]]\nbind = \"127.0.0.1:0\"\n[[routes]]\nname = \"a\"\npriority = -1\nmatch = { path = \"/a/{id}\" }\nanswer.body = \"héllo\\n\"\n";
    assert!(tree(yaml, Format::Yaml).same(&tree(json, Format::Json)));
    for (name, text) in [("a.yaml", yaml), ("a.json", json), ("a.toml", toml)] {
        let loaded = load_as(name, text);
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(&loaded.sources, false));
        let config = loaded.config.unwrap();
        assert_eq!((config.workers, config.routes[0].priority), (Some(2), -1));
        assert!(config.hosts_fall_through);
    }
}

#[test]
fn places_count_characters_in_every_format() {
    assert_eq!(
        first("a.yaml", "listeners:\n  - { bind: '127.0.0.1:0', héé: 1 }\n"),
        "2:28 unknown_key: there is no key `héé` here"
    );
    assert_eq!(
        first("a.json", "{\"listeners\": [\n\t{\"bind\": \"127.0.0.1:0\", \"héé\": 1}]}"),
        "2:26 unknown_key: there is no key `héé` here"
    );
    assert_eq!(
        first("a.toml", "# é\n[[listeners]]\nbind = \"127.0.0.1:0\"\n  \"héé\" = 1"),
        "4:3 unknown_key: there is no key `héé` here"
    );
}

#[test]
fn a_key_given_twice_shows_both_places() {
    let twice = |name: &str, text: &str| {
        let loaded = load_as(name, text);
        let found = loaded.diagnostics.iter().find(|found| found.code == "duplicate_key").expect("a finding").clone();
        (
            found.path,
            (found.at.line, found.at.column),
            (found.related[0].0.line, found.related[0].0.column),
            found.message,
        )
    };
    let message = "`path` is given twice".to_owned();
    let yaml = "routes:\n  - name: a\n    match:\n      path: /a\n      path: /b\n";
    assert_eq!(twice("a.yaml", yaml), ("routes.a.match".to_owned() + ".path", (5, 7), (4, 7), message.clone()));
    let json = "{\"routes\": [{\"name\": \"a\",\n \"match\": {\"path\": \"/a\", \"path\": \"/b\"}}]}";
    assert_eq!(twice("a.json", json), ("routes.a.match.path".to_owned(), (2, 26), (2, 12), message.clone()));
    let toml = "[[routes]]\nname = \"a\"\n[routes.match]\npath = \"/a\"\npath = \"/b\"\n";
    assert_eq!(twice("a.toml", toml), (String::new(), (5, 1), (4, 1), message));
    // Beyond the size where keys are indexed, too.
    let many: String = (0..40).map(|number| format!("k{number}: 1\n")).collect();
    assert_eq!(twice("a.yaml", &format!("{many}k7: 2\n")).2, (8, 1));
}

#[test]
fn yaml_beyond_one_plain_document_is_refused() {
    let yaml = |text: &str| first("a.yaml", text);
    assert_eq!(yaml("a: 1\n---\nb: 2\n"), "2:1 syntax: a second document begins here; a file holds one");
    assert_eq!(
        yaml("a: &x { b: 1 }\nc:\n  <<: *x\n"),
        "3:3 syntax: merge keys (`<<`) are not read: write the keys out"
    );
    assert_eq!(yaml("a: !secret x\n"), "1:4 syntax: YAML tags (`!name`) have no meaning here");
    assert_eq!(yaml("? [a]\n: 1\n"), "1:3 syntax: a key must be a word, not a list or mapping");
    assert_eq!(yaml(": 1\n"), "1:1 syntax: a key is missing before the colon");
    assert!(yaml("a: b: c\n").starts_with("1:5 syntax: this is not YAML: "));
    assert!(yaml("a:\n\t- b\n").starts_with("2:"));
    assert!(yaml("a: 'open\n").contains("syntax: this is not YAML: "));
    assert_eq!(yaml("a: *nowhere\n").split(": ").next(), Some("1:4 syntax"));
    assert_eq!(yaml(""), "1:1 file: `a.yaml` is empty");
    assert_eq!(yaml("# nothing\n"), "1:1 file: `a.yaml` is empty");
    assert_eq!(yaml("- a\n"), "1:1 wrong_type: expected a mapping, found a list");
    assert_eq!(yaml("hello\n"), "1:1 wrong_type: expected a mapping, found the text `hello`");
}

#[test]
fn anchors_and_aliases_repeat_values() {
    let text = "listeners: [{ bind: 127.0.0.1:0 }]\nroutes:\n  - { name: a, match: &m { methods: [GET] }, answer: &x { body: hi } }\n  - { name: b, match: *m, answer: *x }\n";
    let config = load_as("a.yaml", text).config.unwrap();
    assert_eq!(config.routes[1].matches.methods[0].value, "GET");
}

#[test]
fn a_note_for_editors_is_read_over() {
    let text = "{\"$schema\": \"https://example.com/daemun.json\", \"listeners\": [{\"bind\": \"127.0.0.1:0\"}], \"routes\": [{\"name\": \"a\", \"answer\": {}}]}";
    assert!(load_as("a.json", text).config.is_some());
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_read() {
    let loaded = load_as(
        "a.yaml",
        "\u{feff}listeners:\r\n  - bind: 127.0.0.1:0\r\nroutes:\r\n  - name: a\r\n    answer: { body: x }\r\n",
    );
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(&loaded.sources, false));
}

#[test]
fn malformed_json_is_reported_where_it_breaks() {
    let json = |text: &str| first("a.json", text);
    for (text, expected) in [
        ("{\"a\": 1,}", "1:9 syntax: this is not JSON: expected a key in double quotes, found `}`"),
        ("{\"a\" 1}", "1:6 syntax: this is not JSON: expected `:` behind the key, found `1`"),
        ("{\"a\": 01}", "1:7 syntax: this is not JSON: expected a number, found `0`"),
        ("{\"a\": nope}", "1:7 syntax: this is not JSON: expected a value (texts stand in double quotes), found `n`"),
        ("{\"a\": 'b'}", "1:7 syntax: this is not JSON: expected a value, found `'`"),
        ("[1\n 2]", "2:2 syntax: this is not JSON: expected `,` or `]`, found `2`"),
        ("{} {}", "1:4 syntax: this is not JSON: expected the end of the file, found `{`"),
        ("{\"a", "1:2 syntax: this is not JSON: the text has no closing `\"`"),
        (
            "{\"a\": \"\\x\"}",
            "1:9 syntax: this is not JSON: expected an escape like `\\n`, `\\\"` or `\\u00e9`, found `x`",
        ),
        ("{\"a\": \"\\ud800\"}", "1:14 syntax: this is not JSON: expected both halves of a surrogate pair, found `\"`"),
        (
            "{\"a\": \"x\ny\"}",
            "1:9 syntax: this is not JSON: expected `\"` at the end of the text; control characters are written `\\n`, `\\u0000`, found `\\n`",
        ),
        ("// c", "1:1 syntax: this is not JSON: expected a value, found `/`"),
        ("", "1:1 syntax: this is not JSON: expected a value, found the end of the file"),
    ] {
        assert_eq!(json(text), expected, "{text}");
    }
    let node = tree("[1e5, -0, 1.5E-3, \"\\ud83d\\ude00\\/\", null, true]", Format::Json);
    assert_eq!(format!("{node:?}"), "[1e5, -0, 1.5E-3, \"😀/\", null, true]");
}

#[test]
fn a_toml_number_is_one_to_its_last_character() {
    for number in ["1_0p", "10p", "1.5x", "1e", "0x1g", "0b12", "--1", "1_", "1.", "+"] {
        let text = format!("[[listeners]]\nbind = \"127.0.0.1:0\"\n[limits]\nfields = {number}\n");
        let found = first("a.toml", &text);
        assert!(found.contains("this is not TOML"), "{number}: {found}");
    }
}

#[test]
fn toml_values_mean_what_yaml_values_mean() {
    let node =
        tree("a = 1_000\nb = 0x1f\nc = 0b101\nd = -1.5e3\ne = inf\nf = nan\ng = 'x'\nh = 2020-01-01\n", Format::Toml);
    assert_eq!(
        format!("{node:?}"),
        "{\"a\": 1000, \"b\": 31, \"c\": 5, \"d\": -1.5e3, \"e\": .inf, \"f\": .nan, \"g\": \"x\", \"h\": \"2020-01-01\"}"
    );
    assert_eq!(
        first("a.toml", "a = x\n"),
        "1:5 syntax: this is not TOML: string values must be quoted, expected literal string"
    );
}
