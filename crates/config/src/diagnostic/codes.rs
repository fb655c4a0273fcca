//! Every kind of finding, with what it means: the list the documentation is generated from.

/// One kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable name, as printed in `error[name]`.
    pub name: &'static str,
    /// One paragraph: what it means and what to do.
    pub explanation: &'static str,
}

macro_rules! codes {
    ($($constant:ident = $name:literal: $explanation:literal;)*) => {
        $(#[doc = $explanation] pub const $constant: &str = $name;)*

        /// Every kind of finding, by name.
        pub const CODES: &[Code] = &[$(Code { name: $name, explanation: $explanation }),*];
    };
}

codes! {
    ADMIN_NOT_LOOPBACK = "admin_not_loopback":
        "The admin listener shows and changes everything, and has no login yet, so it may listen on a loopback address \
         (`127.0.0.1`, `[::1]`) or a Unix socket only.";
    ALIAS_LIMIT = "alias_limit":
        "YAML aliases (`*name`) repeat what their anchor holds. All aliases of a file together may repeat \
         100,000 values and 16 MiB of text, and none may stand within its own anchor.";
    BAD_REFERENCE = "bad_reference":
        "A `${env:…}` or `${file:…}` reference is malformed, names a variable that is not set or empty and has no \
         default, or a file that cannot be read. Write `${env:NAME:-default}` for a default, and `$$` for a dollar.";
    BAD_VALUE = "bad_value":
        "The value has the right type but not a meaning here: a malformed address, host, duration, size or rate, a word \
         that is not one of those allowed, a number out of range. The message says what is expected.";
    CEDAR = "cedar":
        "A file of Cedar policies, schema or entities of `permission` cannot be used: it cannot be read, is malformed, does not fit the \
         schema, or gives a name twice. The message gives the place in the file.";
    CLEAR_PASSWORD = "clear_password":
        "A user's password stands in the configuration in clear, or as a plain digest, from which what people choose is guessed. \
         `daemun password hash` makes the hash to write in its place.";
    CONFLICTING_KEYS = "conflicting_keys":
        "Two keys that exclude each other are both given, such as two destinations of one route, or `path` and `prefix`.";
    CONTRADICTION = "contradiction":
        "Settings that are each fine never do together what they say: a bound below what it bounds, a time limit that comes before what \
         is to happen first, a value to balance by that the route's requests do not have, an upstream that falls back to itself or \
         mirrors itself, targets of which none gets a call or one is given twice, an address that is allowed and wholly denied, or a token that is \
         to be shown where the first one is given out.";
    DUPLICATE_KEY = "duplicate_key":
        "The same key stands twice in one mapping, or in two files of a folder. Both places are shown; one must go.";
    DUPLICATE_NAME = "duplicate_name":
        "Two things of a kind have the same name, two consumers the same username, or two listeners the same address. Both places \
         are shown.";
    FILE = "file":
        "A configuration file or folder cannot be read, holds nothing, or is not UTF-8.";
    FILES_ROOT = "files_root":
        "The `root` of a route's `files` is not a folder that can be read, so that every request to the route would be \
         answered with 404.";
    INSECURE = "insecure":
        "A setting gives up a protection, such as not verifying the certificate of an upstream. It works; the warning \
         reminds that it is on.";
    KEY_REUSED = "key_reused":
        "One API key is given to two consumers, so that a caller could not be told apart. Both places are shown.";
    LIMIT = "limit":
        "The configuration is larger than Daemun reads: 100 MiB of text in all, a nesting of 64, 1 MiB for a referenced \
         file.";
    MISSING_KEY = "missing_key":
        "A key that has no default is missing, or a route has no destination: one of `upstream`, `answer`, `redirect` and \
         `files` is needed. The message names what is missing.";
    NEEDS_AUTHENTICATOR = "needs_authenticator":
        "A policy of a route counts or judges consumers, and no authenticator on that route says who calls. Add one, such as \
         `key_auth`, or switch the policy off there. A warning where rules of `permission` ask who calls: they let nobody in.";
    NO_CREDENTIALS = "no_credentials":
        "An authenticator is switched on, and no consumer has a credential it could accept, so that every call is refused.";
    NO_EFFECT = "no_effect":
        "The line does nothing: a route switches off a policy that is not on, or gives settings of a call to an upstream \
         although it is not sent to one; or a condition or a policy reads a header with `_` in its name, which is dropped \
         from every request unless `underscores: keep`.";
    NO_LISTENER = "no_listener":
        "The configuration has no listener, so nobody could call.";
    NO_ROUTE = "no_route":
        "The configuration has no route, so every request is answered with 404.";
    NOT_AN_AUTHENTICATOR = "not_an_authenticator":
        "`authenticate` names a policy that does not tell who calls, or that the route does not have; or `anonymous` stands where there is no authenticator.";
    NOT_AVAILABLE = "not_available":
        "The key, value or policy belongs to the language but is not built in this version. It is refused rather than \
         ignored, because a line that protects something must not be dropped silently.";
    PORT_TWICE = "port_twice":
        "Two listeners, or a listener and the status or admin address, want the same address. Both places are shown.";
    REFERENCE_IN_KEY = "reference_in_key":
        "A key of a mapping holds a `${env:…}` or `${file:…}` reference. References are replaced in values only.";
    ROUTE_CONFLICT = "route_conflict":
        "Two routes are equal in every rule of precedence and can match the same request, so that which one wins would be \
         chance. Both places are shown; `priority` decides, or one condition more.";
    ROUTE_LESS_PROTECTED = "route_less_protected":
        "A request that fails only this route's conditions (a header, a method) falls through to a route that has fewer \
         protections.";
    ROUTE_UNREACHABLE = "route_unreachable":
        "A route can never match, because another takes all its requests. Both places are shown.";
    SCHEMA = "schema":
        "A JSON Schema or OpenAPI document of `validate` cannot be used: it is not well-formed, breaks a rule of its own \
         version, refers to what is not there or may not be read, or has a pattern that cannot be matched in linear time. \
         The message gives the place in the document.";
    SHORT_KEY = "short_key":
        "An API key has fewer than 16 bytes, or a password fewer than 8, and could be guessed. `daemun key new` makes a good one.";
    SYNTAX = "syntax":
        "The text is not well-formed YAML, JSON or TOML.";
    TLS = "tls":
        "TLS settings cannot be used together: a certificate and its key do not belong to each other, or a name cannot be \
         asked for.";
    TLS_EXPIRED = "tls_expired":
        "A list of `client_crl` has expired: until its authority gives a new one, the clients of that authority are refused, since nobody \
         can tell which of their certificates were taken back meanwhile.";
    TLS_FILE = "tls_file":
        "A certificate, key or authority file cannot be read or used: it is missing, or is not PEM.";
    UNKNOWN_CONSUMER = "unknown_consumer":
        "A rule, or `anonymous`, names a consumer that `consumers` does not define. The nearest name is offered.";
    UNKNOWN_KEY = "unknown_key":
        "The mapping has a key that means nothing there. The nearest known key is offered.";
    UNKNOWN_PARAMETER = "unknown_parameter":
        "A template names a `{parameter}` that the route's path pattern does not have.";
    UNKNOWN_PLAN = "unknown_plan":
        "A consumer is on a plan that `plans` does not define. The nearest name is offered.";
    UNKNOWN_POLICY = "unknown_policy":
        "There is no policy of this name. The nearest name is offered.";
    UNKNOWN_ROLE = "unknown_role":
        "A rule names a role, group or tag that no consumer has, although some have others. Only a credential could bring it along.";
    UNKNOWN_TOKEN_SERVICE = "unknown_token_service":
        "A route or `token_auth` names a token service that `tokens` does not define, or none where there is not exactly one.";
    UNKNOWN_UPSTREAM = "unknown_upstream":
        "A route or a policy names an upstream that `upstreams` does not define. The nearest name is offered.";
    UNPROTECTED_ENDPOINT = "unprotected_endpoint":
        "A route tells what tokens stand for (RFC 7662), and has no authenticator: anybody could ask. Add one, such as `key_auth`.";
    UNUSED_UPSTREAM = "unused_upstream":
        "An upstream is defined that no route uses, and no policy may send calls to.";
    WRONG_TYPE = "wrong_type":
        "The value is of another type than the key takes: a list instead of a text, a number without its unit, a YAML \
         boolean or number where a text is needed (quote it).";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_words_with_an_explanation() {
        for pair in CODES.windows(2) {
            assert!(pair[0].name < pair[1].name, "{}", pair[1].name);
        }
        for code in CODES {
            assert!(code.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", code.name);
            assert!(code.explanation.ends_with('.'), "{}", code.name);
        }
    }
}
