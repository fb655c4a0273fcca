//! Which coding a caller likes best (RFC 9110, section 12.5.3). Knows only the values of `Accept-Encoding`.

use super::config::Coding;

/// The coding for a caller that sent these values, out of `offered`, the best one first. `None` when it named none, or likes the body as
/// it is better. Allocates nothing.
pub(super) fn choose<'v, V: Iterator<Item = &'v [u8]>>(values: impl Fn() -> V, offered: &[Coding]) -> Option<Coding> {
    // most that name none send no such field at all
    values().next()?;
    let mut best: Option<(u16, Coding)> = None;
    for &coding in offered {
        let weight = weight(&values, coding.name()).unwrap_or(0);
        if weight > best.map_or(0, |(known, _)| known) {
            best = Some((weight, coding));
        }
    }
    let (weight, coding) = best?;
    // what is not named may be sent, but is not asked for
    let plain = named(values(), |name| name.eq_ignore_ascii_case(b"identity")).unwrap_or(0);
    (weight >= plain).then_some(coding)
}

/// The weight of a coding in thousandths: its own, else that of `*`.
fn weight<'v, V: Iterator<Item = &'v [u8]>>(values: &impl Fn() -> V, coding: &str) -> Option<u16> {
    let own = named(values(), |name| {
        name.eq_ignore_ascii_case(coding.as_bytes()) || (coding == "gzip" && name.eq_ignore_ascii_case(b"x-gzip"))
    });
    own.or_else(|| named(values(), |name| name == b"*"))
}

/// The least weight given to what `is` says; one that cannot be read is none.
fn named<'v>(values: impl Iterator<Item = &'v [u8]>, is: impl Fn(&[u8]) -> bool) -> Option<u16> {
    let items = values.flat_map(|value| value.split(|&b| b == b','));
    let weights = items.filter_map(|item| {
        let mut parts = item.split(|&b| b == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        is(name).then(|| parts.next().map_or(Some(1000), quality).unwrap_or(0))
    });
    weights.min()
}

/// `q=0.5` in thousandths (RFC 9110, section 12.4.2).
fn quality(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let (whole, fraction) = match value {
        [whole, b'.', fraction @ ..] => (*whole, fraction),
        [whole] => (*whole, &[][..]),
        _ => return None,
    };
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths = [100, 10, 1].into_iter().zip(fraction).map(|(unit, &digit)| unit * u16::from(digit - b'0')).sum();
    match (whole, thousandths) {
        (b'1', 0) => Some(1000),
        (b'0', thousandths) => Some(thousandths),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weights_of_the_caller_decide_and_then_the_order_offered() {
        let offered = [Coding::Zstd, Coding::Br, Coding::Gzip];
        for (sent, chosen) in [
            ("", ""),
            ("gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZip, BR", "br"),
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip;q=1.0, br;q=0.9", "gzip"),
            ("gzip;q=0.001", "gzip"),
            ("gzip;q=0", ""),
            ("gzip;q=0, *", "zstd"),
            ("zstd;q=0, br;q=0, *;q=0.5", "gzip"),
            ("*;q=0", ""),
            ("*", "zstd"),
            ("identity", ""),
            ("identity, gzip", "gzip"),
            ("identity;q=0", ""),
            ("identity;q=0, gzip;q=0.2", "gzip"),
            ("identity;q=0.8, gzip;q=0.5", ""),
            ("deflate, compress", ""),
            ("gzip;q=2, br;q=0.5", "br"),
            ("gzip;q=0.1234", ""),
            ("gzip;q=1.001", ""),
            ("gzip;q=abc", ""),
            ("gzip ; q=0.7 , br ; Q=0.8", "br"),
            ("gzip;q=0, gzip", ""),
            (",,;, ;q=1,gzip", "gzip"),
        ] {
            let found = choose(|| [sent.as_bytes()].into_iter(), &offered);
            assert_eq!(found.map_or("", Coding::name), chosen, "{sent}");
        }
        let lines = [&b"br;q=0.1"[..], b"gzip"];
        assert_eq!(choose(|| lines.into_iter(), &offered), Some(Coding::Gzip));
        assert_eq!(choose(|| [&b"br"[..]].into_iter(), &[Coding::Gzip]), None);
    }
}
