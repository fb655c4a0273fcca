//! The settings of `https_redirect`.

use daemun_config::decode::{Bounded, OneOrMany};
use daemun_config::settings;

use crate::redirect::{BelowPath, MovedStatus};

settings! {
    /// Sends callers that came without TLS to the same address over TLS.
    #[derive(Clone, Debug, PartialEq)]
    pub struct HttpsRedirectConfig {
        /// Port that TLS is spoken on, as callers reach it.
        pub port: Bounded<1, 65535> = "443",
        /// Status: 301, 302, 307 or 308; the last two keep method and body.
        pub status: MovedStatus = "308",
        /// Paths that stay without TLS, each with everything below it.
        pub except: OneOrMany<BelowPath> = "[]",
    }
}
