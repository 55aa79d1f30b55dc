//! What is deleted when: periods that are too old, flows of sound paths before that, and, when the history is full, the
//! oldest of the level that holds most of its share.
//!
//! A period is deleted as whole tables. Before that, the coarser slots of its time are made, so that nothing is lost
//! but its fineness. Read [`evict`].

use super::catalogue::Catalogue;
use super::layout::{
    BlockTable, CATALOGUE, DIRTY, Kind, LENGTHS, Layout, META, PERIODS, SOUND, TotalTable, horizon, table,
};
use super::rollup::make_all;
use super::scan::{Period, periods};
use super::store::{Store, Trouble};
use crate::time::Wall;
use redb::{ReadableTable, WriteTransaction};
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
    /// Whether flows of sound paths were deleted.
    pub(super) thinned: bool,
    /// Whether there may be more.
    pub(super) more: bool,
    /// The catalogue without paths that nothing is kept of.
    pub(super) catalogue: Option<Catalogue>,
}

/// Deletes what must not be kept any longer.
pub(super) fn evict(store: &Store, transaction: &WriteTransaction, newest: Wall) -> Result<Evicted, Trouble> {
    let layout = &store.layout;
    let catalogue = store.catalogue();
    let thinned = thin(store, transaction, &catalogue, newest)?;
    let mut held = periods(&transaction.open_table(PERIODS)?)?;
    let mut evicted = Evicted { thinned: thinned > 0, ..Evicted::default() };
    for _ in 0..AT_ONCE {
        let Some((at, aged)) = next(layout, &held, newest, store.max_bytes) else { break };
        let gone = held.remove(at);
        let span = span(layout, gone.level, gone.period);
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
    evicted.more = thinned == AT_ONCE || next(layout, &held, newest, store.max_bytes).is_some();
    Ok(evicted)
}

fn end(layout: &Layout, period: &Period) -> u64 {
    layout.level(period.level).end_of(period.period)
}

/// Begin and end of a period.
fn span(layout: &Layout, level: u8, period: u64) -> (u64, u64) {
    let end = layout.level(level).end_of(period);
    (end.saturating_sub(layout.level(level).period), end)
}

/// Deletes flows of sound paths that are too old for their level, once the next one has them; gives the periods.
fn thin(store: &Store, transaction: &WriteTransaction, catalogue: &Catalogue, newest: Wall) -> Result<usize, Trouble> {
    let layout = &store.layout;
    let mut old = Vec::new();
    for entry in transaction.open_table(SOUND)?.iter()? {
        let (level, period) = entry?.0.value();
        let level_of = layout.level(level);
        if level_of.end_of(period) <= horizon(newest, level_of.sound_age) {
            old.push((level, period));
        }
    }
    old.truncate(AT_ONCE);
    for (level, period) in &old {
        let span = span(layout, *level, *period);
        if usize::from(*level) + 1 < layout.0.len() {
            make_all(transaction, layout, catalogue, &store.counters.damaged_blocks, level + 1, span)?;
        }
        transaction.delete_table(BlockTable::new(&table(Kind::Sound, *level, *period)))?;
        let held = transaction.open_table(SOUND)?.remove((*level, *period))?.map_or(0, |held| held.value());
        let mut periods = transaction.open_table(PERIODS)?;
        let known = periods.get((*level, *period))?.map(|known| known.value());
        if let Some((entries, bytes, oldest, newest)) = known {
            periods.insert((*level, *period), (entries, bytes.saturating_sub(held), oldest, newest))?;
        }
        raise(transaction, &format!("sound/{level}"), span.1)?;
    }
    Ok(old.len())
}

/// Raises a floor.
fn raise(transaction: &WriteTransaction, name: &str, to: u64) -> Result<(), Trouble> {
    let mut meta = transaction.open_table(META)?;
    let before = meta.get(name)?.map_or(0, |floor| floor.value());
    meta.insert(name, before.max(to))?;
    Ok(())
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
    // of the level that holds most of its share its oldest; of no level the period that is being written
    let of_level = |level: u8| held.iter().filter(move |period| period.level == level);
    let spare = (0..layout.0.len() as u8).filter(|level| of_level(*level).count() > 1);
    let most = |level: &u8| {
        let bytes: u64 = of_level(*level).map(|period| period.bytes).sum();
        (bytes.saturating_mul(layout.divisor(*level)), std::cmp::Reverse(*level))
    };
    let level = spare.max_by_key(most)?;
    held.iter().position(|period| period.level == level).map(|at| (at, false))
}

fn delete(transaction: &WriteTransaction, layout: &Layout, gone: &Period, span: (u64, u64)) -> Result<(), Trouble> {
    let Period { level, period, .. } = *gone;
    transaction.delete_table(BlockTable::new(&table(Kind::Figures, level, period)))?;
    transaction.delete_table(BlockTable::new(&table(Kind::Flows, level, period)))?;
    transaction.delete_table(BlockTable::new(&table(Kind::Sound, level, period)))?;
    transaction.open_table(SOUND)?.remove((level, period))?;
    transaction.delete_table(TotalTable::new(&table(Kind::Totals, level, period)))?;
    transaction.open_table(PERIODS)?.remove((level, period))?;
    let stale = (level, span.0.saturating_add(1), 0)..=(level, span.1, u32::MAX);
    transaction.open_table(DIRTY)?.retain_in(stale, |_, ()| false)?;
    if level == 0 {
        transaction.open_table(LENGTHS)?.retain_in(..=(period, u32::MAX), |_, _| false)?;
    }
    raise(transaction, &format!("floor/{level}"), end(layout, gone))?;
    raise(transaction, &format!("sound/{level}"), end(layout, gone))
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

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    #[test]
    fn a_full_history_takes_from_the_level_that_holds_most_of_its_share() {
        let layout = Layout::of(&Options::new("x".into()));
        let now = Wall(1_700_000_000_000_000_000);
        let held = |bytes: [u64; 3]| -> Vec<Period> {
            let of = |level: u8| {
                let newest = layout.level(level).period_of(now.0);
                let bytes = bytes[usize::from(level)] / 2;
                [newest - 1, newest].map(|period| Period { level, period, entries: 1, bytes, oldest: 1, newest: now.0 })
            };
            (0..3).flat_map(of).collect()
        };
        let next = |bytes: [u64; 3], most: u64| next(&layout, &held(bytes), now, most);
        // a half for what is as it came, a quarter for each of the two others
        assert_eq!(next([500, 250, 250], 1100), None);
        assert_eq!(next([502, 250, 250], 1100), Some((0, false)));
        assert_eq!(next([500, 252, 250], 1100), Some((2, false)));
        assert_eq!(next([500, 250, 252], 1100), Some((4, false)));
        // who takes less leaves the rest to the others
        assert_eq!(next([900, 52, 52], 1100), Some((0, false)));
        assert_eq!(next([52, 400, 600], 1100), Some((4, false)));
        // of nothing the period that is being written
        let mut alone = held([500, 250, 250]);
        alone.remove(0);
        assert_eq!(super::next(&layout, &alone, now, 100), Some((1, false)));
    }
}
