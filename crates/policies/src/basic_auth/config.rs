//! The settings of `basic_auth`.

use daemun_config::decode::Decoder;
use daemun_config::model::UserSources;
use daemun_config::settings;
use daemun_config::tree::Node;

settings! {
    /// Who calls, by username and password of HTTP Basic (RFC 7617).
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BasicAuthConfig {
        /// What the password is for, as browsers show it when they ask for one.
        pub realm: String = "daemun",
        /// Whether username and password are passed on to the upstream.
        pub forward: bool = "false",
        /// Where users are known who may call beside consumers: one place, or a list of those that are asked in turn while the user is known
        /// to none.
        pub users: Option<UserSources>,
    }
    check check;
}

fn check(settings: &BasicAuthConfig, node: &Node, cx: &mut Decoder<'_>) {
    let realm = &settings.realm;
    let fits = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte);
    if realm.is_empty() || realm.len() > 128 || !realm.bytes().all(fits) {
        let node = node.get("realm").unwrap_or(node);
        let help = "1 to 128 printable ASCII characters without `\"` and `\\`";
        cx.key("realm", |cx| cx.bad_value_help(node, format!("`{}` cannot be a realm", node.shown()), help));
    }
}
