//! The settings of `request_id`.

use daemun_config::decode::{Decoder, FieldName};
use daemun_config::settings;
use daemun_config::tree::Node;
use daemun_pipeline::FieldId;

settings! {
    /// By which id a request is known to callers, to upstreams and in logs.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RequestIdConfig {
        /// Header that holds it, in requests and in answers.
        pub header: FieldName = "X-Request-Id",
        /// Whether the answer carries it.
        pub response: bool = "true",
        /// Whose ids are taken over.
        pub accept: Accept = "trusted",
        /// Form of the ids that the gateway makes.
        pub format: Form = "short",
    }
    check check;
}

settings! {
    /// Whose ids are taken over.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Accept {
        /// Nobody's.
        Never = "never",
        /// Those of `trusted_proxies`.
        Trusted = "trusted",
        /// Everybody's: callers can then make requests look alike in logs.
        Always = "always",
    }
}

settings! {
    /// Form of ids.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Form {
        /// 20 hexadecimal digits, of process, worker and a counter.
        Short = "short",
        /// A random UUID (RFC 9562, version 4).
        Uuid = "uuid",
    }
}

fn check(settings: &RequestIdConfig, node: &Node, cx: &mut Decoder<'_>) {
    let (name, at) = (&settings.header.0, node.get("header").unwrap_or(node));
    let id = FieldId::of(name.as_bytes());
    let usable = [FieldId::Other, FieldId::XRequestId, FieldId::Underscore].contains(&id);
    cx.key("header", |cx| {
        if usable {
            return cx.reads_field(at, name);
        }
        let help = "the header has a meaning of its own; choose another, such as `X-Correlation-Id`";
        cx.bad_value_help(at, format!("an id cannot be held by `{name}`"), help);
    });
}
