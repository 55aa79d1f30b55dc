//! How a run ended, and the exit code for it: 0 fine, 1 failed or all lost, 2 usage or configuration.

use super::layout::{BAD, paint};
use std::io;
use std::process::ExitCode;

/// A run that did what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// All well.
    Fine,
    /// The measurement ran, and nothing came back: exit code 1, nothing more is said.
    AllLost,
    /// More is lost than is allowed (`--fail-above`): exit code 1, which was said.
    TooMuchLost,
}

/// Why a run did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the configuration is wrong: exit code 2.
    Usage(anyhow::Error),
    /// Anything else: exit code 1.
    Run(anyhow::Error),
}

impl Failure {
    /// A wrong command line or configuration.
    pub fn usage(error: impl Into<anyhow::Error>) -> Failure {
        Failure::Usage(error.into())
    }

    /// For a mode whose exit code 1 says that all was lost: whatever else goes wrong is told by 2.
    pub fn apart_from_loss(self) -> Failure {
        match self {
            Failure::Run(error) if !is_broken_pipe(&error) => Failure::Usage(error),
            other => other,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Run(error.into())
    }
}

/// What a mode returns.
pub type Ended = Result<Done, Failure>;

/// Prints the error, if any, and gives the exit code.
pub fn code(ended: Ended) -> ExitCode {
    match ended {
        Ok(Done::Fine) => ExitCode::SUCCESS,
        Ok(Done::AllLost | Done::TooMuchLost) => ExitCode::from(1),
        // whoever reads our output has had enough (`llama man | head`)
        Err(Failure::Run(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Run(error)) => complain(&error, 1),
        Err(Failure::Usage(error)) => complain(&error, 2),
    }
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    let text = reasons(error);
    // several lines begin with file and line each, which editors find only at the start of a line
    let gap = if text.contains('\n') { '\n' } else { ' ' };
    anstream::eprintln!("{}{gap}{text}", paint(BAD, "error:"));
    ExitCode::from(code)
}

/// The error and its causes, leaving out those that were already said: many errors quote their cause.
fn reasons(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text += if text.is_empty() { "" } else { ": " };
            text += &cause;
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Writes `text` to standard output; colours stay only on a terminal without `NO_COLOR`.
///
/// # Errors
/// Standard output is closed or full.
pub fn print(text: &str) -> io::Result<()> {
    use io::Write;
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let quoted = anyhow::Error::from(io::Error::other("no such port")).context("bind: no such port");
        assert_eq!(reasons(&quoted.context("worker 0")), "worker 0: bind: no such port");
    }

    #[test]
    fn codes() {
        let failed = |f| format!("{:?}", code(Err(f)));
        assert_eq!(format!("{:?}", code(Ok(Done::Fine))), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", code(Ok(Done::AllLost))), format!("{:?}", ExitCode::from(1)));
        assert_eq!(failed(Failure::usage(anyhow::anyhow!("x"))), format!("{:?}", ExitCode::from(2)));
        assert_eq!(failed(io::Error::other("x").into()), format!("{:?}", ExitCode::from(1)));
        assert_eq!(failed(io::Error::from(io::ErrorKind::BrokenPipe).into()), format!("{:?}", ExitCode::SUCCESS));
        let of_ping = |kind: io::ErrorKind| failed(Failure::from(io::Error::from(kind)).apart_from_loss());
        assert_eq!(of_ping(io::ErrorKind::StorageFull), format!("{:?}", ExitCode::from(2)));
        assert_eq!(of_ping(io::ErrorKind::BrokenPipe), format!("{:?}", ExitCode::SUCCESS));
    }
}
