//! Shell completions and manual pages, from the same definition as the help.

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::exit::{Done, Ended, Failure};
use anyhow::anyhow;
use clap::CommandFactory;
use std::io::{self, Write};

/// Prints the completion script of a shell.
///
/// # Errors
/// Standard output is closed.
pub fn completions(args: &CompletionsArgs) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "llama", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(Done::Fine)
}

/// Prints `llama.1`, or writes the pages of all subcommands to a directory.
///
/// # Errors
/// The directory is missing (usage) or not writable.
pub fn man(args: &ManArgs) -> Ended {
    match &args.dir {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            io::stdout().lock().write_all(&page)?;
        }
        Some(dir) if !dir.is_dir() => {
            return Err(Failure::usage(anyhow!("{} is not a directory; create it first", dir.display())));
        }
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir)
            .map_err(|e| anyhow!("cannot write manual pages to {}: {e}", dir.display()))?,
    }
    Ok(Done::Fine)
}
