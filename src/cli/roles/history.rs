//! The history that a role keeps, as its flags say: where it is, what it holds, how it ends.
//!
//! Read [`open`], then [`Keeper`].

use super::destinations::FLUSH;
use crate::cli::args::HistoryArgs;
use crate::cli::exit::Failure;
use crate::cli::http::Kept;
use crate::history::{History, HistoryError, MOST, Options, Writer};
use crate::http::matrix::Shown;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `--history` says to keep nothing.
const NONE: &str = "none";
/// How often the newest interval is looked for at least while somebody listens: it is in memory.
const LOOK: Duration = Duration::from_millis(500);
/// Names tried for a directory of the demo's own.
const NAMES: u32 = 100;

/// A role that keeps a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `llama collector`.
    Collector,
    /// `llama scraper`.
    Scraper,
    /// `llama demo`.
    Demo,
}

impl Role {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Collector => "collector",
            Role::Scraper => "scraper",
            Role::Demo => "demo",
        }
    }
}

/// A history while its role runs.
pub struct Keeper {
    history: History,
    role: Role,
    /// Removed with what is in it, after the history.
    _temporary: Option<Temporary>,
}

impl Keeper {
    /// Where summaries are to be handed over.
    pub fn writer(&self) -> Writer {
        self.history.writer()
    }

    /// What is shown of it.
    pub fn kept(&self) -> Kept {
        Kept { shown: Shown::new(self.history.reader(), self.role.name(), LOOK), counters: self.history.counters() }
    }

    /// Stores what waits, and says what could not be stored in time.
    pub fn close(self) {
        let lost = self.history.close(FLUSH);
        if lost > 0 {
            tracing::warn!("history: {lost} summaries were not stored");
        }
    }
}

/// Opens the history of a role. A directory of the role's choice that cannot be used is a warning, and none is kept.
///
/// # Errors
/// A directory that was asked for cannot be used: the command line's fault.
pub fn open(args: &HistoryArgs, role: Role) -> Result<Option<Keeper>, Failure> {
    let begin = |directory: PathBuf, temporary| {
        let options =
            Options { max_age: args.history_age, max_bytes: args.history_max_bytes, ..Options::new(directory.clone()) };
        let history = History::open(options)?;
        if let Some(error) = history.counters().snapshot().last_error {
            tracing::warn!("{error}");
        }
        let most = history.counters().snapshot().max_bytes;
        let (most, half) = (in_words(most), if most < MOST { ", half of what is free there" } else { "" });
        match args.history_max_bytes {
            Some(_) => tracing::info!("history in {}", directory.display()),
            None => tracing::info!("history in {}, {most} at most{half} (--history-max-bytes)", directory.display()),
        }
        Ok::<_, HistoryError>(Keeper { history, role, _temporary: temporary })
    };
    if let Some(directory) = &args.history {
        if directory == Path::new(NONE) {
            return Ok(None);
        }
        return begin(directory.clone(), None).map(Some).map_err(|error| match error {
            HistoryError::Thread(_) => error.into(),
            _ => Failure::usage(error),
        });
    }
    let chosen = match role {
        Role::Demo => Temporary::new().map(|own| (own.0.clone(), Some(own))).map_err(|error| error.to_string()),
        Role::Collector | Role::Scraper => default_directory(role).map(|directory| (directory, None)),
    };
    let opened = chosen.and_then(|(directory, own)| begin(directory, own).map_err(|error| error.to_string()));
    match opened {
        Ok(keeper) => Ok(Some(keeper)),
        Err(error) => {
            tracing::warn!("{error} (--history DIR, or --history {NONE}); going on without a history");
            Ok(None)
        }
    }
}

/// A number of bytes, rounded down.
fn in_words(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{} MiB", bytes >> 20),
        whole => format!("{whole} GiB"),
    }
}

/// Where a role keeps its history unless told otherwise.
fn default_directory(role: Role) -> Result<PathBuf, String> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    // systemd's, of which there may be several with colons between
    let state = set("STATE_DIRECTORY").and_then(|all| std::env::split_paths(&all).next());
    if let Some(state) = state {
        return Ok(state.join("history"));
    }
    let name = format!("history-{}", role.name());
    if nix::unistd::geteuid().is_root() {
        return Ok(Path::new("/var/lib/llama").join(name));
    }
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let home = || set("HOME").and_then(|home| absolute(PathBuf::from(home).join(".local/state")));
    match set("XDG_STATE_HOME").and_then(|state| absolute(state.into())).or_else(home) {
        Some(state) => Ok(state.join("llama").join(name)),
        None => Err("history: neither XDG_STATE_HOME nor HOME names a directory; name one".into()),
    }
}

/// A directory of this process' own, removed with all that is in it.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> io::Result<Temporary> {
        let process = std::process::id();
        let mut last = io::ErrorKind::AlreadyExists.into();
        for number in 0..NAMES {
            let path = std::env::temp_dir().join(format!("llama-demo-{process}-{number}"));
            // one that is there already may be somebody else's
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Temporary(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what cannot be removed is left to the system's own cleaning
    }
}
