//! Patterns of origins. Knows no request.

/// Origins that may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`: all.
    Any,
    /// One, as browsers write it.
    One(String),
    /// Those of a pattern.
    Pattern {
        /// Scheme, lower case.
        scheme: String,
        /// Host, lower case; of a wildcard what follows `*`, from its dot on.
        host: String,
        /// Whether any host that ends in `host` will do.
        below: bool,
        /// Port; `None` for the scheme's own.
        port: Port,
    },
}

/// Ports of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// The scheme's own, which browsers do not write.
    Default,
    /// This one.
    Number(u16),
    /// Any.
    Any,
}

impl Origin {
    /// Reads a pattern; `None` when it is no origin.
    #[must_use]
    pub fn parse(text: &str) -> Option<Origin> {
        if text == "*" {
            return Some(Origin::Any);
        }
        let lower = text.to_ascii_lowercase();
        let (scheme, authority) = lower.split_once("://")?;
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => Port::Default,
            Some("*") => Port::Any,
            Some(number) => match (scheme, number.parse().ok().filter(|port| *port > 0)?) {
                ("http", 80) | ("https", 443) => Port::Default,
                (_, port) => Port::Number(port),
            },
        };
        let below = host.starts_with("*.");
        let host = if below { host.get(1..)? } else { host };
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let host_fits = is_host(host.as_bytes()) && !host.ends_with('.') && (below || !host.starts_with('.'));
        (scheme_fits && host_fits && text.len() <= 512).then(|| match port {
            Port::Default if !below => Origin::One(format!("{scheme}://{host}")),
            Port::Number(port) if !below => Origin::One(format!("{scheme}://{host}:{port}")),
            Port::Default | Port::Number(_) | Port::Any => {
                Origin::Pattern { scheme: scheme.to_owned(), host: host.to_owned(), below, port }
            }
        })
    }

    /// Whether the value of an `Origin` field is one of these. Browsers write origins in lower case and without default port.
    #[must_use]
    pub fn matches(&self, origin: &[u8]) -> bool {
        let (scheme, host, below, port) = match self {
            Origin::Any => return true,
            Origin::One(one) => return one.as_bytes() == origin,
            Origin::Pattern { scheme, host, below, port } => (scheme, host, below, port),
        };
        let rest = origin.strip_prefix(scheme.as_bytes()).and_then(|rest| rest.strip_prefix(b"://"));
        let Some((found, number)) = rest.and_then(|rest| std::str::from_utf8(rest).ok()).and_then(split_port) else {
            return false;
        };
        let port_fits = match port {
            Port::Default => number.is_none(),
            Port::Number(wanted) => number.is_some_and(|number| number.parse() == Ok(*wanted)),
            Port::Any => number.is_none_or(|number| number.parse::<u16>().is_ok()),
        };
        let host_fits = if *below {
            found.len() > host.len() && found.ends_with(host.as_str()) && is_host(found.as_bytes())
        } else {
            found == host
        };
        port_fits && host_fits
    }
}

/// Splits `host:port`; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (address, rest) = authority.split_at_checked(authority.find(']')? + 1)?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((address, Some(port))),
            None => rest.is_empty().then_some((address, None)),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', address @ .., b']'] => address.iter().all(|b| b.is_ascii_hexdigit() || b":.".contains(b)),
        _ => {
            !host.is_empty() && host.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(b))
        }
    }
}
