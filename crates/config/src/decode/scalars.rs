//! Numbers, durations, sizes, rates and the other values that are one word of text.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::{Decoder, SchemaBuilder, Setting};
use crate::model::IpNet;
use crate::tree::{Node, Value};

/// Longest duration that can be written: 366 days.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Largest size that can be written: 1 PiB.
const LARGEST: u64 = 1 << 50;

impl Setting for bool {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => return Some(*value),
            Value::String(text) if text.reference => match text.text.as_str() {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => {}
            },
            Value::Null | Value::Number(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {}
        }
        cx.wrong_type(node, "`true` or `false`");
        None
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "boolean" }))
    }
}

/// A whole number between `min` and `max`.
fn integer(node: &Node, cx: &mut Decoder<'_>, min: i128, max: i128) -> Option<i128> {
    let range = || format!("a whole number from {min} to {max}");
    let text = match &node.value {
        Value::Number(text) => text.as_ref(),
        Value::String(text) if text.reference => text.text.as_str(),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
            cx.wrong_type(node, &range());
            return None;
        }
    };
    match parse_integer(text) {
        Some(number) if (min..=max).contains(&number) => Some(number),
        _ => {
            cx.bad_value(node, format!("expected {}, found {}", range(), node.found()));
            None
        }
    }
}

/// Decimal, `0x` or `0o`, with a sign.
fn parse_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match (digits.strip_prefix("0x"), digits.strip_prefix("0o")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 8),
        (None, None) => (digits, 10),
    };
    if !digits.starts_with(|char: char| char.is_ascii_alphanumeric()) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

macro_rules! integers {
    ($($type:ty: $min:literal, $max:literal;)*) => {$(
        impl Setting for $type {
            fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
                integer(node, cx, $min, $max).and_then(|number| Self::try_from(number).ok())
            }

            fn schema(s: &mut SchemaBuilder<'_>) -> Json {
                s.or_reference(json!({ "type": "integer", "minimum": $min as i64, "maximum": $max as i64 }))
            }
        }
    )*};
}

integers! {
    u8: 0, 255;
    u16: 0, 65_535;
    u32: 0, 4_294_967_295;
    i32: -2_147_483_648, 2_147_483_647;
    u64: 0, 9_007_199_254_740_991;
    usize: 0, 9_007_199_254_740_991;
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64> Setting for Bounded<MIN, MAX> {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        integer(node, cx, MIN.into(), MAX.into()).and_then(|number| u64::try_from(number).ok()).map(Self)
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.or_reference(json!({ "type": "integer", "minimum": MIN, "maximum": MAX }))
    }
}

/// The text of a scalar that is a number and a unit; a bare number is reported as lacking its unit.
fn with_unit<'n>(node: &'n Node, cx: &mut Decoder<'_>, what: &str, example: &str, units: &[&str]) -> Option<&'n str> {
    match &node.value {
        Value::String(text) => Some(&text.text),
        Value::Number(text) => {
            let whole = parse_integer(text).is_some();
            let help = if whole {
                let forms: Vec<String> = units.iter().map(|unit| format!("`{text}{unit}`")).collect();
                format!("write {} or another unit", forms.join(", "))
            } else {
                format!("write it like `{example}`")
            };
            cx.bad_value_help(
                node,
                format!("expected {what} like `{example}`, found {} without a unit", node.found()),
                help,
            );
            None
        }
        Value::Null | Value::Bool(_) | Value::Seq(_) | Value::Map(_) => {
            cx.wrong_type(node, &format!("{what} like `{example}`"));
            None
        }
    }
}

/// Splits `64KiB` into number and unit.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// A duration: a whole number and `ms`, `s`, `m` or `h`.
impl Setting for Duration {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = with_unit(node, cx, "a duration", "250ms", &["ms", "s"])?;
        let Some((number, unit)) = split_unit(text) else {
            cx.bad_value_help(
                node,
                format!("`{}` is not a duration", node.shown()),
                "write it like `250ms`, `5s`, `1m` or `24h`",
            );
            return None;
        };
        let duration = match unit {
            "ms" => Some(Self::from_millis(number)),
            "s" => Some(Self::from_secs(number)),
            "m" => number.checked_mul(60).map(Self::from_secs),
            "h" => number.checked_mul(3600).map(Self::from_secs),
            _ => {
                let help = "the units are `ms`, `s`, `m` and `h`";
                cx.bad_value_help(node, format!("`{}` is not a duration", node.shown()), help);
                return None;
            }
        };
        if duration.is_none_or(|duration| duration > LONGEST) {
            cx.bad_value(node, format!("`{}` is longer than the longest duration, `8784h`", node.shown()));
            return None;
        }
        duration
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("duration", "Whole number and unit: `250ms`, `5s`, `1m`, `24h`.", "^[0-9]{1,12}(ms|s|m|h)$")
    }
}

/// A time limit: a duration that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeLimit(pub Duration);

impl Setting for TimeLimit {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let duration = Duration::decode(node, cx)?;
        if duration.is_zero() {
            cx.bad_value(
                node,
                format!("`{}` would end everything at once; a time limit is at least `1ms`", node.shown()),
            );
            return None;
        }
        Some(Self(duration))
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("time limit", "A duration that is not zero.", "^0{0,11}[1-9][0-9]{0,11}(ms|s|m|h)$")
    }
}

/// A number of bytes: a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Setting for Size {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = with_unit(node, cx, "a size", "64KiB", &["B", "KiB"])?;
        let malformed = |cx: &mut Decoder<'_>, help: String| {
            cx.bad_value_help(node, format!("`{}` is not a size", node.shown()), help);
            None
        };
        let Some((number, unit)) = split_unit(text) else {
            return malformed(cx, "write it like `64KiB` or `10MiB`".to_owned());
        };
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => {
                let near = match unit.trim().chars().next().map(|char| char.to_ascii_lowercase()) {
                    Some('k') => "KiB",
                    Some('m') => "MiB",
                    Some('g') => "GiB",
                    Some('t') => "TiB",
                    _ => return malformed(cx, "the units are `B`, `KiB`, `MiB`, `GiB` and `TiB`".to_owned()),
                };
                return malformed(cx, format!("write `{number}{near}`; the units are powers of 1024"));
            }
        };
        match number.checked_mul(1 << shift).filter(|size| *size <= LARGEST) {
            Some(size) => Some(Self(size)),
            None => {
                cx.bad_value(node, format!("`{}` is larger than the largest size, `1024TiB`", node.shown()));
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern(
            "size",
            "Whole number and unit: `240B`, `64KiB`, `10MiB`, `1GiB`.",
            "^[0-9]{1,15}(B|KiB|MiB|GiB|TiB)$",
        )
    }
}

/// So many per period: `100/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u64,
    /// Per what.
    pub per: Period,
}

/// The period of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// `/s`
    Second,
    /// `/m`
    Minute,
    /// `/h`
    Hour,
    /// `/day`: 24 hours.
    Day,
    /// `/week`: 7 days.
    Week,
    /// `/month`: 30 days where an even flow is meant.
    Month,
}

impl Period {
    /// How long it is.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
            Self::Week => 7 * 86_400,
            Self::Month => 30 * 86_400,
        })
    }

    /// As written behind the stroke.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Week, Self::Month]
            .into_iter()
            .find(|period| period.as_str() == text)
    }
}

/// The fastest limit, per second.
const FASTEST: u64 = 1_000_000_000;
/// The longest time that a whole burst may take to come back: 366 days.
const LONGEST_FILL: Duration = Duration::from_secs(366 * 86_400);

impl Rate {
    /// Why there can be no limit of this rate; `None` when there can.
    #[must_use]
    pub fn why_too_fast(self) -> Option<String> {
        (self.count / self.per.duration().as_secs().max(1) > FASTEST)
            .then(|| format!("`{self}` is faster than the fastest limit, `{FASTEST}/s`"))
    }

    /// Why a limit of this rate cannot have such a burst; `None` when it can.
    #[must_use]
    pub fn why_too_slow(self, burst: u64) -> Option<String> {
        // in sixteenths of a nanosecond, as limits count
        let interval = (self.per.duration().as_nanos() * 16).div_ceil(u128::from(self.count.max(1)));
        (interval * u128::from(burst) > LONGEST_FILL.as_nanos() * 16)
            .then(|| format!("a burst of {burst} at `{self}` would take longer than 366 days to come back"))
    }
}

/// As written: `100/s`.
impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.count, self.per.as_str())
    }
}

impl Setting for Rate {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = with_unit(node, cx, "a rate", "100/s", &["/s"])?;
        let parsed = split_unit(text).and_then(|(count, rest)| Some((count, Period::parse(rest.strip_prefix('/')?)?)));
        match parsed {
            Some((count, per)) if (1..=1_000_000_000_000).contains(&count) => Some(Self { count, per }),
            Some(_) => {
                cx.bad_value(
                    node,
                    format!("`{}` is out of range: a rate counts from 1 to 1000000000000", node.shown()),
                );
                None
            }
            None => {
                let help = "write it like `100/s`; the periods are `/s`, `/m`, `/h`, `/day`, `/week` and `/month`";
                cx.bad_value_help(node, format!("`{}` is not a rate", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Whole number per period: `100/s`, `/m`, `/h`, `/day`, `/week`, `/month`.";
        s.pattern("rate", doc, "^0{0,12}[1-9][0-9]{0,12}/(s|m|h|day|week|month)$")
    }
}

/// A share from `0%` to `100%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent {
    /// In hundredths of a per cent: 10,000 is all.
    pub basis_points: u32,
}

impl Setting for Percent {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = with_unit(node, cx, "a percentage", "20%", &["%"])?;
        let parsed = text.strip_suffix('%').and_then(|number| {
            let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
            let digits = |text: &str| !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
            if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
                return None;
            }
            let hundredths: u32 = format!("{fraction:0<2}").parse().ok()?;
            Some(whole.parse::<u32>().ok()? * 100 + hundredths)
        });
        match parsed.filter(|points| *points <= 10_000) {
            Some(basis_points) => Some(Self { basis_points }),
            None => {
                cx.bad_value_help(
                    node,
                    format!("`{}` is not a percentage", node.shown()),
                    "write it like `20%` or `0.5%`",
                );
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern("percentage", "A share: `20%`, `0.5%`.", "^(100(\\.0{1,2})?|[0-9]{1,2}(\\.[0-9]{1,2})?)%$")
    }
}

/// A text. A YAML boolean or number is refused: it must be quoted where a text is meant.
impl Setting for String {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        text(node, cx, "a text").map(str::to_owned)
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string" })
    }
}

/// The text of a node; anything else is reported as not being `expected`, a boolean or number with the advice to quote it.
pub fn text<'n>(node: &'n Node, cx: &mut Decoder<'_>, expected: &str) -> Option<&'n str> {
    match &node.value {
        Value::String(text) => return Some(&text.text),
        Value::Bool(_) | Value::Number(_) => {
            let message = format!("expected {expected}, found {}", node.found());
            let shown = node.shown();
            let found = crate::Diagnostic::error(crate::diagnostic::WRONG_TYPE, node.at, message);
            cx.report(found.help(format!("quote it: `\"{shown}\"`")));
        }
        Value::Null | Value::Seq(_) | Value::Map(_) => cx.wrong_type(node, expected),
    }
    None
}

/// A path; a relative one refers to the folder of the file it is written in.
impl Setting for PathBuf {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let path = text(node, cx, "a path")?;
        if path.is_empty() || path.contains('\0') {
            cx.bad_value(node, "expected a path, found an empty or impossible one");
            return None;
        }
        Some(cx.folder(node.at).join(path))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        json!({ "type": "string", "minLength": 1, "title": "path" })
    }
}

impl Setting for SocketAddr {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let address = text(node, cx, "an address and port like `127.0.0.1:8080`")?;
        let parsed = address.parse().ok();
        if parsed.is_none() {
            let help = "write it like `127.0.0.1:8080` or `[::1]:8080`";
            cx.bad_value_help(node, format!("`{}` is not an address and port", node.shown()), help);
        }
        parsed
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        s.pattern(
            "address",
            "Address and port: `127.0.0.1:8080`, `[::1]:8080`.",
            "^([0-9.]{7,15}|\\[[0-9A-Fa-f:.%]+\\]):[0-9]{1,5}$",
        )
    }
}

impl Setting for IpNet {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let written = text(node, cx, "an address range like `10.0.0.0/8`")?;
        match parse_net(written) {
            Ok(net) => Some(net),
            Err(Some(masked)) => {
                let message = format!("`{}` has bits set behind its prefix", node.shown());
                cx.bad_value_help(node, message, format!("the range is `{masked}`"));
                None
            }
            Err(None) => {
                let help = "write it like `10.0.0.0/8`, `2001:db8::/32` or one address";
                cx.bad_value_help(node, format!("`{}` is not an address range", node.shown()), help);
                None
            }
        }
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> Json {
        let doc = "Address or range: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.";
        s.pattern("address range", doc, "^([0-9]{1,3}(\\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)(/[0-9]{1,3})?$")
    }
}

impl IpNet {
    /// Reads an address or a range, as it is written in a configuration.
    ///
    /// # Errors
    /// The range that was probably meant, when only the bits behind the prefix are wrong.
    pub fn parse(text: &str) -> Result<IpNet, Option<String>> {
        parse_net(text)
    }
}

impl std::str::FromStr for IpNet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_net(text).map_err(|masked| match masked {
            Some(masked) => format!("`{text}` has bits set behind its prefix; the range is `{masked}`"),
            None => format!("`{text}` is not an address or a range of addresses"),
        })
    }
}

/// Reads a range; an error with a text when only the bits behind the prefix are wrong.
fn parse_net(text: &str) -> Result<IpNet, Option<String>> {
    use std::net::IpAddr;
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| None)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = match prefix {
        None => bits,
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => prefix.parse().map_err(|_| None)?,
        Some(_) => return Err(None),
    };
    if prefix > bits {
        return Err(None);
    }
    let masked: IpAddr = match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            std::net::Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            std::net::Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    };
    // an IPv4-mapped range is the IPv4 range, as addresses are compared
    if let (IpAddr::V6(ip), Some(short)) = (masked, prefix.checked_sub(96))
        && let Some(mapped) = ip.to_ipv4_mapped()
        && masked == address
    {
        return Ok(IpNet { addr: mapped.into(), prefix: short });
    }
    if masked == address { Ok(IpNet { addr: address, prefix }) } else { Err(Some(format!("{masked}/{prefix}"))) }
}
