//! The request to be explained, from the words of the command line to the bytes a client would send.

use daemun_config::Shown;

/// A request as it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Whether the URL is `https:`.
    pub(super) tls: bool,
    /// Method.
    pub(super) method: String,
    /// What goes into `Host`, unless a field says otherwise.
    authority: String,
    /// Path and query, as written.
    target: String,
    fields: Vec<(String, String)>,
}

impl Asked {
    /// Reads method, URL and fields. The path is kept as it is written, so that odd ones can be explained too.
    ///
    /// # Errors
    /// What cannot be written into a head as it is.
    pub(super) fn parse(method: &str, url: &str, fields: &[String]) -> Result<Self, String> {
        if method.is_empty() || !method.bytes().all(daemun_pipeline::head::is_token) {
            return Err(format!("`{}` is not a method", Shown(method)));
        }
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return Err(format!("`{}` is not a whole URL, such as `https://api.example.com/items/1`", Shown(url))),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() {
            return Err(format!("`{}` names no host", Shown(url)));
        }
        if authority.contains('@') {
            return Err("a URL with a user in it is not sent by any client; use `-H 'Authorization: …'`".to_owned());
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if let Some(odd) = rest.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("the URL holds {odd:?}; write it as `%{:02X}`", u32::from(odd)));
        }
        let fields = fields.iter().map(|field| parse_field(field)).collect::<Result<_, _>>()?;
        Ok(Self { tls, method: method.to_owned(), authority: authority.to_owned(), target, fields })
    }

    /// The URL that was asked for, as far as it is sent.
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.target)
    }

    /// The path that was asked for, as written.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Its head over HTTP/1.1.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {}\r\n", self.authority));
        }
        for (name, value) in &self.fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn parse_field(text: &str) -> Result<(String, String), String> {
    let malformed = || "a field is written `-H 'Name: value'`".to_owned();
    let (name, value) = text.split_once(':').ok_or_else(malformed)?;
    if name.is_empty() || !name.bytes().all(daemun_pipeline::head::is_token) {
        return Err(malformed());
    }
    let value = value.trim_matches([' ', '\t']);
    if !value.bytes().all(daemun_pipeline::head::is_value) {
        return Err(format!("the value of `{name}` holds a line end or another control character"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(url: &str, fields: &[&str]) -> String {
        let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        String::from_utf8(Asked::parse("GET", url, &fields).unwrap().head()).unwrap()
    }

    #[test]
    fn a_url_becomes_the_head_a_client_would_send() {
        assert_eq!(head("http://a.example", &[]), "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert_eq!(head("https://a:8443?x=1#part", &[]), "GET /?x=1 HTTP/1.1\r\nHost: a:8443\r\n\r\n");
        let odd = "GET /a/../%2e%2F//b?c=d HTTP/1.1\r\nHost: [::1]:80\r\nX-A: b: c\r\n\r\n";
        assert_eq!(head("HTTP://[::1]:80/a/../%2e%2F//b?c=d", &["X-A:  b: c "]), odd);
        assert_eq!(head("http://a/", &["host: b"]), "GET / HTTP/1.1\r\nhost: b\r\n\r\n");
    }

    #[test]
    fn what_no_client_would_send_is_refused() {
        for (method, url, field) in [
            ("GE T", "http://a/", "A: b"),
            ("", "http://a/", "A: b"),
            ("GET", "a.example/", "A: b"),
            ("GET", "ftp://a/", "A: b"),
            ("GET", "http:///x", "A: b"),
            ("GET", "http://user:word@a/", "A: b"),
            ("GET", "http://a/ b", "A: b"),
            ("GET", "http://a/", "A"),
            ("GET", "http://a/", ": b"),
            ("GET", "http://a/", "A: b\r\nC: d"),
        ] {
            assert!(Asked::parse(method, url, &[field.to_owned()]).is_err(), "{method} {url} {field}");
        }
    }
}
