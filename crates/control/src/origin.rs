//! Whether a request to the admin listener was meant for it. A page of any site can make a browser on this machine call a loopback
//! address, and with a name of its own that it lets point there it can read the answer (DNS rebinding): such a request names another host,
//! or another origin, than this machine.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::{HeaderName, Request, StatusCode};

/// Where the admin listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// On a loopback address, at this port.
    Port(u16),
    /// On a Unix socket, which no browser reaches.
    Unix,
}

impl Here {
    /// Of an address; `None` unless it is a loopback address.
    pub(crate) fn of(address: SocketAddr) -> Option<Here> {
        address.ip().to_canonical().is_loopback().then_some(Here::Port(address.port()))
    }
}

type Refusal = (StatusCode, &'static str);

/// Refuses what names another host or comes from another origin.
pub(crate) fn check<B>(request: &Request<B>, here: Here) -> Result<(), Refusal> {
    let Here::Port(port) = here else { return Ok(()) };
    let misdirected =
        (StatusCode::MISDIRECTED_REQUEST, "the host must be a loopback name or address and this listener's port");
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(misdirected) };
    let host = host.to_str().map_err(|_| misdirected)?;
    // a target with an authority of its own (RFC 9112, section 3.2.2) must name this listener as well
    let target = request.uri().authority().map(http::uri::Authority::as_str);
    if ![Some(host), target].into_iter().flatten().all(|authority| is_here(authority, port)) {
        return Err(misdirected);
    }
    let foreign = (StatusCode::FORBIDDEN, "pages of other origins may not ask here");
    for origin in request.headers().get_all(ORIGIN) {
        let same =
            origin.as_bytes().strip_prefix(b"http://").is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_bytes()));
        if !same {
            return Err(foreign);
        }
    }
    // what browsers add to requests that carry no origin, such as those for images and scripts
    for site in request.headers().get_all(HeaderName::from_static("sec-fetch-site")) {
        if site != "same-origin" && site != "none" {
            return Err(foreign);
        }
    }
    Ok(())
}

/// Whether an authority is a loopback name or address and this port.
fn is_here(authority: &str, port: u16) -> bool {
    let (host, given) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((inside, rest)) => {
            let Some(given) = port_of(rest) else { return false };
            return given == port
                && inside.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| IpAddr::V6(ip).to_canonical().is_loopback());
        }
        None => match authority.split_once(':') {
            Some((host, _)) => (host, authority.get(host.len()..).unwrap_or_default()),
            None => (authority, ""),
        },
    };
    let loopback =
        host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    loopback && port_of(given) == Some(port)
}

/// The port of `:9900`; 80 when there is none.
fn port_of(text: &str) -> Option<u16> {
    if text.is_empty() {
        return Some(80);
    }
    let digits = text.strip_prefix(':')?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(fields: &[(&str, &str)]) -> Result<(), u16> {
        let mut request = Request::builder().uri("/requests");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap(), Here::Port(9900)).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_with_this_port_are_here() {
        for host in [
            "127.0.0.1:9900",
            "localhost:9900",
            "LocalHost:9900",
            "[::1]:9900",
            "127.1.2.3:9900",
            "[::ffff:127.0.0.1]:9900",
        ] {
            assert_eq!(checked(&[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "127.0.0.1",
            "localhost",
            "localhost:9901",
            "evil.example:9900",
            "localhost.evil.example:9900",
            "127.0.0.1.evil.example:9900",
            "10.0.0.1:9900",
            "[::2]:9900",
            "[::1]",
            "[::1]9900",
            "[::1:9900",
            "::1:9900",
            "",
            ":9900",
            "localhost:",
            "localhost:+9900",
            "localhost:9900:9900",
            "user@localhost:9900",
            "localhost:9900@evil.example",
            "0x7f000001:9900",
            "2130706433:9900",
            "localhost.:9900",
        ] {
            assert_eq!(checked(&[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(checked(&[]), Err(421));
        assert_eq!(checked(&[("host", "localhost:9900"), ("host", "localhost:9900")]), Err(421));
        assert!(is_here("localhost", 80) && is_here("[::1]", 80));
    }

    #[test]
    fn a_target_with_an_authority_of_its_own_must_name_this_listener_too() {
        let of = |uri: &str| {
            let request = Request::builder().uri(uri).header("host", "localhost:9900").body(()).unwrap();
            check(&request, Here::Port(9900)).is_ok()
        };
        assert!(of("http://127.0.0.1:9900/requests"));
        assert!(!of("http://evil.example:9900/requests"));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let from = |name, value| checked(&[("host", "localhost:9900"), (name, value)]);
        assert_eq!(from("origin", "http://localhost:9900"), Ok(()));
        for origin in [
            "https://localhost:9900",
            "http://127.0.0.1:9900",
            "http://localhost:1234",
            "http://evil.example",
            "null",
            "",
        ] {
            assert_eq!(from("origin", origin), Err(403), "{origin}");
        }
        assert_eq!(from("sec-fetch-site", "none"), Ok(()));
        assert_eq!(from("sec-fetch-site", "same-origin"), Ok(()));
        assert_eq!(from("sec-fetch-site", "same-site"), Err(403));
        assert_eq!(from("sec-fetch-site", "cross-site"), Err(403));
    }

    #[test]
    fn only_loopback_addresses_are_here() {
        assert_eq!(Here::of("127.0.0.2:1".parse().unwrap()), Some(Here::Port(1)));
        assert_eq!(Here::of("[::1]:2".parse().unwrap()), Some(Here::Port(2)));
        for elsewhere in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1"] {
            assert_eq!(Here::of(elsewhere.parse().unwrap()), None);
        }
    }
}
