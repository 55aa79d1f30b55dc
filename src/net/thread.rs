//! Threads on cores: pinning that is checked, timer slack, and who goes first.

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

/// How much the threads that serve people yield to those that probe.
const NICE: libc::c_int = 10;

/// Lets every other thread of this process go before the calling one and those it starts.
pub fn lower_priority() {
    // SAFETY: setpriority(2) takes numbers only. On Linux, who 0 is the calling thread alone.
    #[expect(unsafe_code, reason = "nix has no setpriority")]
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) }; // lowering is always allowed
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
    fn one_thread_is_lowered_and_no_other() {
        // field 19 of proc(5) stat; the name before it may hold spaces
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("is there");
            let after_name = stat.rsplit(')').next().expect("a name").to_owned();
            after_name.split_whitespace().nth(16).expect("nice").parse::<i32>().expect("a number")
        };
        let before = nice();
        let lowered = std::thread::spawn(move || {
            lower_priority();
            nice()
        });
        assert_eq!(lowered.join().expect("ran"), 10);
        assert_eq!(nice(), before);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named() {
        let error = std::thread::spawn(|| pin(1000).expect_err("no such cpu")).join().expect("ran");
        assert!(error.to_string().contains("CPU 1000"), "{error}");
    }
}
