//! The settings of `compress`.

use daemun_config::decode::{Bounded, Decoder, JsonValue, OneOrMany, SchemaBuilder, Setting, Size};
use daemun_config::diagnostic::{self, Diagnostic};
use daemun_config::settings;
use daemun_config::tree::Node;

use super::types::TypePattern;

settings! {
    /// Which answers are compressed, and how.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CompressConfig {
        /// Codings that may be used, the best one first: it is taken where the caller likes several alike.
        pub codings: OneOrMany<Coding> = "[zstd, br, gzip]",
        /// Content types that are compressed: `text/html`, `text/*`, `application/*+json`.
        pub types: OneOrMany<TypePattern> = "[text/*, application/json, application/*+json, application/javascript, application/x-javascript, application/x-ndjson, application/xml, application/*+xml, application/wasm, application/vnd.ms-fontobject, font/otf, font/ttf, image/svg+xml, image/bmp]",
        /// Answers that are known to be smaller pass as they are.
        pub min_size: Size = "1KiB",
        /// How hard each coding tries.
        pub levels: CompressLevels = "{}",
    }
    check check;
}

settings! {
    /// How hard each coding tries: a higher level makes less of a body and takes more time.
    #[derive(Clone, Debug, PartialEq)]
    pub struct CompressLevels {
        /// Of gzip, 1 to 9.
        pub gzip: Bounded<1, 9> = "6",
        /// Of brotli, 0 to 11.
        pub br: Bounded<0, 11> = "4",
        /// Of zstd, 1 to 19.
        pub zstd: Bounded<1, 19> = "3",
    }
}

settings! {
    /// A content coding (RFC 9110, section 8.4.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Coding {
        /// RFC 8878; the least work for what it saves.
        Zstd = "zstd",
        /// RFC 7932.
        Br = "br",
        /// RFC 1952; every client knows it.
        Gzip = "gzip",
    }
}

impl Coding {
    /// As HTTP names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Br => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// Whether this program was built with it.
    fn is_built(self) -> bool {
        match self {
            Coding::Zstd => cfg!(feature = "zstd"),
            Coding::Br => cfg!(feature = "brotli"),
            Coding::Gzip => cfg!(feature = "gzip"),
        }
    }
}

fn check(settings: &CompressConfig, node: &Node, cx: &mut Decoder<'_>) {
    let codings = node.get("codings").unwrap_or(node);
    cx.key("codings", |cx| {
        if settings.codings.0.is_empty() {
            cx.bad_value_help(codings, "there is no coding to use", "`compress: off` compresses nothing");
        }
        for (index, coding) in settings.codings.0.iter().enumerate() {
            let name = coding.name();
            if settings.codings.0.iter().take(index).any(|before| before == coding) {
                cx.bad_value(codings, format!("`{name}` is listed twice"));
            }
            // what is there without being asked for may be missing
            if !coding.is_built() && node.get("codings").is_some() {
                let message = format!("`{name}` is not part of this program");
                cx.report(Diagnostic::error(diagnostic::NOT_AVAILABLE, codings.at, message));
            }
        }
    });
}

/// What of the codings this program was built with.
pub(super) fn built(settings: &CompressConfig) -> Box<[Coding]> {
    settings.codings.0.iter().copied().filter(|coding| coding.is_built()).collect()
}

impl Setting for TypePattern {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let text = String::decode(node, cx)?;
        let parsed = TypePattern::parse(&text);
        if parsed.is_none() {
            let help = "write it like `text/html`, `text/*` or `application/*+json`";
            cx.bad_value_help(node, format!("`{}` is not a content type", node.shown()), help);
        }
        parsed
    }

    fn schema(s: &mut SchemaBuilder<'_>) -> JsonValue {
        let doc = "A content type: `text/html`, `text/*`, `application/*+json`.";
        s.pattern("content type", doc, "^[A-Za-z0-9!#$&^_.-]+/([A-Za-z0-9!#$&^_.+-]+|\\*|\\*\\+[A-Za-z0-9!#$&^_.-]+)$")
    }
}
