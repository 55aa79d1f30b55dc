//! Reading entries of a level, and the finer ones where its slots are stale.
//!
//! Responsible for that an entry is met once, at the level asked for or below it. Not responsible for what is made of
//! it. Read [`View`].

use super::block::rows;
use super::layout::{BlockKey, BlockTable, DIRTY, Kind, LENGTHS, Layout, META, PERIODS, TotalTable, table};
use super::row;
use super::store::Trouble;
use crate::summary::figures::Figures;
use redb::{ReadTransaction, ReadableTable, TableError};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Level, source and end of each stale slot.
    stale: BTreeSet<(u8, u32, u64)>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        transaction: ReadTransaction,
        layout: &'a Layout,
        damaged: &'a AtomicU64,
    ) -> Result<View<'a>, Trouble> {
        let periods = periods(&transaction.open_table(PERIODS)?)?;
        let mut stale = BTreeSet::new();
        for slot in transaction.open_table(DIRTY)?.iter()? {
            let (level, end, source) = slot?.0.value();
            stale.insert((level, source, end));
        }
        Ok(View { transaction, layout, damaged, periods, stale })
    }

    /// A number of the file's description; 0 when it is not there.
    pub(super) fn number(&self, name: &str) -> Result<u64, Trouble> {
        let meta = self.transaction.open_table(META)?;
        let number = meta.get(name)?.map_or(0, |number| number.value());
        Ok(number)
    }

    /// How long each source's intervals are about an instant: the longest, the newest one's end and length. Of an
    /// interval that is as long as a period of the first level or longer it may not be known.
    pub(super) fn lengths(&self, at: u64) -> Result<BTreeMap<u32, (u64, u64, u64)>, Trouble> {
        let mut found: BTreeMap<u32, (u64, u64, u64)> = BTreeMap::new();
        // a file of an older program has none until something is written to it
        let Some(lengths) = there(self.transaction.open_table(LENGTHS))? else { return Ok(found) };
        let period = self.layout.level(0).period_of(at);
        for length in lengths.range((period.saturating_sub(1), 0)..=(period, u32::MAX))? {
            let (key, value) = length?;
            let (_, source) = key.value();
            let (longest, end, length) = value.value();
            let before = found.get(&source).map_or(0, |before| before.0);
            found.insert(source, (longest.max(before), end, length)); // the later period comes later
        }
        Ok(found)
    }

    /// A source's entries of a level between two instants, with finer ones in place of slots that are stale.
    pub(super) fn pieces(&self, source: u32, piece: Piece) -> Vec<Piece> {
        let mut found = Vec::new();
        self.take_apart(source, piece, &mut found);
        found
    }

    fn take_apart(&self, source: u32, piece: Piece, found: &mut Vec<Piece>) {
        let Piece { level, mut from, to } = piece;
        if level > 0 && from < to {
            let slot = self.layout.level(level).resolution;
            for &(_, _, end) in self.stale.range((level, source, from.saturating_add(1))..=(level, source, to)) {
                let begin = end.saturating_sub(slot);
                if from < begin {
                    found.push(Piece { level, from, to: begin });
                }
                self.take_apart(source, Piece { level: level - 1, from: begin.max(from), to: end }, found);
                from = end;
            }
        }
        if from < to {
            found.push(Piece { level, from, to });
        }
    }

    /// Periods of a level that have something between two instants, ascending.
    fn touched(&self, piece: Piece) -> impl DoubleEndedIterator<Item = u64> + '_ {
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

    /// Gives the newest figures in a piece of each series in `unseen`, newest frames first, and takes out what it gave:
    /// where all is in the newest frame, nothing else is read.
    pub(super) fn newest(
        &self,
        source: u32,
        piece: Piece,
        unseen: &mut Vec<u32>,
        f: &mut impl FnMut(u64, u32, &[u8]),
    ) -> Result<(), Trouble> {
        let mut seen = Vec::new();
        for period in self.touched(piece).rev() {
            let [figures, totals] = [Kind::Figures, Kind::Totals].map(|kind| table(kind, piece.level, period));
            let Some(figures) = there(self.transaction.open_table(BlockTable::new(&figures)))? else { continue };
            let Some(totals) = there(self.transaction.open_table(TotalTable::new(&totals)))? else { continue };
            for total in totals.range((source, piece.from.saturating_add(1))..=(source, piece.to))?.rev() {
                if unseen.is_empty() {
                    return Ok(());
                }
                let end = total?.0.value().1;
                self.seek(&figures, source, end, unseen, &mut |end, series, row| {
                    seen.push(series);
                    f(end, series, row);
                    Ok(())
                })?;
                let mut given = seen.iter().copied().peekable();
                unseen.retain(|series| given.next_if_eq(series).is_none());
                seen.clear();
            }
        }
        Ok(())
    }

    /// Gives the flows of some series of one frame.
    pub(super) fn flows(
        &self,
        source: u32,
        (level, end): (u8, u64),
        series: &[u32],
        f: &mut impl FnMut(u64, u32, &[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        for kind in [Kind::Flows, Kind::Sound] {
            let name = table(kind, level, self.layout.level(level).period_of(end));
            if let Some(blocks) = there(self.transaction.open_table(BlockTable::new(&name)))? {
                self.seek(&blocks, source, end, series, f)?;
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
                match rows(key.value().2, value.value()) {
                    None => {
                        self.damaged.fetch_add(1, Relaxed);
                    }
                    Some(rows) => {
                        for (number, row) in rows {
                            // those between two rows are not in the frame
                            let rest = series.get(next..).unwrap_or(&[]);
                            next += rest.iter().take_while(|wanted| **wanted < number).count();
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
                }
            }
            if next == before {
                // beyond the last row of its block, before the first block, or in a damaged one: on to the next block
                let after = (source, end, wanted.saturating_add(1))..=(source, end, u32::MAX);
                let Some(block) = table.range(after)?.next().transpose()? else { break };
                let first = block.0.value().2;
                let rest = series.get(next..).unwrap_or(&[]);
                next += rest.iter().take_while(|wanted| **wanted < first).count().max(1);
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
