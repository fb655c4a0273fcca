//! The PROXY protocol: who is believed, what is taken for a header, and what comes of the client it names.

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::http2::{Ending, Http2};
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::origin::{echo, serving};
use daemun_e2e::tls::TlsServer;
use daemun_e2e::{Certificates, Client, Gateway, Next, Origin, Peer, wait_until};
use rustls::version::TLS13;

const GET: &str = "GET /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n";
const BEGIN_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Forwards everything that comes in with such a `proxy_protocol`.
fn lane(proxy: &str, more: &str) -> Lane {
    let listener = format!("  - bind: 127.0.0.1:0\n    proxy_protocol: {proxy}\n{more}");
    Lane::start(&FORWARD_ALL.replace("  - bind: 127.0.0.1:0\n", &listener))
}

fn from_loopback(more: &str) -> Lane {
    lane("{ from: [127.0.0.0/8] }", more)
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [BEGIN_V2, &[command, family], &length, rest].concat()
}

const FOUR: [u8; 12] = [203, 0, 113, 7, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

/// Who the upstream is told is calling, when a connection begins with `header`; `None` when it is closed.
fn named(lane: &Lane, header: &[u8]) -> Option<String> {
    let mut client = lane.connect();
    let answer = client.send([header, GET.as_bytes()].concat()).response().ok()?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let log = lane.origin.take();
    log.requests.last().and_then(|request| request.field("x-forwarded-for")).map(str::to_owned)
}

#[test]
fn the_client_of_a_header_is_the_callers_address() {
    let lane = from_loopback("");
    let six = {
        let mut six = [0; 36];
        (six[0], six[1], six[15], six[31]) = (0x20, 0x01, 7, 1);
        v2(0x21, 0x21, &six)
    };
    let with_tlvs = v2(0x21, 0x11, &[&FOUR[..], &[0x04, 0x03, 0xe8], &[7; 1000]].concat());
    for (header, client) in [
        (b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &FOUR), "203.0.113.7"),
        (with_tlvs, "203.0.113.7"),
        (six, "2001::7"),
        (v2(0x20, 0x00, &[]), "127.0.0.1"),
        (v2(0x20, 0x11, &FOUR), "127.0.0.1"),
        (v2(0x21, 0x31, &[0; 216]), "127.0.0.1"),
    ] {
        assert_eq!(named(&lane, &header).as_deref(), Some(client), "{header:?}");
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_with_the_request_behind_it() {
    let lane = from_loopback("");
    for header in [b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n".to_vec(), v2(0x21, 0x11, &FOUR)] {
        let mut client = lane.connect();
        for byte in &header {
            client.send_apart([*byte]);
        }
        assert_eq!(client.get("/t").status, 200);
        assert_eq!(client.get("/u").status, 200);
        for cut in [1, 5, 12, 15, 16, header.len() - 1, header.len() + 3] {
            let whole = [&header, GET.as_bytes()].concat();
            let mut client = lane.connect();
            client.send_apart(&whole[..cut]).send(&whole[cut..]);
            assert_eq!(client.response().unwrap().status, 200, "{cut}");
        }
    }
    let requests = lane.origin.take().requests;
    assert!(requests.iter().all(|request| request.field("x-forwarded-for") == Some("203.0.113.7")));
}

#[test]
fn what_is_no_header_closes_the_connection_without_a_word() {
    let lane = from_loopback("");
    let cases = [
        GET.as_bytes().to_vec(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 56324\r\n".to_vec(),
        b"PROXY TCP4 203.0.113.7 198.51.100.1 56324 443\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100], b"\r\n"].concat(),
        v2(0x21, 0x12, &FOUR),
        v2(0x22, 0x11, &FOUR),
        v2(0x21, 0x11, &[&FOUR[..], &[4, 1, 0]].concat()),
        v2(0x21, 0x11, &[0; 5000]),
        b"\x16\x03\x01\x02\x00\x01\x00".to_vec(),
    ];
    for case in &cases {
        let mut client = lane.connect();
        client.send(case).send(GET);
        assert!(client.response().is_err(), "{case:?}");
    }
    assert_eq!(lane.origin.take().requests.len(), 0);
    let none = lane.connect();
    drop(none);
}

#[test]
fn a_header_that_does_not_come_in_time_is_not_waited_for() {
    let listener = "  - bind: 127.0.0.1:0\n    proxy_protocol: { from: [127.0.0.1] }\n";
    let yaml = FORWARD_ALL.replace("  - bind: 127.0.0.1:0\n", listener);
    let lane = Lane::start(&format!("timeouts: {{ head: 300ms }}\n{yaml}"));
    for beginning in [&b""[..], b"PROXY TCP4 203.0", &v2(0x21, 0x11, &FOUR)[..20]] {
        let mut client = lane.connect();
        client.set_timeout(Duration::from_secs(15));
        client.send(beginning);
        assert!(client.is_closed(), "{beginning:?}");
    }
}

#[test]
fn a_peer_that_is_not_believed_is_closed_or_served_as_what_it_is() {
    let header = b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n";
    let lane = lane("{ from: [192.0.2.0/24] }", "");
    for bytes in [GET.as_bytes(), header] {
        let mut client = lane.connect();
        client.send(bytes);
        assert!(client.is_closed());
    }
    assert_eq!(lane.origin.take().requests.len(), 0);
    let lane = self::lane("{ from: [192.0.2.0/24], others: serve }", "");
    assert_eq!(named(&lane, b"").as_deref(), Some("127.0.0.1"));
    let mut client = lane.connect();
    assert_eq!(client.send(header).response().unwrap().status, 400, "nobody may choose his address");
    assert_eq!(lane.origin.take().requests.len(), 0);
}

#[test]
fn fields_of_a_client_behind_a_balancer_are_not_believed_because_the_balancer_is() {
    let listener = "  - bind: 127.0.0.1:0\n    proxy_protocol: true\n";
    let yaml = FORWARD_ALL.replace("  - bind: 127.0.0.1:0\n", listener);
    let lane = Lane::start(&format!("trusted_proxies: [127.0.0.1]\n{yaml}"));
    let mut client = lane.connect();
    client.send("PROXY TCP4 203.0.113.7 198.51.100.1 1 2\r\n");
    client.send("GET /t HTTP/1.1\r\nHost: e2e.test\r\nX-Forwarded-For: 192.0.2.99\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 200);
    assert_eq!(lane.origin.only_request().field("x-forwarded-for"), Some("203.0.113.7"));
}

#[test]
fn tls_begins_behind_the_header() {
    let certificates = Certificates::new();
    certificates.issue("a", "ca", "DNS:a.test");
    let lane = from_loopback(&format!("    tls: {{ certificates: [{{ {} }}] }}\n", certificates.pair("a")));
    let header = v2(0x21, 0x11, &FOUR);
    let mut raw = Client::connect(lane.gateway.address());
    raw.send(&header);
    let tls = certificates.client(None, &["h2"], &[&TLS13]).try_over(raw.wire.stream, "a.test").unwrap();
    let ending = Http2::begin(tls, 1 << 20).get(1, "/t").unwrap();
    assert!(matches!(&ending, Ending::Answer(answer) if answer.status == 200), "{ending:?}");
    assert_eq!(lane.origin.only_request().field("x-forwarded-for"), Some("203.0.113.7"));
    let without = certificates.client(None, &[], &[&TLS13]).try_connect(lane.gateway.address(), "a.test");
    assert!(without.is_err(), "TLS without a header");
}

#[test]
fn connections_without_a_good_header_are_counted() {
    let listener = "  - bind: 127.0.0.1:0\n    proxy_protocol: { from: [127.0.0.1] }\nstatus: { bind: 127.0.0.1:0 }\n";
    let lane =
        Lane::start(&FORWARD_ALL.replace("listeners:\n  - bind: 127.0.0.1:0\n", &format!("listeners:\n{listener}")));
    assert!(lane.connect().send(GET).response().is_err());
    wait_until("it is counted", Duration::from_secs(5), || {
        let metrics = lane.gateway.metrics();
        (metrics.sum("daemun_proxy_protocol_refused_total", &[]) > 0.5).then_some(())
    });
}

/// An upstream that is told of clients: what each of its connections began with, in the order they were made.
struct Told {
    origin: Origin,
    headers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Told {
    fn start(tls: Option<TlsServer>) -> Self {
        let headers = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let seen = Arc::clone(&headers);
        let serve = serving(echo);
        let origin = Origin::start(move |peer| {
            let Some(header) = told(peer) else { return Next::Close };
            seen.lock().unwrap().push(header);
            if let Some(server) = &tls {
                let Ok(stream) = server.accept(peer.wire.stream.clone_handle()) else { return Next::Close };
                peer.wire.stream = stream;
            }
            serve(peer)
        });
        Self { origin, headers }
    }

    fn headers(&self) -> Vec<Vec<u8>> {
        self.headers.lock().unwrap().clone()
    }
}

/// Takes the header that a connection begins with, and not a byte more.
fn told(peer: &mut Peer) -> Option<Vec<u8>> {
    let mut header = vec![0; BEGIN_V2.len()];
    peer.wire.stream.read_exact(&mut header).ok()?;
    if header.starts_with(BEGIN_V2) {
        header.resize(16, 0);
        peer.wire.stream.read_exact(&mut header[12..]).ok()?;
        let mut rest = vec![0; usize::from(u16::from_be_bytes([header[14], header[15]]))];
        peer.wire.stream.read_exact(&mut rest).ok()?;
        header.extend(rest);
        return Some(header);
    }
    while !header.ends_with(b"\r\n") {
        let mut byte = [0];
        peer.wire.stream.read_exact(&mut byte).ok()?;
        header.extend(byte);
    }
    Some(header)
}

fn telling(origin: &Origin, scheme: &str, upstream: &str) -> String {
    let yaml =
        FORWARD_ALL.replace("targets: [\"{origin}\"]\n", &format!("targets: [\"{{origin}}\"]\n    {upstream}\n"));
    yaml.replace("{origin}", &format!("{scheme}://127.0.0.1:{}", origin.port()))
}

#[test]
fn an_upstream_is_told_once_for_each_connection_and_clients_never_share_one() {
    for version in ["v1", "v2"] {
        let told = Told::start(None);
        let gateway = Gateway::start(&telling(&told.origin, "http", &format!("proxy_protocol: {version}")));
        let mut clients: Vec<Client> = (0..3).map(|_| gateway.connect()).collect();
        for _ in 0..3 {
            for client in &mut clients {
                assert_eq!(client.get("/t").status, 200);
            }
        }
        let expected: Vec<Vec<u8>> = clients
            .iter()
            .map(|client| {
                let from = client.wire.stream.local_address().unwrap();
                let to = client.wire.stream.peer_address().unwrap();
                if version == "v1" {
                    return format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port()).into_bytes();
                }
                let ends = [127, 0, 0, 1, 127, 0, 0, 1];
                v2(0x21, 0x11, &[&ends[..], &from.port().to_be_bytes(), &to.port().to_be_bytes()].concat())
            })
            .collect();
        assert_eq!(told.headers(), expected, "{version}");
        let connections: Vec<usize> = told.origin.take().requests.iter().map(|request| request.connection).collect();
        assert_eq!(connections, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        drop(clients);
        assert_eq!(gateway.get("/t").status, 200);
        assert_eq!(told.headers().len(), 4, "a client that is gone leaves nothing to others");
    }
}

#[test]
fn what_a_balancer_told_is_told_on() {
    let told = Told::start(None);
    let yaml = telling(&told.origin, "http", "proxy_protocol: v2");
    let listener = "  - bind: 127.0.0.1:0\n    proxy_protocol: { from: [127.0.0.1] }\n";
    let gateway = Gateway::start(&yaml.replace("  - bind: 127.0.0.1:0\n", listener));
    let headers = [v2(0x21, 0x11, &FOUR), b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec()];
    for header in &headers {
        let mut client = gateway.connect();
        assert_eq!(client.send(header).get("/t").status, 200);
    }
    let told = told.headers();
    assert_eq!(told[0], headers[0]);
    assert_eq!(
        (told[1][13], &told[1][16..20], &told[1][48..52]),
        (0x21, &[0x20, 1, 0xd, 0xb8][..], &[0xdc, 4, 1, 0xbb][..])
    );
}

#[test]
fn an_upstream_is_told_before_tls_begins() {
    let certificates = Certificates::new();
    certificates.issue("up", "ca", "DNS:up.test");
    let told = Told::start(Some(certificates.server("up", None, &["http/1.1"])));
    let tls =
        format!("proxy_protocol: v1\n    tls: {{ ca: \"{}\", server_name: up.test }}", certificates.path("ca.crt"));
    let gateway = Gateway::start(&telling(&told.origin, "https", &tls));
    let mut client = gateway.connect();
    for _ in 0..2 {
        assert_eq!(client.get("/t").status, 200);
    }
    let headers = told.headers();
    assert!(headers.len() == 1 && headers[0].starts_with(b"PROXY TCP4 127.0.0.1 "), "{headers:?}");
}

#[test]
fn checks_begin_with_a_header_that_names_nobody() {
    let certificates = Certificates::new();
    certificates.issue("up", "ca", "DNS:up.test");
    let secured = format!("tls: {{ ca: \"{}\", server_name: up.test }}\n    ", certificates.path("ca.crt"));
    let nobody = [v2(0x20, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()];
    for (version, nobody) in ["v2", "v1"].iter().zip(&nobody) {
        for (scheme, health) in [("http", "path: /healthz"), ("https", "path: /healthz"), ("https", "protocol: tcp")] {
            let tls = scheme == "https";
            let told = Told::start(tls.then(|| certificates.server("up", None, &["http/1.1"])));
            let rest = format!(
                "{}proxy_protocol: {version}\n    health: {{ {health}, interval: 100ms, timeout: 10s, unhealthy_after: 1 }}",
                if tls { &secured } else { "" }
            );
            let gateway = Gateway::start(&telling(&told.origin, scheme, &rest));
            wait_until("it has been checked", Duration::from_secs(10), || (told.headers().len() > 3).then_some(()));
            assert!(told.headers().iter().all(|header| header == nobody), "{version} {scheme} {:?}", told.headers());
            assert!(!gateway.stderr().contains("unhealthy"), "{version} {scheme} {health}: {}", gateway.stderr());
            assert_eq!(gateway.get("/t").status, 200);
        }
    }
}

#[test]
fn checks_of_a_port_of_their_own_begin_without_a_header() {
    let told = Told::start(None);
    let checked = Origin::echo();
    let health = format!("health: {{ path: /healthz, interval: 100ms, timeout: 10s, port: {} }}", checked.port());
    let gateway = Gateway::start(&telling(&told.origin, "http", &format!("proxy_protocol: v2\n    {health}")));
    checked.wait("it is checked there", |log| log.requests.iter().any(|r| r.target == "/healthz").then_some(()));
    assert_eq!((gateway.get("/t").status, told.headers().len()), (200, 1));
}

#[test]
fn a_connection_that_many_clients_share_cannot_name_one() {
    for protocol in ["h2c", "auto"] {
        let yaml = telling(&Origin::echo(), "http", &format!("protocol: {protocol}\n    proxy_protocol: v2"));
        let refusal = Gateway::launch(Folder::new(), &yaml, &[]).err().expect("it does not start");
        assert!(refusal.stderr.contains("conflicting_keys"), "{}", refusal.stderr);
    }
}

/// HAProxy or nginx in a process of its own, which goes when it is dropped.
struct Program(Child);

impl Program {
    fn start(mut command: Command) -> Self {
        let paths = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{paths}:/usr/sbin:/sbin")).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    fn haproxy(folder: &Folder, text: &str) -> Self {
        let text = format!("defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n{text}");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-q").arg("-f").arg(folder.write("haproxy.cfg", text));
        Self::start(command)
    }

    fn nginx(folder: &Folder, server: &str) -> Self {
        let path = folder.path().display();
        let text = format!(
            "daemon off; pid {path}/nginx.pid; error_log {path}/error.log;\nevents {{}}\nhttp {{ access_log off; server {{ {server} }} }}\n"
        );
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
        command.arg("-c").arg(folder.write("nginx.conf", text)).stderr(Stdio::null());
        Self::start(command)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn haproxy_tells_the_gateway_who_calls() {
    for send in ["send-proxy", "send-proxy-v2"] {
        let lane = from_loopback("");
        let folder = Folder::new();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().into();
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
        let text = format!(
            "listen all\n  mode tcp\n  bind fd@{}\n  server gateway {} {send}\n",
            socket.as_raw_fd(),
            lane.gateway.address()
        );
        let _haproxy = Program::haproxy(&folder, &text);
        let mut client = Client::connect(&address);
        for target in ["/a", "/b"] {
            assert_eq!(client.get(target).status, 200, "{send}");
        }
        assert_eq!(lane.origin.take().requests[0].field("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[test]
fn haproxy_and_nginx_are_told_who_calls() {
    for program in ["haproxy", "nginx"] {
        for version in ["v1", "v2"] {
            let folder = Folder::new();
            let path = folder.path().join("socket");
            let _program = if program == "haproxy" {
                let answer = "http-request return status 200 content-type text/plain lf-string \"%[src]:%[src_port]\"";
                let text =
                    format!("frontend all\n  mode http\n  bind unix@{} accept-proxy\n  {answer}\n", path.display());
                Program::haproxy(&folder, &text)
            } else {
                let answer = "return 200 \"$proxy_protocol_addr:$proxy_protocol_port\";";
                Program::nginx(
                    &folder,
                    &format!("listen unix:{} proxy_protocol; location / {{ {answer} }}", path.display()),
                )
            };
            wait_until("it listens", Duration::from_secs(10), || std::os::unix::net::UnixStream::connect(&path).ok());
            let targets = format!("targets: [\"unix:{}\"]\n    proxy_protocol: {version}", path.display());
            let gateway = Gateway::start(&FORWARD_ALL.replace("targets: [\"{origin}\"]", &targets));
            for _ in 0..2 {
                let mut client = gateway.connect();
                let own = client.wire.stream.local_address().unwrap().to_string();
                for _ in 0..2 {
                    let answer = client.get("/t");
                    assert_eq!((answer.status, answer.text()), (200, own.clone()), "{program} {version}");
                }
            }
        }
    }
}
