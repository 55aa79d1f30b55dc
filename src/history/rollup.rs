//! Coarser levels: a slot's entries are made anew of the finer level's, whenever one of these was written.
//!
//! A slot is marked stale in the transaction that writes to it, and made in one that takes the mark away. So after a
//! crash it is either as it was and marked, or made: nothing is counted twice, nothing is lost, and there is nothing to
//! rebuild at a start. Read [`due`] and [`make`].

use super::catalogue::Catalogue;
use super::frame::{FrameWriter, sound_floor};
use super::layout::{BlockTable, DIRTY, Kind, Layout, table};
use super::row;
use super::scan::blocks;
use super::store::Trouble;
use crate::summary::figures::Figures;
use crate::summary::{FlowSummary, WORST_FLOWS};
use redb::{ReadableTable, WriteTransaction};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

/// How long after its end a slot is made, in the time of what is measured: until then, some of it may be on its way.
const GRACE: u64 = 30_000_000_000;
/// Slots made in one transaction at most.
const AT_ONCE: usize = 64;
/// Series whose entries are joined at a time: memory for a frame does not grow with its paths.
const SERIES: u32 = 2048;

/// A slot of a coarser level, of one source.
pub(super) type Slot = (u8, u64, u32);

/// Slots that are stale and over, finer levels first.
pub(super) fn due(transaction: &WriteTransaction, layout: &Layout, newest: u64) -> Result<Vec<Slot>, Trouble> {
    let dirty = transaction.open_table(DIRTY)?;
    let mut found = Vec::new();
    for (level, layout) in layout.coarser() {
        for slot in dirty.range((level, 0, 0)..=(level, newest.saturating_sub(GRACE), u32::MAX))? {
            let slot = slot?.0.value();
            if !finer_is_stale(&dirty, slot, layout.resolution)? {
                found.push(slot);
            }
            if found.len() == AT_ONCE {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Whether a slot's parts are stale themselves.
fn finer_is_stale(
    dirty: &impl ReadableTable<Slot, ()>,
    (level, end, source): Slot,
    resolution: u64,
) -> Result<bool, Trouble> {
    let from = end.saturating_sub(resolution) + 1;
    for finer in dirty.range((level - 1, from, 0)..=(level - 1, end, u32::MAX))? {
        if finer?.0.value().2 == source {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes every stale slot of a level and the finer ones that ends within a span, whether it is over or not.
pub(super) fn make_all(
    transaction: &WriteTransaction,
    layout: &Layout,
    catalogue: &Catalogue,
    damaged: &AtomicU64,
    level: u8,
    (from, to): (u64, u64),
) -> Result<(), Trouble> {
    for level in 1..=level {
        let stale: Vec<Slot> = {
            let dirty = transaction.open_table(DIRTY)?;
            let range = dirty.range((level, from.saturating_add(1), 0)..=(level, to, u32::MAX))?;
            range.map(|slot| Ok(slot?.0.value())).collect::<Result<_, redb::StorageError>>()?
        };
        for slot in stale {
            make(transaction, layout, catalogue, damaged, slot)?;
        }
    }
    Ok(())
}

/// What is joined of one series.
#[derive(Default)]
struct Joined {
    figures: Figures,
    flows: Vec<FlowSummary>,
}

/// Makes one slot of the finer level's entries, and takes its mark away.
pub(super) fn make(
    transaction: &WriteTransaction,
    layout: &Layout,
    catalogue: &Catalogue,
    damaged: &AtomicU64,
    (level, end, source): Slot,
) -> Result<(), Trouble> {
    let finer = level - 1;
    let span = (end.saturating_sub(layout.level(level).resolution), end);
    let period = layout.level(finer).period_of(end); // periods hold whole slots
    let figures = transaction.open_table(BlockTable::new(&table(Kind::Figures, finer, period)))?;
    let flows = [Kind::Flows, Kind::Sound]
        .map(|kind| transaction.open_table(BlockTable::new(&table(kind, finer, period))))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    // flows that the slot has are no longer all there to make them of
    let thinned = sound_floor(transaction, finer)? >= end;
    let numbers: Vec<u32> =
        catalogue.iter().filter(|(_, entry)| entry.source == source).map(|(series, _)| series).collect();
    let (mut frame, before) = FrameWriter::new(transaction, layout, level, source, end)?;
    for chunk in numbers.chunks(SERIES as usize) {
        let (Some(least), Some(most)) = (chunk.first(), chunk.last()) else { continue };
        let range = (*least, *most);
        let mut joined: BTreeMap<u32, Joined> = BTreeMap::new();
        blocks(&figures, source, span, range, damaged, &mut |_, series, bytes| {
            if let Some(figures) = row::figures(bytes) {
                joined.entry(series).or_default().figures.add_time(&figures);
            }
            Ok(())
        })?;
        for flows in &flows {
            blocks(flows, source, span, range, damaged, &mut |_, series, bytes| {
                let path = catalogue.get(series).map(|entry| &*entry.path);
                if let (Some(joined), Some(path)) = (joined.get_mut(&series), path) {
                    add_flows(&mut joined.flows, row::flows(bytes, path).unwrap_or_default());
                }
                Ok(())
            })?;
        }
        for (series, mut joined) in joined {
            let Some(entry) = catalogue.get(series) else { continue };
            keep_worst(&mut joined.flows);
            if let Some(had) = before.flows(series).filter(|_| thinned) {
                let had = row::flows(had, &entry.path).unwrap_or_default();
                if sent(&had) > sent(&joined.flows) {
                    joined.flows = had;
                }
            }
            frame.add(series, &entry.path, joined.figures, &joined.flows)?;
        }
    }
    frame.end()?;
    transaction.open_table(DIRTY)?.remove((level, end, source))?;
    Ok(())
}

/// Joins flows of another interval.
fn add_flows(to: &mut Vec<FlowSummary>, more: Vec<FlowSummary>) {
    for flow in more {
        match to.iter_mut().find(|known| known.is_same(&flow)) {
            Some(known) => *known += &flow,
            None => to.push(flow),
        }
    }
}

/// Probes that flows tell of.
fn sent(flows: &[FlowSummary]) -> u64 {
    flows.iter().map(|flow| flow.sent).sum()
}

/// Keeps the worst flows, most lost first, then the slowest.
fn keep_worst(flows: &mut Vec<FlowSummary>) {
    flows.sort_by(FlowSummary::worse_first);
    flows.truncate(WORST_FLOWS);
}
