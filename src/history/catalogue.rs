//! Which path a series number stands for.
//!
//! A path whose tags change gets a new series, so that the past keeps the tags it was measured with. Not responsible
//! for where the catalogue is stored. Read [`Catalogue`].

use crate::matrix::Filter;
use crate::probe::shape::{Dscp, MethodKind};
use crate::summary::Path;
use crate::summary::path_id::PathId;
use crate::time::Wall;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Series at most.
pub(super) const SERIES: usize = 1 << 20;

/// One series.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) path: Arc<Path>,
    pub(super) id: PathId,
    /// Number of the path's source address: of the first series that had it.
    pub(super) source: u32,
    /// When it was last seen, to the day.
    pub(super) seen: Wall,
}

/// An entry as it is stored. What a newer program adds is passed over.
#[derive(Serialize, Deserialize)]
struct Stored {
    src: IpAddr,
    dst: IpAddr,
    method: String,
    dscp: u8,
    group: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    source: u32,
    seen: u64,
}

impl Entry {
    /// As it is stored.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Path { src, dst, method, dscp, group, tags } = &*self.path;
        let stored = Stored {
            src: *src,
            dst: *dst,
            method: method.name().into(),
            dscp: dscp.0,
            group: group.clone(),
            tags: (**tags).clone(),
            source: self.source,
            seen: self.seen.0,
        };
        // texts and numbers: nothing that JSON does not have
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads what was stored; `None` when it is damaged, or of a method that this program does not know.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Entry> {
        let Stored { src, dst, method, dscp, group, tags, source, seen } = serde_json::from_slice(bytes).ok()?;
        let method = MethodKind::ALL.into_iter().find(|kind| kind.name() == method)?;
        let path = Arc::new(Path { src, dst, method, dscp: Dscp(dscp), group, tags: Arc::new(tags) });
        Some(Entry { id: PathId::of(&path), path, source, seen: Wall(seen) })
    }
}

/// What series are looked up by: most of what names a path, and quick to hash.
fn ends(path: &Path) -> (IpAddr, IpAddr, MethodKind, Dscp) {
    (path.src, path.dst, path.method, path.dscp)
}

/// All series.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<u32, Arc<Entry>>,
    of_id: HashMap<PathId, Vec<u32>>,
    of_path: HashMap<(IpAddr, IpAddr, MethodKind, Dscp), Vec<u32>>,
    /// The highest number ever used.
    highest: u32,
    sources: HashMap<IpAddr, u32>,
}

/// Series of one source address that are asked for, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) source: u32,
    pub(super) series: Vec<u32>,
    /// Whether these are all of the source's.
    pub(super) all: bool,
}

impl Catalogue {
    /// Adds a series.
    pub(super) fn insert(&mut self, series: u32, entry: Entry) {
        self.sources.entry(entry.path.src).or_insert(entry.source);
        self.reserve(series);
        if !self.entries.contains_key(&series) {
            self.of_id.entry(entry.id).or_default().push(series);
            self.of_path.entry(ends(&entry.path)).or_default().push(series);
        }
        self.entries.insert(series, Arc::new(entry));
    }

    /// Keeps a number from being given out.
    pub(super) fn reserve(&mut self, series: u32) {
        self.highest = self.highest.max(series);
    }

    /// A number for a new series.
    pub(super) fn next(&self) -> Option<u32> {
        self.highest.checked_add(1).filter(|next| *next < u32::MAX)
    }

    /// The series of a path with these very tags.
    pub(super) fn series(&self, path: &Path) -> Option<(u32, &Entry)> {
        let numbers = self.of_path.get(&ends(path))?;
        numbers.iter().find_map(|series| {
            let entry = self.entries.get(series)?;
            (*entry.path == *path).then_some((*series, &**entry))
        })
    }

    /// The source number of an address, when it has one.
    pub(super) fn source(&self, src: IpAddr) -> Option<u32> {
        self.sources.get(&src).copied()
    }

    /// A series.
    pub(super) fn get(&self, series: u32) -> Option<&Arc<Entry>> {
        self.entries.get(&series)
    }

    /// Series known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Arc<Entry>)> {
        self.entries.iter().map(|(series, entry)| (*series, entry))
    }

    /// The catalogue without those last seen before an instant, and their numbers.
    pub(super) fn without_older(&self, than: Wall) -> (Catalogue, Vec<u32>) {
        let (mut kept, mut gone) = (Catalogue { highest: self.highest, ..Catalogue::default() }, Vec::new());
        for (series, entry) in self.iter() {
            match entry.seen < than {
                true => gone.push(series),
                false => kept.insert(series, Entry::clone(entry)),
            }
        }
        (kept, gone)
    }

    /// What a filter takes, by source.
    pub(super) fn select(&self, filter: &Filter) -> Vec<Selected> {
        let mut of_source: BTreeMap<u32, (Vec<u32>, usize)> = BTreeMap::new();
        match filter.path {
            Some(id) => {
                let without_id = Filter { path: None, terms: filter.terms.clone() };
                for series in self.of_id.get(&id).into_iter().flatten() {
                    let Some(entry) = self.get(*series) else { continue };
                    if without_id.takes(&entry.path) {
                        of_source.entry(entry.source).or_insert((Vec::new(), usize::MAX)).0.push(*series);
                    }
                }
            }
            None => {
                for (series, entry) in self.iter() {
                    let (taken, all) = of_source.entry(entry.source).or_default();
                    *all += 1;
                    if filter.takes(&entry.path) {
                        taken.push(series);
                    }
                }
            }
        }
        let selected = of_source.into_iter().map(|(source, (mut series, all))| {
            series.sort_unstable();
            Selected { source, all: series.len() == all, series }
        });
        selected.filter(|selected| !selected.series.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Key;
    use crate::sink::record::samples;

    fn entry(n: u8, rack: &str, source: u32) -> Entry {
        let tags = BTreeMap::from([("rack".to_string(), rack.to_string())]);
        let src = IpAddr::from([10, 0, 0, source as u8]);
        let path = Path { src, dst: [10, 1, 0, n].into(), tags: Arc::new(tags), ..(*samples::full().path).clone() };
        Entry { id: PathId::of(&path), path: Arc::new(path), source, seen: Wall(u64::from(n)) }
    }

    #[test]
    fn entries_come_back() {
        let given = entry(7, "a \"quoted\"\n rack", 3);
        let back = Entry::from_bytes(&given.to_bytes()).expect("an entry");
        assert_eq!((&back.path, back.id, back.source, back.seen), (&given.path, given.id, given.source, given.seen));
        assert!(Entry::from_bytes(b"{}").is_none());
    }

    #[test]
    fn a_path_with_other_tags_is_another_series() {
        let mut catalogue = Catalogue::default();
        catalogue.insert(1, entry(1, "a", 1));
        catalogue.insert(2, entry(1, "b", 1));
        catalogue.insert(3, entry(2, "b", 1));
        catalogue.insert(4, entry(2, "b", 4));
        assert_eq!(catalogue.series(&entry(1, "b", 1).path).map(|found| found.0), Some(2));
        assert!(catalogue.series(&entry(1, "c", 1).path).is_none());
        let selected = |filter: &Filter| catalogue.select(filter);
        let one = |source, series: &[u32], all| Selected { source, series: series.to_vec(), all };
        assert_eq!(selected(&Filter::all()), [one(1, &[1, 2, 3], true), one(4, &[4], true)]);
        let mut filter = Filter { path: Some(entry(1, "", 1).id), ..Filter::all() };
        assert_eq!(selected(&filter), [one(1, &[1, 2], false)]);
        filter.add(Key::Tag("rack".into()), "b".into());
        assert_eq!(selected(&filter), [one(1, &[2], false)]);
        filter.path = None;
        assert_eq!(selected(&filter), [one(1, &[2, 3], false), one(4, &[4], true)]);
        let (kept, gone) = catalogue.without_older(Wall(2));
        assert_eq!((gone, kept.len()), (vec![1, 2], 2));
    }
}
