//! A claim by its name. Knows no rule.

use daemun_config::decode::JsonValue;
use serde_json::Map;

/// The name of a claim, which may lead into one that is an object.
#[derive(Debug)]
pub(super) struct Claim(Box<str>);

impl Claim {
    pub(super) fn new(name: &str) -> Claim {
        Claim(name.into())
    }

    /// The claim: the one of the whole name (names may be addresses, with dots), or what the parts between dots lead to.
    pub(super) fn of<'a>(&self, claims: &'a Map<String, JsonValue>) -> Option<&'a JsonValue> {
        claims.get(&*self.0).or_else(|| {
            let mut parts = self.0.split('.');
            let first = claims.get(parts.next()?)?;
            parts.try_fold(first, |value, part| value.get(part))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_whole_name_comes_before_its_parts() {
        let JsonValue::Object(claims) = json!({
            "tenant": "shop",
            "https://example.com/level": "gold",
            "realm": { "roles": ["buyer"], "deep": { "x": 1 } },
            "realm.deep": "whole",
        }) else {
            unreachable!("it is an object")
        };
        let of = |name: &str| Claim::new(name).of(&claims).cloned();
        assert_eq!(of("tenant"), Some(json!("shop")));
        assert_eq!(of("https://example.com/level"), Some(json!("gold")));
        assert_eq!(of("realm.roles"), Some(json!(["buyer"])));
        assert_eq!(of("realm.deep"), Some(json!("whole")));
        assert_eq!(of("realm.deep.x"), Some(json!(1)));
        for missing in ["realm.none", "tenant.x", "", ".", "realm.", "realm.roles.0"] {
            assert_eq!(of(missing), None, "{missing}");
        }
    }
}
