//! Blocks: rows of series next to each other, each of which can be read without the others.
//!
//! Responsible for that a damaged block is noticed. Not responsible for what a row says. Read [`Blocks`] and [`rows`].
//!
//! A block: form, CRC-32 of the rest, number of rows, of each row the distance to the series before it and its
//! length; then the rows.

use super::number::{Input, put};

/// Form of the blocks written.
const FORM: u8 = 1;
/// Bytes of a block at most, unless one row has more: with the key and redb's header it fills two pages of 4 KiB.
const FULL: usize = 8192 - 64;
/// What stands before the directory.
const HEAD: usize = 1 + 4;
/// Bytes that a block's number of rows takes at most.
const NUMBER: usize = 3;

/// Joins rows to blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    first: u32,
    last: u32,
    number: u64,
    directory: Vec<u8>,
    rows: Vec<u8>,
}

/// A block and its first series.
pub(super) type Block = (u32, Vec<u8>);

impl Blocks {
    /// Adds a row; series must come ascending. Gives the block that had no room for it.
    pub(super) fn add(&mut self, series: u32, row: &[u8]) -> Option<Block> {
        let entry = 10; // bytes of a row in the directory at most: two numbers of 32 bits
        let full = HEAD + NUMBER + self.directory.len() + entry + self.rows.len() + row.len() > FULL;
        let block = if full { self.end() } else { None };
        if self.number == 0 {
            (self.first, self.last) = (series, series);
        }
        put(&mut self.directory, u64::from(series - self.last));
        put(&mut self.directory, row.len() as u64);
        self.rows.extend_from_slice(row);
        self.last = series;
        self.number += 1;
        block
    }

    /// Gives the block begun, if there is one.
    pub(super) fn end(&mut self) -> Option<Block> {
        if self.number == 0 {
            return None;
        }
        let mut block = Vec::with_capacity(HEAD + NUMBER + self.directory.len() + self.rows.len());
        block.extend_from_slice(&[FORM, 0, 0, 0, 0]);
        put(&mut block, self.number);
        block.extend_from_slice(&self.directory);
        block.extend_from_slice(&self.rows);
        let crc = crc32fast::hash(&block[HEAD..]);
        block[1..HEAD].copy_from_slice(&crc.to_le_bytes());
        self.number = 0;
        self.directory.clear();
        self.rows.clear();
        Some((self.first, block))
    }
}

/// The rows of the block that begins with the series `first`: series and bytes, ascending; `None` when it is damaged.
pub(super) fn rows(first: u32, block: &[u8]) -> Option<impl Iterator<Item = (u32, &[u8])>> {
    let mut input = Input(block);
    let [form, crc @ ..] = input.array::<HEAD>()?;
    if form != FORM || crc32fast::hash(input.0) != u32::from_le_bytes(crc) {
        return None;
    }
    let number = input.number()?;
    let mut directory = input;
    for _ in 0..number {
        input.number()?;
        input.number()?;
    }
    let mut series = first;
    Some((0..number).map_while(move |_| {
        series = series.checked_add(u32::try_from(directory.number()?).ok()?)?;
        let length = directory.number()?;
        Some((series, input.bytes(length)?))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn blocks(given: &BTreeMap<u32, Vec<u8>>) -> Vec<Block> {
        let mut blocks = Blocks::default();
        let mut out: Vec<Block> = given.iter().filter_map(|(series, row)| blocks.add(*series, row)).collect();
        out.extend(blocks.end());
        out
    }

    proptest! {
        #[test]
        fn rows_come_back_and_damage_is_noticed(
            given in prop::collection::btree_map(any::<u32>(), prop::collection::vec(any::<u8>(), 0..900), 1..40),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let blocks = blocks(&given);
            let mut back = BTreeMap::new();
            for (first, block) in &blocks {
                prop_assert!(block.len() <= FULL);
                back.extend(rows(*first, block).expect("sound").map(|(series, row)| (series, row.to_vec())));
            }
            prop_assert_eq!(back, given);
            let (first, mut block) = blocks[0].clone();
            let at = at.index(block.len());
            block[at] ^= 1 << bit;
            prop_assert!(rows(first, &block).is_none());
        }

        #[test]
        fn any_bytes_are_read_without_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = rows(3, &bytes).map(Iterator::count);
            if bytes.len() > HEAD {
                bytes[0] = FORM;
                let crc = crc32fast::hash(&bytes[HEAD..]);
                bytes[1..HEAD].copy_from_slice(&crc.to_le_bytes());
                prop_assert!(rows(3, &bytes).map_or(0, Iterator::count) <= bytes.len());
            }
        }
    }
}
