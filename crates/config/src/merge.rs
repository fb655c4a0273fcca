//! Makes one tree of the files of a folder: lists of things append, mappings of named things join, everything else is set once.

use std::collections::HashMap;

use crate::diagnostic::{DUPLICATE_KEY, DUPLICATE_NAME, Diagnostic, Diagnostics};
use crate::tree::{At, Entry, Node, Value};

/// Top-level lists whose items come from all files.
const LISTS: &[&str] = &["listeners", "routes", "consumers", "users"];
/// Top-level mappings whose entries come from all files.
const MAPPINGS: &[&str] = &["upstreams", "policies", "plans", "errors"];

/// Merges the files' trees, in the order of the files. What is set twice is reported with both places.
pub(crate) fn merge(trees: Vec<Node>, diagnostics: &mut Diagnostics) -> Option<Node> {
    let mut trees = trees.into_iter();
    let mut merged = trees.next()?;
    let mut names: HashMap<String, HashMap<String, At>> = HashMap::new();
    for tree in trees {
        match (&mut merged.value, tree.value) {
            (Value::Map(entries), Value::Map(more)) => {
                for entry in more {
                    add(entries, entry, &mut names, diagnostics);
                }
            }
            // Neither is a mapping at its top: reading the first one reports it.
            (Value::Map(_), other) => return Some(Node { at: tree.at, value: other }),
            _ => return Some(merged),
        }
    }
    Some(merged)
}

fn add(
    entries: &mut Vec<Entry>,
    entry: Entry,
    names: &mut HashMap<String, HashMap<String, At>>,
    diagnostics: &mut Diagnostics,
) {
    let Some(known) = entries.iter_mut().find(|known| known.key == entry.key) else {
        entries.push(entry);
        return;
    };
    match (&mut known.value.value, entry.value.value) {
        (Value::Seq(items), Value::Seq(more)) if LISTS.contains(&entry.key.as_str()) => items.extend(more),
        (Value::Map(items), Value::Map(more)) if MAPPINGS.contains(&entry.key.as_str()) => {
            let names = names
                .entry(entry.key.clone())
                .or_insert_with(|| items.iter().map(|item| (item.key.clone(), item.key_at)).collect());
            for item in more {
                match names.get(&item.key) {
                    None => {
                        names.insert(item.key.clone(), item.key_at);
                        items.push(item);
                    }
                    Some(first) => {
                        let message = format!("`{}` is defined in two files", crate::tree::clip(&item.key));
                        let found = Diagnostic::error(DUPLICATE_NAME, item.key_at, message)
                            .related(*first, "first defined here");
                        diagnostics.push(found.path(format!("{}.{}", entry.key, crate::tree::clip(&item.key))));
                    }
                }
            }
        }
        (_, _) if entry.key == "$schema" => {}
        (_, _) => {
            let message = format!("`{}` is set in two files", crate::tree::clip(&entry.key));
            let found = Diagnostic::error(DUPLICATE_KEY, entry.key_at, message).related(known.key_at, "first set here");
            diagnostics.push(found.path(crate::tree::clip(&entry.key)));
        }
    }
}
