//! A file with forty planted mistakes yields exactly these forty findings, in one run.

use std::path::Path;

use crate::support::{VOCABULARY, World, golden};
use daemun_config::load_text;

#[test]
fn forty_planted_mistakes_are_forty_findings() {
    let text = include_str!("../forty/daemun.yaml");
    let loaded = load_text(Path::new("daemun.yaml"), text, &World::default(), &VOCABULARY);
    golden("forty/findings.txt", &loaded.diagnostics.render(&loaded.sources, false));
    assert_eq!(loaded.diagnostics.len(), 40);

    // Each planted line says so in a comment, with the code; the places must be just those.
    let planted: Vec<(u32, String)> = (1_u32..)
        .zip(text.lines())
        .flat_map(|(line, text)| {
            let codes = text.split_once("# !").map_or("", |(_, codes)| codes);
            codes.split_whitespace().map(move |code| (line, code.to_owned())).collect::<Vec<_>>()
        })
        .collect();
    let mut found: Vec<(u32, String)> =
        loaded.diagnostics.iter().map(|found| (found.at.line, found.code.to_owned())).collect();
    let mut expected = planted;
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}
