//! SIGINT and SIGTERM as a flag that every loop looks at, SIGHUP as a count of requests to reload.
//!
//! The signals are blocked in all threads and taken by one that waits for them, so no code runs in a
//! signal handler and no system call of a worker is interrupted.

use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Exit code after a second signal, as shells report an interrupt.
const INTERRUPTED: i32 = 130;

/// A flag that the first SIGINT or SIGTERM sets; the second ends the process at once, with code 130. SIGHUP ends it
/// as ever.
///
/// Call it once, before any other thread is started: threads inherit the blocked signals, and one that
/// does not block them lets a signal end the process; of two flags a signal would set either.
///
/// # Errors
/// The signal mask cannot be set or the thread not be started.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    take(&[Signal::SIGINT, Signal::SIGTERM], Arc::clone(&stop), Arc::default())?;
    Ok(stop)
}

/// The same, and how often SIGHUP has come.
///
/// # Errors
/// As [`stop_flag`].
pub fn stop_flag_and_hangups() -> io::Result<(Arc<AtomicBool>, Arc<AtomicU64>)> {
    let (stop, hangups) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    take(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP], Arc::clone(&stop), Arc::clone(&hangups))?;
    Ok((stop, hangups))
}

fn take(taken: &[Signal], stop: Arc<AtomicBool>, hangups: Arc<AtomicU64>) -> io::Result<()> {
    let signals: SigSet = taken.iter().copied().collect();
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = signals.wait() {
            if signal == Signal::SIGHUP {
                hangups.fetch_add(1, Ordering::Relaxed);
            } else if stop.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
        }
    })?;
    Ok(())
}
