//! `daemun password`: hashes of passwords for `users`. Stores nothing, and takes no password from the command line, where every user of the
//! machine could see it.

use std::io::{IsTerminal, Read};

use daemun_config::model::PasswordHash;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::cli::Password;
use crate::code::{Code, Failure};
use crate::output::Output;

/// Fewest and most bytes of a password.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=512;

pub(crate) fn run(command: &Password, output: &mut Output<'_>) -> Result<Code, Failure> {
    match command {
        Password::Hash => hash(output),
    }
}

fn hash(output: &mut Output<'_>) -> Result<Code, Failure> {
    if std::io::stdin().is_terminal() {
        output.note("type the password, then Enter and Ctrl-D; it is shown as you type");
    }
    let password = read(std::io::stdin().lock())?;
    output.line(hash_of(&password)?)?;
    output.note("write it as `users: [{ name: …, password: \"…\" }]`, in quotes");
    Ok(Code::Done)
}

/// One password: the end of its line is no part of it.
fn read(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let read = input.take(*LENGTH.end() as u64 + 3).read_to_string(&mut text);
    read.map_err(|error| Failure::wrong(format!("cannot read the password: {error}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn hash_of(password: &str) -> Result<String, Failure> {
    let length = password.len();
    if !LENGTH.contains(&length) {
        let what = if length < *LENGTH.start() { "fewer than 8" } else { "more than 512" };
        return Err(Failure::wrong(format!("the password has {what} bytes")));
    }
    if password.contains(char::is_control) {
        return Err(Failure::wrong("the password has line ends or other control characters"));
    }
    let mut salt = [0; 16];
    let given = getrandom(&mut salt, GetRandomFlags::empty());
    if given != Ok(salt.len()) {
        return Err(Failure::internal("no random numbers"));
    }
    let hash = PasswordHash::make(password.as_bytes(), &salt);
    hash.map(|hash| hash.text()).ok_or_else(|| Failure::internal("no memory to hash with"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_line_is_no_part_of_a_password() {
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(read(text.as_bytes()).unwrap(), "correct horse");
        }
    }

    #[test]
    fn a_hash_is_of_its_password_and_no_two_are_the_same() {
        let (one, other) = (hash_of("correct horse").unwrap(), hash_of("correct horse").unwrap());
        assert_ne!(one, other);
        for hash in [one, other] {
            assert!(PasswordHash::parse(&hash).unwrap().is_of(b"correct horse"));
        }
    }

    #[test]
    fn what_nobody_should_have_as_password_is_refused() {
        for password in ["", "short", "two\nlines!", &"x".repeat(513)] {
            assert_eq!(hash_of(password).unwrap_err().code(), Code::Wrong, "{password}");
        }
    }
}
