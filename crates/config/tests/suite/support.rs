//! What the tests share: a vocabulary of policies, an environment of their own, and short ways to load a text.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use daemun_config::decode::{Bounded, Decoder, FieldName, FieldValue, Mapping, Method, OneOrMany, Rate, Setting};
use daemun_config::tree::Node;
use daemun_config::{Environment, Loaded, PolicyDescription, Vocabulary, load_text, settings};

settings! {
    /// Settings of `key_auth`.
    struct KeyAuth {
        /// Header that holds the key.
        header: Option<FieldName>,
        /// Query parameter that holds the key.
        query: Option<String>,
        /// Scheme of the `Authorization` header that holds the key.
        authorization: Option<String>,
        /// Whether the key is passed on.
        forward: bool = "false",
    }
}

settings! {
    /// One limit.
    struct RateLimit {
        /// Calls per time.
        limit: Rate,
        /// Calls that may come at once.
        burst: Option<Bounded<1, 1_000_000>>,
        /// Who is counted.
        by: By,
    }
}

settings! {
    /// Who is counted.
    enum By {
        /// Each consumer.
        Consumer = "consumer",
        /// Each client address.
        ClientIp = "client_ip",
        /// All together.
        Route = "route",
        /// Each value of a header.
        Header(FieldName) = "header",
    }
}

settings! {
    /// Settings of `cors`.
    struct Cors {
        /// Origins that may call.
        origins: OneOrMany<String>,
        /// Methods they may use.
        methods: Option<OneOrMany<Method>>,
        /// Headers they may send.
        headers: Option<OneOrMany<FieldName>>,
        /// Headers they may read.
        expose_headers: Option<OneOrMany<FieldName>>,
        /// Whether they may send credentials.
        credentials: bool = "false",
        /// How long a preflight holds.
        max_age: Option<std::time::Duration>,
    }
}

settings! {
    /// Settings of `headers`.
    struct Headers {
        /// Changes of the request.
        request: Option<Edits>,
        /// Changes of the response.
        response: Option<Edits>,
    }
}

settings! {
    /// Changes of header fields.
    struct Edits {
        /// Fields set.
        set: Option<Mapping<FieldName, FieldValue>>,
        /// Fields added.
        add: Option<Mapping<FieldName, FieldValue>>,
        /// Fields removed.
        remove: Option<OneOrMany<FieldName>>,
    }
}

fn check<T: Setting>(node: &Node, cx: &mut Decoder<'_>) {
    let _ = T::decode(node, cx);
}

const POLICIES: &[PolicyDescription] = &[
    PolicyDescription {
        name: "cors",
        phase: "admit",
        doc: "Lets pages of other origins call.",
        authenticator: false,
        ends: false,
        implied: false,
        unconditional: Some("a preflight does not come with what the call itself holds"),
        check: check::<Cors>,
        schema: Cors::schema,
    },
    PolicyDescription {
        name: "key_auth",
        phase: "authenticate",
        doc: "Tells callers by API key.",
        authenticator: true,
        ends: false,
        implied: false,
        unconditional: Some("who calls must not depend on what a caller sends"),
        check: check::<KeyAuth>,
        schema: KeyAuth::schema,
    },
    PolicyDescription {
        name: "rate_limit",
        phase: "limit",
        doc: "Bounds how often callers may call.",
        authenticator: false,
        ends: false,
        implied: false,
        unconditional: None,
        check: check::<OneOrMany<RateLimit>>,
        schema: OneOrMany::<RateLimit>::schema,
    },
    PolicyDescription {
        name: "headers",
        phase: "transform",
        doc: "Changes header fields.",
        authenticator: false,
        ends: false,
        implied: false,
        unconditional: None,
        check: check::<Headers>,
        schema: Headers::schema,
    },
    // its settings are its own; `daemun check` is held to the examples as well
    PolicyDescription {
        name: "validate",
        phase: "transform",
        doc: "Holds an API to its description.",
        authenticator: false,
        ends: false,
        implied: false,
        unconditional: None,
        check: |_, _| {},
        schema: |_| true.into(),
    },
];

pub(crate) const VOCABULARY: Vocabulary<'static> = Vocabulary { policies: POLICIES };

/// Variables and files that exist for one test.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) variables: HashMap<String, String>,
    pub(crate) files: HashMap<PathBuf, Vec<u8>>,
}

impl World {
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.files.insert(PathBuf::from(path), text.as_ref().to_vec());
        self
    }
}

impl Environment for World {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes.iter().copied().take(usize::try_from(limit).unwrap() + 1).collect())
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        if self.files.contains_key(path) {
            return Ok(None);
        }
        let below: Vec<PathBuf> = self.files.keys().filter(|file| file.parent() == Some(path)).cloned().collect();
        if below.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(Some(below)) }
    }
}

/// Loads one YAML text.
pub(crate) fn load(text: &str) -> Loaded {
    load_text(Path::new("daemun.yaml"), text, &World::default(), &VOCABULARY)
}

/// What a text gets to hear.
pub(crate) fn said(text: &str) -> String {
    let loaded = load(text);
    loaded.diagnostics.render(&loaded.sources, false)
}

/// Compares with a file, which `UPDATE=1` rewrites.
pub(crate) fn golden(path: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{} differs; UPDATE=1 rewrites it. Now:\n{actual}", path.display());
}
