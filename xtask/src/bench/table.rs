//! The one table that a run ends in, and the document that keeps it.

use std::process::Command;

use anyhow::{Context, Result};

use super::scenario::Kind;
use super::stats::Spread;
use super::{Bench, version};
use crate::{shell, tree};

const DOCUMENT: &str = "docs/operations/benchmark.md";
const BEGIN: &str = "<!-- table: begin -->";
const END: &str = "<!-- table: end -->";

/// A line of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) unit: &'static str,
    /// One cell for each proxy, in the order of [`Kind::ALL`].
    pub(super) cells: [Option<String>; 4],
    /// The figure that counts, with its spread, and what it is relative to.
    pub(super) figure: String,
    pub(super) against: String,
    /// What has to be reached, and whether it was.
    pub(super) target: Option<(String, bool)>,
}

impl Line {
    /// A line that says why there is no figure.
    pub(super) fn void(what: &str, why: &str) -> Line {
        // The document must not tell where it was made.
        let why = why.replace(&shell::text(&tree::target()), "target").replace('|', "/").replace('\n', " ");
        let short: String = why.chars().take(160).collect();
        Line { what: what.to_owned(), figure: format!("void: {short}"), ..Line::default() }
    }

    pub(super) fn cell(&mut self, kind: Kind, text: String) {
        let at = Kind::ALL.iter().position(|one| *one == kind);
        if let Some(cell) = at.and_then(|at| self.cells.get_mut(at)) {
            *cell = Some(text);
        }
    }

    /// States a ratio and what it must not exceed.
    pub(super) fn ratio(&mut self, ratio: Spread, against: &str, most: Option<f64>) {
        self.figure = format!("**{:.2}** ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high);
        self.against = against.to_owned();
        self.at_most(ratio.median, most.map(|most| (most, format!("{most:.2}"))));
    }

    /// States what `value` must not exceed; it is compared as it is printed, to two digits.
    pub(super) fn at_most(&mut self, value: f64, most: Option<(f64, String)>) {
        self.target = most.map(|(most, text)| (format!("≤ {text}"), (value * 100.0).round() <= (most * 100.0).round()));
    }

    pub(super) fn markdown(&self) -> String {
        let cells: Vec<&str> = self.cells.iter().map(|cell| cell.as_deref().unwrap_or("—")).collect();
        let (target, met) = match &self.target {
            Some((target, true)) => (target.as_str(), "yes"),
            Some((target, false)) => (target.as_str(), "**no**"),
            None => ("", ""),
        };
        format!(
            "| {} | {} | {} | {} | {} | {target} | {met} |",
            self.what,
            self.unit,
            cells.join(" | "),
            self.figure,
            self.against
        )
    }
}

/// The table with its date, versions and machine.
pub(super) fn document(bench: &Bench, lines: &[Line]) -> Result<String> {
    let date = shell::output(Command::new("date").arg("+%Y-%m-%d"))?;
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let mut versions = vec![
        version(Command::new(&bench.daemun).arg("version")),
        version(Command::new(shell::need("nginx")?).arg("-v")),
        version(Command::new(shell::need("haproxy")?).arg("-v")),
    ];
    if let Some(envoy) = &bench.envoy {
        versions.push(version(Command::new(envoy).arg("--version")).replace(&shell::text(envoy), "envoy"));
    }
    versions.push(version(Command::new(shell::need("h2load")?).arg("--version")));
    versions.push(format!("Linux {}", version(Command::new("uname").arg("-r"))));
    let versions: Vec<&str> = versions.iter().map(|version| version.trim()).collect();
    let mut text = format!(
        "{}{}, {} rounds, {cpu}. {}.\n\n\
         | what | unit | Daemun | nginx | HAProxy | Envoy | figure (spread) | of | must be | met |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        date.trim(),
        if bench.quick { " (quick: not for comparison)" } else { "" },
        bench.rounds(),
        versions.join("; "),
    );
    for line in lines {
        text += &line.markdown();
        text.push('\n');
    }
    Ok(text)
}

/// Puts `table` between the markers of the document.
pub(super) fn write(table: &str) -> Result<()> {
    let file = tree::root().join(DOCUMENT);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read `{DOCUMENT}`"))?;
    std::fs::write(&file, replaced(&text, table).with_context(|| format!("`{DOCUMENT}` has no markers"))?)?;
    Ok(())
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_replaces_what_is_between_the_markers() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replaced("no markers", "new"), None);
    }

    #[test]
    fn a_ratio_is_judged_as_it_is_printed() {
        let mut line = Line::default();
        line.ratio(Spread { low: 0.8, median: 0.8549, high: 0.9 }, "nginx", Some(0.85));
        assert_eq!(line.target, Some(("≤ 0.85".into(), true)));
        line.ratio(Spread { low: 0.8, median: 0.856, high: 0.9 }, "nginx", Some(0.85));
        assert_eq!(line.target, Some(("≤ 0.85".into(), false)));
    }
}
