//! The known callers of a snapshot. Knows nothing of how a caller proves who it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use daemun_config::model::{CertificateRule, CredentialName, HmacKey, Plan, SigningKey, Terms, User};

use crate::CutOff;
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
    /// What is said of its credentials, of those of which anything is. In a directory the ones that are disabled stand here alone.
    pub terms: HashMap<CredentialName, Terms>,
    /// Names of plans that it is on.
    pub plans: Vec<String>,
}

impl Consumer {
    /// From when on a credential is void, milliseconds since the Unix epoch; never for one that does not end.
    #[must_use]
    pub fn end_of(&self, credential: &CredentialName) -> u64 {
        self.terms.get(credential).and_then(|terms| terms.expires).unwrap_or(u64::MAX)
    }

    /// Whether it has a credential that is disabled.
    #[must_use]
    pub fn has_disabled(&self, credential: &CredentialName) -> bool {
        self.terms.get(credential).is_some_and(|terms| terms.disabled)
    }

    /// All its credentials, those that are disabled last.
    #[must_use]
    pub fn credentials(&self) -> Vec<(CredentialName, Terms)> {
        let keys = self.keys.iter().map(|digest| CredentialName::Key(*digest));
        let basic = self.basic.iter().map(|known| CredentialName::Basic(known.username.clone()));
        let hmac = self.hmac.iter().map(|key| CredentialName::Signer(key.id.value.clone()));
        let signing = self.signing_keys.iter().map(|key| CredentialName::Signer(key.id.value.clone()));
        let certificates = self.certificates.iter().map(CertificateRule::credential);
        let good = keys.chain(basic).chain(hmac).chain(signing).chain(certificates);
        let mut all: Vec<(CredentialName, Terms)> = good
            .map(|name| {
                let terms = self.terms.get(&name).cloned().unwrap_or_default();
                (name, terms)
            })
            .collect();
        let mut disabled: Vec<_> = self.terms.iter().filter(|(_, terms)| terms.disabled).collect();
        disabled.sort_by_cached_key(|(name, _)| name.id());
        all.extend(disabled.into_iter().map(|(name, terms)| (name.clone(), terms.clone())));
        all
    }

    /// Leaves out what is disabled, so that nothing finds it.
    fn drop_disabled(&mut self) {
        if self.terms.is_empty() {
            return;
        }
        let terms = &self.terms;
        let is_good = |name: &CredentialName| terms.get(name).is_none_or(|terms| !terms.disabled);
        self.keys.retain(|digest| is_good(&CredentialName::Key(*digest)));
        self.basic.retain(|known| is_good(&CredentialName::Basic(known.username.clone())));
        self.hmac.retain(|key| is_good(&CredentialName::Signer(key.id.value.clone())));
        self.signing_keys.retain(|key| is_good(&CredentialName::Signer(key.id.value.clone())));
        self.certificates.retain(|rule| is_good(&rule.credential()));
    }
}

/// All known callers.
#[derive(Debug, Default)]
pub struct Directory {
    /// Another one for each that has consumers.
    number: u32,
    consumers: Vec<Consumer>,
    by_name: HashMap<String, ConsumerId>,
    users: HashMap<String, User>,
    plans: HashMap<String, Arc<Plan>>,
    cut_off: Arc<CutOff>,
}

impl Directory {
    /// Takes the consumers of a configuration, in its order. Of their credentials those that are disabled are left out.
    #[must_use]
    pub fn new(mut consumers: Vec<Consumer>) -> Directory {
        static NUMBERS: AtomicU32 = AtomicU32::new(1);
        consumers.iter_mut().for_each(Consumer::drop_disabled);
        let by_name = consumers.iter().zip(0u32..).map(|(c, i)| (c.name.clone(), ConsumerId(i))).collect();
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Directory { number, consumers, by_name, users: HashMap::new(), plans: HashMap::new(), cut_off: Arc::default() }
    }

    /// With whom is let in no more, whatever the configuration says.
    #[must_use]
    pub fn with_cut_off(mut self, cut_off: Arc<CutOff>) -> Directory {
        self.cut_off = cut_off;
        self
    }

    /// Whether a consumer is let in no more. One load where there never was such a one.
    #[must_use]
    #[inline]
    pub fn is_cut_off(&self, id: ConsumerId) -> bool {
        // the consumer is not looked at before: with very many of them that would be a wait for memory
        self.cut_off.any() && self.get(id).is_some_and(|consumer| self.cut_off.has(&consumer.name))
    }

    /// Whether a credential is a consumer's, and disabled. Goes through all of them: for whoever explains.
    #[must_use]
    pub fn has_disabled(&self, credential: &CredentialName) -> bool {
        self.consumers.iter().any(|consumer| consumer.has_disabled(credential))
    }

    /// With the users of a configuration, who are no consumers.
    #[must_use]
    pub fn with_users(mut self, users: impl IntoIterator<Item = User>) -> Directory {
        self.users = users.into_iter().map(|user| (user.name.value.clone(), user)).collect();
        self
    }

    /// With the plans of a configuration.
    #[must_use]
    pub fn with_plans(mut self, plans: impl IntoIterator<Item = Plan>) -> Directory {
        self.plans = plans.into_iter().map(|plan| (plan.name.clone(), Arc::new(plan))).collect();
        self
    }

    /// Finds a plan by name.
    #[must_use]
    pub fn plan(&self, name: &str) -> Option<&Arc<Plan>> {
        self.plans.get(name)
    }

    /// All plans, in no order.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        self.plans.values()
    }

    /// Finds a user by name, whether it is let in or not.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// Whether a consumer or a user has this name.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.users.contains_key(name)
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
