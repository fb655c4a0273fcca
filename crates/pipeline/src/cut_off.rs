//! Consumers that are let in no more while the gateway runs, whatever the configuration says. Knows neither who says so nor where it lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Carry;

/// Their names. What is changed is in force on every worker when the change returns.
#[derive(Debug, Default)]
pub struct CutOff {
    names: papaya::HashSet<Box<str>>,
    /// Whether there was ever one.
    any: AtomicBool,
}

impl CutOff {
    /// Those of the running gateway; none where `carry` is detached.
    #[must_use]
    pub fn of(carry: &Carry) -> Arc<CutOff> {
        carry.get_or("cut_off", "", CutOff::default)
    }

    /// Whether there was ever one. One load.
    #[must_use]
    #[inline]
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether a consumer is let in no more. Allocates nothing.
    #[must_use]
    pub fn has(&self, consumer: &str) -> bool {
        self.any() && self.names.pin().contains(consumer)
    }

    /// Lets a consumer in no more, or again.
    pub fn set(&self, consumer: &str, is_cut_off: bool) {
        let names = self.names.pin();
        if is_cut_off {
            names.insert(consumer.into());
            self.any.store(true, Ordering::Release);
        } else {
            names.remove(consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_cut_off_until_it_is_not() {
        let carry = Carry::default();
        let (one, same) = (CutOff::of(&carry), CutOff::of(&carry));
        assert!(!one.has("shop-app"));
        one.set("shop-app", true);
        assert!(same.has("shop-app") && !same.has("shop"));
        one.set("shop-app", false);
        assert!(!same.has("shop-app"));
    }
}
