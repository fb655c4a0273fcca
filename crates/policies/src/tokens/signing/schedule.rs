//! When keys begin to sign, and when they are not needed any more. Takes the time as an argument and does nothing itself.

use std::time::Duration;

use daemun_config::model::SigningAlgorithm;

use super::super::millis;

/// How long a key is published at most before it signs.
const LONGEST_OVERLAP: u64 = 24 * 3_600_000;
/// How long what was published may be used without being asked for again at most.
const LONGEST_AGE: u64 = 900_000;
/// How much longer a key is published than what it signed lasts, where keys do not change faster: clocks differ.
const GRACE: u64 = 60_000;

/// When a key signs. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) id: String,
    pub(super) algorithm: SigningAlgorithm,
    /// From when on it signs, until a later one does.
    pub(super) from: u64,
    /// When nothing that it signed is good any more.
    pub(super) until: Option<u64>,
}

/// What is to be done with keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Another one is to be made, which signs from then on.
    Make { from: u64 },
    /// One has signed its last token, which ends then.
    Retire { id: String, until: u64 },
    /// One is not needed any more.
    Forget { id: String },
    /// Nothing, for so many milliseconds.
    Wait(u64),
}

/// How keys come and go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) algorithm: SigningAlgorithm,
    /// After what time another key signs.
    pub(super) rotate: Option<Duration>,
}

impl Schedule {
    fn period(&self) -> u64 {
        self.rotate.map_or(u64::MAX, millis)
    }

    /// How long a key is published before it signs, milliseconds.
    pub(super) fn overlap(&self) -> u64 {
        (self.period() / 2).min(LONGEST_OVERLAP)
    }

    /// How long what was published may be used without being asked for again: less than until a key signs that is not in it.
    pub(super) fn max_age(&self) -> Duration {
        Duration::from_secs((self.overlap() / 2).min(LONGEST_AGE) / 1000)
    }

    /// What is to be done first, with keys in the order in which they begin to sign. `lifetime` is how long a token lasts at most.
    pub(super) fn next(&self, keys: &[Times], lifetime: u64, now: u64) -> Step {
        if let Some(key) = keys.iter().find(|key| key.until.is_some_and(|until| until <= now)) {
            return Step::Forget { id: key.id.clone() };
        }
        for (key, next) in keys.iter().zip(keys.iter().skip(1)) {
            if key.until.is_none() && next.from <= now {
                let until = next.from.saturating_add(lifetime).saturating_add(GRACE.min(self.period()));
                return Step::Retire { id: key.id.clone(), until };
            }
        }
        let Some(newest) = keys.last() else { return Step::Make { from: now } };
        let published = now.saturating_add(self.overlap());
        if newest.algorithm != self.algorithm {
            return Step::Make { from: published.max(newest.from.saturating_add(1)) };
        }
        let due = newest.from.saturating_add(self.period());
        if published >= due && self.rotate.is_some() {
            return Step::Make { from: published.max(due) };
        }
        let makes = self.rotate.map(|_| due.saturating_sub(self.overlap()));
        let begins = keys.iter().map(|key| key.from).filter(|from| *from > now);
        let ends = keys.iter().filter_map(|key| key.until);
        let first = begins.chain(ends).chain(makes).min();
        Step::Wait(first.map_or(u64::MAX, |first| first.saturating_sub(now)))
    }

    /// Which key signs: the last that has begun to, or the first where the clock went back.
    pub(super) fn signs<T>(keys: &[T], from: impl Fn(&T) -> u64, now: u64) -> Option<&T> {
        keys.iter().rfind(|key| from(key) <= now).or_else(|| keys.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const LIFETIME: u64 = HOUR / 4;

    fn schedule(hours: u64) -> Schedule {
        Schedule { algorithm: SigningAlgorithm::Es256, rotate: Some(Duration::from_secs(hours * 3600)) }
    }

    /// Does what is to be done until nothing is; gives how long that holds.
    fn settle(schedule: Schedule, keys: &mut Vec<Times>, made: &mut u64, now: u64) -> u64 {
        for _ in 0..10 {
            match schedule.next(keys, LIFETIME, now) {
                Step::Make { from } => {
                    *made += 1;
                    keys.push(Times { id: made.to_string(), algorithm: schedule.algorithm, from, until: None });
                }
                Step::Retire { id, until } => keys.iter_mut().find(|key| key.id == id).unwrap().until = Some(until),
                Step::Forget { id } => keys.retain(|key| key.id != id),
                Step::Wait(time) => return time,
            }
        }
        panic!("it does not settle: {keys:?}");
    }

    #[test]
    fn every_key_is_published_before_it_signs_and_until_what_it_signed_has_ended() {
        for hours in [1, 5, 720] {
            let schedule = schedule(hours);
            let (mut keys, mut made, mut now) = (Vec::new(), 0, 1_000 * HOUR);
            // what was signed last, by which key, and since when each is published
            let mut signed: Vec<(u64, String)> = Vec::new();
            let mut published: Vec<(String, u64)> = Vec::new();
            for _ in 0..60 {
                let wait = settle(schedule, &mut keys, &mut made, now);
                for key in &keys {
                    if !published.iter().any(|(id, _)| *id == key.id) {
                        published.push((key.id.clone(), now));
                    }
                }
                assert!(wait > 0 && keys.len() <= 3, "{keys:?}");
                for moment in [now, now + wait - 1] {
                    let key = Schedule::signs(&keys, |key| key.from, moment).unwrap();
                    let since = published.iter().find(|(id, _)| *id == key.id).unwrap().1;
                    let age = u64::try_from(schedule.max_age().as_millis()).unwrap();
                    assert!(made == 1 || key.id == "1" || moment - since > age, "{key:?} was known too short");
                    signed.push((moment, key.id.clone()));
                    signed.retain(|(at, _)| at + LIFETIME > moment);
                    assert!(signed.iter().all(|(_, id)| keys.iter().any(|key| key.id == *id)), "{signed:?} {keys:?}");
                }
                now += wait;
            }
            assert!(made > 10, "{made}");
        }
    }

    #[test]
    fn a_gateway_that_was_down_for_long_publishes_the_next_key_before_it_signs() {
        let schedule = schedule(720);
        let (mut keys, mut made) = (Vec::new(), 0);
        settle(schedule, &mut keys, &mut made, HOUR);
        let later = 10_000 * HOUR;
        settle(schedule, &mut keys, &mut made, later);
        assert_eq!(keys.iter().map(|key| key.from).collect::<Vec<_>>(), [HOUR, later + 24 * HOUR]);
        assert_eq!(Schedule::signs(&keys, |key| key.from, later).unwrap().id, "1");
        // and one whose clock went back still signs
        assert_eq!(Schedule::signs(&keys, |key| key.from, 0).unwrap().id, "1");
    }

    #[test]
    fn another_algorithm_signs_once_its_key_was_published_and_keys_stay_where_they_are_to() {
        let once = Schedule { rotate: None, ..schedule(1) };
        let (mut keys, mut made) = (Vec::new(), 0);
        assert_eq!(settle(once, &mut keys, &mut made, HOUR), u64::MAX);
        assert_eq!(settle(once, &mut keys, &mut made, 100_000 * HOUR), u64::MAX);
        assert_eq!(made, 1);
        let other = Schedule { algorithm: SigningAlgorithm::EdDsa, ..once };
        let now = 100_001 * HOUR;
        assert_eq!(settle(other, &mut keys, &mut made, now), 24 * HOUR);
        assert_eq!(settle(other, &mut keys, &mut made, now + 24 * HOUR), LIFETIME + GRACE);
        assert_eq!(settle(other, &mut keys, &mut made, now + 30 * HOUR), u64::MAX);
        assert_eq!(keys.iter().map(|key| key.algorithm).collect::<Vec<_>>(), [SigningAlgorithm::EdDsa]);
    }
}
