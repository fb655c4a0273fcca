use proptest::prelude::*;

use super::*;

fn v1(text: &str) -> Result<Option<(usize, Said)>, NoHeader> {
    parse(text.as_bytes())
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [BEGIN_V2, &[command, family], &length, rest].concat()
}

fn said(from: &str, to: &str) -> Said {
    Said::Client { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

#[test]
fn a_line_of_version_1_names_both_ends() {
    let line = "PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n";
    assert_eq!(v1(line), Ok(Some((line.len(), said("203.0.113.7:56324", "198.51.100.1:443")))));
    let with_more = format!("{line}GET / HTTP/1.1\r\n");
    assert_eq!(v1(&with_more), v1(line));
    let line = "PROXY TCP6 2001:db8::7 2001:db8::1 0 65535\r\n";
    assert_eq!(v1(line), Ok(Some((line.len(), said("[2001:db8::7]:0", "[2001:db8::1]:65535")))));
    let mapped = "PROXY TCP6 ::ffff:203.0.113.7 2001:db8::1 1 2\r\n";
    assert_eq!(v1(mapped), Ok(Some((mapped.len(), said("203.0.113.7:1", "[2001:db8::1]:2")))));
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN whatever 1 2 3\r\n"] {
        assert_eq!(v1(unknown), Ok(Some((unknown.len(), Said::Nobody))));
    }
}

#[test]
fn a_line_that_is_not_exactly_of_version_1_is_refused() {
    for wrong in [
        "GET / HTTP/1.1\r\n",
        "PROXX",
        "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
        "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP4 ::1 ::2 1 2\r\n",
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWN\nGET / HTTP/1.1\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 1.1.1.1\t2.2.2.2 1 2\r\n",
    ] {
        assert_eq!(v1(wrong), Err(NoHeader), "{wrong:?}");
    }
}

#[test]
fn a_line_of_version_1_has_107_bytes_at_most() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_V1 - 16));
    assert_eq!(longest.len(), LONGEST_V1);
    assert_eq!(v1(&longest), Ok(Some((LONGEST_V1, Said::Nobody))));
    for longer in
        [format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_V1 - 15)), "PROXY UNKNOWN ".to_owned() + &"x".repeat(93)]
    {
        assert_eq!(v1(&longer), Err(NoHeader), "{}", longer.len());
    }
}

#[test]
fn a_header_of_version_2_names_both_ends_and_what_is_behind_them_is_passed_over() {
    let four = [203, 0, 113, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
    let expected = said("203.0.113.7:56324", "198.51.100.1:443");
    let plain = v2(0x21, 0x11, &four);
    assert_eq!(parse(&plain), Ok(Some((plain.len(), expected))));
    let with_tlvs = v2(0x21, 0x11, &[&four[..], &[0x04, 0, 3, 1, 2, 3], &[0xe0, 0, 0]].concat());
    assert_eq!(parse(&with_tlvs), Ok(Some((with_tlvs.len(), expected))));
    let mut six = [0; 36];
    (six[0], six[15], six[31], six[33], six[35]) = (0x20, 7, 1, 80, 90);
    let six = v2(0x21, 0x21, &six);
    assert_eq!(parse(&six), Ok(Some((six.len(), said("[2000::7]:80", "[::1]:90")))));
}

#[test]
fn a_header_of_version_2_without_an_address_names_nobody() {
    let unix = [0; 216];
    for (command, family, rest) in
        [(0x20, 0x00, &[][..]), (0x20, 0x11, &[1, 2, 3]), (0x20, 0x11, &unix), (0x21, 0x00, &[]), (0x21, 0x31, &unix)]
    {
        let header = v2(command, family, rest);
        assert_eq!(parse(&header), Ok(Some((header.len(), Said::Nobody))), "{command:x} {family:x}");
    }
}

#[test]
fn a_header_that_is_not_exactly_of_version_2_is_refused() {
    let four = [203, 0, 113, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
    for wrong in [
        v2(0x11, 0x11, &four),
        v2(0x31, 0x11, &four),
        v2(0x22, 0x11, &four),
        v2(0x21, 0x12, &four),
        v2(0x21, 0x41, &four),
        v2(0x21, 0x10, &four),
        v2(0x21, 0x11, &four[..11]),
        v2(0x21, 0x21, &four),
        v2(0x21, 0x11, &[&four[..], &[4]].concat()),
        v2(0x21, 0x11, &[&four[..], &[4, 0, 2, 1]].concat()),
        v2(0x21, 0x11, &[0; 4097]),
        v2(0x20, 0x00, &[0; 4097]),
        b"\r\n\r\n\0\r\nQUIX".to_vec(),
    ] {
        assert_eq!(parse(&wrong), Err(NoHeader), "{wrong:?}");
    }
    let mut longest = v2(0x20, 0x00, &[0; 4096]);
    assert_eq!(parse(&longest), Ok(Some((LONGEST_V2, Said::Nobody))));
    longest.pop();
    assert_eq!(parse(&longest), Ok(None));
}

fn end() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), any::<Ipv6Addr>().prop_map(IpAddr::V6)];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_and_each_beginning_of_it_asks_for_more(from in end(), to in end(), v2: bool) {
        let version = if v2 { ProxyVersion::V2 } else { ProxyVersion::V1 };
        for said in [Said::Client { from, to }, Said::Nobody] {
            let mut header = Vec::new();
            push(version, &said, &mut header);
            prop_assert!(header.len() <= LONGEST_V1);
            for cut in 0..header.len() {
                prop_assert_eq!(parse(&header[..cut]), Ok(None));
            }
            let whole = header.len();
            header.extend_from_slice(b"\x16\x03\x01");
            prop_assert_eq!(parse(&header), Ok(Some((whole, said))));
        }
    }

    #[test]
    fn what_is_refused_stays_refused_whatever_follows(bytes in prop::collection::vec(any::<u8>(), 0..200), begin in 0..3) {
        let begin: &[u8] = match begin { 0 => b"", 1 => BEGIN_V1, _ => BEGIN_V2 };
        let bytes = [begin, &bytes].concat();
        let mut refused = false;
        for cut in 0..=bytes.len() {
            let now = parse(&bytes[..cut]);
            prop_assert!(!refused || now.is_err());
            refused |= now.is_err();
            if let Ok(Some((length, _))) = now {
                prop_assert!(length == cut && length <= LONGEST_V2);
                break;
            }
        }
    }
}
