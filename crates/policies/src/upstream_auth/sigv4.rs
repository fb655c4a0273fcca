//! Signature Version 4 of AWS: what is signed of a call, and how. Knows no exchange but the body it is given.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use daemun_pipeline::head::Head;
use daemun_pipeline::{Credentials, Exchange, Outgoing};

use super::config::{AwsPayload, AwsSigV4};

/// Fields of the caller's own that would be taken for part of a signature.
pub(super) const FIELDS: [&str; 4] = ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const UNSIGNED: &[u8] = b"UNSIGNED-PAYLOAD";

/// Takes out every field of AWS, in every spelling that a back end may read as one: they say what is done, such as with whose rights or
/// from where it is copied, and none but those of the gateway are signed.
pub(super) fn remove_all(head: &mut Head) {
    let (buf, fields) = (&head.buf, &mut head.fields);
    for field in fields {
        let start = buf.get(field.name.range()).and_then(<[u8]>::first_chunk::<6>);
        field.removed |= start.is_some_and(|[x, first, a, m, z, last]| {
            [x, a, m, z].map(u8::to_ascii_lowercase) == *b"xamz"
                && !first.is_ascii_alphanumeric()
                && !last.is_ascii_alphanumeric()
        });
    }
}

/// Who signs, for which service.
pub(crate) struct Signer {
    service: Box<str>,
    region: Box<str>,
    key_id: Box<str>,
    secret: Box<str>,
    session_token: Option<Box<str>>,
    payload: AwsPayload,
    /// Of the day that was signed on last.
    day: ArcSwapOption<DayKey>,
}

/// The key of one day.
struct DayKey {
    date: [u8; 8],
    key: hmac::Key,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("service", &self.service).field("region", &self.region).finish_non_exhaustive()
    }
}

/// What is said of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// Its SHA-256 in hexadecimal.
    Signed([u8; 64]),
    /// It is not signed.
    Unsigned,
}

impl Payload {
    /// Of the request as it is now; `None` when its body is to be signed and is not there.
    pub(super) fn of(signer: &Signer, exchange: &Exchange) -> Option<Payload> {
        match signer.payload {
            AwsPayload::Unsigned => Some(Payload::Unsigned),
            AwsPayload::Signed => {
                Some(Payload::Signed(hex(digest(&SHA256, exchange.request.body.as_deref()?).as_ref())))
            }
        }
    }

    fn text(&self) -> &[u8] {
        match self {
            Payload::Signed(digits) => digits,
            Payload::Unsigned => UNSIGNED,
        }
    }
}

/// A signer and the body of one request.
#[derive(Debug)]
struct Signing {
    signer: Arc<Signer>,
    payload: Payload,
}

impl Signer {
    pub(super) fn new(settings: AwsSigV4) -> Signer {
        Signer {
            service: settings.service.0.into(),
            region: settings.region.0.into(),
            key_id: settings.access_key_id.0.into(),
            secret: settings.secret_access_key.0.into(),
            session_token: settings.session_token.map(|token| token.0.into()),
            payload: settings.payload,
            day: ArcSwapOption::empty(),
        }
    }

    pub(super) fn signs_body(&self) -> bool {
        self.payload == AwsPayload::Signed
    }

    /// Whether it is for S3, where fields of AWS change what is done.
    pub(super) fn is_for_s3(&self) -> bool {
        &*self.service == "s3"
    }

    /// What a call with this body is shown.
    pub(super) fn with(self: &Arc<Self>, payload: Payload) -> Arc<dyn Credentials> {
        Arc::new(Signing { signer: Arc::clone(self), payload })
    }

    /// `Authorization` of a call at its time.
    #[cfg(test)]
    pub(super) fn sign(&self, call: &Outgoing<'_>, fields: &[(&str, &[u8])], payload: &[u8]) -> Vec<u8> {
        self.authorization(call, fields, payload, &Stamp::of(call.wall))
    }

    /// `Authorization` of a call whose signed fields are these, sorted by their names in lower case.
    fn authorization(&self, call: &Outgoing<'_>, fields: &[(&str, &[u8])], payload: &[u8], stamp: &Stamp) -> Vec<u8> {
        let (path, query) = split(call.target);
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let mut request = Vec::with_capacity(512);
        request.extend_from_slice(call.method);
        request.push(b'\n');
        self.push_path(path, &mut request);
        request.push(b'\n');
        push_query(query, &mut request);
        request.push(b'\n');
        for (name, value) in fields {
            request.extend_from_slice(name.as_bytes());
            request.push(b':');
            push_trimmed(value, &mut request);
            request.push(b'\n');
        }
        for part in [b"\n", names.as_bytes(), b"\n", payload] {
            request.extend_from_slice(part);
        }
        let date = stamp.date();
        let date = String::from_utf8_lossy(&date);
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let time = String::from_utf8_lossy(&stamp.0);
        let mut text = format!("{ALGORITHM}\n{time}\n{scope}\n").into_bytes();
        text.extend_from_slice(&hex(digest(&SHA256, &request).as_ref()));
        let signature = hex(hmac::sign(&self.day_key(stamp).key, &text).as_ref());
        let start = format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature=", self.key_id);
        [start.as_bytes(), &signature].concat()
    }

    /// The key of the day, made once a day.
    fn day_key(&self, stamp: &Stamp) -> Arc<DayKey> {
        let date = stamp.date();
        if let Some(known) = self.day.load_full().filter(|known| known.date == date) {
            return known;
        }
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let start = format!("AWS4{}", self.secret);
        let key = [self.region.as_bytes(), self.service.as_bytes(), b"aws4_request"]
            .iter()
            .fold(sign(start.as_bytes(), &date), |key, part| sign(key.as_ref(), part));
        let made = Arc::new(DayKey { date, key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()) });
        self.day.store(Some(Arc::clone(&made)));
        made
    }

    /// The path as it is signed: S3 signs it encoded once, every other service what is sent encoded once more.
    fn push_path(&self, path: &[u8], out: &mut Vec<u8>) {
        if self.is_for_s3() {
            encode(&daemun_pipeline::exchange::decode(path, false), true, out);
        } else {
            encode(path, true, out);
        }
    }
}

impl Credentials for Signing {
    fn fields(&self, call: &Outgoing<'_>, add: &mut dyn FnMut(&[u8], &[u8])) {
        let stamp = Stamp::of(call.wall);
        let payload = self.payload.text();
        let token = self.signer.session_token.as_deref().map(str::as_bytes);
        let mut fields: Vec<(&str, &[u8])> =
            vec![("host", call.authority), ("x-amz-content-sha256", payload), ("x-amz-date", &stamp.0)];
        fields.extend(token.map(|token| ("x-amz-security-token", token)));
        let authorization = self.signer.authorization(call, &fields, payload, &stamp);
        for (name, value) in fields.iter().skip(1) {
            add(name.as_bytes(), value);
        }
        add(b"authorization", &authorization);
    }
}

/// Path and query of a target.
fn split(target: &[u8]) -> (&[u8], &[u8]) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (target.get(..at).unwrap_or_default(), target.get(at + 1..).unwrap_or_default()),
        None => (target, &[]),
    }
}

/// The query as it is signed: names and values encoded in one way, sorted.
fn push_query(query: &[u8], out: &mut Vec<u8>) {
    let canonical = |text: &[u8]| {
        let mut encoded = Vec::with_capacity(text.len());
        encode(&daemun_pipeline::exchange::decode(text, false), false, &mut encoded);
        encoded
    };
    let pairs = query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = pairs
        .map(|pair| match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                (canonical(pair.get(..at).unwrap_or_default()), canonical(pair.get(at + 1..).unwrap_or_default()))
            }
            None => (canonical(pair), Vec::new()),
        })
        .collect();
    pairs.sort_unstable();
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// A value without white space at its ends, and with one space where there are more.
fn push_trimmed(value: &[u8], out: &mut Vec<u8>) {
    for (at, word) in value.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3), and strokes where they are kept.
pub(super) fn encode(text: &[u8], keep_strokes: bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep_strokes && byte == b'/' {
            out.push(byte);
        } else {
            let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

/// A digest in hexadecimal.
fn hex(digest: &[u8]) -> [u8; 64] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = [b'0'; 64];
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        let digit = |n: u8| HEX.get(usize::from(n)).copied().unwrap_or(b'0');
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    out
}

/// A time as `YYYYMMDDTHHMMSSZ`.
struct Stamp([u8; 16]);

impl Stamp {
    /// Of nanoseconds since the Unix epoch.
    fn of(wall: u64) -> Stamp {
        let seconds = wall / 1_000_000_000;
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // years that begin in March, in cycles of 400, so that the day that leap years have is the last of its year
        let shifted = days + 719_468;
        let (cycle, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (month, late) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        let year = cycle * 400 + year + late;
        let text =
            format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60);
        Stamp(text.into_bytes().try_into().unwrap_or(*b"00000000T000000Z"))
    }

    fn date(&self) -> [u8; 8] {
        self.0.first_chunk().copied().unwrap_or_default()
    }
}
