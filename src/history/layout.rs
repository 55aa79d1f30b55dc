//! Where entries stand in the file: levels, slots, periods, tables and keys.
//!
//! Pure. Read [`Layout`].

use super::Options;
use crate::time::{Wall, nanos};
use redb::TableDefinition;

/// Source, end of the interval or slot, and the first series of a block.
pub(super) type BlockKey = (u32, u64, u32);
/// Blocks of rows.
pub(super) type BlockTable<'a> = TableDefinition<'a, BlockKey, &'static [u8]>;
/// All series of a source joined: by source and end.
pub(super) type TotalTable<'a> = TableDefinition<'a, (u32, u64), &'static [u8]>;

/// Numbers that describe the file.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Series by number.
pub(super) const CATALOGUE: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("catalogue");
/// What each period of each level holds: entries, bytes, end of the oldest and of the newest.
pub(super) const PERIODS: TableDefinition<'_, (u8, u64), (u64, u64, u64, u64)> = TableDefinition::new("periods");
/// Bytes of each period's flows of sound paths, which go first.
pub(super) const SOUND: TableDefinition<'_, (u8, u64), u64> = TableDefinition::new("sound");
/// Slots of coarser levels that something finer was written to since they were: level, end, source.
pub(super) const DIRTY: TableDefinition<'_, (u8, u64, u32), ()> = TableDefinition::new("dirty");

/// How long the intervals of a source are that ended in a period of the first level: period, source; the longest, the
/// newest one's end and length.
pub(super) const LENGTHS: TableDefinition<'_, (u64, u32), (u64, u64, u64)> = TableDefinition::new("lengths");

/// What a table of a period holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Figures.
    Figures,
    /// The worst flows of paths of which one of them lost a probe or changed its class.
    Flows,
    /// The worst flows of other paths.
    Sound,
    /// Figures of a source's series joined.
    Totals,
}

/// Raw periods have so many slots of the next level.
const SLOTS: u64 = 3;
/// Periods of a coarser level have so many slots of the next one.
const COARSE_SLOTS: u64 = 6;
/// Periods of the last level have so many of its own slots.
const LAST_SLOTS: u64 = 72;
/// How long flows of sound paths are kept as they came, ns: an hour.
const SOUND_AGE: u64 = 3_600_000_000_000;
/// Length of raw periods without coarser levels, ns.
const ALONE: u64 = 900_000_000_000;

/// One level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelLayout {
    /// Length of its slots, ns; 0 of the level that keeps intervals as they came.
    pub(super) resolution: u64,
    /// Length of its periods, ns: a multiple of the next level's slots.
    pub(super) period: u64,
    /// How long its entries are kept, ns.
    pub(super) max_age: u64,
    /// How long flows of sound paths are kept, ns: until then the next level has them joined.
    pub(super) sound_age: u64,
}

/// All levels, finest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout(pub(super) Vec<LevelLayout>);

impl Layout {
    /// The layout for these options.
    pub(super) fn of(options: &Options) -> Layout {
        let resolution = |n: usize| options.levels.get(n).map(|level| nanos(level.resolution));
        let raw = LevelLayout {
            resolution: 0,
            period: resolution(0).map_or(ALONE, |next| SLOTS * next),
            max_age: nanos(options.max_age),
            sound_age: if options.levels.is_empty() { u64::MAX } else { SOUND_AGE },
        };
        // yesterday's, where summaries are kept as they came for a day
        let ages = std::iter::once(options.max_age).chain(options.levels.iter().map(|level| level.max_age));
        let coarser = options.levels.iter().zip(ages).enumerate().map(|(n, (level, finer_age))| LevelLayout {
            resolution: nanos(level.resolution),
            period: match resolution(n + 1) {
                Some(next) => COARSE_SLOTS * next,
                None => LAST_SLOTS * nanos(level.resolution),
            },
            max_age: nanos(level.max_age),
            sound_age: nanos(finer_age),
        });
        Layout(std::iter::once(raw).chain(coarser).collect())
    }

    /// Whether each level's slots are whole slots of the finer one.
    pub(super) fn fits(&self) -> bool {
        let coarse: Vec<u64> = self.0.iter().skip(1).map(|level| level.resolution).collect();
        coarse.iter().all(|resolution| *resolution >= 1_000_000_000)
            && coarse.windows(2).all(|pair| pair[1] > pair[0] && pair[1] % pair[0] == 0)
    }

    /// The share of all bytes that a level may hold before it goes first: a half, a quarter, and so on, as the divisor.
    pub(super) fn divisor(&self, level: u8) -> u64 {
        1 << (usize::from(level) + 1).min(self.0.len().saturating_sub(1))
    }

    /// Levels above the raw one, finest first.
    pub(super) fn coarser(&self) -> impl DoubleEndedIterator<Item = (u8, LevelLayout)> + '_ {
        self.0.iter().enumerate().skip(1).map(|(level, layout)| (level as u8, *layout))
    }

    /// A level; the coarsest when there are not as many.
    pub(super) fn level(&self, level: u8) -> LevelLayout {
        let last = self.0.len().saturating_sub(1);
        self.0.get(usize::from(level).min(last)).copied().unwrap_or(LevelLayout {
            resolution: 0,
            period: ALONE,
            max_age: u64::MAX,
            sound_age: u64::MAX,
        })
    }
}

impl LevelLayout {
    /// The period of what ended at `end`: periods are half open, as windows are.
    pub(super) fn period_of(&self, end: u64) -> u64 {
        end.saturating_sub(1) / self.period
    }

    /// Where a period ends.
    pub(super) fn end_of(&self, period: u64) -> u64 {
        (period + 1).saturating_mul(self.period)
    }

    /// Where the slot of what ended at `end` ends; the same instant in the level without slots.
    pub(super) fn slot_end(&self, end: u64) -> u64 {
        match self.resolution {
            0 => end,
            slot => end.div_ceil(slot).saturating_mul(slot),
        }
    }

    /// A window widened to whole slots.
    pub(super) fn widened(&self, from: u64, to: u64) -> (u64, u64) {
        match self.resolution {
            0 => (from, to),
            slot => (from / slot * slot, self.slot_end(to)),
        }
    }
}

/// The name of a period's table.
pub(super) fn table(kind: Kind, level: u8, period: u64) -> String {
    let kind = match kind {
        Kind::Figures => "figures",
        Kind::Flows => "flows",
        Kind::Sound => "sound",
        Kind::Totals => "totals",
    };
    format!("{kind}/{level}/{period}")
}

/// The instant after which nothing is kept that is older than `age` at `now`.
pub(super) fn horizon(now: Wall, age: u64) -> u64 {
    now.0.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn periods_hold_whole_slots_of_the_next_level() {
        let layout = Layout::of(&Options::new("x".into()));
        assert!(layout.fits() && layout.0.len() == 3, "{layout:?}");
        for pair in layout.0.windows(2) {
            assert_eq!(pair[0].period % pair[1].resolution, 0, "{layout:?}");
        }
        let five_minutes = layout.level(1);
        assert_eq!(five_minutes.slot_end(300 * SECOND), 300 * SECOND);
        assert_eq!(five_minutes.slot_end(300 * SECOND + 1), 600 * SECOND);
        assert_eq!(five_minutes.widened(300 * SECOND, 301 * SECOND), (300 * SECOND, 600 * SECOND));
        let raw = layout.level(0);
        assert_eq!((raw.period_of(900 * SECOND), raw.period_of(900 * SECOND + 1)), (0, 1));
        assert_eq!(raw.end_of(0), 900 * SECOND);
        assert_eq!(raw.widened(5, 7), (5, 7));
    }

    #[test]
    fn levels_that_do_not_divide_do_not_fit() {
        let mut options = Options::new("x".into());
        options.levels[1].resolution = std::time::Duration::from_secs(3700);
        assert!(!Layout::of(&options).fits());
        options.levels.clear();
        assert!(Layout::of(&options).fits());
    }
}
