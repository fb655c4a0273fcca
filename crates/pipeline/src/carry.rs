//! State that outlives a reload, found again by owner and shape. Holds weak references only: the last user gone, the state is freed.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

type Slots = HashMap<(String, String), Weak<dyn Any + Send + Sync>>;

/// Where compiled parts ask for the state they had before.
#[derive(Debug, Default)]
pub struct Carry {
    slots: Mutex<Slots>,
}

impl Carry {
    /// An empty one, for `explain` and previews: nothing of a running gateway is seen or touched.
    #[must_use]
    pub fn detached() -> Carry {
        Carry::default()
    }

    /// The state of `owner` with this `shape` (a text of the settings that matter), made by `make` when there is none; `make` may ask for
    /// other state itself.
    pub fn get_or<T: Any + Send + Sync>(&self, owner: &str, shape: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let key = (owner.to_owned(), shape.to_owned());
        if let Some(found) = self.found(&key) {
            return found;
        }
        let fresh = Arc::new(make());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // another one may have been made meanwhile
        if let Some(found) = slots.get(&key).and_then(of_type) {
            return found;
        }
        let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&(Arc::clone(&fresh) as Arc<dyn Any + Send + Sync>));
        slots.insert(key, weak);
        fresh
    }

    fn found<T: Any + Send + Sync>(&self, key: &(String, String)) -> Option<Arc<T>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(of_type)
    }

    /// Forgets what nobody uses any more; called after a snapshot is dropped.
    pub fn sweep(&self) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, weak| weak.strong_count() > 0);
    }
}

fn of_type<T: Any + Send + Sync>(slot: &Weak<dyn Any + Send + Sync>) -> Option<Arc<T>> {
    slot.upgrade()?.downcast::<T>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_found_again_by_owner_and_shape_and_freed_with_its_last_user() {
        let carry = Carry::default();
        let first = carry.get_or("route a", "10/s", || 1u32);
        assert_eq!(*carry.get_or("route a", "10/s", || 2u32), 1);
        assert_eq!(*carry.get_or("route a", "20/s", || 3u32), 3);
        drop(first);
        carry.sweep();
        assert_eq!(*carry.get_or("route a", "10/s", || 4u32), 4);
    }

    #[test]
    fn what_makes_state_may_ask_for_other_state() {
        let carry = Carry::default();
        let mut inner = None;
        let outer = carry.get_or("a", "", || {
            inner = Some(carry.get_or("a", "", || 2u32));
            *carry.get_or("b", "", || 1u32)
        });
        assert_eq!((*outer, inner.as_deref()), (2, Some(&2)), "what was made first under a name is what there is");
    }
}
