//! SIGINT and SIGTERM as a flag that every loop looks at.
//!
//! The signals are blocked in all threads and taken by one that waits for them, so no code runs in a
//! signal handler and no system call of a worker is interrupted.

use nix::sys::signal::{SigSet, Signal};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code after a second signal, as shells report an interrupt.
const INTERRUPTED: i32 = 130;

/// A flag that the first SIGINT or SIGTERM sets; the second ends the process at once, with code 130.
///
/// Call it once, before any other thread is started: threads inherit the blocked signals, and one that
/// does not block them lets a signal end the process; of two flags a signal would set either.
///
/// # Errors
/// The signal mask cannot be set or the thread not be started.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(_signal) = signals.wait() {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED);
            }
        }
    })?;
    Ok(stop)
}
