//! The head of a message, read strictly, and the invariants that hold for every request a gateway sends upstream.

/// A head: its first line and its fields, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Request line or status line, without its end.
    pub start: String,
    /// Names as sent, and values without the white space round them.
    pub fields: Vec<(String, String)>,
    /// The bytes, through the empty line.
    pub raw: Vec<u8>,
}

impl Head {
    /// Reads a head that ends with an empty line. Bytes over 127 of a value are read as Latin-1.
    ///
    /// # Errors
    /// What is not strictly well formed.
    pub fn parse(raw: Vec<u8>) -> Result<Self, String> {
        let text = raw.strip_suffix(b"\r\n\r\n").ok_or("a head without an empty line")?;
        let mut lines = Vec::new();
        let mut rest = text;
        while let Some(at) = crate::wire::find(rest, b"\r\n") {
            lines.push(&rest[..at]);
            rest = &rest[at + 2..];
        }
        lines.push(rest);
        let start = lines.remove(0);
        if start.iter().any(|byte| byte.is_ascii_control()) {
            return Err(format!("control byte in `{}`", start.escape_ascii()));
        }
        let fields = fields(lines.into_iter())?;
        Ok(Self { start: latin1(start), fields, raw })
    }

    /// Every value of the fields called `name`, any case.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The only value of `name`; `None` when it is absent or repeated.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { None } else { first }
    }

    /// Whether a field called `name` is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The bytes, escaped, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        self.raw.escape_ascii().to_string()
    }

    /// The request line's three parts.
    #[must_use]
    pub fn request_line(&self) -> Option<(&str, &str, &str)> {
        let mut parts = self.start.split(' ');
        let found = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() { None } else { Some(found) }
    }

    /// How the body of this head is delimited, by its fields alone.
    ///
    /// # Errors
    /// Both framings, a repeated or malformed length, an unknown transfer coding.
    pub fn framing(&self) -> Result<Framing, String> {
        let lengths: Vec<&str> = self.all("content-length").collect();
        let codings: Vec<&str> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Framing::Absent),
            ([length], []) => {
                let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let count = length.parse().ok().filter(|_| plain);
                count.map(Framing::Length).ok_or_else(|| format!("content-length `{length}`"))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            ([], codings) => Err(format!("transfer-encoding {codings:?}")),
            (lengths, []) => Err(format!("content-length {lengths:?}")),
            (lengths, codings) => Err(format!("both content-length {lengths:?} and transfer-encoding {codings:?}")),
        }
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Neither field is there.
    Absent,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Reads field lines strictly: a token, a colon, a value without control bytes, no folding.
///
/// # Errors
/// The line that is not a field.
pub fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<(String, String)>, String> {
    lines.map(field).collect()
}

fn field(line: &[u8]) -> Result<(String, String), String> {
    let shown = || line.escape_ascii().to_string();
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(|| format!("no colon in `{}`", shown()))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(format!("field name in `{}`", shown()));
    }
    if value.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(format!("control byte in `{}`", shown()));
    }
    let value = latin1(value);
    Ok((latin1(name), value.trim_matches([' ', '\t']).to_owned()))
}

/// Whether `byte` may stand in a field name or a method (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// What is wrong with a request as a gateway sent it, by the rules that hold for every one of them: one framing, one `Host`,
/// canonical separators, no field that belongs to the client's own connection.
#[must_use]
pub fn faults_of_forwarded(head: &Head) -> Vec<String> {
    let mut faults = Vec::new();
    match head.request_line() {
        Some((method, target, version)) => {
            if method.is_empty() || !method.bytes().all(is_token) {
                faults.push(format!("method `{method}`"));
            }
            let path = target.split('?').next().unwrap_or_default();
            let clean = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') && !path.contains('\\');
            if target.is_empty() || !clean {
                faults.push(format!("target `{target}`"));
            }
            if version != "HTTP/1.1" {
                faults.push(format!("version `{version}`"));
            }
        }
        None => faults.push(format!("request line `{}`", head.start.escape_default())),
    }
    if head.one("host").is_none_or(str::is_empty) {
        faults.push(format!("host {:?}", head.all("host").collect::<Vec<_>>()));
    }
    if let Err(why) = head.framing() {
        faults.push(why);
    }
    for (name, value) in &head.fields {
        let lower = name.to_ascii_lowercase();
        let own = matches!(lower.as_str(), "keep-alive" | "proxy-connection" | "http2-settings");
        if own || lower.starts_with(':') {
            faults.push(format!("the connection's own field `{name}: {value}`"));
        }
        if lower == "te" && !value.eq_ignore_ascii_case("trailers") {
            faults.push(format!("`te: {value}`"));
        }
        if lower == "connection" && !connection_is_own(head, value) {
            faults.push(format!("`connection: {value}`"));
        }
        if lower == "upgrade" && value.to_ascii_lowercase().contains("h2c") {
            faults.push(format!("`upgrade: {value}`"));
        }
        if lower.contains('_') {
            faults.push(format!("a name with an underscore, `{name}: {value}`"));
        }
    }
    faults
}

fn connection_is_own(head: &Head, value: &str) -> bool {
    value.split(',').map(|word| word.trim().to_ascii_lowercase()).all(|word| match word.as_str() {
        "keep-alive" | "close" | "te" => true,
        "upgrade" => head.has("upgrade"),
        _ => false,
    })
}
