//! Reads a file of networks. Knows no request.

use std::path::Path;

use daemun_config::model::IpNet;

/// Most bytes of a file.
const LARGEST: u64 = 64 << 20;
/// Most networks of a file.
const MOST: usize = 1_000_000;
/// Lines that are told to be wrong.
const TOLD: usize = 10;

/// The networks of a file, one a line; what follows a `#` and empty lines mean nothing.
///
/// # Errors
/// What is wrong, each with its line.
pub(super) fn read(path: &Path) -> Result<Vec<IpNet>, Vec<String>> {
    let shown = path.display();
    let bytes = daemun_config::read_file(path, LARGEST)
        .map_err(|error| vec![format!("`{shown}` cannot be read: {}", daemun_config::why(&error))])?;
    if bytes.len() as u64 > LARGEST {
        return Err(vec![format!("`{shown}` is larger than {} MiB", LARGEST >> 20)]);
    }
    let text = String::from_utf8(bytes).map_err(|_| vec![format!("`{shown}` is not UTF-8")])?;
    parse(&text).map_err(|errors| errors.into_iter().map(|error| format!("`{shown}` {error}")).collect())
}

/// The networks of a text; of lines that are wrong, the first ones are told.
pub(super) fn parse(text: &str) -> Result<Vec<IpNet>, Vec<String>> {
    let (mut nets, mut errors) = (Vec::new(), Vec::new());
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1u32..) {
        let written = line.split('#').next().unwrap_or_default().trim();
        if written.is_empty() {
            continue;
        }
        match IpNet::parse(written) {
            Ok(net) => nets.push(net),
            Err(meant) => errors.push(wrong(written, number, meant)),
        }
        if errors.len() == TOLD {
            break;
        }
        if nets.len() > MOST {
            return Err(vec![format!("has more than {MOST} networks")]);
        }
    }
    if errors.is_empty() { Ok(nets) } else { Err(errors) }
}

fn wrong(written: &str, number: u32, meant: Option<String>) -> String {
    let shown: String = written.chars().take(64).flat_map(char::escape_debug).collect();
    match meant {
        Some(meant) => format!("line {number}: `{shown}` has bits set behind its prefix; the range is `{meant}`"),
        None => format!("line {number}: `{shown}` is not an address or range"),
    }
}
