//! Where a role's summaries go, as its flags say, and how that ends.

use crate::cli::args::DestinationArgs;
use crate::cli::exit::{Done, Ended, Failure};
use crate::sink::{Leftover, Limits, SinkError, Sinks, influx, spool};
use std::path::Path;
use std::time::Duration;

/// How long the end waits for destinations to take what is queued.
pub const FLUSH: Duration = Duration::from_secs(5);

/// Opens the destinations that were asked for, each with a queue of these limits.
///
/// # Errors
/// A destination that cannot be is the command line's fault; a thread that cannot be started is not.
pub fn open(args: &DestinationArgs, limits: Limits) -> Result<Sinks, Failure> {
    let wrong = |error: SinkError| match error {
        SinkError::Thread { .. } => error.into(),
        _ => Failure::usage(error),
    };
    let mut sinks = Sinks::new();
    if let Some(url) = &args.influx {
        let target = influx::Target::parse(url, args.influx_token.as_deref()).map_err(Failure::usage)?;
        let spool = args.spool.directory.as_ref().map(|directory| spool::Options {
            directory: directory.clone(),
            max_bytes: args.spool.max_bytes,
            max_age: args.spool.max_age,
        });
        let options = influx::Options { spool, detail: args.influx_detail, ..influx::Options::new(target) };
        sinks.add_influx(options, limits).map_err(wrong)?;
    }
    if let Some(file) = &args.output {
        sinks.add_json_lines(file, limits).map_err(wrong)?;
    }
    Ok(sinks)
}

/// Whether summaries go to standard output, which then shows nothing else.
pub fn use_stdout(args: &DestinationArgs) -> bool {
    args.output.as_deref() == Some(Path::new("-"))
}

/// Ends a role: what destinations did not take in time is said, and is a failure.
pub fn ended(left: &[Leftover]) -> Ended {
    for left in left {
        tracing::error!("{left}");
    }
    if left.is_empty() { Ok(Done::Fine) } else { Err(anyhow::anyhow!("not everything was delivered").into()) }
}
