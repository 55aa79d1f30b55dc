//! Log lines to standard error. Nothing on the data path logs.

use super::args::{LogArgs, LogFormat, LogLevel};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::filter::LevelFilter;

/// Writes to standard error so far; a live table that shares the terminal starts afresh when it changes.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// How often the log has been written to.
pub fn writes() -> u64 {
    WRITES.load(Ordering::Relaxed)
}

struct Counted;

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITES.fetch_add(1, Ordering::Relaxed);
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts logging for the life of the process. A second call changes nothing.
pub fn start(args: &LogArgs) {
    let level = match args.log_level {
        _ if args.quiet => LevelFilter::ERROR,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let base = tracing_subscriber::fmt().with_max_level(level).with_writer(|| Counted).with_ansi(colour);
    // an error here means that logging has been started already, as tests in one process do
    let _started = match args.log_format {
        LogFormat::Text => base.compact().with_target(false).try_init(),
        LogFormat::Json => base.json().flatten_event(true).try_init(),
    };
}
