//! Files of a folder as a route's destination.

use std::path::PathBuf;

use serde_json::{Value as Json, json};

use crate::decode::{Decoder, FieldValue, OrOff, SchemaBuilder, Setting, text};
use crate::diagnostic::{BAD_VALUE, Diagnostic};
use crate::model::{FileCoding, Files, Spanned};
use crate::settings;
use crate::tree::Node;

settings! {
    /// Files of a folder.
    pub(super) struct FilesText {
        /// The folder. The path of a request, after `rewrite`, names the file beneath it; nothing outside of it is ever served.
        root: Spanned<PathBuf>,
        /// Name of the file that stands for a folder; `off` for none. Folders are never listed.
        index: OrOff<FileName> = "index.html",
        /// File, relative to `root`, that stands for one that is not there, for applications that route in the browser. Requests for a
        /// name with a dot in it get it only where they accept `text/html`.
        fallback: Option<FileName>,
        /// `Cache-Control` of the answers with a file.
        cache_control: Option<FieldValue>,
        /// What becomes of names that begin with a dot, but `/.well-known`.
        hidden: Hidden = "refuse",
        /// What becomes of symbolic links below `root`.
        symlinks: Symlinks = "refuse",
        /// Codings of which a file may stand beside the plain one, as `app.js.br` beside `app.js`; the preferred first.
        precompressed: Vec<Coding> = "[]",
    }
    check FilesText::check;
}

impl FilesText {
    fn check(&self, node: &Node, cx: &mut Decoder<'_>) {
        let OrOff::On(index) = &self.index else { return };
        if let Some(node) = node.get("index").filter(|_| index.0.contains('/')) {
            let message = "`index` is the name of a file, without a folder";
            cx.key("index", |cx| cx.report(Diagnostic::error(BAD_VALUE, node.at, message)));
        }
    }

    pub(super) fn lower(self) -> Files {
        Files {
            root: self.root,
            index: match self.index {
                OrOff::Off => None,
                OrOff::On(name) => Some(name.0),
            },
            fallback: self.fallback.map(|name| name.0),
            cache_control: self.cache_control.map(|value| value.0),
            serve_hidden: matches!(self.hidden, Hidden::Serve),
            follow_symlinks: matches!(self.symlinks, Symlinks::Within),
            precompressed: self.precompressed.into_iter().map(Coding::lower).collect(),
        }
    }
}

/// A file below a folder: names between slashes, none of them a dot segment.
struct FileName(String);

impl Setting for FileName {
    fn decode(node: &Node, cx: &mut Decoder<'_>) -> Option<Self> {
        let name = text(node, cx, "the name of a file")?;
        let odd = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if name.split('/').any(odd) {
            let message = format!("`{}` is no file below `root`", node.shown());
            cx.bad_value_help(node, message, "write it like `index.html` or `app/index.html`");
            return None;
        }
        Some(Self(name.to_owned()))
    }

    fn schema(_: &mut SchemaBuilder<'_>) -> Json {
        let outside = json!({ "pattern": "(^|/)\\.\\.?(/|$)" });
        json!({ "type": "string", "title": "file name", "pattern": "^[^/]+(/[^/]+)*$", "not": outside })
    }
}

settings! {
    /// What becomes of names that begin with a dot, such as `.git` and `.env`.
    enum Hidden {
        /// They are not there.
        Refuse = "refuse",
        /// They are served like any other.
        Serve = "serve",
    }
}

settings! {
    /// What becomes of symbolic links below the folder.
    enum Symlinks {
        /// They are not there.
        Refuse = "refuse",
        /// Those that lead to a place within the folder are followed.
        Within = "within",
    }
}

settings! {
    /// A content coding of files.
    enum Coding {
        /// Brotli, `.br`.
        Brotli = "br",
        /// Zstandard, `.zst`.
        Zstandard = "zstd",
        /// Gzip, `.gz`.
        Gzip = "gzip",
    }
}

impl Coding {
    fn lower(self) -> FileCoding {
        match self {
            Self::Brotli => FileCoding::Brotli,
            Self::Zstandard => FileCoding::Zstandard,
            Self::Gzip => FileCoding::Gzip,
        }
    }
}
