//! One function per role: typed arguments in, the role's run, its view out.
//!
//! No logic of its own: what to measure is the role's, how to show it the view's.

mod check;
mod collector;
mod demo;
mod ping;
mod reflector;

pub use check::check;
pub use collector::collector;
pub use demo::demo;
pub use ping::ping;
pub use reflector::reflector;

use crate::net::features::Io;
use crate::probe::shape::Key;
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

fn key(file: Option<&Path>) -> Result<Option<Key>, super::exit::Failure> {
    let read = |file: &Path| {
        crate::config::key_file::read(file)
            .map_err(|reason| super::exit::Failure::usage(anyhow::anyhow!("--key-file: {reason}")))
    };
    file.map(read).transpose()
}
