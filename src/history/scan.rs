//! Reading entries of a level, and the finer ones where its slots are stale.
//!
//! Responsible for that an entry is met once, at the level asked for or below it. Not responsible for what is made of
//! it. Read [`View`].

use super::block::rows;
use super::layout::{BlockKey, BlockTable, DIRTY, Kind, Layout, META, PERIODS, TotalTable, table};
use super::row;
use super::store::Trouble;
use crate::summary::figures::Figures;
use redb::{ReadTransaction, ReadableTable, TableError};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Entries of one level between two instants, first exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) level: u8,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Which series of a source.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// Those from one number to another.
    Between(u32, u32),
    /// These, ascending.
    These(&'a [u32]),
}

/// Rows of one period of a level.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) level: u8,
    pub(super) period: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

/// Every period there is, by level and time.
pub(super) fn periods(table: &impl ReadableTable<(u8, u64), (u64, u64, u64, u64)>) -> Result<Vec<Period>, Trouble> {
    let mut found = Vec::new();
    for period in table.iter()? {
        let (key, value) = period?;
        let ((level, period), (entries, bytes, oldest, newest)) = (key.value(), value.value());
        found.push(Period { level, period, entries, bytes, oldest, newest });
    }
    Ok(found)
}

/// Gives the rows of a source between two instants, by end and series. Damaged blocks are counted and left out.
pub(super) fn blocks(
    table: &impl ReadableTable<BlockKey, &'static [u8]>,
    source: u32,
    (from, to): (u64, u64),
    (least, most): (u32, u32),
    damaged: &AtomicU64,
    f: &mut impl FnMut(u64, u32, &[u8]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    for block in table.range((source, from.saturating_add(1), 0)..=(source, to, u32::MAX))? {
        let (key, value) = block?;
        let (_, end, first) = key.value();
        if first > most {
            continue;
        }
        let Some(rows) = rows(first, value.value()) else {
            damaged.fetch_add(1, Relaxed);
            continue;
        };
        for (series, row) in rows.skip_while(|(series, _)| *series < least) {
            if series > most {
                break;
            }
            f(end, series, row)?;
        }
    }
    Ok(())
}

/// What the file says at one moment.
pub(super) struct View<'a> {
    transaction: ReadTransaction,
    layout: &'a Layout,
    damaged: &'a AtomicU64,
    pub(super) periods: Vec<Period>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        transaction: ReadTransaction,
        layout: &'a Layout,
        damaged: &'a AtomicU64,
    ) -> Result<View<'a>, Trouble> {
        let periods = periods(&transaction.open_table(PERIODS)?)?;
        Ok(View { transaction, layout, damaged, periods })
    }

    /// A number of the file's description; 0 when it is not there.
    pub(super) fn number(&self, name: &str) -> Result<u64, Trouble> {
        let meta = self.transaction.open_table(META)?;
        let number = meta.get(name)?.map_or(0, |number| number.value());
        Ok(number)
    }

    /// A source's entries of a level between two instants, with finer ones in place of slots that are stale.
    pub(super) fn pieces(&self, source: u32, piece: Piece) -> Result<Vec<Piece>, Trouble> {
        let mut found = Vec::new();
        self.take_apart(source, piece, &mut found)?;
        Ok(found)
    }

    fn take_apart(&self, source: u32, piece: Piece, found: &mut Vec<Piece>) -> Result<(), Trouble> {
        let Piece { level, mut from, to } = piece;
        if level > 0 {
            let slot = self.layout.level(level).resolution;
            let dirty = self.transaction.open_table(DIRTY)?;
            for stale in dirty.range((level, from.saturating_add(1), 0)..=(level, to, u32::MAX))? {
                let (_, end, of) = stale?.0.value();
                if of != source {
                    continue;
                }
                let begin = end.saturating_sub(slot);
                if from < begin {
                    found.push(Piece { level, from, to: begin });
                }
                self.take_apart(source, Piece { level: level - 1, from: begin.max(from), to: end }, found)?;
                from = end;
            }
        }
        if from < to {
            found.push(Piece { level, from, to });
        }
        Ok(())
    }

    /// Periods of a level that have something between two instants, ascending.
    fn touched(&self, piece: Piece) -> impl Iterator<Item = u64> + '_ {
        let of_level = self.periods.iter().filter(move |period| period.level == piece.level);
        of_level.filter(move |period| period.newest > piece.from && period.oldest <= piece.to).map(|one| one.period)
    }

    /// Gives the totals of a source, ascending by end.
    pub(super) fn totals(&self, source: u32, piece: Piece, f: &mut impl FnMut(u64, Figures)) -> Result<(), Trouble> {
        for period in self.touched(piece) {
            let name = table(Kind::Totals, piece.level, period);
            let Some(totals) = there(self.transaction.open_table(TotalTable::new(&name)))? else { continue };
            for total in totals.range((source, piece.from.saturating_add(1))..=(source, piece.to))? {
                let (key, value) = total?;
                let mut rows = rows(0, value.value()).into_iter().flatten();
                match rows.next().and_then(|(_, row)| row::figures(row)) {
                    Some(figures) => f(key.value().1, figures),
                    None => {
                        self.damaged.fetch_add(1, Relaxed);
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the rows of a source's series: end, series and bytes, ascending.
    pub(super) fn rows(
        &self,
        kind: Kind,
        source: u32,
        wanted: Wanted<'_>,
        piece: Piece,
        f: &mut impl FnMut(u64, u32, &[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        for period in self.touched(piece) {
            let name = table(kind, piece.level, period);
            let Some(blocks_of) = there(self.transaction.open_table(BlockTable::new(&name)))? else { continue };
            let span = (piece.from, piece.to);
            match wanted {
                Wanted::Between(least, most) => {
                    blocks(&blocks_of, source, span, (least, most), self.damaged, f)?;
                }
                Wanted::These(series) => {
                    let name = table(Kind::Totals, piece.level, period);
                    let Some(totals) = there(self.transaction.open_table(TotalTable::new(&name)))? else { continue };
                    for total in totals.range((source, span.0.saturating_add(1))..=(source, span.1))? {
                        let end = total?.0.value().1;
                        self.seek(&blocks_of, source, end, series, f)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives some rows of one frame, reading only the blocks they are in.
    fn seek(
        &self,
        table: &impl ReadableTable<BlockKey, &'static [u8]>,
        source: u32,
        end: u64,
        series: &[u32],
        f: &mut impl FnMut(u64, u32, &[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut next = 0;
        while let Some(wanted) = series.get(next) {
            let before = next;
            let block = table.range((source, end, 0)..=(source, end, *wanted))?.next_back().transpose()?;
            if let Some((key, value)) = block {
                let Some(rows) = rows(key.value().2, value.value()) else {
                    self.damaged.fetch_add(1, Relaxed);
                    next += 1;
                    continue;
                };
                for (number, row) in rows {
                    // those between two rows are not in the frame
                    next += series.get(next..).unwrap_or(&[]).iter().take_while(|wanted| **wanted < number).count();
                    match series.get(next) {
                        Some(wanted) if *wanted == number => {
                            f(end, number, row)?;
                            next += 1;
                        }
                        Some(_) => {}
                        None => break,
                    }
                }
            }
            if next == before {
                next += 1; // it is beyond the last row of its block, or before the first block
            }
        }
        Ok(())
    }
}

/// A table, if it is there.
fn there<T>(table: Result<T, TableError>) -> Result<Option<T>, Trouble> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
