//! What is deleted when: periods that are too old, and the oldest of the finest level when the history is full.
//!
//! A period is deleted as whole tables. Before that, the coarser slots of its time are made, so that nothing is lost
//! but its fineness. Read [`evict`].

use super::catalogue::Catalogue;
use super::layout::{BlockTable, CATALOGUE, DIRTY, Kind, LENGTHS, Layout, META, PERIODS, TotalTable, horizon, table};
use super::rollup::make_all;
use super::scan::{Period, periods};
use super::store::{Store, Trouble};
use crate::time::Wall;
use redb::WriteTransaction;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Periods deleted in one transaction at most.
const AT_ONCE: usize = 4;
/// A path is forgotten when it was not seen for as long as anything is kept, and this, in ns: two days.
const FORGOTTEN: u64 = 172_800_000_000_000;

/// What a transaction deleted.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    pub(super) age: u64,
    pub(super) bytes: u64,
    /// Whether there may be more.
    pub(super) more: bool,
    /// The catalogue without paths that nothing is kept of.
    pub(super) catalogue: Option<Catalogue>,
}

/// Deletes what must not be kept any longer.
pub(super) fn evict(store: &Store, transaction: &WriteTransaction, newest: Wall) -> Result<Evicted, Trouble> {
    let layout = &store.layout;
    let catalogue = store.catalogue();
    let mut held = periods(&transaction.open_table(PERIODS)?)?;
    let mut evicted = Evicted::default();
    for _ in 0..AT_ONCE {
        let Some((at, aged)) = next(layout, &held, newest, store.options.max_bytes) else { break };
        let gone = held.remove(at);
        let span = (layout.level(gone.level).end_of(gone.period) - layout.level(gone.level).period, end(layout, &gone));
        if usize::from(gone.level) + 1 < layout.0.len() {
            make_all(transaction, layout, &catalogue, &store.counters.damaged_blocks, gone.level + 1, span)?;
            held = periods(&transaction.open_table(PERIODS)?)?;
            held.retain(|period| (period.level, period.period) != (gone.level, gone.period));
        }
        delete(transaction, layout, &gone, span)?;
        match aged {
            true => evicted.age += gone.entries,
            false => evicted.bytes += gone.entries,
        }
        if usize::from(gone.level) + 1 == layout.0.len() {
            evicted.catalogue = forget(transaction, layout, &catalogue, newest)?;
        }
    }
    evicted.more = next(layout, &held, newest, store.options.max_bytes).is_some();
    Ok(evicted)
}

fn end(layout: &Layout, period: &Period) -> u64 {
    layout.level(period.level).end_of(period.period)
}

/// The period to go next, by its position, and whether that is for its age.
fn next(layout: &Layout, held: &[Period], newest: Wall, max_bytes: u64) -> Option<(usize, bool)> {
    let too_old = |period: &Period| end(layout, period) <= horizon(newest, layout.level(period.level).max_age);
    if let Some(at) = held.iter().position(too_old) {
        return Some((at, true));
    }
    let bytes: u64 = held.iter().map(|period| period.bytes).sum();
    if bytes + bytes / 10 <= max_bytes {
        return None; // a tenth more: pages of the tree itself, and those not yet free
    }
    // the finest first; of no level the period that is being written
    let spare = |(at, period): &(usize, &Period)| held.get(at + 1).is_some_and(|next| next.level == period.level);
    held.iter().enumerate().find(spare).map(|(at, _)| (at, false))
}

fn delete(transaction: &WriteTransaction, layout: &Layout, gone: &Period, span: (u64, u64)) -> Result<(), Trouble> {
    let Period { level, period, .. } = *gone;
    transaction.delete_table(BlockTable::new(&table(Kind::Figures, level, period)))?;
    transaction.delete_table(BlockTable::new(&table(Kind::Flows, level, period)))?;
    transaction.delete_table(TotalTable::new(&table(Kind::Totals, level, period)))?;
    transaction.open_table(PERIODS)?.remove((level, period))?;
    let stale = (level, span.0.saturating_add(1), 0)..=(level, span.1, u32::MAX);
    transaction.open_table(DIRTY)?.retain_in(stale, |_, ()| false)?;
    if level == 0 {
        transaction.open_table(LENGTHS)?.retain_in(..=(period, u32::MAX), |_, _| false)?;
    }
    let mut meta = transaction.open_table(META)?;
    let name = format!("floor/{level}");
    let before = redb::ReadableTable::get(&meta, name.as_str())?.map_or(0, |floor| floor.value());
    meta.insert(name.as_str(), before.max(end(layout, gone)))?;
    Ok(())
}

/// Takes paths out of the catalogue that nothing is kept of.
fn forget(
    transaction: &WriteTransaction,
    layout: &Layout,
    catalogue: &Arc<Catalogue>,
    newest: Wall,
) -> Result<Option<Catalogue>, Trouble> {
    let longest = layout.0.iter().map(|level| level.max_age + level.period).max().unwrap_or(0);
    let (kept, gone) = catalogue.without_older(Wall(horizon(newest, longest.saturating_add(FORGOTTEN))));
    if gone.is_empty() {
        return Ok(None);
    }
    let mut stored = transaction.open_table(CATALOGUE)?;
    for series in gone {
        stored.remove(series)?;
    }
    Ok(Some(kept))
}

/// Publishes what a transaction deleted.
pub(super) fn publish(store: &Store, evicted: Evicted) {
    store.counters.evicted_age.fetch_add(evicted.age, Relaxed);
    store.counters.evicted_bytes.fetch_add(evicted.bytes, Relaxed);
    if let Some(catalogue) = evicted.catalogue {
        store.set_catalogue(catalogue);
    }
}
