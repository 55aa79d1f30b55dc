//! Numbers in as few bytes as they need: seven bits a byte, least first, the top bit says that more follow.
//!
//! Read [`put`] and [`Input`].

/// Appends a number.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A signed number as an unsigned one that is small when the number is near 0.
pub(super) fn folded(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// What [`folded`] folded.
pub(super) fn unfolded(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Bytes that are read from the front; `None` when they do not hold what is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl<'a> Input<'a> {
    /// The next number.
    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at as u32);
            if *byte < 0x80 {
                self.0 = self.0.get(at + 1..)?;
                return Some(value);
            }
        }
        None
    }

    /// The next number, folded.
    pub(super) fn signed(&mut self) -> Option<i64> {
        self.number().map(unfolded)
    }

    /// The next bytes.
    pub(super) fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    /// So many next bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// Appends the columns that are not `None`: a bit each, then their values.
pub(super) fn put_columns<const N: usize>(out: &mut Vec<u8>, columns: [Option<u64>; N]) {
    const { assert!(N <= 64) };
    let present = columns.iter().enumerate().filter(|(_, value)| value.is_some());
    put(out, present.fold(0, |mask, (bit, _)| mask | 1 << bit));
    columns.into_iter().flatten().for_each(|value| put(out, value));
}

/// Reads what [`put_columns`] wrote, with fewer columns than are known now or with more.
#[inline]
pub(super) fn columns<const N: usize>(input: &mut Input<'_>) -> Option<[Option<u64>; N]> {
    let mut mask = input.number()?;
    let mut found = [None; N];
    while mask != 0 {
        let bit = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        let value = input.number()?;
        if let Some(column) = found.get_mut(bit) {
            *column = Some(value);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in prop::collection::vec(any::<u64>(), 0..20), signed in any::<i64>()) {
            let mut out = Vec::new();
            values.iter().for_each(|value| put(&mut out, *value));
            put(&mut out, folded(signed));
            let mut input = Input(&out);
            for value in values {
                prop_assert_eq!(input.number(), Some(value));
            }
            prop_assert_eq!(input.signed(), Some(signed));
            prop_assert!(input.0.is_empty() && input.number().is_none());
        }

        #[test]
        fn more_and_fewer_columns_are_read(values: [Option<u64>; 5]) {
            let mut out = Vec::new();
            put_columns(&mut out, values);
            put(&mut out, 7);
            let mut input = Input(&out);
            let fewer: [Option<u64>; 3] = columns(&mut input).expect("columns");
            prop_assert_eq!(&fewer[..], &values[..3]);
            prop_assert_eq!(input.number(), Some(7), "the others were passed over");
            let more: [Option<u64>; 64] = columns(&mut Input(&out)).expect("columns");
            prop_assert_eq!(&more[..5], &values[..]);
            prop_assert!(more[5..].iter().all(Option::is_none));
        }
    }
}
