//! One function per role: typed arguments in, the role's run, its view out.
//!
//! No logic of its own: what to measure is the role's, how to show it the view's.

mod check;
mod collector;
mod demo;
mod destinations;
mod history;
mod matrix;
mod matrix_view;
mod ping;
mod reflector;
mod reload;
mod scraper;

pub use check::check;
pub use collector::collector;
pub use demo::demo;
pub use matrix::matrix;
pub use matrix_view::matrix_view;
pub use ping::ping;
pub use reflector::reflector;
pub use scraper::scraper;

use super::exit::Failure;
use super::values::CoreList;
use crate::net::features::Io;
use crate::net::thread;
use crate::probe::shape::Key;
use anyhow::anyhow;
use std::path::Path;
use std::time::Duration;

/// How often a running role is looked after: redraws, stop flags.
const LOOK: Duration = Duration::from_millis(50);

/// A network by the word of `--io`.
fn io_word(io: Io) -> &'static str {
    match io {
        Io::Uring => "io_uring",
        Io::Mmsg => "mmsg",
    }
}

/// The CPUs of `--cores`; none when the flag was left out.
fn cores(asked: Option<&CoreList>) -> Result<Vec<usize>, Failure> {
    let asked = asked.map(|cores| cores.0.clone()).unwrap_or_default();
    let allowed = thread::allowed_cpus()?;
    if let Some(cpu) = asked.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(Failure::usage(anyhow!(
            "--cores: CPU {cpu} asked, this process may use {allowed:?}; name some of these"
        )));
    }
    Ok(asked)
}

/// Files that are open besides the sources' sockets, at most.
const OTHER_FILES: u64 = 256;

/// Raises the soft limit of open files as far as the sockets need it.
fn allow_sockets(sockets: usize) -> Result<(), Failure> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = sockets as u64 + OTHER_FILES;
    if needed > hard {
        return Err(Failure::usage(anyhow!(
            "{sockets} source ports need {needed} open files, the limit is {hard}; use fewer, or raise it (ulimit -Hn, LimitNOFILE=)"
        )));
    }
    if needed > soft {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard)?;
    }
    Ok(())
}

/// The key in the file of `--key-file`.
fn key(file: Option<&Path>) -> Result<Option<Key>, Failure> {
    let read = |file: &Path| {
        crate::config::key_file::read(file).map_err(|reason| Failure::usage(anyhow!("--key-file: {reason}")))
    };
    file.map(read).transpose()
}
