//! `daemun routes`: the route table in the order it matches.

use daemun_config::model::{Config, Match, PathMatch, ValueMatch};
use daemun_dataplane::Snapshot;
use serde_json::{Value, json};

use crate::cli::{Format, Routes};
use crate::code::{Code, Failure};
use crate::configuration::Compiled;
use crate::output::Output;

/// One line of the table.
struct Row {
    host: String,
    path: String,
    methods: String,
    conditions: String,
    name: String,
    destination: String,
    policies: Vec<&'static str>,
}

pub(crate) fn run(command: &Routes, output: &mut Output<'_>) -> Result<Code, Failure> {
    let (config, snapshot) = Compiled::detached(command.file.config.as_deref()).sound(output)?;
    let rows = rows(&config, &snapshot);
    match command.format {
        Format::Text => output.line(table(&rows))?,
        Format::Json => output.json(&rows.iter().map(json_row).collect())?,
    }
    Ok(Code::Done)
}

fn rows(config: &Config, snapshot: &Snapshot) -> Vec<Row> {
    let table = snapshot.router().table();
    let row = |row: &daemun_dataplane::router::TableRow| {
        let index = row.route as usize;
        let route = config.routes.get(index)?;
        Some(Row {
            host: row.host.clone(),
            path: path(&route.matches),
            methods: methods(&route.matches),
            conditions: conditions(&route.matches, route.priority),
            name: route.name.value.clone(),
            destination: snapshot.destination_of(index),
            policies: snapshot.policies_of(index).collect(),
        })
    };
    table.iter().filter_map(row).collect()
}

/// The path condition of a route, as the table shows it.
pub(crate) fn path(matches: &Match) -> String {
    match matches.path.as_ref().map(|path| &path.value) {
        None => "*".to_owned(),
        Some(PathMatch::Pattern(path)) => path.clone(),
        Some(PathMatch::Prefix(prefix)) if prefix.ends_with('/') => format!("{prefix}…"),
        Some(PathMatch::Prefix(prefix)) => format!("{prefix}[/…]"),
        Some(PathMatch::Regex(regex)) => format!("~ {regex}"),
    }
}

fn methods(matches: &Match) -> String {
    if matches.methods.is_empty() {
        return "*".to_owned();
    }
    matches.methods.iter().map(|method| method.value.as_str()).collect::<Vec<_>>().join(",")
}

fn conditions(matches: &Match, priority: i32) -> String {
    let mut all = Vec::new();
    if priority != 0 {
        all.push(format!("priority {priority}"));
    }
    for (kind, list) in [("header", &matches.headers), ("query", &matches.query), ("cookie", &matches.cookies)] {
        all.extend(list.iter().map(|(name, value)| format!("{kind} {}{}", name.value, shown(value))));
    }
    if !matches.client_ip.is_empty() {
        let nets = matches.client_ip.iter().map(|net| format!("{}/{}", net.addr, net.prefix));
        all.push(format!("client_ip {}", nets.collect::<Vec<_>>().join(",")));
    }
    all.extend(matches.when.iter().map(|when| format!("when {}", when.value)));
    all.join("; ")
}

fn shown(value: &ValueMatch) -> String {
    match value {
        ValueMatch::Exact(text) => format!("={text}"),
        ValueMatch::OneOf(texts) => format!(" in {}", texts.join(",")),
        ValueMatch::Present => String::new(),
        ValueMatch::Absent => " absent".to_owned(),
        ValueMatch::Regex(regex) => format!("~{}", regex.value),
        ValueMatch::Secret(_) => "=…".to_owned(),
    }
}

fn json_row(row: &Row) -> Value {
    json!({
        "host": row.host,
        "path": row.path,
        "methods": row.methods,
        "conditions": row.conditions,
        "route": row.name,
        "destination": row.destination,
        "policies": row.policies,
    })
}

fn table(rows: &[Row]) -> String {
    let heading = ["HOST", "PATH", "METHODS", "CONDITIONS", "ROUTE", "TO", "POLICIES"].map(str::to_owned);
    let mut lines = vec![heading];
    lines.extend(rows.iter().map(|row| {
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        [
            row.host.clone(),
            row.path.clone(),
            row.methods.clone(),
            dash(&row.conditions),
            row.name.clone(),
            row.destination.clone(),
            dash(&row.policies.join(",")),
        ]
    }));
    columns(&lines)
}

/// Lines with their cells one below the other.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let mut widths = [0_usize; N];
    for line in lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(widths) {
            row.push_str(cell);
            row.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}
