//! The PROXY protocol, versions 1 and 2: the header before all else on a connection that tells whose connection is passed on. Pure; knows
//! no sockets and not who may be believed. Rules of HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use daemun_config::model::ProxyVersion;

/// Longest header of version 1, its end of line included (section 2.1).
pub const LONGEST_V1: usize = 107;
/// Bytes before the addresses of version 2.
const FIXED_V2: usize = 16;
/// Longest header of version 2 that is taken; certificates in its TLVs are the largest that occur.
pub const LONGEST_V2: usize = FIXED_V2 + 4096;

const BEGIN_V1: &[u8] = b"PROXY ";
const BEGIN_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing of a client: the connection is the sender's own (`LOCAL`), or the client has no IP address (`UNKNOWN`, a Unix socket).
    Nobody,
    /// Whose connection it is, and where it went. Mapped addresses stand as IPv4.
    Client {
        /// The client's end.
        from: SocketAddr,
        /// The end it connected to.
        to: SocketAddr,
    },
}

/// What came is no header, nor the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

/// Reads the header at the beginning of `bytes`: how long it is and what it says; `None` while more must come. Never asks for more than
/// [`LONGEST_V2`] bytes.
///
/// # Errors
/// When what is there cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Said)>, NoHeader> {
    if begins(bytes, BEGIN_V2) {
        return if bytes.len() < FIXED_V2 { Ok(None) } else { parse_v2(bytes) };
    }
    if begins(bytes, BEGIN_V1) {
        return if bytes.len() < BEGIN_V1.len() { Ok(None) } else { parse_v1(bytes) };
    }
    Err(NoHeader)
}

/// Whether `bytes` begin like `begin`, as far as both go.
fn begins(bytes: &[u8], begin: &[u8]) -> bool {
    bytes.iter().zip(begin).all(|(a, b)| a == b)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(usize, Said)>, NoHeader> {
    let line = bytes.get(..LONGEST_V1).unwrap_or(bytes);
    let Some(end) = line.iter().position(|&b| b == b'\r') else {
        let ended = line.contains(&b'\n') || line.len() == LONGEST_V1;
        return if ended { Err(NoHeader) } else { Ok(None) };
    };
    let text = line.get(BEGIN_V1.len()..end).ok_or(NoHeader)?;
    if text.contains(&b'\n') {
        return Err(NoHeader);
    }
    match line.get(end + 1) {
        Some(b'\n') => {}
        None if line.len() < LONGEST_V1 => return Ok(None),
        Some(_) | None => return Err(NoHeader),
    }
    let text = std::str::from_utf8(text).map_err(|_| NoHeader)?;
    Ok(Some((end + 2, said_v1(text)?)))
}

fn said_v1(text: &str) -> Result<Said, NoHeader> {
    let mut words = text.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        return Ok(Said::Nobody);
    }
    let (Some(from), Some(to), Some(from_port), Some(to_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(NoHeader);
    };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| NoHeader),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| NoHeader),
        _ => Err(NoHeader),
    };
    Ok(client(address(from)?, port(from_port)?, address(to)?, port(to_port)?))
}

/// A port in decimal, without leading zeros.
fn port(text: &str) -> Result<u16, NoHeader> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().map_err(|_| NoHeader) } else { Err(NoHeader) }
}

fn client(from: IpAddr, from_port: u16, to: IpAddr, to_port: u16) -> Said {
    Said::Client {
        from: SocketAddr::new(from.to_canonical(), from_port),
        to: SocketAddr::new(to.to_canonical(), to_port),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(usize, Said)>, NoHeader> {
    let [command, family, high, low] = array(bytes, BEGIN_V2.len())?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 0x0f > 1 || FIXED_V2 + length > LONGEST_V2 {
        return Err(NoHeader);
    }
    let addresses = match family {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        // datagrams are not passed on over a connection, and the rest is reserved
        _ => return Err(NoHeader),
    };
    let local = command & 0x0f == 0;
    if !local && length < addresses {
        return Err(NoHeader);
    }
    let Some(rest) = bytes.get(FIXED_V2..FIXED_V2 + length) else { return Ok(None) };
    let said = match family {
        _ if local => Said::Nobody,
        0x11 => {
            let [from, to] = [array::<4>(rest, 0)?, array::<4>(rest, 4)?].map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
            let [from_port, to_port] = [array(rest, 8)?, array(rest, 10)?].map(u16::from_be_bytes);
            client(from, from_port, to, to_port)
        }
        0x21 => {
            let [from, to] = [array::<16>(rest, 0)?, array::<16>(rest, 16)?].map(|ip| IpAddr::from(Ipv6Addr::from(ip)));
            let [from_port, to_port] = [array(rest, 32)?, array(rest, 34)?].map(u16::from_be_bytes);
            client(from, from_port, to, to_port)
        }
        _ => Said::Nobody,
    };
    if !local && !are_tlvs(rest.get(addresses..).unwrap_or_default()) {
        return Err(NoHeader);
    }
    Ok(Some((FIXED_V2 + length, said)))
}

/// Whether what follows the addresses is whole: type, length, value, one behind the other. What they say is passed over.
fn are_tlvs(mut rest: &[u8]) -> bool {
    while let [_, high, low, more @ ..] = rest {
        match more.get(usize::from(u16::from_be_bytes([*high, *low]))..) {
            Some(behind) => rest = behind,
            None => return false,
        }
    }
    rest.is_empty()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], NoHeader> {
    bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).ok_or(NoHeader)
}

/// Appends the header of a connection that passes on what `said` tells.
pub fn push(version: ProxyVersion, said: &Said, out: &mut Vec<u8>) {
    match version {
        ProxyVersion::V1 => push_v1(said, out),
        ProxyVersion::V2 => push_v2(said, out),
    }
}

/// Appends the header of a connection that is the sender's own, such as that of a check.
pub fn push_own(version: ProxyVersion, out: &mut Vec<u8>) {
    match version {
        ProxyVersion::V1 => push_v1(&Said::Nobody, out),
        ProxyVersion::V2 => {
            out.extend_from_slice(BEGIN_V2);
            // `LOCAL`, which every receiver must accept
            out.extend_from_slice(&[0x20, 0x00, 0, 0]);
        }
    }
}

fn push_v1(said: &Said, out: &mut Vec<u8>) {
    let text = match said {
        Said::Nobody => "PROXY UNKNOWN\r\n".to_owned(),
        Said::Client { from, to } => {
            let (ports, family) = ((from.port(), to.port()), same_family(from.ip(), to.ip()));
            match family {
                Ok((from, to)) => format!("PROXY TCP4 {from} {to} {} {}\r\n", ports.0, ports.1),
                Err((from, to)) => format!("PROXY TCP6 {from} {to} {} {}\r\n", ports.0, ports.1),
            }
        }
    };
    out.extend_from_slice(text.as_bytes());
}

fn push_v2(said: &Said, out: &mut Vec<u8>) {
    out.extend_from_slice(BEGIN_V2);
    let Said::Client { from, to } = said else {
        // `PROXY` of an unknown family: a client's connection all the same, whose address is not to be had
        out.extend_from_slice(&[0x21, 0x00, 0, 0]);
        return;
    };
    match same_family(from.ip(), to.ip()) {
        Ok((from, to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
        Err((from, to)) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&from.octets());
            out.extend_from_slice(&to.octets());
        }
    }
    out.extend_from_slice(&from.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
}

/// Both as IPv4 where both are, else both as IPv6, mapped where need be: a header has one family.
fn same_family(from: IpAddr, to: IpAddr) -> Result<(Ipv4Addr, Ipv4Addr), (Ipv6Addr, Ipv6Addr)> {
    let wide = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok((from, to)),
        _ => Err((wide(from), wide(to))),
    }
}

#[cfg(test)]
mod tests;
