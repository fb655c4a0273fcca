//! How long a credential of a consumer is good, as written. Reads no clock.

use serde_json::{Value as Json, json};

use crate::decode::{Decoder, SchemaBuilder, Setting, text};
use crate::model::Terms;
use crate::tree::Node;

/// Most bytes of a label.
const LABEL: usize = 256;

/// A moment in UTC.
pub(super) struct Moment(u64);

impl Setting for Moment {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "a moment like `2027-01-31T00:00:00Z`")?;
        let moment = parse(written);
        if moment.is_none() {
            let help = "write it in UTC like `2027-01-31T00:00:00Z`, or a day like `2027-01-31`, with which it begins; from 1970 to 2500";
            cx.bad_value_help(node, format!("`{}` is no moment", node.shown()), help);
        }
        moment.map(Self)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "A moment in UTC (RFC 3339): `2027-01-31T00:00:00Z`, or the day that it begins with: `2027-01-31`.";
        s.pattern("moment", doc, "^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)?$")
    }
}

/// What a credential is for.
pub(super) struct Label(String);

impl Setting for Label {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let label = text(node, cx, "a text")?;
        if label.is_empty() || label.len() > LABEL || label.contains(char::is_control) {
            cx.bad_value_help(node, "this cannot be a label", "it has 1 to 256 bytes and no control characters");
            return None;
        }
        Some(Self(label.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": LABEL })
    }
}

/// What is said of a credential in three keys.
pub(super) fn terms(label: Option<Label>, expires: Option<Moment>, disabled: bool) -> Terms {
    Terms { label: label.map(|label| label.0), expires: expires.map(|moment| moment.0), disabled }
}

/// Milliseconds since the Unix epoch (RFC 3339, section 5.6, in UTC and to the second), or of the beginning of a day.
fn parse(text: &str) -> Option<u64> {
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let (year, month, day) = three(day, '-', [4, 2, 2])?;
    let (hour, minute, second) = three(time, ':', [2, 2, 2])?;
    let is_moment = (1970..=2500).contains(&year) && hour < 24 && minute < 60 && second < 60;
    if !is_moment || !(1..=days_of(year, month)?).contains(&day) {
        return None;
    }
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969);
    let days = days + (1..month).filter_map(|month| days_of(year, month)).sum::<u64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// Three numbers of so many digits each.
fn three(text: &str, between: char, digits: [usize; 3]) -> Option<(u64, u64, u64)> {
    let mut parts = text.split(between);
    let mut number = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let all = (number(digits[0])?, number(digits[1])?, number(digits[2])?);
    parts.next().is_none().then_some(all)
}

fn days_of(year: u64, month: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    match month {
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        1..=12 => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_to_the_second_and_a_day_is_its_beginning() {
        assert_eq!(parse("1970-01-01"), Some(0));
        assert_eq!(parse("2000-03-01T00:00:01Z"), Some(951_868_801_000));
        assert_eq!(parse("2027-01-31T12:30:00Z"), Some(1_801_398_600_000));
        assert_eq!(parse("2024-02-29"), parse("2024-02-29T00:00:00Z"));
    }

    #[test]
    fn what_is_no_moment_in_utc_is_refused() {
        for wrong in [
            "",
            "2027",
            "2027-1-31",
            "2027-02-29",
            "2027-13-01",
            "2027-01-00",
            "2027-01-31T24:00:00Z",
            "2027-01-31T12:00:00",
            "2027-01-31T12:00:00+01:00",
            "2027-01-31T12:00:00.5Z",
            "2027-01-31T12:00:00Z ",
            "2027-01-31-01",
            "1969-12-31",
            "2501-01-01",
            "+027-01-31",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
