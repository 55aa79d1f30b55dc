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

use super::args::Io;
use crate::net::features::{self, IoChoice};
use crate::probe::shape::Key;
use std::path::Path;
use std::time::Duration;

/// How often a running role is looked after: redraws, stop flags.
const LOOK: Duration = Duration::from_millis(50);

impl From<Io> for IoChoice {
    fn from(io: Io) -> IoChoice {
        match io {
            Io::Auto => IoChoice::Auto,
            Io::Uring => IoChoice::Uring,
            Io::Mmsg => IoChoice::Mmsg,
        }
    }
}

/// A network by the word of `--io`.
fn io_word(io: features::Io) -> &'static str {
    match io {
        features::Io::Uring => "io_uring",
        features::Io::Mmsg => "mmsg",
    }
}

fn key(file: Option<&Path>) -> Result<Option<Key>, super::exit::Failure> {
    let read = |file: &Path| {
        crate::config::key_file::read(file)
            .map_err(|reason| super::exit::Failure::usage(anyhow::anyhow!("--key-file: {}: {reason}", file.display())))
    };
    file.map(read).transpose()
}
