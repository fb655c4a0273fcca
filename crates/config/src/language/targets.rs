//! Reads a list of targets that stands apart from a configuration: in a file or in an answer. Knows not where it comes from.

use super::upstream::TargetText;
use crate::decode::{Decoder, Setting as _};
use crate::diagnostic::Diagnostics;
use crate::model::Target;
use crate::parse::Format;
use crate::tree::{Node, Value};

/// Targets of a list, in its order.
#[derive(Debug, Default)]
pub struct TargetList {
    /// Those that could be read, the first so many.
    pub targets: Vec<Target>,
    /// How many more there are.
    pub left_out: usize,
}

/// Reads a list in the forms that `targets` has, and in that of Prometheus' HTTP service discovery,
/// `[{"targets": ["10.0.0.1:80"], "labels": {…}}]`, whose labels mean nothing here.
/// No reference is replaced. Of more than `most` targets only the first are read.
///
/// # Errors
/// What is wrong, in one line; then nothing of the list is of use.
pub fn read_targets(text: &str, format: Format, most: usize) -> Result<TargetList, String> {
    let mut diagnostics = Diagnostics::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tree = crate::parse::parse(text, format, 0, &mut diagnostics);
    let mut list = TargetList::default();
    match tree.as_ref().map(|tree| &tree.value) {
        Some(Value::Seq(items)) => {
            let groups = items.iter().all(|item| item.get("targets").is_some());
            let items: Vec<Node> = if groups { items.iter().flat_map(members).collect() } else { items.clone() };
            list.left_out = items.len().saturating_sub(most);
            let mut cx = Decoder::new(&mut diagnostics, "");
            for (index, item) in items.iter().take(most).enumerate() {
                list.targets.extend(cx.item(index, item, |cx| TargetText::decode(item, cx)).map(TargetText::lower));
            }
        }
        Some(Value::Null) | None if !diagnostics.has_errors() => return Err("it is empty".to_owned()),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Map(_)) | None => {
            if !diagnostics.has_errors() {
                return Err("it is not a list".to_owned());
            }
        }
    }
    match diagnostics.iter().find(|found| found.severity == crate::Severity::Error) {
        None => Ok(list),
        Some(found) => {
            let place = format!("line {}, column {}", found.at.line, found.at.column);
            Err(format!("{place}: {}", found.message))
        }
    }
}

/// The targets of a group, which are addresses without a scheme there.
fn members(group: &Node) -> Vec<Node> {
    let members = group.get("targets").and_then(Node::as_seq).unwrap_or_default();
    let member = |node: &Node| match &node.value {
        Value::String(text) if !text.text.contains("://") && !text.text.starts_with("unix:") => {
            let mut node = node.clone();
            if let Value::String(text) = &mut node.value {
                text.text = format!("http://{}", text.text);
            }
            node
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
            node.clone()
        }
    };
    members.iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str, format: Format) -> Result<Vec<String>, String> {
        read_targets(text, format, 3).map(|list| {
            let mut urls: Vec<String> =
                list.targets.iter().map(|target| format!("{} {}", target.url.value, target.weight)).collect();
            urls.extend((list.left_out > 0).then(|| format!("and {}", list.left_out)));
            urls
        })
    }

    #[test]
    fn a_list_has_the_forms_that_targets_has() {
        let yaml = "- http://a:1\n- { url: http://b:2, weight: 3 }\n- unix:/run/c.sock\n";
        assert_eq!(urls(yaml, Format::Yaml).unwrap(), ["http://a:1 1", "http://b:2 3", "unix:/run/c.sock 1"]);
        let json = r#"["http://a:1", {"url": "https://b", "weight": 0}]"#;
        assert_eq!(urls(json, Format::Json).unwrap(), ["http://a:1 1", "https://b 0"]);
        assert_eq!(urls("[]", Format::Json).unwrap(), [""; 0]);
    }

    #[test]
    fn groups_of_prometheus_are_taken_apart() {
        let json = r#"[{"targets": ["10.0.0.1:80", "[::1]:81"], "labels": {"x": "y"}}, {"targets": ["b:2"]}]"#;
        assert_eq!(urls(json, Format::Json).unwrap(), ["http://10.0.0.1:80 1", "http://[::1]:81 1", "http://b:2 1"]);
    }

    #[test]
    fn of_too_many_the_first_are_taken_and_the_rest_is_counted() {
        let json = r#"["http://a", "http://b", "http://c", "http://d", "http://e"]"#;
        assert_eq!(urls(json, Format::Json).unwrap(), ["http://a 1", "http://b 1", "http://c 1", "and 2"]);
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_of_the_list_is_taken() {
        for (text, wanted) in [
            ("", "it is empty"),
            ("{}", "it is not a list"),
            ("[1]", "line 1, column 2: expected the address of a target, found the number `1`"),
            ("[\"http://a\", \"b\"]", "line 1, column 14: `b` is not the address of a target: it has no scheme"),
            ("[\"http://a\"", "line 2"),
            ("[{\"url\": \"http://a\", \"wieght\": 1}]", "line 1, column 22: there is no key `wieght` here"),
        ] {
            let found = urls(text, Format::Yaml).unwrap_err();
            assert!(found.starts_with(wanted), "{text}: {found}");
        }
    }
}
