//! Assertions: no text makes their readers panic, what is read has one canonical form, and what was changed says what was signed or passes
//! for nothing.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use daemun_policies::saml_auth::{check_reader, signed_part};
use libfuzzer_sys::fuzz_target;

const ASSERTION: &str = include_str!("../fixtures/assertion.xml");
const KEY: &[u8] = include_bytes!("../fixtures/issuer.pem");

/// What of the assertion is signed.
static SIGNED: LazyLock<String> =
    LazyLock::new(|| signed_part(ASSERTION.as_bytes(), KEY).expect("the assertion is genuine"));

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => text(rest),
        1 => changed(rest),
        _ => around(rest),
    }
});

/// Any text, which nobody has signed.
fn text(text: &[u8]) {
    assert_eq!(check_reader(text), Ok(()));
    judge(text);
}

/// The genuine assertion with some parts of it replaced, put in twice or taken out.
fn changed(data: &[u8]) {
    let mut choices = Unstructured::new(data);
    let mut text = ASSERTION.as_bytes().to_vec();
    for _ in 0..4 {
        let Ok((at, length, copied, with)) = choices.arbitrary::<(u16, u16, bool, &[u8])>() else { break };
        let begin = usize::from(at) % (text.len() + 1);
        let end = (begin + usize::from(length) % 1024).min(text.len());
        match copied {
            true => {
                let part = text[begin..end].to_vec();
                let to = with.first().map_or(0, |&place| usize::from(place) * 16) % (text.len() + 1);
                text.splice(to..to, part);
            }
            false => drop(text.splice(begin..end, with.iter().copied())),
        }
    }
    assert_eq!(check_reader(&text), Ok(()));
    judge(&text);
}

/// The genuine assertion within another text.
fn around(data: &[u8]) {
    let (before, behind) = data.split_at(data.iter().position(|&byte| byte == b'|').unwrap_or(data.len()));
    judge(&[before, ASSERTION.as_bytes(), behind.get(1..).unwrap_or_default()].concat());
}

/// Nobody who does not know the key makes a text that passes for signed, but by leaving alone what is.
fn judge(text: &[u8]) {
    let Some(signed) = signed_part(text, KEY) else { return };
    assert_eq!(signed, *SIGNED, "{}", String::from_utf8_lossy(text));
}
