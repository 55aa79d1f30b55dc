//! Threads on cores: pinning that is checked, and timer slack.

use crate::time::{Clock, Monotonic, SystemClock};
use core_affinity::CoreId;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use std::io;

/// The CPUs this process may run on, ascending.
///
/// From the affinity mask, not from a list of "usable" cores: isolated CPUs (`isolcpus`), which a
/// dedicated probe host keeps for this, are missing from such lists.
///
/// # Errors
/// The kernel's.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Pins the calling thread to a CPU and reads the mask back.
///
/// # Errors
/// Names the CPU when the thread ended up elsewhere: it does not exist, or the process may not use it.
pub fn pin(cpu: usize) -> io::Result<()> {
    let pinned = core_affinity::set_for_current(CoreId { id: cpu });
    let now = allowed_cpus()?;
    if pinned && now == [cpu] {
        return Ok(());
    }
    Err(io::Error::other(format!("cores: cannot run on CPU {cpu}; this process may use {now:?}; name one of these")))
}

/// Asks for timers as exact as the hardware gives instead of the default slack of 50 µs.
pub fn exact_timers() {
    // only lessens lateness; where it is refused, the lateness histogram shows the slack
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// Keeps the core busy until the instant.
pub fn spin_until(until: Monotonic) {
    while SystemClock.monotonic() < until {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_where_it_is_put() {
        let cpus = allowed_cpus().expect("has cpus");
        let last = *cpus.last().expect("at least one");
        let seen = std::thread::spawn(move || {
            pin(last).expect("pins");
            allowed_cpus().expect("has cpus")
        });
        assert_eq!(seen.join().expect("ran"), [last]);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let error = std::thread::spawn(|| pin(1000).expect_err("no such cpu")).join().expect("ran");
        assert!(error.to_string().contains("CPU 1000"), "{error}");
    }
}
