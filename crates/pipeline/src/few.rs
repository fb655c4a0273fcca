//! A list that needs no memory of its own while it is short. Knows nothing of what it holds.

use std::ops::{Deref, DerefMut};

/// Values in order; up to `N` of them lie in the list itself, more in memory that is asked for.
#[derive(Clone, Debug)]
pub struct Few<T, const N: usize> {
    few: [T; N],
    length: usize,
    /// All of them, once there are more than `N`.
    many: Vec<T>,
}

impl<T: Copy + Default, const N: usize> Few<T, N> {
    /// Adds a value behind the others.
    pub fn push(&mut self, value: T) {
        if self.many.is_empty() {
            if let Some(place) = self.few.get_mut(self.length) {
                *place = value;
                self.length += 1;
                return;
            }
            self.many.extend_from_slice(&self.few);
        }
        self.many.push(value);
    }

    /// Leaves the first `length` values, where there are more.
    pub fn truncate(&mut self, length: usize) {
        if length <= N && self.many.len() > length {
            for (place, value) in self.few.iter_mut().zip(self.many.drain(..)) {
                *place = value;
            }
            self.length = length;
        } else {
            self.many.truncate(length);
            self.length = self.length.min(length);
        }
    }
}

impl<T: Copy + Default, const N: usize> Default for Few<T, N> {
    fn default() -> Few<T, N> {
        Few { few: [T::default(); N], length: 0, many: Vec::new() }
    }
}

impl<T, const N: usize> Deref for Few<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        if self.many.is_empty() { self.few.get(..self.length).unwrap_or_default() } else { &self.many }
    }
}

impl<T, const N: usize> DerefMut for Few<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        if self.many.is_empty() { self.few.get_mut(..self.length).unwrap_or_default() } else { &mut self.many }
    }
}

impl<T: Copy + Default, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Few<T, N> {
        let mut all = Few::default();
        values.into_iter().for_each(|value| all.push(value));
        all
    }
}

impl<T: PartialEq, const N: usize> PartialEq for Few<T, N> {
    fn eq(&self, other: &Few<T, N>) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for Few<T, N> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_as_a_vec_is(steps in proptest::collection::vec((any::<bool>(), 0_usize..9, any::<u8>()), 0..40)) {
            let (mut few, mut vec) = (Few::<u8, 3>::default(), Vec::new());
            for (push, length, value) in steps {
                if push {
                    few.push(value);
                    vec.push(value);
                } else {
                    few.truncate(length);
                    vec.truncate(length);
                }
                few.sort_unstable();
                vec.sort_unstable();
                prop_assert_eq!(&*few, vec.as_slice());
            }
            prop_assert_eq!(vec.into_iter().collect::<Few<u8, 3>>(), few);
        }
    }
}
