//! Durations, sizes, rates and the other words with a form of their own, at their edges.

use std::fmt::Debug;
use std::time::Duration;

use daemun_config::decode::{Decoder, Percent, Period, Rate, Setting, Size, TimeLimit};
use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::IpNet;
use daemun_config::parse_text;

fn read<T: Setting>(text: &str) -> Result<T, String> {
    let mut diagnostics = Diagnostics::new();
    let node = parse_text(text, &mut diagnostics).unwrap();
    let value = T::decode(&node, &mut Decoder::new(&mut diagnostics, "x"));
    let said: Vec<String> = diagnostics
        .iter()
        .map(|found| match &found.help {
            Some(help) => format!("{}; {help}", found.message),
            None => found.message.clone(),
        })
        .collect();
    if said.is_empty() { Ok(value.unwrap()) } else { Err(said.join("\n")) }
}

#[track_caller]
fn same<T: Setting + PartialEq + Debug>(cases: &[(&str, T)]) {
    for (text, value) in cases {
        assert_eq!(read::<T>(text).as_ref(), Ok(value), "{text}");
    }
}

#[track_caller]
fn refused<T: Setting + Debug>(cases: &[(&str, &str)]) {
    for (text, message) in cases {
        assert_eq!(read::<T>(text).expect_err(text), *message);
    }
}

#[test]
fn durations_are_a_whole_number_and_a_unit() {
    let seconds = Duration::from_secs;
    same(&[
        ("250ms", Duration::from_millis(250)),
        ("5s", seconds(5)),
        ("1m", seconds(60)),
        ("24h", seconds(86_400)),
        ("8784h", seconds(8784 * 3600)),
        ("0s", seconds(0)),
        ("\"5s\"", seconds(5)),
        ("007s", seconds(7)),
    ]);
    refused::<Duration>(&[
        (
            "5",
            "expected a duration like `250ms`, found the number `5` without a unit; write `5ms`, `5s` or another unit",
        ),
        ("1.5", "expected a duration like `250ms`, found the number `1.5` without a unit; write it like `250ms`"),
        ("1.5s", "`1.5s` is not a duration; the units are `ms`, `s`, `m` and `h`"),
        ("5 s", "`5 s` is not a duration; the units are `ms`, `s`, `m` and `h`"),
        ("5d", "`5d` is not a duration; the units are `ms`, `s`, `m` and `h`"),
        ("-5s", "`-5s` is not a duration; write it like `250ms`, `5s`, `1m` or `24h`"),
        ("soon", "`soon` is not a duration; write it like `250ms`, `5s`, `1m` or `24h`"),
        ("8785h", "`8785h` is longer than the longest duration, `8784h`"),
        ("18446744073709551615h", "`18446744073709551615h` is longer than the longest duration, `8784h`"),
        (
            "99999999999999999999s",
            "`99999999999999999999s` is not a duration; write it like `250ms`, `5s`, `1m` or `24h`",
        ),
        ("true", "expected a duration like `250ms`, found the boolean `true`"),
        ("[5s]", "expected a duration like `250ms`, found a list"),
        ("", "expected a duration like `250ms`, found nothing"),
    ]);
    refused::<TimeLimit>(&[("0ms", "`0ms` would end everything at once; a time limit is at least `1ms`")]);
}

#[test]
fn sizes_are_powers_of_1024() {
    same(&[
        ("0B", Size(0)),
        ("240B", Size(240)),
        ("64KiB", Size(65_536)),
        ("10MiB", Size(10 << 20)),
        ("1GiB", Size(1 << 30)),
        ("1024TiB", Size(1 << 50)),
    ]);
    refused::<Size>(&[
        (
            "64",
            "expected a size like `64KiB`, found the number `64` without a unit; write `64B`, `64KiB` or another unit",
        ),
        ("10MB", "`10MB` is not a size; write `10MiB`; the units are powers of 1024"),
        ("10k", "`10k` is not a size; write `10KiB`; the units are powers of 1024"),
        ("10 MiB", "`10 MiB` is not a size; write `10MiB`; the units are powers of 1024"),
        ("10x", "`10x` is not a size; the units are `B`, `KiB`, `MiB`, `GiB` and `TiB`"),
        ("big", "`big` is not a size; write it like `64KiB` or `10MiB`"),
        ("1025TiB", "`1025TiB` is larger than the largest size, `1024TiB`"),
        ("18446744073709551615TiB", "`18446744073709551615TiB` is larger than the largest size, `1024TiB`"),
    ]);
}

#[test]
fn rates_are_a_count_and_a_period() {
    let rate = |count, per| Rate { count, per };
    same(&[
        ("100/s", rate(100, Period::Second)),
        ("1/m", rate(1, Period::Minute)),
        ("5/h", rate(5, Period::Hour)),
        ("5/day", rate(5, Period::Day)),
        ("5/week", rate(5, Period::Week)),
        ("1000000000000/month", rate(1_000_000_000_000, Period::Month)),
    ]);
    let help = "write it like `100/s`; the periods are `/s`, `/m`, `/h`, `/day`, `/week` and `/month`";
    for text in ["100/d", "100 /s", "100/", "/s", "100/s/s", "-1/s", "1.5/s", "100s"] {
        assert_eq!(read::<Rate>(text).expect_err(text), format!("`{text}` is not a rate; {help}"));
    }
    refused::<Rate>(&[
        ("0/s", "`0/s` is out of range: a rate counts from 1 to 1000000000000"),
        ("1000000000001/s", "`1000000000001/s` is out of range: a rate counts from 1 to 1000000000000"),
        ("100", "expected a rate like `100/s`, found the number `100` without a unit; write `100/s` or another unit"),
    ]);
    assert_eq!(Period::Week.duration(), Duration::from_secs(7 * 86_400));
    assert_eq!(rate(3, Period::Day).to_string(), "3/day");
}

#[test]
fn percentages_have_two_places_at_most() {
    let points = |basis_points| Percent { basis_points };
    same(&[
        ("0%", points(0)),
        ("20%", points(2000)),
        ("0.5%", points(50)),
        ("99.99%", points(9999)),
        ("100%", points(10_000)),
    ]);
    for text in ["101%", "100.01%", "-1%", "1.234%", "\"%\"", "5 %", "five%"] {
        assert!(read::<Percent>(text).is_err(), "{text}");
    }
}

#[test]
fn whole_numbers_keep_to_their_range() {
    same(&[("0", 0_u16), ("65535", 65_535), ("0x10", 16), ("0o17", 15), ("+7", 7)]);
    same(&[("-5", -5_i32)]);
    for text in
        ["65536", "-1", "1.0", "1e3", "99999999999999999999999999999999999999999", "\"5\"", "true", "five", "0x+5"]
    {
        assert!(read::<u16>(text).is_err(), "{text}");
    }
}

#[test]
fn a_text_that_looks_like_something_else_must_be_quoted() {
    same(&[("KR", "KR".to_owned()), ("\"82\"", "82".to_owned()), ("NO", "NO".to_owned()), ("!!str 5", "5".to_owned())]);
    refused::<String>(&[
        ("82", "expected a text, found the number `82`; quote it: `\"82\"`"),
        ("true", "expected a text, found the boolean `true`; quote it: `\"true\"`"),
        ("1.20", "expected a text, found the number `1.20`; quote it: `\"1.20\"`"),
        ("~", "expected a text, found nothing"),
        ("{}", "expected a text, found a mapping"),
    ]);
}

#[test]
fn a_mapped_range_is_the_range_of_ipv4() {
    use daemun_config::model::IpNet;
    for (mapped, plain) in
        [("::ffff:127.0.0.0/104", "127.0.0.0/8"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::ffff:0.0.0.0/96", "0.0.0.0/0")]
    {
        assert_eq!(IpNet::parse(mapped), IpNet::parse(plain), "{mapped}");
        assert!(
            IpNet::parse(mapped).is_ok_and(|net| net.contains("127.1.2.3".parse().unwrap()) != mapped.ends_with('7'))
        );
    }
    assert!(IpNet::parse("::/0").is_ok_and(|net| net.addr.is_ipv6() && net.prefix == 0));
}

#[test]
fn address_ranges_have_no_bits_behind_their_prefix() {
    let net = |addr: &str, prefix| IpNet { addr: addr.parse().unwrap(), prefix };
    same(&[
        ("10.0.0.0/8", net("10.0.0.0", 8)),
        ("0.0.0.0/0", net("0.0.0.0", 0)),
        ("192.0.2.7", net("192.0.2.7", 32)),
        ("\"2001:db8::/32\"", net("2001:db8::", 32)),
        ("\"::/0\"", net("::", 0)),
        ("\"::1\"", net("::1", 128)),
    ]);
    refused::<IpNet>(&[
        ("10.1.0.0/8", "`10.1.0.0/8` has bits set behind its prefix; the range is `10.0.0.0/8`"),
        ("\"2001:db8::1/32\"", "`2001:db8::1/32` has bits set behind its prefix; the range is `2001:db8::/32`"),
    ]);
    for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "host", "10.0.0.0/+8", "\"::/129\""] {
        assert!(read::<IpNet>(text).is_err(), "{text}");
    }
}
