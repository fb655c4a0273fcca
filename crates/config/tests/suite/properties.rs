//! What holds for every text and every tree.

use std::path::Path;

use proptest::prelude::*;

use crate::support::{VOCABULARY, World};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::tree::{At, Entry, Node, Text, Value};
use daemun_config::{Format, PrintOptions, check_round_trip, load_text, parse, print, resolve};

fn node(value: Value) -> Node {
    Node { at: At::default(), value }
}

fn text(text: String) -> Value {
    Value::String(Text { text, quoted: true, reference: false, secret: false, template: None })
}

/// Texts with what is special to YAML, to references and to terminals.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9 :#'\"{}\\[\\],&*!|>%@`$\\-?~\\n\\t\\\\./_]{0,20}",
        Just("true".to_owned()),
        Just("~".to_owned()),
        Just("<<".to_owned()),
        Just("0x1F".to_owned()),
        Just("- a".to_owned()),
        Just("---".to_owned()),
        "[$]{0,3}\\{?env:A\\}?",
        "k{890,1100}",
    ]
}

fn any_node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(number.to_string().into())),
        any_text().prop_map(text),
    ];
    leaf.prop_map(node).prop_recursive(5, 40, 6, |inner| {
        let seq = proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| node(Value::Seq(items)));
        let map = proptest::collection::btree_map(any_text(), inner, 0..6).prop_map(|entries| {
            let entry = |(key, value)| Entry { key, key_at: At::default(), value };
            node(Value::Map(entries.into_iter().map(entry).collect()))
        });
        prop_oneof![seq, map]
    })
}

/// As many cases as `PROPTEST_CASES` says, and few enough otherwise for the suite to stay quick.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(256);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Texts that are likely to be YAML of a kind.
fn any_yaml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-c]{1,3}: ",
        "- ",
        "\n( ){0,4}",
        "[&*][ab] ",
        "[\\[\\]{},]",
        "[0-9.x+-]{1,4}",
        "(true|null|~|off|<<|!!str |# x)",
        "['\"|>]",
        "[|>][+-]?\n",
        any_text(),
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_read_is_printed_and_read_again(text in any_yaml()) {
        prop_assert_eq!(check_round_trip(&text, Format::Yaml), Ok(()));
        prop_assert_eq!(check_round_trip(&text, Format::Toml), Ok(()));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any_text(), format in prop_oneof![Just("a.yaml"), Just("a.json"), Just("a.toml")]) {
        let loaded = load_text(Path::new(format), &text, &World::default(), &VOCABULARY);
        prop_assert!(loaded.config.is_none());
        let _ = loaded.diagnostics.render(&loaded.sources, true);
        let _ = loaded.diagnostics.to_json(&loaded.sources);
    }

    #[test]
    fn no_change_of_a_configuration_makes_it_panic(place in 0_usize..4000, length in 0_usize..5, other in any_text()) {
        let original = include_str!("../language/built.yaml");
        let cut = |at: usize| (at.min(original.len())..=original.len()).find(|at| original.is_char_boundary(*at)).unwrap();
        let changed = format!("{}{other}{}", &original[..cut(place)], &original[cut(place + length)..]);
        let loaded = load_text(Path::new("a.yaml"), &changed, &World::default(), &VOCABULARY);
        prop_assert_eq!(loaded.config.is_some(), !loaded.diagnostics.has_errors());
        let _ = loaded.diagnostics.render(&loaded.sources, false);
    }

    #[test]
    fn what_is_printed_is_read_again(tree in any_node()) {
        let printed = print(&tree, PrintOptions::default());
        let mut diagnostics = Diagnostics::new();
        let read = parse(&printed, Format::Yaml, 0, &mut diagnostics);
        let keys_refer = diagnostics.iter().all(|found| found.code == "reference_in_key");
        prop_assert!(keys_refer, "{printed}\n{diagnostics:?}");
        let read = read.unwrap();
        prop_assert!(read.same(&tree), "{printed}\n{read:?}");
        prop_assert_eq!(print(&read, PrintOptions::default()), printed);
    }

    #[test]
    fn what_is_printed_with_dollars_doubled_survives_references(tree in any_node()) {
        let printed = print(&tree, PrintOptions { hide_secrets: false, escape_dollars: true });
        let mut read = parse(&printed, Format::Yaml, 0, &mut Diagnostics::new()).unwrap();
        let mut diagnostics = Diagnostics::new();
        resolve(&mut read, &[], &World::default(), &mut diagnostics);
        prop_assert!(diagnostics.is_empty());
        prop_assert!(read.same(&tree), "{printed}\n{read:?}");
    }

    #[test]
    fn json_is_read_as_it_is_written(tree in any_node()) {
        fn json(node: &Node) -> serde_json::Value {
            match &node.value {
                Value::Null => serde_json::Value::Null,
                Value::Bool(value) => (*value).into(),
                Value::Number(text) => serde_json::from_str(text).unwrap(),
                Value::String(text) => text.text.as_str().into(),
                Value::Seq(items) => items.iter().map(json).collect(),
                Value::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), json(&entry.value))).collect(),
            }
        }
        let written = serde_json::to_string_pretty(&json(&tree)).unwrap();
        let read = parse(&written, Format::Json, 0, &mut Diagnostics::new()).unwrap();
        prop_assert!(read.same(&tree), "{written}\n{read:?}");
    }
}
