//! Configurations: no text makes a reader panic, what was read is printed and read again the same, and so is a tree made up.
#![no_main]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use daemun_config::diagnostic::{Diagnostics, REFERENCE_IN_KEY};
use daemun_config::tree::{At, Entry, Node, Text, Value};
use daemun_config::{
    Environment, Format, PolicyDescription, PrintOptions, Vocabulary, load_text, parse, print, resolve,
};
use daemun_policies::REGISTRY;
use libfuzzer_sys::fuzz_target;

/// Depth of trees that are made up.
const DEPTH: usize = 12;
/// Texts that are likely to mean something to YAML, to references or to the language.
const WORDS: [&str; 30] = [
    "true",
    "off",
    "~",
    "null",
    "<<",
    "0x1F",
    "1e3",
    "- a",
    "---",
    "...",
    "? a",
    "a: b",
    "#",
    " a",
    "a ",
    "",
    "'",
    "\"",
    "\\",
    "${env:A}",
    "$${env:A}",
    "$",
    "|",
    ">",
    "&a",
    "*a",
    "!!str a",
    "{",
    "routes",
    "\u{85}\u{2028}\u{feff}",
];

static POLICIES: LazyLock<Vec<PolicyDescription>> =
    LazyLock::new(|| REGISTRY.iter().map(daemun_pipeline::PolicyRow::describe).collect());

fuzz_target!(|data: &[u8]| {
    let Some((form, rest)) = data.split_first() else { return };
    let formats = [("a.yaml", Format::Yaml), ("a.json", Format::Json), ("a.toml", Format::Toml)];
    match (formats.get(usize::from(form % 4)), str::from_utf8(rest)) {
        (Some((name, format)), Ok(text)) => {
            read(name, text);
            let mut diagnostics = Diagnostics::new();
            let tree = parse(text, *format, 0, &mut diagnostics);
            if let Some(tree) = tree.filter(|_| !diagnostics.has_errors()) {
                round(&tree);
            }
        }
        (Some(_), Err(_)) => {}
        (None, _) => {
            if let Ok(tree) = tree(&mut Unstructured::new(rest), DEPTH) {
                round(&tree);
            }
        }
    }
});

/// A world in which one variable is set and one file exists.
struct World;

impl Environment for World {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "a value: [with] 'quotes'".to_owned())
    }

    fn read(&self, path: &Path, _limit: u64) -> io::Result<Vec<u8>> {
        if path.ends_with("b") { Ok(b"from a file\n".to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn list(&self, _path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Checks a text and shows all that is found.
fn read(name: &str, text: &str) {
    let loaded = load_text(Path::new(name), text, &World, &Vocabulary { policies: &POLICIES });
    assert_eq!(loaded.config.is_none(), loaded.diagnostics.has_errors());
    let _ = loaded.diagnostics.render(&loaded.sources, true);
    let _ = loaded.diagnostics.to_json(&loaded.sources);
    if let Some(tree) = &loaded.tree {
        let _ = print(tree, PrintOptions { hide_secrets: true, escape_dollars: false });
    }
}

/// Prints a tree and reads it again, with dollars as they are and doubled.
fn round(tree: &Node) {
    let printed = print(tree, PrintOptions::default());
    let again = read_again(&printed);
    assert!(again.same(tree), "{tree:?}\n{printed}\n{again:?}");
    assert_eq!(print(&again, PrintOptions::default()), printed);

    let printed = print(tree, PrintOptions { hide_secrets: false, escape_dollars: true });
    let mut again = read_again(&printed);
    let mut diagnostics = Diagnostics::new();
    resolve(&mut again, &[], &World, &mut diagnostics);
    assert!(diagnostics.is_empty() && again.same(tree), "{tree:?}\n{printed}\n{again:?}\n{diagnostics:?}");
}

fn read_again(printed: &str) -> Node {
    let mut diagnostics = Diagnostics::new();
    let again = parse(printed, Format::Yaml, 0, &mut diagnostics);
    assert!(diagnostics.iter().all(|found| found.code == REFERENCE_IN_KEY), "{printed}\n{diagnostics:?}");
    again.unwrap_or_else(|| panic!("nothing was read:\n{printed}"))
}

fn tree(input: &mut Unstructured<'_>, depth: usize) -> Result<Node> {
    let most = if depth == 0 { 5 } else { 7 };
    let value = match input.int_in_range(0..=most)? {
        0 => Value::Null,
        1 => Value::Bool(input.arbitrary()?),
        2 => Value::Number(number(input)?.into()),
        3..=5 => {
            Value::String(Text { text: text(input)?, quoted: true, reference: false, secret: false, template: None })
        }
        6 => {
            let count = input.int_in_range(0..=5)?;
            Value::Seq((0..count).map(|_| tree(input, depth - 1)).collect::<Result<_>>()?)
        }
        _ => {
            let mut entries: Vec<Entry> = Vec::new();
            for _ in 0..input.int_in_range(0..=20)? {
                let key = text(input)?;
                if entries.iter().all(|entry| entry.key != key) {
                    entries.push(Entry { key, key_at: At::default(), value: tree(input, depth - 1)? });
                }
            }
            Value::Map(entries)
        }
    };
    Ok(Node { at: At::default(), value })
}

fn number(input: &mut Unstructured<'_>) -> Result<String> {
    Ok(match input.int_in_range(0..=3)? {
        0 => input.arbitrary::<i64>()?.to_string(),
        1 => format!("{:#x}", input.arbitrary::<u64>()?),
        2 => format!("{}.{}e{}", input.arbitrary::<i16>()?, input.arbitrary::<u16>()?, input.arbitrary::<i8>()?),
        _ => (*input.choose(&[".inf", "-.INF", ".nan", "+5", "0o17", "007", ".5", "5.", "-0"])?).to_owned(),
    })
}

fn text(input: &mut Unstructured<'_>) -> Result<String> {
    let text = if input.ratio(1, 2)? { *input.choose(&WORDS)? } else { input.arbitrary()? };
    // Long ones are written in another form when they are keys.
    let times = if input.ratio(1, 32)? { 1100 / text.len().max(1) } else { 1 };
    Ok(text.repeat(times))
}
