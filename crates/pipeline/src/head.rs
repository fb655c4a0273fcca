//! A message head: one buffer, an index of its fields, and edits at its end. Knows nothing of how a head is read or written.

use crate::exchange::Span;

/// Names the data plane must recognise without comparing text again; everything else is [`FieldId::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each variant is the field of that name")]
pub enum FieldId {
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    KeepAlive,
    ProxyConnection,
    /// `Proxy`, which CGI programs read as the environment's `HTTP_PROXY`.
    Proxy,
    ProxyAuthenticate,
    ProxyAuthorization,
    Http2Settings,
    Expect,
    Via,
    Forwarded,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    XForwardedPort,
    XRealIp,
    XRequestId,
    Traceparent,
    Tracestate,
    Cookie,
    Authorization,
    ContentType,
    Date,
    Server,
    Location,
    Origin,
    /// `X-Consumer-*` in any spelling a back end may read as such.
    Identity,
    /// Another `X-Forwarded-*`, or a twin of `X-Real-IP`, in any spelling a back end may read as such.
    ForwardedOther,
    /// A name with `_` that is none of the above.
    Underscore,
}

const NAMES: &[(&[u8], FieldId)] = &[
    (b"te", FieldId::Te),
    (b"via", FieldId::Via),
    (b"host", FieldId::Host),
    (b"date", FieldId::Date),
    (b"proxy", FieldId::Proxy),
    (b"cookie", FieldId::Cookie),
    (b"expect", FieldId::Expect),
    (b"origin", FieldId::Origin),
    (b"server", FieldId::Server),
    (b"trailer", FieldId::Trailer),
    (b"upgrade", FieldId::Upgrade),
    (b"location", FieldId::Location),
    (b"forwarded", FieldId::Forwarded),
    (b"x-real-ip", FieldId::XRealIp),
    (b"connection", FieldId::Connection),
    (b"keep-alive", FieldId::KeepAlive),
    (b"tracestate", FieldId::Tracestate),
    (b"traceparent", FieldId::Traceparent),
    (b"content-type", FieldId::ContentType),
    (b"x-request-id", FieldId::XRequestId),
    (b"authorization", FieldId::Authorization),
    (b"content-length", FieldId::ContentLength),
    (b"http2-settings", FieldId::Http2Settings),
    (b"x-forwarded-for", FieldId::XForwardedFor),
    (b"x-forwarded-host", FieldId::XForwardedHost),
    (b"x-forwarded-port", FieldId::XForwardedPort),
    (b"proxy-connection", FieldId::ProxyConnection),
    (b"x-forwarded-proto", FieldId::XForwardedProto),
    (b"transfer-encoding", FieldId::TransferEncoding),
    (b"proxy-authenticate", FieldId::ProxyAuthenticate),
    (b"proxy-authorization", FieldId::ProxyAuthorization),
];

/// [`NAMES`] as keys, those of one length together.
#[allow(clippy::indexing_slicing, reason = "evaluated while compiling")]
const KEYS: [(Key, FieldId); NAMES.len()] = {
    let mut out = [(Key { start: 0, end: 0 }, FieldId::Other); NAMES.len()];
    let mut i = 0;
    while i < NAMES.len() {
        out[i] = (Key::of(NAMES[i].0), NAMES[i].1);
        i += 1;
    }
    out
};

/// First index into [`KEYS`] of each length; one more entry than the longest name plus one.
#[allow(clippy::indexing_slicing, reason = "evaluated while compiling")]
const STARTS: [u8; 22] = {
    let mut out = [0u8; 22];
    let mut len = 0;
    while len < 22 {
        let mut i = 0;
        while i < NAMES.len() && NAMES[i].0.len() < len {
            i += 1;
        }
        out[len] = i as u8;
        len += 1;
    }
    out
};

/// Whether two texts are the same but for the case of ASCII letters; for those of 4 to 16 bytes, which names of fields mostly have, without
/// going through them byte by byte.
#[must_use]
#[inline]
pub fn same_in_any_case(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if let (8..=16, Some(start), Some(end)) = (a.len(), a.first_chunk(), a.last_chunk()) {
        let (other_start, other_end) = (b.first_chunk(), b.last_chunk());
        let lower = |bytes: &[u8; 8]| lower(u64::from_ne_bytes(*bytes));
        return other_start.is_some_and(|other| lower(start) == lower(other))
            && other_end.is_some_and(|other| lower(end) == lower(other));
    }
    if let (4..=7, Some(start), Some(end)) = (a.len(), a.first_chunk::<4>(), a.last_chunk::<4>()) {
        let both = |start: &[u8; 4], end: &[u8; 4]| {
            lower(u64::from(u32::from_ne_bytes(*start)) << 32 | u64::from(u32::from_ne_bytes(*end)))
        };
        let other = b.first_chunk().zip(b.last_chunk());
        return other.is_some_and(|(other_start, other_end)| both(start, end) == both(other_start, other_end));
    }
    a.eq_ignore_ascii_case(b)
}

/// Eight bytes with their ASCII letters in lower case.
#[inline]
const fn lower(bytes: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = bytes & (0x7f * EACH);
    let behind_z = low + (0x7f - b'Z' as u64) * EACH;
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let upper = !bytes & (from_a ^ behind_z) & (0x80 * EACH);
    bytes | upper >> 2
}

/// Names of up to 16 bytes in a form that compares at once: start and end, which may overlap, in lower case. Longer ones agree in it
/// with few others of their length. Setting a bit makes lower case of letters, changes no other byte of a token but `^` and `_`, and makes
/// no byte of a token a letter, digit or `-` that was none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    start: u64,
    end: u64,
}

/// What fields begin with that only trusted proxies may send.
const FORWARDED: &[u8] = b"x-forwarded-";
const REAL_IP: &[u8] = b"x-real-ip";
/// What names of identity fields begin with.
const IDENTITY: &[u8] = b"x-consumer-";
const LOWER: u64 = 0x2020_2020_2020_2020;

impl Key {
    #[inline]
    const fn of(name: &[u8]) -> Key {
        if let (Some(start), Some(end)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
            return Key { start: u64::from_le_bytes(*start) | LOWER, end: u64::from_le_bytes(*end) | LOWER };
        }
        if let (Some(start), Some(end)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
            let both = u32::from_le_bytes(*start) as u64 | (u32::from_le_bytes(*end) as u64) << 32;
            return Key { start: both | LOWER, end: LOWER };
        }
        let start = match *name {
            [a, b, c] => a as u64 | (b as u64) << 8 | (c as u64) << 16,
            [a, b] => a as u64 | (b as u64) << 8,
            [a] => a as u64,
            _ => 0,
        };
        Key { start: start | LOWER, end: LOWER }
    }

    /// Whether a `_` is among the bytes of the key; it has become 0x7f, which no token holds.
    #[inline]
    fn has_underscore(self) -> bool {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let holds = |word: u64| {
            let zero = word ^ (ONES * 0x7f);
            zero.wrapping_sub(ONES) & !zero & (ONES * 0x80) != 0
        };
        holds(self.start) || holds(self.end)
    }
}

impl FieldId {
    /// Recognises a name, whatever its case; two or three nanoseconds. A name that is no token may be taken for any.
    #[must_use]
    #[inline]
    pub fn of(name: &[u8]) -> FieldId {
        let key = Key::of(name);
        if let (Some(&from), Some(&to)) = (STARTS.get(name.len()), STARTS.get(name.len() + 1)) {
            for (known, id) in KEYS.get(usize::from(from)..usize::from(to)).unwrap_or_default() {
                if *known == key && (name.len() <= 16 || FieldId::is_long(*id, name)) {
                    return *id;
                }
            }
        }
        let may_be_guarded = name.len() >= REAL_IP.len()
            && key.start & 0xff == u64::from(b'x')
            && [b'c', b'f', b'r'].contains(&name.get(2).map_or(0, u8::to_ascii_lowercase));
        if name.len() <= 16 && !may_be_guarded && !key.has_underscore() {
            return FieldId::Other;
        }
        FieldId::of_unlisted(name)
    }

    /// What a field is that the gateway adds by its own settings: one that is believed of trusted proxies only is a field like any other then.
    pub(crate) fn of_own(name: &str) -> FieldId {
        let id = FieldId::of(name.as_bytes());
        let is_plain = matches!(id, FieldId::XForwardedPort | FieldId::XRealIp | FieldId::ForwardedOther);
        if is_plain { FieldId::Other } else { id }
    }

    /// A key does not hold the middle of names over 16 bytes.
    fn is_long(id: FieldId, name: &[u8]) -> bool {
        NAMES.iter().any(|(known, known_id)| *known_id == id && known.eq_ignore_ascii_case(name))
    }

    fn of_unlisted(name: &[u8]) -> FieldId {
        if begins(name, IDENTITY) {
            return FieldId::Identity;
        }
        if name.contains(&b'_') {
            return FieldId::Underscore;
        }
        let real_ip = name.len() == REAL_IP.len() && begins(name, REAL_IP);
        if real_ip || begins(name, FORWARDED) { FieldId::ForwardedOther } else { FieldId::Other }
    }

    /// Whether the field belongs to one connection only and is never passed on (RFC 9110, section 7.6.1), or is harmful to pass on.
    #[must_use]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            FieldId::Connection
                | FieldId::TransferEncoding
                | FieldId::Te
                | FieldId::Trailer
                | FieldId::Upgrade
                | FieldId::KeepAlive
                | FieldId::ProxyConnection
                | FieldId::Proxy
                | FieldId::ProxyAuthenticate
                | FieldId::ProxyAuthorization
                | FieldId::Http2Settings
        )
    }
}

/// Whether a name begins with a prefix in any case, with any separator for `-`: back ends differ in what they read as the same.
fn begins(name: &[u8], prefix: &[u8]) -> bool {
    name.len() >= prefix.len()
        && name
            .iter()
            .zip(prefix)
            .all(|(&a, &b)| a.to_ascii_lowercase() == b || (b == b'-' && !a.is_ascii_alphanumeric()))
}

/// One field: where its name and value lie in the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name.
    pub name: Span,
    /// Value without surrounding white space.
    pub value: Span,
    /// Recognised name.
    pub id: FieldId,
    /// Whether an edit removed it.
    pub removed: bool,
}

/// A head. Reused from exchange to exchange, so that its two buffers are allocated once.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Every byte the fields point into; edits are appended.
    pub buf: Vec<u8>,
    /// The index, in message order, edits last.
    pub fields: Vec<Field>,
}

impl Head {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.fields.clear();
    }

    /// The bytes of a span; empty when it lies outside.
    #[must_use]
    #[inline]
    pub fn bytes(&self, span: Span) -> &[u8] {
        self.buf.get(span.range()).unwrap_or_default()
    }

    /// Appends bytes to the buffer and says where they lie.
    pub fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.buf.len();
        self.buf.extend_from_slice(bytes);
        Span::new(start, self.buf.len())
    }

    /// Appends a field of the gateway's own that tells who calls, with a value that a header can hold, and says where that lies.
    /// `lead` is its name with `: ` behind it. It is kept as it is written out.
    #[inline]
    pub fn tell(&mut self, lead: &str, value: &[u8]) -> Span {
        self.buf.reserve(lead.len() + value.len() + 2);
        self.store(lead.as_bytes());
        let value = self.store(value);
        self.buf.extend_from_slice(b"\r\n");
        self.tell_stored(lead, value);
        value
    }

    /// The same where the line stands in the buffer already.
    #[inline]
    pub(crate) fn tell_stored(&mut self, lead: &str, value: Span) {
        let name = value.before(lead.len(), SEPARATOR);
        self.fields.push(Field { name, value, id: FieldId::Identity, removed: false });
    }

    /// The same for values that a header can hold with commas between them, if there are any; says nothing where there are none.
    pub fn tell_list<'v>(&mut self, lead: &str, values: impl Iterator<Item = &'v str>) {
        let start = self.buf.len();
        self.buf.extend_from_slice(lead.as_bytes());
        let from = self.buf.len();
        for value in values {
            if self.buf.len() > from {
                self.buf.push(b',');
            }
            self.buf.extend_from_slice(value.as_bytes());
        }
        let value = Span::new(from, self.buf.len());
        if value.is_empty() {
            return self.buf.truncate(start);
        }
        self.buf.extend_from_slice(b"\r\n");
        self.tell_stored(lead, value);
    }

    /// Fields that were not removed: recognised name, name, value.
    pub fn iter(&self) -> impl Iterator<Item = (FieldId, &[u8], &[u8])> {
        self.fields.iter().filter(|f| !f.removed).map(|f| (f.id, self.bytes(f.name), self.bytes(f.value)))
    }

    /// Values of a field by name, whatever its case, in message order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |f| {
                !f.removed && f.name.len() == name.len() && same_in_any_case(self.bytes(f.name), name.as_bytes())
            })
            .map(|f| self.bytes(f.value))
    }

    /// First value of a field by name.
    #[must_use]
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// First value of a recognised field.
    #[must_use]
    pub fn get_id(&self, id: FieldId) -> Option<&[u8]> {
        self.fields.iter().find(|f| f.id == id && !f.removed).map(|f| self.bytes(f.value))
    }

    /// Values of a recognised field.
    pub fn values_id(&self, id: FieldId) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |f| f.id == id && !f.removed).map(|f| self.bytes(f.value))
    }

    /// Adds a field. Returns false, and adds nothing, when the name is no token or the value holds a control byte (RFC 9110, section 5.5).
    pub fn append(&mut self, name: &str, value: &[u8]) -> bool {
        let fits = !name.is_empty() && name.bytes().all(is_token);
        fits && self.append_checked(name, FieldId::of_own(name), value)
    }

    /// The same for a name that was checked and recognised. It is kept as it is written out, so that it goes out in one piece with what
    /// stands beside it.
    pub(crate) fn append_checked(&mut self, name: &str, id: FieldId, value: &[u8]) -> bool {
        if !is_all_value(value) {
            return false;
        }
        self.buf.reserve(name.len() + value.len() + 4);
        let name = self.store(name.as_bytes());
        self.buf.extend_from_slice(b": ");
        let value = self.store(value);
        self.buf.extend_from_slice(b"\r\n");
        self.fields.push(Field { name, value, id, removed: false });
        true
    }

    /// Removes every field of a recognised name.
    #[inline]
    pub fn remove_id(&mut self, id: FieldId) {
        for field in self.fields.iter_mut().filter(|field| field.id == id) {
            field.removed = true;
        }
    }

    /// Removes every field of a name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let mut found = false;
        let buf = &self.buf;
        for f in &mut self.fields {
            if !f.removed
                && f.name.len() == name.len()
                && buf.get(f.name.range()).is_some_and(|n| same_in_any_case(n, name.as_bytes()))
            {
                f.removed = true;
                found = true;
            }
        }
        found
    }

    /// Removes those of the first `among` fields that a back end may read as one of this name, in lower case: in any case, and with any
    /// separator for another.
    pub fn remove_alike(&mut self, name: &str, among: usize) {
        let buf = &self.buf;
        for field in self.fields.iter_mut().take(among).filter(|field| field.name.len() == name.len()) {
            field.removed |= buf.get(field.name.range()).is_some_and(|known| is_read_as(known, name.as_bytes()));
        }
    }

    /// Replaces every field of a name by one.
    pub fn set(&mut self, name: &str, value: &[u8]) -> bool {
        self.remove(name);
        self.append(name, value)
    }
}

/// Whether a back end may take a name for one in lower case of the same length.
fn is_read_as(known: &[u8], name: &[u8]) -> bool {
    let same =
        |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || !a.is_ascii_alphanumeric() && !b.is_ascii_alphanumeric();
    known.iter().zip(name).all(same)
}

/// Bytes of `: `, which stands between a name and its value.
const SEPARATOR: usize = 2;

/// Whether a byte may stand in a field name or method (RFC 9110, section 5.6.2).
#[must_use]
#[inline]
pub fn is_token(b: u8) -> bool {
    #[allow(clippy::indexing_slicing, reason = "evaluated while compiling")]
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut i = 0;
        while i < 256 {
            let b = i as u8;
            table[i] = b.is_ascii_alphanumeric()
                || matches!(
                    b,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
            i += 1;
        }
        table
    };
    TOKEN.get(usize::from(b)).copied().unwrap_or(false)
}

/// Whether a byte may stand in a field value (RFC 9110, section 5.5; obs-text is passed on).
#[must_use]
#[inline]
pub fn is_value(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// Whether all bytes may stand in a field value; eight at once as long as none is a tab.
#[inline]
pub(crate) fn is_all_value(value: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let is_plain = |bytes: &[u8; 8]| {
        let word = u64::from_ne_bytes(*bytes);
        let del = word ^ (EACH * 0x7f);
        // borrows of one byte reach into the next, but only behind one that counts anyway
        let low = word.wrapping_sub(EACH * 0x20) & !word;
        let del = del.wrapping_sub(EACH) & !del;
        (low | del) & (EACH * 0x80) == 0
    };
    let (words, _) = value.as_chunks::<8>();
    let end = value.last_chunk::<8>();
    end.is_some_and(|end| words.iter().all(is_plain) && is_plain(end)) || value.iter().all(|&b| is_value(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn values_are_told_as_byte_by_byte(mut value in proptest::collection::vec(0x20..0x7f_u8, 0..40), at: usize, byte: u8) {
            assert!(is_all_value(&value));
            let len = value.len().max(1);
            if let Some(found) = value.get_mut(at % len) {
                *found = byte;
            }
            assert_eq!(is_all_value(&value), value.iter().all(|&b| is_value(b)));
        }

        #[test]
        fn texts_are_the_same_in_any_case_as_the_library_says(mut a: Vec<u8>, at: usize, bit in 0..8_u8, b: Vec<u8>) {
            assert_eq!(same_in_any_case(&a, &b), a.eq_ignore_ascii_case(&b));
            let before = a.clone();
            let len = a.len().max(1);
            if let Some(byte) = a.get_mut(at % len) {
                *byte ^= 1 << bit;
            }
            a.truncate(20);
            let before = &before[..a.len()];
            assert_eq!(same_in_any_case(&a, before), a.eq_ignore_ascii_case(before));
        }
    }

    #[test]
    fn every_listed_name_is_recognised_in_any_case() {
        for (name, id) in NAMES {
            assert_eq!(FieldId::of(name), *id);
            assert_eq!(FieldId::of(&name.to_ascii_uppercase()), *id);
        }
        assert!(NAMES.windows(2).all(|w| w[0].0.len() <= w[1].0.len()), "the table is sorted by length");
    }

    #[test]
    fn identity_fields_are_recognised_in_every_spelling() {
        for name in [
            "X-Consumer-Name",
            "x_consumer_name",
            "X-Consumer_Name",
            "x_consumer-groups",
            "X-CONSUMER-",
            "X.Consumer.Name",
        ] {
            assert_eq!(FieldId::of(name.as_bytes()), FieldId::Identity, "{name}");
        }
        assert_eq!(FieldId::of(b"x-consumers"), FieldId::Other);
        for name in ["X-Forwarded-Prefix", "x.forwarded.for", "X-Forwarded-Ssl", "X.Real.IP", "x-real.ip"] {
            assert_eq!(FieldId::of(name.as_bytes()), FieldId::ForwardedOther, "{name}");
        }
        assert_eq!(FieldId::of(b"X-Forwarded-For"), FieldId::XForwardedFor);
        assert_eq!(FieldId::of(b"x-real-ipx"), FieldId::Other);
        assert_eq!(FieldId::of(b"x_other"), FieldId::Underscore);
        assert!(FieldId::of(b"Proxy").is_hop_by_hop());
    }

    #[test]
    fn edits_replace_remove_and_refuse_control_bytes() {
        let mut head = Head::default();
        assert!(head.append("A", b"1"));
        assert!(head.append("a", b"2"));
        assert_eq!(head.values("A").count(), 2);
        assert!(head.set("A", b"3"));
        assert_eq!(head.values("a").collect::<Vec<_>>(), [b"3"]);
        assert!(!head.append("B", b"x\r\nC: d"));
        assert!(!head.append("B d", b"x"));
        assert!(head.remove("a"));
        assert_eq!(head.iter().count(), 0);
    }
}
