//! A table of bounded size for what is known about peers: fixed memory, bounded search, no allocation.
//!
//! Sets of eight places; a key can stand only in its set. When all eight are taken, the caller decides what
//! to do without a place. Keys come from the network: the hash is seeded, so that nobody outside can
//! fill one set on purpose.

/// Places in a set.
const WAYS: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Place<V, const N: usize> {
    key: [u64; N],
    value: Option<V>,
}

/// The table; a key has `N` words.
#[derive(Clone, Debug)]
pub struct Table<V, const N: usize> {
    places: Box<[Place<V, N>]>,
    seed: u64,
}

/// What [`Table::find`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a, V> {
    /// The key's value.
    Known(&'a mut V),
    /// A new place for the key, already filled with the default value.
    New(&'a mut V),
    /// No place: the set is full.
    Full,
}

impl<V: Copy + Default, const N: usize> Table<V, N> {
    /// Room for `capacity` keys, rounded up to eight times a power of two. `seed` must not be guessable.
    pub fn new(capacity: usize, seed: u64) -> Table<V, N> {
        let places = capacity.div_ceil(WAYS).max(1).next_power_of_two() * WAYS;
        Table { places: vec![Place { key: [0; N], value: None }; places].into_boxed_slice(), seed }
    }

    /// The value of `key`, or a place for it: a free one, or one whose value `is_idle`.
    #[inline]
    pub fn find(&mut self, key: [u64; N], is_idle: impl Fn(&V) -> bool) -> Found<'_, V> {
        let set = self.set(key);
        let (mut known, mut free) = (None, None);
        for (at, place) in self.places[set..set + WAYS].iter().enumerate() {
            match &place.value {
                Some(value) if place.key == key && !is_idle(value) => known = Some(at),
                Some(value) if !is_idle(value) => {}
                _ if free.is_none() || place.key == key => free = Some(at),
                _ => {}
            }
        }
        let Some(at) = known.or(free) else { return Found::Full };
        let place = &mut self.places[set + at];
        if known.is_none() {
            *place = Place { key, value: None };
        }
        let value = place.value.get_or_insert_default();
        if known.is_some() { Found::Known(value) } else { Found::New(value) }
    }

    /// Gives `key` the place of the value in its set for which `age` is least.
    pub fn replace<A: Ord>(&mut self, key: [u64; N], age: impl Fn(&V) -> A) -> &mut V {
        let set = self.set(key);
        let places = &mut self.places[set..set + WAYS];
        // an empty place (None) is the first to go
        let at = (0..WAYS).min_by_key(|&at| places[at].value.as_ref().map(&age)).unwrap_or(0);
        places[at] = Place { key, value: None };
        places[at].value.get_or_insert_default()
    }

    /// Index of the first place of the key's set.
    #[inline]
    fn set(&self, key: [u64; N]) -> usize {
        // folded multiplications with a secret operand, then the upper half mixed into the lower
        let secret = (self.seed ^ 0x9e37_79b9_7f4a_7c15) | 1;
        let mixed = key.iter().fold(self.seed, |mixed, &word| fold(mixed ^ word ^ 0xd6e8_feb8_6659_fd93, secret));
        let mixed = fold(mixed ^ secret, 0xff51_afd7_ed55_8ccd);
        let mixed = mixed ^ (mixed >> 32);
        (mixed as usize & (self.places.len() / WAYS - 1)) * WAYS
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn never(_: &u64) -> bool {
        false
    }

    #[test]
    fn a_set_takes_eight_and_no_more() {
        let mut table = Table::<u64, 2>::new(8, 1);
        for key in 0..8 {
            let Found::New(value) = table.find([key, 0], never) else { panic!("no room for key {key}") };
            *value = 100 + key;
        }
        assert_eq!(table.find([8, 0], never), Found::Full);
        assert_eq!(table.find([3, 0], never), Found::Known(&mut 103));
    }

    #[test]
    fn idle_places_are_used_again_and_start_anew() {
        let mut table = Table::<u64, 2>::new(8, 1);
        for key in 0..8 {
            if let Found::New(value) = table.find([key, 0], never) {
                *value = key;
            }
        }
        assert_eq!(table.find([9, 0], |&value| value == 5), Found::New(&mut 0));
        assert_eq!(table.find([5, 0], never), Found::Full, "its place is gone");
        // a key that went idle itself starts anew, in its own place
        assert_eq!(table.find([3, 0], |&value| value == 3), Found::New(&mut 0));
        assert_eq!(table.find([3, 0], never), Found::Known(&mut 0));
    }

    #[test]
    fn replacing_takes_the_least() {
        let mut table = Table::<u64, 2>::new(8, 1);
        for key in 0..8 {
            if let Found::New(value) = table.find([key, 0], never) {
                *value = 100 - key;
            }
        }
        assert_eq!(*table.replace([20, 0], |&value| value), 0);
        assert_eq!(table.find([7, 0], never), Found::Full);
        assert_eq!(table.find([20, 0], never), Found::Known(&mut 0));
    }

    #[test]
    fn keys_spread_over_the_sets() {
        // neighbouring addresses and ports, the usual case: at half load next to nothing is turned away
        for seed in [0, 1, 0xdead_beef_dead_beef] {
            let mut table = Table::<u64, 2>::new(4096, seed);
            let full = (0..2048).filter(|&key| table.find([key << 16, key % 7], never) == Found::Full).count();
            assert!(full < 40, "{full} of 2048 with seed {seed:x}");
        }
    }

    proptest! {
        #[test]
        fn remembers_like_a_map(keys in proptest::collection::vec((0u64..40, 0u64..3), 0..200)) {
            let mut table = Table::<u64, 2>::new(64, 7);
            let mut map = HashMap::new();
            for (step, (a, b)) in keys.into_iter().enumerate() {
                match table.find([a, b], never) {
                    Found::Known(value) => {
                        prop_assert_eq!(Some(&*value), map.get(&[a, b]));
                        *value = step as u64;
                    }
                    Found::New(value) => {
                        prop_assert!(!map.contains_key(&[a, b]));
                        *value = step as u64;
                    }
                    Found::Full => {
                        prop_assert!(!map.contains_key(&[a, b]));
                        continue;
                    }
                }
                map.insert([a, b], step as u64);
            }
        }
    }
}
