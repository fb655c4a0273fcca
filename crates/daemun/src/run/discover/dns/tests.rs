//! Lookups against a scripted name server, over UDP and TCP: sound answers, and all that one can do wrong.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use daemun_dataplane::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;
/// Enough for a busy machine, and little to wait for what never comes.
const HASTE: Duration = Duration::from_millis(400);

/// A question as it came.
struct Asked {
    bytes: Vec<u8>,
    kind: u16,
    name: String,
    tcp: bool,
}

/// A record of an answer: owner (empty: the name that was asked for), type, time to live, data.
type Record = (&'static str, u16, u32, Vec<u8>);

impl Asked {
    fn read(bytes: &[u8], tcp: bool) -> Self {
        let mut labels = Vec::new();
        let mut at = 12;
        while bytes[at] > 0 {
            let end = at + 1 + usize::from(bytes[at]);
            labels.push(String::from_utf8_lossy(&bytes[at + 1..end]).to_lowercase());
            at = end;
        }
        let kind = u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]);
        Self { bytes: bytes[..at + 5].to_vec(), kind, name: labels.join("."), tcp }
    }

    fn reply(&self, truncated: bool, code: u8, answers: &[Record], additionals: &[Record]) -> Vec<u8> {
        let mut out = self.bytes.clone();
        out[2] = 0x81 | if truncated { 2 } else { 0 };
        out[3] = 0x80 | code;
        for (place, number) in [(4, 1), (6, answers.len()), (8, 0), (10, additionals.len())] {
            out[place..place + 2].copy_from_slice(&u16::try_from(number).unwrap().to_be_bytes());
        }
        for (owner, kind, ttl, data) in answers.iter().chain(additionals) {
            if owner.is_empty() {
                out.extend([0xc0, 0x0c]);
            } else {
                out.extend(wire(owner));
            }
            out.extend(kind.to_be_bytes());
            out.extend([0, 1]);
            out.extend(ttl.to_be_bytes());
            out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            out.extend(data);
        }
        out
    }

    fn addresses(&self, ttl: u32, all: &[[u8; 4]]) -> Vec<u8> {
        let records: Vec<Record> = match self.kind {
            A => all.iter().map(|ip| ("", A, ttl, ip.to_vec())).collect(),
            _ => Vec::new(),
        };
        self.reply(false, 0, &records, &[])
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend(label.bytes());
    }
    out.push(0);
    out
}

fn srv(priority: u16, weight: u16, port: u16, host: &str) -> Vec<u8> {
    let mut data = Vec::new();
    for number in [priority, weight, port] {
        data.extend(number.to_be_bytes());
    }
    data.extend(wire(host));
    data
}

/// Serves one port over UDP and TCP; `script` gives the datagrams, or messages, that answer a question.
async fn serve(script: impl Fn(&Asked) -> Vec<Vec<u8>> + Clone + Send + 'static) -> SocketAddr {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = tcp.local_addr().unwrap();
    let over_udp = script.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut buffer).await {
            for answer in over_udp(&Asked::read(&buffer[..length], false)) {
                let _ = udp.send_to(&answer, peer).await;
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let script = script.clone();
            tokio::spawn(async move {
                while let Ok(length) = stream.read_u16().await {
                    let mut question = vec![0; usize::from(length)];
                    stream.read_exact(&mut question).await.unwrap();
                    for answer in script(&Asked::read(&question, true)) {
                        stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

async fn ask(
    records: DnsRecords,
    script: impl Fn(&Asked) -> Vec<Vec<u8>> + Clone + Send + 'static,
) -> Result<(Vec<FoundTarget>, u64), String> {
    let server = serve(script).await;
    let source = DnsSource {
        name: "orders.internal".into(),
        records,
        port: (records != DnsRecords::Srv).then_some(8080),
        server: Some(server),
        refresh_min: Duration::from_secs(1),
        refresh_max: Duration::from_secs(300),
    };
    let lookup = Arc::new(Lookup::hasty(server, Clock::system(), HASTE));
    find(&source, false, &lookup, &mut Hosts::default()).await.map(|(targets, ttl)| (targets, ttl.as_secs()))
}

fn urls(targets: &[FoundTarget]) -> Vec<&str> {
    targets.iter().map(|target| target.url.as_str()).collect()
}

#[tokio::test]
async fn all_addresses_of_both_families_are_targets_until_the_first_record_ends() {
    let script = |asked: &Asked| {
        let mut v6 = vec![0; 16];
        v6[15] = 1;
        let records: Vec<Record> = match asked.kind {
            A => vec![("", A, 60, vec![10, 0, 0, 2]), ("", A, 7, vec![10, 0, 0, 1]), ("", A, 60, vec![10, 0, 0, 1])],
            _ => vec![("", AAAA, 90, v6)],
        };
        vec![asked.reply(false, 0, &records, &[])]
    };
    let (targets, ttl) = ask(DnsRecords::Addresses, script).await.unwrap();
    assert_eq!(urls(&targets), ["http://10.0.0.1:8080", "http://10.0.0.2:8080", "http://[::1]:8080"]);
    assert_eq!(ttl, 7);
    let (targets, _) = ask(DnsRecords::Aaaa, script).await.unwrap();
    assert_eq!(urls(&targets), ["http://[::1]:8080"]);
}

#[tokio::test]
async fn an_answer_that_is_truncated_is_asked_for_over_tcp_however_long_it_is() {
    let script = |asked: &Asked| {
        if !asked.tcp {
            return vec![asked.reply(true, 0, &[], &[])];
        }
        let all: Vec<[u8; 4]> = (0..1_000_u16).map(|number| [10, 1, (number >> 8) as u8, number as u8]).collect();
        vec![asked.addresses(0, &all)]
    };
    let (targets, ttl) = ask(DnsRecords::A, script).await.unwrap();
    assert_eq!((targets.len(), ttl), (1_000, 0));
    assert_eq!(targets[999].url, "http://10.1.3.231:8080");
}

#[tokio::test]
async fn an_answer_to_another_question_is_not_taken() {
    let script = |asked: &Asked| {
        let mut forged = asked.addresses(60, &[[6, 6, 6, 6]]);
        forged[0] ^= 0xff;
        vec![forged, asked.addresses(60, &[[10, 0, 0, 1]])]
    };
    let (targets, _) = ask(DnsRecords::A, script).await.unwrap();
    assert_eq!(urls(&targets), ["http://10.0.0.1:8080"]);
}

#[tokio::test]
async fn a_name_without_an_address_is_no_failure_and_a_server_that_fails_is() {
    for code in [0, 3] {
        let (targets, _) =
            ask(DnsRecords::Addresses, move |asked| vec![asked.reply(false, code, &[], &[])]).await.unwrap();
        assert!(targets.is_empty(), "{code}");
    }
    for code in [2, 5] {
        let result = ask(DnsRecords::Addresses, move |asked| vec![asked.reply(false, code, &[], &[])]).await;
        assert!(result.is_err(), "{code}: {result:?}");
    }
}

#[tokio::test]
async fn garbage_and_silence_are_failures_that_end() {
    assert!(ask(DnsRecords::A, |_| Vec::new()).await.is_err());
    assert!(ask(DnsRecords::A, |_| vec![b"garbage".to_vec(), Vec::new(), vec![0xff; 600]]).await.is_err());
    // an answer cut within its record, and one whose count of records is a lie
    assert!(
        ask(DnsRecords::A, |asked| vec![asked.addresses(60, &[[10, 0, 0, 1]])[..asked.bytes.len() + 8].to_vec()])
            .await
            .is_err()
    );
    let lie = |asked: &Asked| {
        let mut answer = asked.addresses(60, &[[10, 0, 0, 1]]);
        answer[6..8].copy_from_slice(&[0xff, 0xff]);
        vec![answer]
    };
    assert!(ask(DnsRecords::A, lie).await.is_err());
}

#[tokio::test]
async fn services_have_port_weight_and_tier_and_their_hosts_are_looked_up() {
    let asked_for = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked_for);
    let script = move |asked: &Asked| {
        if asked.kind == SRV {
            let answers: Vec<Record> = vec![
                ("", SRV, 30, srv(20, 0, 9001, "b.internal")),
                ("", SRV, 30, srv(10, 3, 9000, "a.internal")),
                ("", SRV, 30, srv(10, 0, 9002, "a.internal")),
                ("", SRV, 30, srv(30, 5, 9003, "")),
            ];
            return vec![asked.reply(false, 0, &answers, &[("a.internal", A, 20, vec![10, 0, 0, 1])])];
        }
        assert_eq!(asked.name, "b.internal");
        count.fetch_add(1, Ordering::Relaxed);
        vec![asked.addresses(5, &[[10, 0, 0, 3], [10, 0, 0, 2]])]
    };
    let (targets, ttl) = ask(DnsRecords::Srv, script).await.unwrap();
    let shown: Vec<_> = targets.iter().map(|target| (target.url.as_str(), target.weight, target.tier)).collect();
    assert_eq!(
        shown,
        [
            ("http://10.0.0.1:9000", 30, 0),
            ("http://10.0.0.1:9002", 1, 0),
            ("http://10.0.0.2:9001", 1, 1),
            ("http://10.0.0.3:9001", 1, 1),
        ]
    );
    assert_eq!(ttl, 5);
    // one question for each family
    assert_eq!(asked_for.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn names_of_etc_hosts_and_localhost_are_found_without_a_name_server() {
    let lookup = Lookup::system(Clock::system());
    let found = lookup.addresses("localhost", DnsRecords::Addresses).await.unwrap();
    assert!(found.addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{found:?}");
}

#[tokio::test]
async fn a_host_that_fails_keeps_what_is_known_of_it_and_keeps_nobody_elses_changes_out() {
    let round = Arc::new(AtomicUsize::new(0));
    let own = Arc::clone(&round);
    let script = move |asked: &Asked| {
        let round = own.load(Ordering::Relaxed);
        if asked.kind == SRV {
            let hosts = ["a.internal", "b.internal", "c.internal"];
            let answers: Vec<Record> = hosts.iter().map(|host| ("", SRV, 30, srv(1, 1, 80, host))).collect();
            return vec![asked.reply(false, 0, &answers, &[])];
        }
        let last = match (asked.name.as_str(), round) {
            ("a.internal", _) => 10 + u8::try_from(round).unwrap(),
            ("b.internal", 0) => 20,
            ("c.internal", 2) => 30,
            // b fails from the second round on, c until the third
            _ => return vec![asked.reply(false, 2, &[], &[])],
        };
        vec![asked.addresses(60, &[[10, 0, 0, last]])]
    };
    let server = serve(script).await;
    let source = DnsSource {
        name: "_http._tcp.orders.internal".into(),
        records: DnsRecords::Srv,
        port: None,
        server: Some(server),
        refresh_min: Duration::from_secs(1),
        refresh_max: Duration::from_secs(300),
    };
    let lookup = Arc::new(Lookup::hasty(server, Clock::system(), HASTE));
    let mut hosts = Hosts::default();
    for (number, expected, told) in [
        (0, &["http://10.0.0.10:80", "http://10.0.0.20:80"][..], &[("c.internal", true)][..]),
        (1, &["http://10.0.0.11:80", "http://10.0.0.20:80"], &[("b.internal", true)]),
        (2, &["http://10.0.0.12:80", "http://10.0.0.20:80", "http://10.0.0.30:80"], &[("c.internal", false)]),
    ] {
        round.store(number, Ordering::Relaxed);
        let (targets, ttl) = find(&source, false, &lookup, &mut hosts).await.unwrap();
        assert_eq!((urls(&targets).as_slice(), ttl), (expected, Duration::ZERO), "{number}");
        let news = std::mem::take(&mut hosts.news);
        let news: Vec<(&str, bool)> = news.iter().map(|(host, why)| (host.as_str(), why.is_some())).collect();
        assert_eq!(news, told, "{number}");
    }
}

#[tokio::test]
async fn services_none_of_whose_hosts_is_known_are_no_empty_list() {
    let script = |asked: &Asked| match asked.kind {
        SRV => vec![asked.reply(false, 0, &[("", SRV, 30, srv(1, 1, 80, "a.internal"))], &[])],
        _ => vec![asked.reply(false, 2, &[], &[])],
    };
    assert!(ask(DnsRecords::Srv, script).await.is_err());
}

#[tokio::test]
async fn a_name_of_which_one_family_has_no_address_and_the_other_fails_is_not_known_to_have_none() {
    for failing in [A, AAAA] {
        let script = move |asked: &Asked| vec![asked.reply(false, if asked.kind == failing { 2 } else { 0 }, &[], &[])];
        let result = ask(DnsRecords::Addresses, script).await;
        assert!(result.is_err(), "{failing}: {result:?}");
    }
}
