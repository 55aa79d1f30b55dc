//! The file and who has it: opening, setting damaged ones aside, one transaction at a time.
//!
//! Responsible for that there is a usable database or a reason. Not responsible for what is written to it. Read
//! [`Store`].

use super::catalogue::{Catalogue, Entry};
use super::counters::HistoryCounters;
use super::layout::{CATALOGUE, DIRTY, LENGTHS, Layout, META, PERIODS, horizon};
use super::scan::periods;
use super::{HistoryError, MOST, Options, SMALLEST};
use crate::time::Wall;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use redb::{Database, ReadableDatabase, ReadableTable, TableHandle, WriteTransaction};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Format written.
const FORMAT: u64 = 1;
/// The file's name in its directory.
const FILE: &str = "history.redb";
/// Damaged files that are kept.
const KEPT_DAMAGED: usize = 2;
/// Files up to so many bytes are checked in full at every start.
const CHECKED: u64 = 256 << 20;
/// How long readers may hold a database that is to be opened anew.
const READERS: Duration = Duration::from_secs(10);

/// Why a transaction came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The file says what cannot be.
    Damage(String),
    /// The disk or something else says no; it may be well later.
    Disk(String),
}

impl Trouble {
    pub(super) fn text(&self) -> &str {
        match self {
            Trouble::Damage(text) | Trouble::Disk(text) => text,
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Trouble {
        let error = error.into();
        let text = error.to_string();
        match error {
            redb::Error::Io(io) if !matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Trouble::Disk(text)
            }
            redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::DatabaseAlreadyOpen => {
                Trouble::Disk(text)
            }
            _ => Trouble::Damage(text),
        }
    }
}

/// A history's file, its catalogue and counters, shared by its thread and its readers.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) options: Options,
    /// Bytes at most.
    pub(super) max_bytes: u64,
    pub(super) layout: Layout,
    pub(super) counters: Arc<HistoryCounters>,
    database: Mutex<Option<Arc<Database>>>,
    catalogue: RwLock<Arc<Catalogue>>,
    /// What a reader stumbled over.
    suspected: Mutex<Option<String>>,
    lock: Mutex<Option<Flock<File>>>,
}

impl Store {
    pub(super) fn open(options: Options) -> Result<Store, HistoryError> {
        if let Some(few) = options.max_bytes.filter(|bytes| *bytes < SMALLEST) {
            return Err(HistoryError::Small(few));
        }
        let layout = Layout::of(&options);
        if !layout.fits() {
            return Err(HistoryError::Levels(options.levels.iter().map(|level| level.resolution).collect()));
        }
        let lock = prepare(&options.directory)?;
        let max_bytes = options.max_bytes.unwrap_or_else(|| half_of_free(&options.directory));
        let store = Store {
            options,
            max_bytes,
            layout,
            counters: Arc::default(),
            database: Mutex::default(),
            catalogue: RwLock::default(),
            suspected: Mutex::default(),
            lock: Mutex::new(Some(lock)),
        };
        store.counters.max_bytes.store(max_bytes, Relaxed);
        let small = std::fs::metadata(store.file()).is_ok_and(|file| file.len() <= CHECKED);
        store.open_file(small)?;
        Ok(store)
    }

    fn file(&self) -> PathBuf {
        self.options.directory.join(FILE)
    }

    /// Opens the file, or sets it aside and begins a new one.
    fn open_file(&self, thorough: bool) -> Result<(), HistoryError> {
        let file = self.file();
        let reason = match self.try_open(thorough)? {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let aside = self.options.directory.join(format!("{FILE}.damaged-{seconds}"));
        std::fs::rename(&file, &aside)
            .map_err(|error| HistoryError::Damaged { path: file.clone(), reason: format!("{reason}; {error}") })?;
        self.counters.damaged_files.fetch_add(1, Relaxed);
        let text = format!("history: {} is damaged ({reason}): set aside as {}", file.display(), aside.display());
        tracing::warn!("{text}");
        self.counters.note(text);
        forget_damaged(&self.options.directory);
        self.try_open(false)?.map_err(|reason| HistoryError::Damaged { path: file, reason })
    }

    /// Opens the file; the inner error says what is damaged.
    fn try_open(&self, thorough: bool) -> Result<Result<(), String>, HistoryError> {
        let path = self.file();
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<Result<Opened, HistoryError>, Trouble> {
            let mut database = Database::builder().set_cache_size(self.options.cache_bytes).create(&path)?;
            if thorough {
                database.check_integrity()?;
            }
            Ok(self.look_at(&database)?.map(|(catalogue, held)| (database, catalogue, held)))
        }));
        let (mut database, catalogue, held) = match opened {
            Ok(Ok(opened)) => opened?,
            Ok(Err(Trouble::Damage(reason))) => return Ok(Err(reason)),
            Ok(Err(Trouble::Disk(reason))) => return Err(HistoryError::Store { path, reason }),
            Err(panic) => return Ok(Err(said(&*panic))),
        };
        let taken = std::fs::metadata(&path).map_or(0, |file| file.blocks() * 512);
        if taken > self.max_bytes && taken > 2 * held {
            // larger than allowed, and half of it is room that nothing uses: give it back while nobody waits
            let compacted = catch_unwind(AssertUnwindSafe(|| database.compact()));
            if !matches!(compacted, Ok(Ok(_))) {
                self.counters.note(format!("history: {} could not be compacted", path.display()));
            }
        }
        self.counters.paths.store(catalogue.len() as u64, Relaxed);
        self.set_catalogue(catalogue);
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
        self.measure();
        Ok(Ok(()))
    }

    /// Makes what a new file needs, and reads what an old one has: its catalogue, and the bytes of its entries.
    fn look_at(&self, database: &Database) -> Result<Result<(Catalogue, u64), HistoryError>, Trouble> {
        let transaction = begin(database)?;
        let others = transaction.list_tables()?.any(|table| table.name() != META.name());
        let mut catalogue = Catalogue::default();
        let (begun, held);
        {
            let mut meta = transaction.open_table(META)?;
            let path = self.file();
            let format = meta.get("format")?.map(|format| format.value());
            begun = format.is_none();
            match format {
                Some(FORMAT) => {}
                Some(found) if found > FORMAT => {
                    return Ok(Err(HistoryError::Newer { path, found, known: FORMAT }));
                }
                Some(_) => return Err(Trouble::Damage("its format is none".into())),
                None if others => return Err(Trouble::Damage("it is another program's".into())),
                None => {
                    meta.insert("format", FORMAT)?;
                }
            }
            let asked: Vec<u64> = self.layout.coarser().map(|(_, level)| level.resolution).collect();
            let mut has = Vec::new();
            while let Some(resolution) = meta.get(format!("resolution/{}", has.len() + 1).as_str())? {
                has.push(resolution.value());
            }
            if !begun && has != asked {
                let seconds = |levels: &[u64]| levels.iter().map(|ns| ns / 1_000_000_000).collect();
                let (has, asked) = (seconds(&has), seconds(&asked));
                return Ok(Err(HistoryError::OtherLevels { directory: self.options.directory.clone(), has, asked }));
            }
            for (level, layout) in self.layout.coarser() {
                meta.insert(format!("resolution/{level}").as_str(), layout.resolution)?;
            }
            for entry in transaction.open_table(CATALOGUE)?.iter()? {
                let (series, bytes) = entry?;
                catalogue.reserve(series.value());
                if let Some(entry) = Entry::from_bytes(bytes.value()) {
                    catalogue.insert(series.value(), entry);
                }
            }
            held = periods(&transaction.open_table(PERIODS)?)?.iter().map(|period| period.bytes).sum();
            transaction.open_table(DIRTY)?;
            transaction.open_table(LENGTHS)?;
        }
        match begun {
            false => transaction.abort()?,
            true => transaction.commit()?,
        }
        Ok(Ok((catalogue, held)))
    }

    /// The database; `None` while it is being opened anew, and after the end.
    pub(super) fn database(&self) -> Option<Arc<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The catalogue as it is now.
    pub(super) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the catalogue.
    pub(super) fn set_catalogue(&self, catalogue: Catalogue) {
        self.counters.paths.store(catalogue.len() as u64, Relaxed);
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalogue);
    }

    /// Does something with the database; whatever it does, the process goes on.
    pub(super) fn with<T>(&self, f: impl FnOnce(&Database) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let Some(database) = self.database() else {
            return Err(Trouble::Disk("the file is not open".into()));
        };
        // redb trusts what it reads: a damaged page can make it panic
        catch_unwind(AssertUnwindSafe(|| f(&database))).unwrap_or_else(|panic| Err(Trouble::Damage(said(&*panic))))
    }

    /// Tells the thread that the file may be damaged.
    pub(super) fn suspect(&self, reason: &str) {
        *self.suspected.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    /// What a reader stumbled over since it was asked last.
    pub(super) fn suspected(&self) -> Option<String> {
        self.suspected.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Opens the file anew; `thorough` when it may be damaged.
    pub(super) fn reopen(&self, thorough: bool) {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut database) = database {
            let deadline = std::time::Instant::now() + READERS;
            let alone = loop {
                database = match Arc::try_unwrap(database) {
                    Ok(alone) => break Some(alone),
                    Err(shared) if std::time::Instant::now() > deadline => {
                        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared);
                        break None;
                    }
                    Err(shared) => shared,
                };
                std::thread::sleep(Duration::from_millis(5));
            };
            let Some(alone) = alone else { return };
            let _ = catch_unwind(AssertUnwindSafe(|| drop(alone)));
        }
        if let Err(error) = self.open_file(thorough) {
            self.counters.note(error.to_string());
        }
    }

    /// Closes the file and frees the directory, as soon as no reader is at it.
    pub(super) fn shut(&self) {
        let database = self.database.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Publishes what the file holds.
    pub(super) fn measure(&self) {
        let taken = std::fs::metadata(self.file()).map_or(0, |file| file.blocks() * 512);
        self.counters.file_bytes.store(taken, Relaxed);
        let held = self.with(|database| {
            let transaction = database.begin_read()?;
            let (mut bytes, mut oldest, mut newest) = (0, u64::MAX, 0);
            for period in periods(&transaction.open_table(PERIODS)?)? {
                (bytes, oldest) = (bytes + period.bytes, oldest.min(period.oldest));
                if period.level == 0 {
                    newest = newest.max(period.newest);
                }
            }
            let floor = transaction.open_table(META)?.get("floor/0")?.map_or(0, |floor| floor.value());
            // what is older than allowed goes by whole periods: only one that went too early begins after this
            let short = floor > horizon(Wall(newest), self.layout.level(0).max_age);
            Ok((bytes, oldest, newest, short))
        });
        if let Ok((bytes, oldest, newest, short)) = held {
            self.counters.short.store(short, Relaxed);
            self.counters.bytes.store(bytes, Relaxed);
            self.counters.oldest.store(if oldest == u64::MAX { 0 } else { oldest }, Relaxed);
            self.counters.newest.store(newest, Relaxed);
        }
    }
}

type Opened = (Database, Catalogue, u64);

/// Begins a transaction whose commit leaves nothing to repair after a crash.
pub(super) fn begin(database: &Database) -> Result<WriteTransaction, Trouble> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it cannot be read").to_owned()
}

/// Deletes all but the newest files set aside.
fn forget_damaged(directory: &Path) {
    let prefix = format!("{FILE}.damaged-");
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut aside: Vec<(u64, PathBuf)> = files
        .filter_map(|file| Some((file.file_name().to_str()?.strip_prefix(&prefix)?.parse().ok()?, file.path())))
        .collect();
    aside.sort_unstable();
    for (_, path) in &aside[..aside.len().saturating_sub(KEPT_DAMAGED)] {
        let _ = std::fs::remove_file(path);
    }
}

/// What a history in a directory may take that nobody set a limit for: half of what is free, what it takes now included.
fn half_of_free(directory: &Path) -> u64 {
    let taken = std::fs::metadata(directory.join(FILE)).map_or(0, |file| file.blocks() * 512);
    let Ok(disk) = statvfs(directory) else { return MOST };
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    MOST.min(free.saturating_add(taken) / 2).max(SMALLEST)
}

/// Makes the directory when it is not there, and locks it.
fn prepare(directory: &Path) -> Result<Flock<File>, HistoryError> {
    let wrong = |path: &Path| {
        let path = path.to_path_buf();
        move |source| HistoryError::Use { path, source }
    };
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong(directory))?;
    }
    let name = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(wrong(&name))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => HistoryError::Locked(directory.to_path_buf()),
        errno => wrong(&name)(errno.into()),
    })
}
