//! Which positions may be stored: those whose summaries have left memory, for the database or the spool.
//!
//! A pull hands its summaries to the sinks and enters its new position with the sinks' [`Mark`] of that moment. Once
//! every sink has taken all up to the mark out of its queue, the position is stored. A process that is killed before
//! repeats that pull after its restart: the points are the same, and overwrite themselves. Read [`Book`].

use super::list::Address;
use super::positions::{self, Position};
use crate::sink::SinkCounters;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much each sink had been given at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark(Vec<u64>);

impl Mark {
    /// What the sinks have been given so far. Nobody may hand them anything meanwhile.
    pub fn given(sinks: &[Arc<SinkCounters>]) -> Mark {
        Mark(sinks.iter().map(|sink| sink.snapshot().accepted).collect())
    }

    /// What has left the queues of the sinks so far, oldest first: it is written, in the spool, or given up and
    /// counted. Nobody may hand them anything meanwhile.
    pub fn settled(sinks: &[Arc<SinkCounters>]) -> Mark {
        let settled = |sink: &Arc<SinkCounters>| {
            let counters = sink.snapshot();
            counters.accepted.saturating_sub(counters.queued)
        };
        Mark(sinks.iter().map(settled).collect())
    }

    fn reaches(&self, other: &Mark) -> bool {
        self.0.iter().zip(&other.0).all(|(settled, given)| settled >= given)
    }
}

#[derive(Debug, Default)]
struct Entry {
    stored: Option<Position>,
    /// Positions whose summaries are still under way, oldest first. The sinks' queues bound them.
    pending: VecDeque<(Mark, Position)>,
}

#[derive(Debug, Default)]
struct Entries {
    entries: HashMap<Address, Entry>,
    /// Something in `stored` is not in the file.
    changed: bool,
}

/// The positions of all collectors. Without a file it keeps nothing: a restart then begins anew.
#[derive(Debug)]
pub struct Book {
    path: Option<PathBuf>,
    /// Held as long as the book: two that store in one file would each drop the other's positions.
    _lock: Option<Flock<File>>,
    entries: Mutex<Entries>,
    writes: AtomicU64,
    failed_writes: AtomicU64,
}

impl Book {
    /// Opens the file, and gives what an earlier process stored. A damaged one is set aside as `*.damaged`.
    ///
    /// # Errors
    /// It can be neither read nor set aside, or its folder cannot be written; [`io::ErrorKind::WouldBlock`] when another
    /// process stores its positions there.
    pub fn open(path: Option<PathBuf>) -> io::Result<(Book, HashMap<Address, Position>)> {
        let mut stored = HashMap::new();
        let lock = path.as_deref().map(lock).transpose()?;
        if let Some(path) = &path {
            stored = match positions::read(path) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let aside = path.with_extension("damaged");
                    std::fs::rename(path, &aside)?;
                    tracing::warn!(
                        "{}: {error}; set aside as {}, all that collectors still hold is pulled again",
                        path.display(),
                        aside.display()
                    );
                    HashMap::new()
                }
                read => read?,
            };
            // better told now than when it matters
            positions::write(path, stored.iter())?;
        }
        let entry = |position: &Position| Entry { stored: Some(position.clone()), pending: VecDeque::new() };
        let entries = stored.iter().map(|(address, position)| (address.clone(), entry(position))).collect();
        let entries = Mutex::new(Entries { entries, changed: false });
        Ok((Book { path, _lock: lock, entries, writes: AtomicU64::new(0), failed_writes: AtomicU64::new(0) }, stored))
    }

    /// Where positions are stored.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a position that holds once the sinks reach `mark`.
    pub fn enter(&self, address: &Address, position: Position, mark: Mark) {
        if self.path.is_some() {
            self.lock().entries.entry(address.clone()).or_default().pending.push_back((mark, position));
        }
    }

    /// Stores a position at once: the file is on disk when this returns.
    ///
    /// # Errors
    /// The file cannot be written; it is tried again by [`Book::save`].
    pub fn store(&self, address: &Address, position: Position) -> io::Result<()> {
        if self.path.is_none() {
            return Ok(());
        }
        let mut book = self.lock();
        let entry = book.entries.entry(address.clone()).or_default();
        // what is under way belongs to what came before
        entry.pending.clear();
        entry.stored = Some(position);
        book.changed = true;
        self.write(&mut book)
    }

    /// Takes over the positions that `settled` reaches.
    pub fn settle(&self, settled: &Mark) {
        let mut book = self.lock();
        let mut changed = false;
        for entry in book.entries.values_mut() {
            while entry.pending.front().is_some_and(|(mark, _)| settled.reaches(mark)) {
                entry.stored = entry.pending.pop_front().map(|(_, position)| position);
                changed = true;
            }
        }
        book.changed |= changed;
    }

    /// Writes the file when something changed.
    ///
    /// # Errors
    /// It cannot be written; the next call tries again.
    pub fn save(&self) -> io::Result<()> {
        let mut book = self.lock();
        if book.changed { self.write(&mut book) } else { Ok(()) }
    }

    fn write(&self, book: &mut Entries) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let stored = book.entries.iter().filter_map(|(address, entry)| Some((address, entry.stored.as_ref()?)));
        self.writes.fetch_add(1, Relaxed);
        let written = positions::write(path, stored);
        match &written {
            Ok(()) => book.changed = false,
            Err(_) => _ = self.failed_writes.fetch_add(1, Relaxed),
        }
        written
    }

    /// Forgets all collectors but these.
    pub fn keep(&self, addresses: impl Fn(&Address) -> bool) {
        let mut book = self.lock();
        let before = book.entries.len();
        book.entries.retain(|address, _| addresses(address));
        book.changed |= book.entries.len() != before;
    }

    /// Writes of the file begun, and those of them that failed.
    pub fn writes(&self) -> (u64, u64) {
        (self.writes.load(Relaxed), self.failed_writes.load(Relaxed))
    }
}

/// Locks a file of positions, by a file beside it that stays: the positions' own is replaced at every write.
fn lock(path: &Path) -> io::Result<Flock<File>> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(name)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u64) -> Position {
        Position::Sequence { instance: "a".into(), last }
    }

    fn host(name: &str) -> Address {
        name.parse().unwrap()
    }

    #[test]
    fn a_position_is_stored_once_every_sink_has_let_its_summaries_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions");
        let (book, stored) = Book::open(Some(path.clone())).unwrap();
        assert!(stored.is_empty());
        let stored = || positions::read(&path).unwrap().get(&host("a")).cloned();
        book.enter(&host("a"), at(5), Mark(vec![10, 3]));
        book.enter(&host("a"), at(9), Mark(vec![20, 3]));
        for (settled, expected) in [([9, 3], None), ([15, 2], None), ([10, 3], Some(at(5))), ([20, 3], Some(at(9)))] {
            book.settle(&Mark(settled.into()));
            book.save().unwrap();
            assert_eq!(stored(), expected, "{settled:?}");
        }
        let (writes, failed) = book.writes();
        book.save().unwrap();
        assert_eq!((book.writes(), failed), ((writes, 0), 0), "nothing new is not written");
        drop(book);
        let (book, stored) = Book::open(Some(path.clone())).unwrap();
        assert_eq!(stored[&host("a")], at(9));
        book.keep(|_| false);
        book.save().unwrap();
        assert!(positions::read(&path).unwrap().is_empty());
    }

    #[test]
    fn a_file_has_one_book_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions");
        let (book, _) = Book::open(Some(path.clone())).unwrap();
        book.store(&host("a"), at(6)).unwrap();
        assert_eq!(Book::open(Some(path.clone())).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(book);
        assert_eq!(Book::open(Some(path)).unwrap().1[&host("a")], at(6));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("positions");
        std::fs::write(&path, "llama scraper positions 1\na:5000 seq").unwrap();
        let (_book, stored) = Book::open(Some(path.clone())).unwrap();
        assert!(stored.is_empty());
        assert!(path.with_extension("damaged").exists());
        assert!(Book::open(Some("/no/such/folder/positions".into())).is_err());
    }

    #[test]
    fn without_a_file_nothing_is_kept() {
        let (book, _) = Book::open(None).unwrap();
        book.enter(&host("a"), at(5), Mark::default());
        book.store(&host("a"), at(6)).unwrap();
        assert!(book.lock().entries.is_empty());
    }
}
