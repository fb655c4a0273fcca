//! The settings of `body_limit`.

use daemun_config::decode::Size;
use daemun_config::settings;

settings! {
    /// How large the body of a request may be.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BodyLimitConfig {
        /// Most bytes, such as `64KiB` or `1MiB`; a larger `limits.body` of the route or the gateway allows no more.
        pub max: Size,
    }
}
