//! `daemun key`: makes keys and digests. Stores nothing.

use std::io::{IsTerminal, Read};

use serde_json::json;

use crate::cli::{Format, Key};
use crate::code::{Code, Failure};
use crate::key;
use crate::output::Output;

/// The most bytes of a key that are read.
const LONGEST: u64 = 4096;

pub(crate) fn run(command: &Key, output: &mut Output<'_>) -> Result<Code, Failure> {
    match command {
        Key::New { format } => new(*format, output),
        Key::Hash { key } => hash(key.as_deref(), output),
    }
}

fn new(format: Format, output: &mut Output<'_>) -> Result<Code, Failure> {
    let key = key::generate().map_err(|error| Failure::internal(format!("no random numbers: {error}")))?;
    let digest = key::digest(key.as_bytes());
    match format {
        Format::Text => output.line(format!("key     {key}\nsha256  {digest}"))?,
        Format::Json => output.line(json!({ "key": key, "sha256": digest }).to_string())?,
    }
    output.note("give the key to the caller, and write `keys: [{ sha256: … }]` with the digest under the consumer");
    Ok(Code::Done)
}

fn hash(given: Option<&str>, output: &mut Output<'_>) -> Result<Code, Failure> {
    let read;
    let key = if let Some(key) = given {
        output.note("warning: a key on the command line can be seen in the list of processes; standard input keeps it from there");
        key
    } else {
        if std::io::stdin().is_terminal() {
            output.note("type the key, then Enter and Ctrl-D");
        }
        read = read_key(std::io::stdin().lock())?;
        &read
    };
    let digest = digest_of(key, &mut |warning| output.note(warning))?;
    output.line(digest)?;
    Ok(Code::Done)
}

/// One key: the end of its line is no part of it.
fn read_key(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(LONGEST + 2).read_to_string(&mut text);
    read.map_err(|error| Failure::wrong(format!("cannot read the key: {error}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn digest_of(key: &str, warn: &mut dyn FnMut(&str)) -> Result<String, Failure> {
    if key.len() < key::SHORTEST {
        return Err(Failure::wrong(format!("the key has {} bytes, fewer than {}", key.len(), key::SHORTEST)));
    }
    if key.len() as u64 > LONGEST {
        return Err(Failure::wrong(format!("the key has more than {LONGEST} bytes")));
    }
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::wrong(
            "the key has spaces, line ends or other characters that a header field cannot carry",
        ));
    }
    if key::is_whole(key) == Some(false) {
        warn(&format!("warning: this begins with `{}`, but its check does not fit: was a letter lost?", key::PREFIX));
    }
    Ok(key::digest(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_line_is_no_part_of_a_key() {
        for text in ["abcdefghijklmnop", "abcdefghijklmnop\n", "abcdefghijklmnop\r\n"] {
            assert_eq!(read_key(text.as_bytes()).unwrap(), "abcdefghijklmnop");
        }
    }

    #[test]
    fn keys_that_a_configuration_would_refuse_are_refused() {
        for key in ["", "short", "fifteen-letters", "has a space inside it", &"x".repeat(5000)] {
            assert_eq!(digest_of(key, &mut |_| ()).unwrap_err().code(), Code::Wrong, "{key}");
        }
    }

    #[test]
    fn a_cut_key_is_warned_of() {
        let mut key = key::generate().unwrap();
        let mut warnings = 0;
        digest_of(&key, &mut |_| warnings += 1).unwrap();
        assert_eq!(warnings, 0);
        key.pop();
        digest_of(&key, &mut |_| warnings += 1).unwrap();
        assert_eq!(warnings, 1);
    }
}
