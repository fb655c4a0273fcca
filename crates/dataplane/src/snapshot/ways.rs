//! The upstreams of a snapshot as policies may choose them: by name, or by the address of a target. Whatever a text says, no way leads out
//! of the configuration. Knows no policy.

use std::collections::HashMap;
use std::sync::Arc;

use daemun_config::decode::WebUrl;
use daemun_config::model;
use daemun_pipeline::{Elsewhere, Upstreams};

use super::upstream::Upstream;
use crate::router::path::{check_query, read, split_query};

/// An upstream's name, and itself unless it could not be compiled.
type Named = (Arc<str>, Option<Arc<Upstream>>);

/// Upstreams by their place in the configuration, and by name.
pub(super) struct Ways {
    upstreams: Box<[Named]>,
    places: HashMap<Arc<str>, usize>,
}

impl Ways {
    /// Of upstreams in the order of the configuration; one that could not be compiled is known by its name.
    pub(super) fn new(written: &[model::Upstream], compiled: &[Option<Arc<Upstream>>]) -> Ways {
        let pairs = written.iter().zip(compiled);
        let upstreams: Box<[_]> =
            pairs.map(|(written, compiled)| (Arc::from(written.name.value.as_str()), compiled.clone())).collect();
        let places = upstreams.iter().enumerate().map(|(place, (name, _))| (Arc::clone(name), place)).collect();
        Ways { upstreams, places }
    }

    fn elsewhere(&self, upstream: usize, resource: Option<Box<str>>) -> Option<Elsewhere> {
        self.upstreams.get(upstream).map(|(name, _)| Elsewhere { upstream, name: Arc::clone(name), resource })
    }
}

impl Upstreams for Ways {
    fn names(&self) -> Vec<&str> {
        self.upstreams.iter().map(|(name, _)| &**name).collect()
    }

    fn find(&self, text: &str, among: &[usize]) -> Result<Elsewhere, &'static str> {
        const NO_WAY: &str = "it names no upstream that may be chosen here, and no target of one";
        if let Some(place) = self.places.get(text).filter(|place| among.contains(place)) {
            return self.elsewhere(*place, None).ok_or(NO_WAY);
        }
        let url = WebUrl::parse(text).map_err(|_| NO_WAY)?;
        let address = url.server(None).address;
        // an address alone leaves path and query to the request
        let has_resource = text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?']));
        let resource = if has_resource { Some(resource(url.target())?) } else { None };
        let mut found = Err(NO_WAY);
        for &place in among {
            let Some((_, Some(upstream))) = self.upstreams.get(place) else { continue };
            for target in upstream.targets().iter() {
                if target.tls != url.is_https() || *target.address() != address {
                    continue;
                }
                let below = resource.as_deref().map(|resource| below(resource, &target.base_path));
                match below {
                    None => return self.elsewhere(place, None).ok_or(NO_WAY),
                    Some(Some(below)) => return self.elsewhere(place, Some(below)).ok_or(NO_WAY),
                    Some(None) => found = Err("its path is not below that of the target"),
                }
            }
        }
        found
    }
}

/// Path and query with the path in its one reading, as that of a request.
fn resource(target: &str) -> Result<Box<str>, &'static str> {
    let (path, query) = split_query(target.as_bytes());
    let mut buffer = Vec::new();
    let reading = read(path, &mut buffer).map_err(|_| "its path cannot be read in exactly one way")?;
    let view = reading.view(path, &buffer);
    if view.had_encoded_slash() {
        return Err("its path holds `%2F`");
    }
    let mut resource = view.forwarded(false).to_vec();
    if let Some(query) = query {
        check_query(query).map_err(|_| "its query holds what must be encoded")?;
        resource.push(b'?');
        resource.extend_from_slice(query);
    }
    String::from_utf8(resource).map(Into::into).map_err(|_| "its path is not text")
}

/// What of it stands behind a path of whole segments; always a path itself.
fn below(resource: &str, base: &str) -> Option<Box<str>> {
    let rest = resource.strip_prefix(base)?;
    match rest.as_bytes().first() {
        Some(b'/') => Some(rest.into()),
        None | Some(b'?') => Some(format!("/{rest}").into()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use daemun_config::policy::Vocabulary;
    use daemun_config::{Diagnostics, System, load_text};
    use daemun_pipeline::Carry;

    use super::*;
    use crate::record::{Metrics, Setup};
    use crate::snapshot::failure::Names;

    fn ways() -> Ways {
        let text = "listeners: [{ bind: 127.0.0.1:0 }]\nupstreams:\n\
            \x20 catalog: { targets: [\"http://10.0.0.11:9001\", \"http://10.0.0.12:9001/base\"] }\n\
            \x20 orders: { targets: [\"https://orders.internal\", \"unix:/run/orders.sock\"] }\n\
            \x20 secret: { targets: [\"http://10.0.0.99:80\", \"http://[fd00::9]:8080\"] }\n\
            routes: [{ name: c, upstream: catalog }, { name: o, match: { prefix: /o }, upstream: orders }, { name: s, match: { prefix: /s }, upstream: secret }]";
        let loaded = load_text("test.yaml".as_ref(), text, &System, &Vocabulary { policies: &[] });
        let setup = Setup { workers: 1, policies: Vec::new(), version: "test", commit: "test", started: 0 };
        let (metrics, _) = Metrics::new(setup);
        let config = loaded.config.unwrap();
        let (names, carry, mut diagnostics) = (Names::of(&config.upstreams), Carry::detached(), Diagnostics::new());
        let compile = |upstream| {
            super::super::upstream::compile(upstream, None, &names, &carry, &metrics, &mut diagnostics).map(Arc::new)
        };
        let compiled: Vec<_> = config.upstreams.iter().map(compile).collect();
        assert!(compiled.iter().all(Option::is_some));
        Ways::new(&config.upstreams, &compiled)
    }

    fn found(ways: &Ways, text: &str) -> Option<(String, Option<String>)> {
        let found = ways.find(text, &[0, 1]).ok()?;
        Some((found.name.to_string(), found.resource.map(|resource| resource.to_string())))
    }

    #[test]
    fn a_name_or_the_address_of_a_target_leads_to_its_upstream() {
        let ways = ways();
        assert_eq!(ways.names(), ["catalog", "orders", "secret"]);
        for (text, name, resource) in [
            ("catalog", "catalog", None),
            ("orders", "orders", None),
            ("http://10.0.0.11:9001", "catalog", None),
            ("http://10.0.0.11:9001/", "catalog", Some("/")),
            ("http://10.0.0.11:9001?a=b", "catalog", Some("/?a=b")),
            ("HTTP://10.0.0.11:9001/v2/items/1?x=%20&y", "catalog", Some("/v2/items/1?x=%20&y")),
            ("http://10.0.0.11:9001/a/%7euser//b", "catalog", Some("/a/~user/b")),
            ("http://10.0.0.12:9001/base/items", "catalog", Some("/items")),
            ("http://10.0.0.12:9001/base", "catalog", Some("/")),
            ("http://10.0.0.12:9001/base?q", "catalog", Some("/?q")),
            ("https://orders.internal/a", "orders", Some("/a")),
            ("https://ORDERS.internal:443/a", "orders", Some("/a")),
        ] {
            assert_eq!(found(&ways, text), Some((name.to_owned(), resource.map(str::to_owned))), "{text}");
        }
    }

    #[test]
    fn nothing_leads_out_of_what_may_be_chosen() {
        let ways = ways();
        for text in [
            "",
            "secret",
            "Catalog",
            "catalog/a",
            " catalog",
            "http://10.0.0.99:80/",
            "http://10.0.0.99/",
            "http://[fd00::9]:8080/",
            "http://10.0.0.11/",
            "http://10.0.0.11:9002/",
            "https://10.0.0.11:9001/",
            "http://orders.internal:443/",
            "http://orders.internal/",
            "https://orders.internal.evil.test/",
            "https://evil.test/https://orders.internal/",
            "http://10.0.0.11:9001@evil.test/",
            "http://evil.test@10.0.0.11:9001/",
            "http://user:pw@10.0.0.11:9001/",
            "http://10.0.0.11:9001#@evil.test/",
            "http://10.0.0.11:9001\\@evil.test/",
            "http://10.0.0.11:9001/a b",
            "http://10.0.0.11:9001/a\r\nx: y",
            "http://10.0.0.11:9001/\u{e9}",
            "http://10.0.0.11:9001/a#b",
            "http://10.0.0.11:9001/../a",
            "http://10.0.0.11:9001/%00",
            "http://10.0.0.11:9001/a%2fb",
            "http://10.0.0.11:9001/a\\b",
            "http://10.0.0.12:9001/",
            "http://10.0.0.12:9001/basement",
            "http://10.0.0.12:9001/base/../other",
            "http://10.0.0.12:9001/base;x/y",
            "http://0x0a00000b:9001/",
            "http://167772171:9001/",
            "//10.0.0.11:9001/",
            "/run/orders.sock",
            "unix:/run/orders.sock",
            "file:///etc/passwd",
            "gopher://10.0.0.11:9001/",
        ] {
            assert_eq!(found(&ways, text), None, "{text}");
        }
        assert!(ways.find("secret", &[2]).is_ok() && ways.find("http://10.0.0.99/", &[2]).is_ok());
        assert!(ways.find("catalog", &[]).is_err() && ways.find("catalog", &[7]).is_err());
    }
}
