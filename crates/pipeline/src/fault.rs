//! How an exchange fails: whose side, for what reason, and what the client is told. One table gives the HTTP status, the gRPC status
//! and the name in logs and metrics.

use std::borrow::Cow;

use daemun_config::decode::JsonValue;

/// Whose fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller's.
    Client,
    /// The gateway's own decision or trouble.
    Gateway,
    /// The upstream's.
    Upstream,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $side:ident, $status:literal, $grpc:literal, $title:literal;)*) => {
        /// Why an exchange failed. Stable: logs, metrics and the `type` of problem documents carry the code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in order of declaration.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// Name in logs, metrics and problem types.
            #[must_use]
            pub fn code(self) -> &'static str { match self { $(Reason::$variant => $code,)* } }

            /// Whose fault it is.
            #[must_use]
            pub fn side(self) -> Side { match self { $(Reason::$variant => Side::$side,)* } }

            /// HTTP status of the answer; 499 is never sent, only recorded.
            #[must_use]
            pub fn status(self) -> u16 { match self { $(Reason::$variant => $status,)* } }

            /// gRPC status code of the answer (grpc's `statuscodes`).
            #[must_use]
            pub fn grpc_status(self) -> u8 { match self { $(Reason::$variant => $grpc,)* } }

            /// Title of the problem document.
            #[must_use]
            pub fn title(self) -> &'static str { match self { $(Reason::$variant => $title,)* } }

            /// What it means, for the manual.
            #[must_use]
            pub fn meaning(self) -> &'static str { match self { $(Reason::$variant => concat!($title, "."),)* } }
        }
    };
}

reasons! {
    /// The message cannot be read in exactly one way.
    BadRequest = "bad_request", Client, 400, 3, "The request is malformed";
    /// The target is not a path that can be read in exactly one way.
    BadPath = "bad_path", Client, 400, 3, "The request path is malformed";
    /// `Host` is missing, repeated, malformed or at odds with the target.
    BadHost = "bad_host", Client, 400, 3, "The request host is malformed";
    /// The target is longer than `limits.target`.
    TargetTooLong = "target_too_long", Client, 414, 3, "The request target is too long";
    /// The head is larger than `limits.head`.
    HeadTooLarge = "head_too_large", Client, 431, 8, "The request head is too large";
    /// The head has more fields than `limits.fields`.
    TooManyFields = "too_many_fields", Client, 431, 8, "The request has too many fields";
    /// The body is larger than `limits.body`.
    BodyTooLarge = "body_too_large", Client, 413, 8, "The request body is too large";
    /// A header, the path or the body is longer, or holds more, than an expression of the configuration goes through.
    ExpressionCost = "expression_cost", Client, 413, 8, "The request holds too much";
    /// A transfer coding other than chunked.
    UnknownCoding = "unknown_coding", Client, 501, 12, "The transfer coding is not supported";
    /// A version other than HTTP/1.0 and HTTP/1.1.
    BadVersion = "bad_version", Client, 505, 12, "The HTTP version is not supported";
    /// A method the gateway does not pass on.
    BadMethod = "bad_method", Client, 501, 12, "The method is not supported";
    /// An `Expect` other than `100-continue`.
    BadExpectation = "bad_expectation", Client, 417, 3, "The expectation cannot be met";
    /// The head or body did not come in time, or came too slowly.
    ClientTimeout = "client_timeout", Client, 408, 4, "The request did not arrive in time";
    /// The client left before the exchange ended.
    ClientGone = "client_gone", Client, 499, 1, "The client left";
    /// The client does not read its answer.
    ClientStalled = "client_stalled", Client, 499, 1, "The client does not read its answer";
    /// The request is not as `validate` has it described, or `when` asks for a JSON body that not everyone would read alike.
    InvalidRequest = "invalid_request", Client, 400, 3, "The request is not valid";
    /// The body is of a media type or coding that is not taken.
    UnsupportedMediaType = "unsupported_media_type", Client, 415, 3, "The media type is not supported";
    /// No route matches.
    NoRoute = "no_route", Gateway, 404, 5, "No route matches";
    /// The route serves files, and has none of this name, or none that may be served.
    NoFile = "no_file", Gateway, 404, 5, "There is no such file";
    /// The file is not as `If-Match` or `If-Unmodified-Since` want it.
    PreconditionFailed = "precondition_failed", Gateway, 412, 9, "The condition does not hold";
    /// The file has none of the parts that `Range` asks for.
    RangeNotSatisfiable = "range_not_satisfiable", Gateway, 416, 11, "There is nothing in this range";
    /// A route matches, or files are there, with another method.
    MethodNotAllowed = "method_not_allowed", Gateway, 405, 12, "The method is not allowed here";
    /// The upgrade asked for is not one the route allows.
    UpgradeRefused = "upgrade_refused", Gateway, 403, 7, "The upgrade is not allowed here";
    /// Credentials are missing or not known; never says which.
    Unauthenticated = "unauthenticated", Gateway, 401, 16, "Valid credentials are needed";
    /// What a token is asked for is no good: a refresh token that has ended, was revoked or was used before.
    InvalidGrant = "invalid_grant", Client, 400, 16, "What a token is asked for is not good";
    /// The caller may not do this.
    Forbidden = "forbidden", Gateway, 403, 7, "This is not allowed";
    /// The service that decides does not answer, or not so that it can be understood.
    Undecided = "undecided", Gateway, 503, 14, "Whether this is allowed cannot be decided";
    /// A limit is used up.
    RateLimited = "rate_limited", Gateway, 429, 8, "Too many requests";
    /// Client connections are at their limit.
    TooManyConnections = "too_many_connections", Gateway, 503, 14, "Too many connections";
    /// A service that must be asked about the caller cannot be asked, or does not answer as it must.
    AuthUnavailable = "auth_unavailable", Gateway, 503, 14, "Callers cannot be checked at the moment";
    /// Connections to upstreams are at their limit, or the process is out of descriptors.
    TooManyCalls = "too_many_calls", Gateway, 503, 14, "Too many calls";
    /// The upstream can take no more calls, and this one could not wait, or waited too long.
    Overloaded = "overloaded", Gateway, 503, 14, "The service is overloaded";
    /// No target can be called.
    NoTarget = "no_target", Gateway, 503, 14, "No backend is available";
    /// Too many calls to the upstream failed, and its breaker leaves it alone for a while.
    CircuitOpen = "circuit_open", Gateway, 503, 14, "The backend is left alone for a while";
    /// The store of accounts does not take what must last.
    StoreUnavailable = "store_unavailable", Gateway, 503, 14, "The store is not available";
    /// `upstream_auth` has nothing to show the upstream: the token endpoint cannot be asked, or gives no token.
    NoCredentials = "no_upstream_credentials", Gateway, 503, 14, "The gateway has no credentials for the backend";
    /// Something went wrong in the gateway itself.
    Internal = "internal", Gateway, 500, 13, "Internal error";
    /// The target does not accept connections.
    ConnectFailed = "connect_failed", Upstream, 502, 14, "The backend cannot be reached";
    /// The target did not accept a connection in time.
    ConnectTimeout = "connect_timeout", Upstream, 504, 4, "The backend did not accept a connection in time";
    /// TLS towards the target failed.
    UpstreamTls = "upstream_tls", Upstream, 502, 14, "The backend's identity cannot be verified";
    /// The connection ended before the answer's head was complete. Over TLS 1.3 also when the target refuses the gateway's certificate; the cause then names the alert.
    UpstreamReset = "upstream_reset", Upstream, 502, 14, "The backend closed the connection";
    /// The answer's head did not come in time.
    UpstreamTimeout = "upstream_timeout", Upstream, 504, 4, "The backend did not answer in time";
    /// The answer cannot be read in exactly one way.
    BadResponse = "bad_response", Upstream, 502, 14, "The backend's answer is malformed";
    /// The answer is not as `validate` has it described.
    InvalidResponse = "invalid_response", Upstream, 502, 13, "The backend's answer is not valid";
    /// The answer's body ended early or stalled after its head was passed on.
    BodyBroken = "body_broken", Upstream, 502, 14, "The backend's answer broke off";
}

impl Reason {
    /// Whether nothing of the call was sent to a target: it had no effect, whatever its method.
    #[must_use]
    pub fn is_unsent(self) -> bool {
        matches!(
            self,
            Reason::NoTarget
                | Reason::ConnectFailed
                | Reason::ConnectTimeout
                | Reason::TooManyCalls
                | Reason::Overloaded
                | Reason::CircuitOpen
        )
    }
}

/// A failed exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub reason: Reason,
    /// What the client reads; never an internal address, never a secret.
    pub detail: Cow<'static, str>,
    /// What the log says in addition.
    pub cause: Option<Box<str>>,
    /// Fields of the answer, such as `Allow`, `Retry-After`, `WWW-Authenticate`.
    pub fields: Vec<(Cow<'static, str>, String)>,
    /// Members of the problem document beside those that every one has (RFC 9457, section 3.2).
    pub members: Option<Box<Members>>,
    /// Whether the same call may be tried again: nothing of it can have had an effect.
    pub retry: bool,
    /// In place of the reason's own status, where the configuration wants another.
    pub other_status: Option<u16>,
}

/// Members of a problem document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(pub Vec<(&'static str, JsonValue)>);

impl Fault {
    /// A fault with what the client reads.
    #[must_use]
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Fault {
        Fault {
            reason,
            detail: detail.into(),
            cause: None,
            fields: Vec::new(),
            members: None,
            retry: false,
            other_status: None,
        }
    }

    /// HTTP status of the answer.
    #[must_use]
    #[inline]
    pub fn status(&self) -> u16 {
        match self.other_status {
            Some(status) => status,
            None => self.reason.status(),
        }
    }

    /// Answers with another status than the reason's own.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Fault {
        self.other_status = Some(status);
        self
    }

    /// Adds what only the log says.
    #[must_use]
    pub fn cause(mut self, cause: impl std::fmt::Display) -> Fault {
        self.cause = Some(cause.to_string().into());
        self
    }

    /// Adds a field to the answer.
    #[must_use]
    pub fn field(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Fault {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Adds a member to the problem document.
    #[must_use]
    pub fn member(mut self, name: &'static str, value: JsonValue) -> Fault {
        self.members.get_or_insert_default().0.push((name, value));
        self
    }

    /// Marks it as safe to try again.
    #[must_use]
    pub fn retryable(mut self) -> Fault {
        self.retry = true;
        self
    }
}
