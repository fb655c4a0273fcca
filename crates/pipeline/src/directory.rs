//! The known callers of a snapshot. Knows nothing of how a caller proves who it is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use daemun_config::model::{CertificateRule, HmacKey, SigningKey, User};

use crate::identity::Identity;

/// Position of a consumer in the directory of its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerId(pub u32);

/// A username and the digest of its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicCredential {
    /// Username, unique among all consumers.
    pub username: String,
    /// SHA-256 of the password.
    pub password: [u8; 32],
}

/// A known caller.
#[derive(Clone, Debug, Default)]
pub struct Consumer {
    /// Name, unique.
    pub name: String,
    /// Roles.
    pub roles: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What its calls and tokens may be used for.
    pub scopes: Vec<String>,
    /// SHA-256 digests of its API keys.
    pub keys: Vec<[u8; 32]>,
    /// Its credentials of HTTP Basic.
    pub basic: Vec<BasicCredential>,
    /// By what its certificates are known.
    pub certificates: Vec<CertificateRule>,
    /// Secrets it signs with.
    pub hmac: Vec<HmacKey>,
    /// Public keys of what it signs with.
    pub signing_keys: Vec<SigningKey>,
    /// Where browsers may be sent back to with a login of a user.
    pub redirect_uris: Vec<String>,
}

/// All known callers.
#[derive(Debug, Default)]
pub struct Directory {
    /// Another one for each that has consumers.
    number: u32,
    consumers: Vec<Consumer>,
    by_name: HashMap<String, ConsumerId>,
    users: HashMap<String, User>,
}

impl Directory {
    /// Takes the consumers of a configuration, in its order.
    #[must_use]
    pub fn new(consumers: Vec<Consumer>) -> Directory {
        static NUMBERS: AtomicU32 = AtomicU32::new(1);
        let by_name = consumers.iter().zip(0u32..).map(|(c, i)| (c.name.clone(), ConsumerId(i))).collect();
        Directory { number: NUMBERS.fetch_add(1, Ordering::Relaxed), consumers, by_name, users: HashMap::new() }
    }

    /// With the users of a configuration, who are no consumers.
    #[must_use]
    pub fn with_users(mut self, users: impl IntoIterator<Item = User>) -> Directory {
        self.users = users.into_iter().map(|user| (user.name.value.clone(), user)).collect();
        self
    }

    /// Finds a user by name, whether it is let in or not.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// All users, in no order.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// The consumer at a position.
    #[must_use]
    pub fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.consumers.get(id.0 as usize)
    }

    /// Finds a consumer by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ConsumerId> {
        self.by_name.get(name).copied()
    }

    /// The consumer that has the name of an identity: of the consumer that it is said to be, or else its own. Looked for once.
    #[inline]
    #[must_use]
    pub fn named(&self, identity: &Identity) -> Option<ConsumerId> {
        // 0 is what an identity that was never looked for says, and what the directory of nobody answers
        let place = identity.found.place(self.number, || {
            let name = identity.consumer.as_deref().unwrap_or(&identity.subject);
            self.find(name).map_or(0, |ConsumerId(place)| place.saturating_add(1))
        });
        place.checked_sub(1).map(ConsumerId)
    }

    /// All of them with their positions.
    pub fn iter(&self) -> impl Iterator<Item = (ConsumerId, &Consumer)> {
        self.consumers.iter().zip(0u32..).map(|(c, i)| (ConsumerId(i), c))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.consumers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }
}
