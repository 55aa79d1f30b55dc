//! Frames: all series of one source in one interval, or in one slot of a coarser level.
//!
//! Responsible for that a frame's blocks, its total, its period's sums and the slots it makes stale change together:
//! all within the caller's transaction. Read [`FrameWriter`], and [`commit`] for what happens to a batch.

use super::Measured;
use super::block::{Block, Blocks, rows};
use super::catalogue::{Catalogue, Entry, SERIES};
use super::layout::{BlockTable, CATALOGUE, DIRTY, Kind, LENGTHS, Layout, META, PERIODS, SOUND, TotalTable, table};
use super::row;
use super::store::{Store, Trouble, begin};
use crate::matrix::source::LONGEST;
use crate::summary::figures::Figures;
use crate::summary::histogram::{Bucket, Buckets, LARGEST};
use crate::summary::path_id::PathId;
use crate::summary::{FlowSummary, Path};
use crate::time::{Clock, SystemClock, Wall};
use redb::{Database, ReadableTable, Table, WriteTransaction};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How far ahead of this machine's clock an interval may end: clocks of other machines are a little off.
const AHEAD: u64 = 3_600_000_000_000;
/// How much later a path must be seen again for that to be written down.
const SEEN_STEP: u64 = 86_400_000_000_000;

/// Figures of many paths joined, cheaply: the histogram is added up in place.
#[derive(Debug)]
pub(super) struct Total {
    figures: Figures,
    buckets: Vec<u64>,
    any: bool,
}

impl Default for Total {
    fn default() -> Total {
        let buckets = vec![0; usize::from(Bucket::of(LARGEST).0) + 1];
        Total { figures: Figures::default(), buckets, any: false }
    }
}

impl Total {
    /// Joins another path.
    pub(super) fn add(&mut self, mut other: Figures) {
        for (bucket, count) in other.histogram.counts() {
            if let Some(sum) = self.buckets.get_mut(usize::from(bucket.0)) {
                *sum += count;
            }
        }
        other.histogram = Buckets::default();
        self.figures.add_path(&other);
        self.any = true;
    }

    /// The sum, if anything was added; then there is nothing.
    pub(super) fn take(&mut self) -> Option<Figures> {
        let mut figures = std::mem::take(&mut self.figures);
        let counts = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        figures.histogram.add(counts.map(|(bucket, count)| (Bucket(bucket as u16), *count)));
        self.buckets.fill(0);
        std::mem::take(&mut self.any).then_some(figures)
    }
}

/// Room that a value takes in the file, about: a large one has pages of its own, small ones share theirs.
fn room(length: usize) -> u64 {
    let length = length as u64 + 32;
    if length > 2700 { length.next_power_of_two().max(4096) } else { length * 3 / 2 }
}

/// A table of blocks, and what it grew by.
struct Growing<'a> {
    table: Table<'a, (u32, u64, u32), &'static [u8]>,
    source: u32,
    end: u64,
    blocks: Blocks,
    entries: i64,
    bytes: i64,
}

impl<'a> Growing<'a> {
    fn new(transaction: &'a WriteTransaction, name: &str, source: u32, end: u64) -> Result<Growing<'a>, Trouble> {
        let table = transaction.open_table(BlockTable::new(name))?;
        Ok(Growing { table, source, end, blocks: Blocks::default(), entries: 0, bytes: 0 })
    }

    /// Takes out what the frame has.
    fn clear(&mut self) -> Result<BTreeMap<u32, Vec<u8>>, Trouble> {
        let mut found = BTreeMap::new();
        let mut keys = Vec::new();
        for block in self.table.range((self.source, self.end, 0)..=(self.source, self.end, u32::MAX))? {
            let (key, value) = block?;
            let first = key.value().2;
            self.bytes -= room(value.value().len()) as i64;
            found.extend(rows(first, value.value()).into_iter().flatten().map(|(series, row)| (series, row.to_vec())));
            keys.push(key.value());
        }
        for key in keys {
            self.table.remove(key)?;
        }
        self.entries -= found.len() as i64;
        Ok(found)
    }

    fn add(&mut self, series: u32, row: &[u8]) -> Result<(), Trouble> {
        let block = self.blocks.add(series, row);
        self.entries += 1;
        self.put(block)
    }

    fn put(&mut self, block: Option<Block>) -> Result<(), Trouble> {
        if let Some((first, block)) = block {
            self.bytes += room(block.len()) as i64;
            self.table.insert((self.source, self.end, first), block.as_slice())?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Trouble> {
        let block = self.blocks.end();
        self.put(block)
    }
}

/// Writes one frame; series must be added ascending.
pub(super) struct FrameWriter<'a> {
    transaction: &'a WriteTransaction,
    level: u8,
    period: u64,
    figures: Growing<'a>,
    flows: Growing<'a>,
    sound: Growing<'a>,
    totals: Table<'a, (u32, u64), &'static [u8]>,
    total: Total,
    buffer: Vec<u8>,
}

/// Rows that a frame had, by series.
pub(super) struct Before {
    figures: BTreeMap<u32, Vec<u8>>,
    flows: BTreeMap<u32, Vec<u8>>,
    sound: BTreeMap<u32, Vec<u8>>,
}

impl Before {
    /// The row of flows that a series had.
    pub(super) fn flows(&self, series: u32) -> Option<&[u8]> {
        self.flows.get(&series).or_else(|| self.sound.get(&series)).map(Vec::as_slice)
    }
}

/// Whether no flow lost a probe or changed its class: of such a path all flows tell the same sooner or later.
fn is_sound(flows: &[FlowSummary]) -> bool {
    flows.iter().all(|flow| (flow.lost, flow.dscp_changed_forward, flow.dscp_changed_reverse) == (0, 0, 0))
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame anew, and gives what it had.
    pub(super) fn new(
        transaction: &'a WriteTransaction,
        layout: &Layout,
        level: u8,
        source: u32,
        end: u64,
    ) -> Result<(FrameWriter<'a>, Before), Trouble> {
        let period = layout.level(level).period_of(end);
        let mut figures = Growing::new(transaction, &table(Kind::Figures, level, period), source, end)?;
        let mut flows = Growing::new(transaction, &table(Kind::Flows, level, period), source, end)?;
        let totals = transaction.open_table(TotalTable::new(&table(Kind::Totals, level, period)))?;
        let mut sound = Growing::new(transaction, &table(Kind::Sound, level, period), source, end)?;
        let before = Before { figures: figures.clear()?, flows: flows.clear()?, sound: sound.clear()? };
        let (total, buffer) = (Total::default(), Vec::new());
        Ok((FrameWriter { transaction, level, period, figures, flows, sound, totals, total, buffer }, before))
    }

    /// Adds a series.
    pub(super) fn add(
        &mut self,
        series: u32,
        path: &Path,
        figures: Figures,
        flows: &[FlowSummary],
    ) -> Result<(), Trouble> {
        self.buffer.clear();
        row::put_figures(&mut self.buffer, &figures);
        self.figures.add(series, &self.buffer)?;
        self.total.add(figures);
        if !flows.is_empty() {
            self.buffer.clear();
            row::put_flows(&mut self.buffer, path, flows);
            let table = if is_sound(flows) { &mut self.sound } else { &mut self.flows };
            table.add(series, &self.buffer)?;
        }
        Ok(())
    }

    /// Adds a series as it was.
    fn keep(&mut self, series: u32, figures: &[u8], before: &Before) -> Result<(), Trouble> {
        if let Some(known) = row::figures(figures) {
            self.figures.add(series, figures)?;
            self.total.add(known);
        }
        if let Some(flows) = before.flows.get(&series) {
            self.flows.add(series, flows)?;
        }
        if let Some(flows) = before.sound.get(&series) {
            self.sound.add(series, flows)?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn end(mut self) -> Result<(), Trouble> {
        self.figures.end()?;
        self.flows.end()?;
        self.sound.end()?;
        let key = (self.figures.source, self.figures.end);
        let mut bytes = self.figures.bytes + self.flows.bytes + self.sound.bytes;
        let before = match self.total.take() {
            Some(total) => {
                self.buffer.clear();
                row::put_figures(&mut self.buffer, &total);
                let mut block = Blocks::default();
                block.add(0, &self.buffer);
                let (_, block) = block.end().unwrap_or_default();
                bytes += room(block.len()) as i64;
                self.totals.insert(key, block.as_slice())?.map(|before| room(before.value().len()))
            }
            None => self.totals.remove(key)?.map(|before| room(before.value().len())),
        };
        bytes -= before.unwrap_or(0) as i64;
        let mut periods = self.transaction.open_table(PERIODS)?;
        let period = (self.level, self.period);
        let known = periods.get(period)?.map(|known| known.value());
        let (entries, held, oldest, newest) = known.unwrap_or((0, 0, u64::MAX, 0));
        let grown = (
            entries.saturating_add_signed(self.figures.entries),
            held.saturating_add_signed(bytes),
            oldest.min(key.1),
            newest.max(key.1),
        );
        periods.insert(period, grown)?;
        if self.sound.bytes != 0 {
            let mut sound = self.transaction.open_table(SOUND)?;
            let held = sound.get(period)?.map_or(0, |held| held.value());
            sound.insert(period, held.saturating_add_signed(self.sound.bytes))?;
        }
        Ok(())
    }
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) committed: u64,
    pub(super) refused: u64,
    pub(super) newest: u64,
}

/// Writes a batch in one transaction. What is there already, of the same path and end, is replaced.
pub(super) fn commit(store: &Store, database: &Database, batch: &[Measured]) -> Result<Done, Trouble> {
    let transaction = begin(database)?;
    let mut catalogue = store.catalogue();
    let floor = floor(&transaction, 0)?;
    let latest = SystemClock.wall().0.saturating_add(AHEAD);
    let mut done = Done::default();
    let mut frames: BTreeMap<(u32, u64), BTreeMap<u32, &Measured>> = BTreeMap::new();
    let mut changed = BTreeSet::new();
    let mut newest: Option<&Measured> = None;
    let mut lengths: BTreeMap<(u64, u32), Length> = BTreeMap::new();
    for summary in batch {
        let end = summary.end.0;
        let timely = end > floor && end <= latest;
        let known = timely.then(|| number(&mut catalogue, summary, &mut changed)).flatten();
        let Some((series, source)) = known else {
            done.refused += 1;
            continue;
        };
        done.committed += 1;
        frames.entry((source, end)).or_default().insert(series, summary);
        let length = end.saturating_sub(summary.start.0).min(LONGEST.as_nanos() as u64);
        let known = lengths.entry((store.layout.level(0).period_of(end), source)).or_default();
        *known = joined(*known, (length, end, length));
        if newest.is_none_or(|newest| newest.end < summary.end) {
            newest = Some(summary);
        }
    }
    if let Some(newest) = newest {
        let mut meta = transaction.open_table(META)?;
        let before = meta.get("newest")?.map_or(0, |before| before.value());
        done.newest = before.max(newest.end.0);
        if newest.end.0 >= before {
            meta.insert("newest", newest.end.0)?;
            meta.insert("interval", newest.end.0.saturating_sub(newest.start.0))?;
        }
    }
    let mut stored = transaction.open_table(LENGTHS)?;
    for (key, length) in lengths {
        let before = stored.get(key)?.map_or(Length::default(), |before| before.value());
        stored.insert(key, joined(before, length))?;
    }
    drop(stored);
    if !changed.is_empty() {
        let mut stored = transaction.open_table(CATALOGUE)?;
        for series in &changed {
            if let Some(entry) = catalogue.get(*series) {
                stored.insert(*series, entry.to_bytes().as_slice())?;
            }
        }
    }
    for ((source, end), summaries) in frames {
        write(&transaction, &store.layout, source, end, summaries)?;
        let mut dirty = transaction.open_table(DIRTY)?;
        for (level, layout) in store.layout.coarser() {
            dirty.insert((level, layout.slot_end(end), source), ())?;
        }
    }
    transaction.commit()?;
    if !changed.is_empty() {
        store.set_catalogue(Arc::unwrap_or_clone(catalogue));
    }
    store.counters.commits.fetch_add(1, Relaxed);
    Ok(done)
}

/// The longest interval, the newest one's end and length.
type Length = (u64, u64, u64);

fn joined(a: Length, b: Length) -> Length {
    let (_, end, length) = if b.1 >= a.1 { b } else { a };
    (a.0.max(b.0), end, length)
}

fn write(
    transaction: &WriteTransaction,
    layout: &Layout,
    source: u32,
    end: u64,
    summaries: BTreeMap<u32, &Measured>,
) -> Result<(), Trouble> {
    let (mut frame, before) = FrameWriter::new(transaction, layout, 0, source, end)?;
    let mut old = before.figures.iter().filter(|(series, _)| !summaries.contains_key(series)).peekable();
    for (series, summary) in &summaries {
        while let Some((earlier, row)) = old.next_if(|(earlier, _)| *earlier < series) {
            frame.keep(*earlier, row, &before)?;
        }
        frame.add(*series, &summary.path, summary.figures.clone(), &summary.flows)?;
    }
    for (series, row) in old {
        frame.keep(*series, row, &before)?;
    }
    frame.end()
}

/// The series and source of a summary's path; `None` when there are too many.
fn number(catalogue: &mut Arc<Catalogue>, summary: &Measured, changed: &mut BTreeSet<u32>) -> Option<(u32, u32)> {
    if let Some((series, entry)) = catalogue.series(&summary.path) {
        let source = entry.source;
        if entry.seen.0.saturating_add(SEEN_STEP) <= summary.end.0 {
            let seen = Entry { seen: summary.end, ..entry.clone() };
            Arc::make_mut(catalogue).insert(series, seen);
            changed.insert(series);
        }
        return Some((series, source));
    }
    if catalogue.len() >= SERIES {
        return None;
    }
    let series = catalogue.next()?;
    let source = catalogue.source(summary.path.src).unwrap_or(series);
    let (path, id) = (summary.path.clone(), PathId::of(&summary.path));
    Arc::make_mut(catalogue).insert(series, Entry { path, id, source, seen: summary.end });
    changed.insert(series);
    Some((series, source))
}

/// Where what a level keeps begins.
pub(super) fn floor(transaction: &WriteTransaction, level: u8) -> Result<u64, Trouble> {
    number_of(transaction, &format!("floor/{level}"))
}

/// Where what a level keeps of sound paths' flows begins.
pub(super) fn sound_floor(transaction: &WriteTransaction, level: u8) -> Result<u64, Trouble> {
    number_of(transaction, &format!("sound/{level}"))
}

/// A number of the file's description; 0 when it is not there.
fn number_of(transaction: &WriteTransaction, name: &str) -> Result<u64, Trouble> {
    let meta = transaction.open_table(META)?;
    let number = meta.get(name)?.map_or(0, |number| number.value());
    Ok(number)
}

/// The end of the newest interval.
pub(super) fn newest(transaction: &WriteTransaction) -> Result<Wall, Trouble> {
    Ok(Wall(number_of(transaction, "newest")?))
}
