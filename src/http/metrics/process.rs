//! What every Prometheus client tells of its process, under the names they all use (`process_*`), and which
//! build it is.
//!
//! Read [`write()`]; [`Usage`] is what `/proc/self` says.

use super::page::{Labels, Page};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;

/// What the kernel says of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    /// Since 1970.
    start_seconds: f64,
    threads: u64,
}

impl Usage {
    /// From `/proc/self/stat` and the boot time in `/proc/stat`, with clock ticks per second and bytes per page.
    fn parse(own: &str, system: &str, ticks: f64, page: u64) -> Option<Usage> {
        // the second field is the program's name, in brackets, and may hold anything
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        // fields are numbered from 1 in proc(5); the first here is number 3
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Usage {
            cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
            threads: field(20)?,
            start_seconds: boot + field(22)? as f64 / ticks,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page,
        })
    }

    fn read() -> Option<Usage> {
        let limit = |name| sysconf(name).ok().flatten();
        let ticks = limit(SysconfVar::CLK_TCK)? as f64;
        let page = limit(SysconfVar::PAGE_SIZE)?.try_into().ok()?;
        let (own, system) = (fs::read_to_string("/proc/self/stat").ok()?, fs::read_to_string("/proc/stat").ok()?);
        Usage::parse(&own, &system, ticks, page)
    }
}

/// Open files: since Linux 6.2 the folder's size, before that its entries.
fn open_files() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

/// Writes the process' own metrics; what `/proc` does not tell is left out.
pub fn write(page: &mut Page) {
    if let Some(usage) = Usage::read() {
        page.counter("process_cpu_seconds_total", "CPU time used, user and system.").value(usage.cpu_seconds);
        page.gauge("process_resident_memory_bytes", "Memory in RAM.").value(usage.resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Address space.").value(usage.virtual_bytes);
        page.gauge("process_start_time_seconds", "When the process started, seconds since 1970.")
            .value(usage.start_seconds);
        page.gauge("process_threads", "Threads.").value(usage.threads);
    }
    if let Some(open) = open_files() {
        page.gauge("process_open_fds", "Open files, sockets included.").value(open);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        page.gauge("process_max_fds", "Files that may be open.").value(soft);
    }
}

/// Writes which program this is, in which role.
pub fn write_build(page: &mut Page, role: &str) {
    let labels = Labels::of(&[("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
    page.gauge("llama_build_info", "Always 1; the labels say which build this is and what it does.").put(&labels, 1u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_shifts_nothing() {
        let own = "71 (a) b) S 1 71 71 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 7 0 1000 8192000 300 18446744073709551615";
        let usage = Usage::parse(own, "cpu 1 2\nbtime 1700000000\nprocesses 9\n", 100.0, 4096);
        let expected = Usage {
            cpu_seconds: 2.0,
            resident_bytes: 300 * 4096,
            virtual_bytes: 8_192_000,
            start_seconds: 1_700_000_010.0,
            threads: 7,
        };
        assert_eq!(usage, Some(expected));
    }

    #[test]
    fn what_is_cut_short_gives_nothing() {
        for (own, system) in [("", ""), ("1 (a) S 1", "btime 5"), ("1 (a) S", "cpu 3")] {
            assert_eq!(Usage::parse(own, system, 100.0, 4096), None, "{own}");
        }
    }

    #[test]
    fn this_process_is_alive() {
        let usage = Usage::read().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.start_seconds > 1.6e9 && usage.threads >= 1, "{usage:?}");
        assert!(open_files().unwrap() >= 3);
    }
}
