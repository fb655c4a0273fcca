//! Names of files: which one a path means, what type it is of, and in which codings the caller takes it. Pure.

use daemun_config::model::FileCoding;

/// A file below a folder, as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Relative, names between single slashes; empty for the folder itself.
    pub(super) path: Vec<u8>,
    /// Whether the path ends in a slash.
    pub(super) folder: bool,
}

impl Name {
    /// The last name.
    pub(super) fn last(&self) -> &[u8] {
        self.path.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }
}

/// What a path in its one reading names, decoded exactly once; `None` for what no file may be called by: an empty segment, a dot segment,
/// a slash or a NUL within one, and a name that begins with a dot, unless such are served. `/.well-known` always is (RFC 8615).
pub(super) fn name(path: &[u8], serve_hidden: bool) -> Option<Name> {
    let segments = path.strip_prefix(b"/")?;
    let mut out = Vec::with_capacity(segments.len());
    let mut folder = false;
    for (index, segment) in segments.split(|&b| b == b'/').enumerate() {
        // only the last one may be empty
        if folder {
            return None;
        }
        if segment.is_empty() {
            folder = true;
            continue;
        }
        if index > 0 {
            out.push(b'/');
        }
        let begins = out.len();
        push_decoded(segment, &mut out);
        let own = out.get(begins..).unwrap_or_default();
        let hidden = own.starts_with(b".") && !serve_hidden && !(index == 0 && own == b".well-known");
        if hidden || matches!(own, b"." | b"..") || own.iter().any(|&b| matches!(b, b'/' | 0)) {
            return None;
        }
    }
    Some(Name { path: out, folder })
}

/// Decodes `%41` and the like; what is no encoding stays as it is.
fn push_decoded(segment: &[u8], out: &mut Vec<u8>) {
    let hex = |b: Option<&u8>| char::from(*b?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut rest = segment;
    while let Some((&first, behind)) = rest.split_first() {
        match (first, hex(behind.first()), hex(behind.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                rest = behind.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = behind;
            }
        }
    }
}

/// The content type of a file by the end of its name; text is UTF-8.
pub(super) fn content_type(name: &[u8]) -> &'static str {
    let last = name.rsplit(|&b| b == b'/').next().unwrap_or_default();
    let mut pieces = last.rsplitn(2, |&b| b == b'.');
    let (Some(end), Some(_)) = (pieces.next(), pieces.next()) else { return UNKNOWN };
    TYPES.iter().find(|(known, _)| end.eq_ignore_ascii_case(known.as_bytes())).map_or(UNKNOWN, |(_, of)| of)
}

const UNKNOWN: &str = "application/octet-stream";

/// Types by the end of a name (IANA's registry).
const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("gif", "image/gif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("bmp", "image/bmp"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("woff2", "font/woff2"),
    ("woff", "font/woff"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("jsonld", "application/ld+json"),
    ("geojson", "application/geo+json"),
    ("xml", "application/xml"),
    ("xhtml", "application/xhtml+xml"),
    ("rss", "application/rss+xml"),
    ("atom", "application/atom+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("text", "text/plain; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("ics", "text/calendar; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("toml", "application/toml"),
    ("pdf", "application/pdf"),
    ("rtf", "application/rtf"),
    ("epub", "application/epub+zip"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tgz", "application/gzip"),
    ("zst", "application/zstd"),
    ("tar", "application/x-tar"),
    ("7z", "application/x-7z-compressed"),
    ("mp3", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("opus", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("m4v", "video/mp4"),
    ("webm", "video/webm"),
    ("ogv", "video/ogg"),
    ("mov", "video/quicktime"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("ts", "video/mp2t"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
];

/// Name of a coding in fields, and end of the names of files in it.
pub(super) fn of_coding(coding: FileCoding) -> (&'static str, &'static str) {
    match coding {
        FileCoding::Brotli => ("br", ".br"),
        FileCoding::Zstandard => ("zstd", ".zst"),
        FileCoding::Gzip => ("gzip", ".gz"),
    }
}

/// Whether the caller takes a coding (RFC 9110, section 12.5.3): it is listed, or `*` is, and not with a weight of nothing.
pub(super) fn takes<'a>(accept_encoding: impl Iterator<Item = &'a [u8]>, coding: &str) -> bool {
    let mut any = false;
    for item in accept_encoding.flat_map(|value| value.split(|&b| b == b',')) {
        let mut pieces = item.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let listed = pieces.next().unwrap_or_default();
        let refused = pieces.any(|parameter| {
            let weight = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="));
            weight.is_some_and(|weight| weight.iter().all(|b| matches!(b, b'0' | b'.')))
        });
        if listed.eq_ignore_ascii_case(coding.as_bytes()) || coding == "gzip" && listed.eq_ignore_ascii_case(b"x-gzip")
        {
            return !refused;
        }
        any |= listed == b"*" && !refused;
    }
    any
}

/// Whether the caller asks for a page: `Accept` names HTML.
pub(super) fn wants_page<'a>(mut accept: impl Iterator<Item = &'a [u8]>) -> bool {
    accept.any(|value| {
        let mut types = value.split(|&b| b == b',').map(|item| item.split(|&b| b == b';').next().unwrap_or_default());
        types.any(|of| of.trim_ascii().eq_ignore_ascii_case(b"text/html"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(path: &str) -> Option<(String, bool)> {
        name(path.as_bytes(), false).map(|name| (String::from_utf8_lossy(&name.path).into_owned(), name.folder))
    }

    #[test]
    fn a_path_is_decoded_once() {
        for (path, expected) in [
            ("/", ("", true)),
            ("/a", ("a", false)),
            ("/a/b/", ("a/b", true)),
            ("/a%20b", ("a b", false)),
            ("/%2541", ("%41", false)),
            ("/%252e%252e", ("%2e%2e", false)),
            ("/100%", ("100%", false)),
            ("/a;b", ("a;b", false)),
            ("/.well-known/acme", (".well-known/acme", false)),
            ("/a..b", ("a..b", false)),
        ] {
            assert_eq!(read(path), Some((expected.0.to_owned(), expected.1)), "{path}");
        }
        assert_eq!(name(b"/%ED%8C%8C", false).unwrap().path, "파".as_bytes());
    }

    #[test]
    fn no_file_is_called_by_what_could_lead_elsewhere_or_is_hidden() {
        for path in [
            "",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/../a",
            "/a/..",
            "/a/../b",
            "/%2e",
            "/%2e%2e",
            "/.%2E/a",
            "/a%2Fb",
            "/a%2fb",
            "/%2F",
            "/a%00",
            "/%00",
            "/a%2F..%2F..%2Fb",
            "/.git",
            "/.git/config",
            "/a/.env",
            "/%2Egit",
            "/a/.well-known/b",
            "/.well-known/.x",
            "/.well-known/..",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
        assert!(name(b"/a/.env", true).is_some());
        assert!(name(b"/..", true).is_none() && name(b"/a/%2e", true).is_none());
    }

    #[test]
    fn a_type_goes_by_the_end_of_the_name() {
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a/b.MIN.JS", "text/javascript; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.b/c", UNKNOWN),
            ("html", UNKNOWN),
            (".html", "text/html; charset=utf-8"),
            ("a.", UNKNOWN),
        ] {
            assert_eq!(content_type(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn a_coding_is_taken_when_it_is_listed_and_not_refused() {
        for (accept, br, gzip) in [
            ("", false, false),
            ("br", true, false),
            ("gzip, deflate, br;q=0.5", true, true),
            ("BR;q=0, x-gzip", false, true),
            ("*", true, true),
            ("*;q=0", false, false),
            ("br; q=0.000, *", false, true),
            ("identity", false, false),
        ] {
            let takes = |coding| takes([accept.as_bytes()].into_iter(), coding);
            assert_eq!((takes("br"), takes("gzip")), (br, gzip), "{accept}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_its_folder(path: Vec<u8>, hidden: bool) {
            let path = [b"/", path.as_slice()].concat();
            if let Some(name) = name(&path, hidden) {
                prop_assert!(!name.path.starts_with(b"/") && !name.path.contains(&0));
                for part in name.path.split(|&b| b == b'/').filter(|_| !name.path.is_empty()) {
                    prop_assert!(!part.is_empty() && part != b"." && part != b"..");
                }
            }
        }
    }
}
