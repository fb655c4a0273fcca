//! Parameters of OpenAPI: no text makes their reader panic or gives more than it holds, and what is written in a style is read back.
#![no_main]

use std::fmt::Write as _;

use arbitrary::Unstructured;
use daemun_config::decode::JsonValue as Value;
use daemun_config::diagnostic::Diagnostics;
use daemun_config::parse_text;
use daemun_config::tree::Node;
use daemun_policies::validate::read_parameter;
use libfuzzer_sys::fuzz_target;

/// Styles, whether they are of paths.
const STYLES: [(&str, bool); 7] = [
    ("simple", true),
    ("label", true),
    ("matrix", true),
    ("form", false),
    ("spaceDelimited", false),
    ("pipeDelimited", false),
    ("deepObject", false),
];
const LIST: &str = "{ type: array, items: { type: string } }";
const OBJECT: &str = "{ type: object, properties: { a: { type: string }, b: { type: string }, c: { type: string } } }";
const SCHEMAS: [&str; 6] = [
    LIST,
    OBJECT,
    "{ type: integer }",
    "{}",
    "{ oneOf: [{ type: string }, { type: array, items: { type: boolean } }], nullable: true }",
    "{ type: object, additionalProperties: { type: array, items: { type: object, properties: { x: { type: number } } } } }",
];

fuzz_target!(|data: &[u8]| {
    let mut choices = Unstructured::new(data);
    let Ok((style, explode, schema, written)) = choices.arbitrary::<(u8, bool, u8, bool)>() else { return };
    let (style, in_path) = STYLES[usize::from(style) % STYLES.len()];
    if written {
        written_and_read(style, in_path, explode, &mut choices);
        return;
    }
    let Ok(text) = choices.arbitrary::<&str>() else { return };
    let schema = node(SCHEMAS[usize::from(schema) % SCHEMAS.len()]);
    let read = read_parameter("p", style, explode, in_path, &schema, text).expect("the style is of its place");
    if let Ok(Some(value)) = read {
        assert!(size(&value) <= text.len() + 1, "{value} out of {text:?}");
    }
});

/// Texts that a value holds, in bytes.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(entries) => entries.values().map(size).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn node(text: &str) -> Node {
    parse_text(text, &mut Diagnostics::new()).expect("YAML")
}

fn written_and_read(style: &str, in_path: bool, explode: bool, choices: &mut Unstructured<'_>) {
    let Ok(texts) = choices.arbitrary::<[String; 3]>() else { return };
    let delimiter = match style {
        "spaceDelimited" => ' ',
        "pipeDelimited" => '|',
        _ => '\0',
    };
    // what parts the items cannot be within them, and a list of nothing cannot be told from none
    if texts.iter().any(|text| text.contains(delimiter) || text.is_empty()) {
        return;
    }
    let (value, schema): (Value, _) = if style == "deepObject" || explode && texts[0].len() % 2 == 0 {
        (
            ["a", "b", "c"]
                .into_iter()
                .zip(texts.iter().map(String::as_str))
                .map(|(k, v)| (k, Value::from(v)))
                .collect(),
            OBJECT,
        )
    } else {
        (texts.iter().map(|text| Value::from(text.as_str())).collect(), LIST)
    };
    if value.is_object() && matches!(style, "spaceDelimited" | "pipeDelimited") {
        return;
    }
    let text = write(style, explode, &value);
    let read = read_parameter("p", style, explode, in_path, &node(schema), &text);
    assert_eq!(read, Some(Ok(Some(value))), "{style} {explode} {text}");
}

/// As the tables of OpenAPI and RFC 6570 have it.
fn write(style: &str, explode: bool, value: &Value) -> String {
    let encode = |value: &Value| {
        let mut out = String::new();
        for byte in value.as_str().expect("a text").bytes() {
            let _ = if byte.is_ascii_alphanumeric() {
                write!(out, "{}", char::from(byte))
            } else {
                write!(out, "%{byte:02X}")
            };
        }
        out
    };
    let pairs = |between: &str| -> Vec<String> {
        let entries = value.as_object().expect("an object").iter();
        entries.map(|(key, value)| format!("{key}{between}{}", encode(value))).collect()
    };
    let items = || -> Vec<String> { value.as_array().expect("a list").iter().map(encode).collect() };
    let parts = match (value.is_object(), explode) {
        (true, true) => pairs("="),
        (true, false) => pairs(","),
        (false, _) => items(),
    };
    match (style, explode) {
        ("simple", _) => parts.join(","),
        ("label", true) => format!(".{}", parts.join(".")),
        ("label", false) => format!(".{}", parts.join(",")),
        ("matrix", true) if value.is_object() => format!(";{}", parts.join(";")),
        ("matrix", true) => parts.iter().map(|part| format!(";p={part}")).collect(),
        ("matrix", false) => format!(";p={}", parts.join(",")),
        ("deepObject", _) => {
            let entries = value.as_object().expect("an object").iter();
            entries.map(|(key, value)| format!("p[{key}]={}", encode(value))).collect::<Vec<_>>().join("&")
        }
        ("form", true) if value.is_object() => parts.join("&"),
        (_, true) => parts.iter().map(|part| format!("p={part}")).collect::<Vec<_>>().join("&"),
        ("spaceDelimited", false) => format!("p={}", parts.join("%20")),
        ("pipeDelimited", false) => format!("p={}", parts.join("%7C")),
        _ => format!("p={}", parts.join(",")),
    }
}
