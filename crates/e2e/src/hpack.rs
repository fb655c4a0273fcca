//! Header compression (RFC 7541): a writer that encodes any bytes literally, and a reader of what a server sends.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;

/// The static table (RFC 7541, appendix A), one `name value` a line.
const STATIC: &str = "\
:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate";

/// Lengths of the codes of each byte (RFC 7541, appendix B); the code is canonical, so the lengths say all.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// Encodes fields as literals that are never indexed, without Huffman coding, so that any bytes can be said.
#[must_use]
pub fn encode<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        literal(&mut out, name.as_ref());
        literal(&mut out, value.as_ref());
    }
    out
}

fn literal(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut left = bytes.len();
    if left < 127 {
        out.push(u8::try_from(left).unwrap());
    } else {
        out.push(127);
        left -= 127;
        while left >= 128 {
            out.push(u8::try_from(left % 128).unwrap() | 0x80);
            left /= 128;
        }
        out.push(u8::try_from(left).unwrap());
    }
    out.extend_from_slice(bytes);
}

/// Decodes the heads of one connection, in order.
#[derive(Debug, Default)]
pub struct Decoder {
    table: VecDeque<(String, String)>,
}

impl Decoder {
    /// Decodes one block.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, String> {
        let mut input = Input { bytes: block, at: 0 };
        let mut fields = Vec::new();
        while let Some(&first) = block.get(input.at) {
            if first & 0x80 != 0 {
                let index = input.integer(7)?;
                fields.push(self.entry(index)?);
            } else if first & 0xe0 == 0x20 {
                let size = input.integer(5)?;
                if size == 0 {
                    self.table.clear();
                }
            } else {
                let indexed = first & 0xc0 == 0x40;
                let index = input.integer(if indexed { 6 } else { 4 })?;
                let name = if index == 0 { input.text()? } else { self.entry(index)?.0 };
                let value = input.text()?;
                if indexed {
                    self.table.push_front((name.clone(), value.clone()));
                }
                fields.push((name, value));
            }
        }
        Ok(fields)
    }

    fn entry(&self, index: usize) -> Result<(String, String), String> {
        if let Some(line) = index.checked_sub(1).and_then(|at| STATIC.lines().nth(at)) {
            let (name, value) = line.split_once(' ').unwrap_or((line, ""));
            return Ok((name.to_owned(), value.to_owned()));
        }
        let dynamic = index.checked_sub(62).and_then(|at| self.table.get(at));
        dynamic.cloned().ok_or_else(|| format!("header table index {index}"))
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let byte = self.bytes.get(self.at).copied().ok_or("a header block that ends early")?;
        self.at += 1;
        Ok(byte)
    }

    fn integer(&mut self, bits: u32) -> Result<usize, String> {
        let most = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            if shift > 28 {
                return Err("an integer without end".to_owned());
            }
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let coded = self.bytes.get(self.at).is_some_and(|byte| byte & 0x80 != 0);
        let length = self.integer(7)?;
        let raw = self.bytes.get(self.at..self.at + length).ok_or("a text that ends early")?;
        self.at += length;
        let bytes = if coded { huffman(raw)? } else { raw.to_vec() };
        Ok(bytes.into_iter().map(char::from).collect())
    }
}

fn huffman(raw: &[u8]) -> Result<Vec<u8>, String> {
    static CODES: OnceLock<BTreeMap<(u8, u32), u8>> = OnceLock::new();
    let codes = CODES.get_or_init(canonical);
    let mut out = Vec::new();
    let (mut length, mut code) = (0_u8, 0_u32);
    for bit in raw.iter().flat_map(|byte| (0..8).rev().map(move |at| (byte >> at) & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        if let Some(&symbol) = codes.get(&(length, code)) {
            out.push(symbol);
            (length, code) = (0, 0);
        } else if length > 30 {
            return Err("no such Huffman code".to_owned());
        }
    }
    let padding = length < 8 && code == (1 << length) - 1;
    if padding { Ok(out) } else { Err("Huffman padding".to_owned()) }
}

fn canonical() -> BTreeMap<(u8, u32), u8> {
    let mut order: Vec<u8> = (0..=255).collect();
    order.sort_by_key(|&symbol| (LENGTHS[usize::from(symbol)], symbol));
    let (mut code, mut length) = (0_u32, 0_u8);
    let mut codes = BTreeMap::new();
    for symbol in order {
        let own = LENGTHS[usize::from(symbol)];
        code <<= own - length;
        length = own;
        codes.insert((length, code), symbol);
        code += 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_decode() {
        let mut decoder = Decoder::default();
        let block =
            [0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let fields = decoder.decode(&block).unwrap();
        let expected = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let block = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let fields = decoder.decode(&block).unwrap();
        assert_eq!(fields[3].1, "www.example.com");
        assert_eq!(fields[4], ("cache-control".to_owned(), "no-cache".to_owned()));
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let long = "x".repeat(70_000);
        let fields = [("a", "b"), ("", ""), ("long", long.as_str())];
        let decoded = Decoder::default().decode(&encode(&fields)).unwrap();
        assert_eq!(decoded, fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
