//! What the collector costs: CPU at 1 000 probes/s, memory and CPU per probe over many flows.
//!
//! CPU is the whole process' user and system time as the kernel accounts it, start and end included.
//! Beside it, in the same run: a bare loop that wakes once per millisecond to take the replies and send
//! a probe; and irtt where it is installed. All talk to the same kind of sleeping reflector.
//!
//! `cargo bench --bench idle -- [--seconds S] [--rounds N] [--flows N,N,…] [--json]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::process::{ANSWERING, Process, llama_in};
use common::thread::spawn_in;
use common::topology::TwoHosts;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

const PORT: u16 = 8100;
const PERIOD: Duration = Duration::from_millis(1);
/// Targets that the flows of the memory measurement go to.
const TARGETS: u32 = 100;
/// Probes per second over all flows in the memory measurement.
const MANY_FLOWS_RATE: u32 = 10_000;
const USAGE: &str = "usage: [--seconds S] [--rounds N] [--flows N,N,…] [--json]";

fn main() {
    let (mut seconds, mut rounds, mut json) = (10_u64, 3_usize, false);
    let mut flows: Vec<u32> = vec![1_000, 10_000, 100_000];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: value missing\n{USAGE}"));
        match argument.as_str() {
            "--seconds" => seconds = value().parse().expect(USAGE),
            "--rounds" => rounds = value().parse().expect(USAGE),
            "--flows" => flows = value().split(',').map(|n| n.parse().expect(USAGE)).collect(),
            "--json" => json = true,
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    let hosts = TwoHosts::new();
    for target in 2..=TARGETS {
        hosts.target.address(TwoHosts::DEVICE, &format!("192.0.2.{}/24", target + 1));
    }
    let reflector = llama_in(&hosts.target, &["reflector", "--cores", "1"]);
    reflector.wait_for(ANSWERING);

    let has_irtt = std::process::Command::new("irtt").arg("version").output().is_ok();
    let _irtt_server = has_irtt.then(|| Process::spawn(hosts.target.command("irtt", &["server", "-i", "100us"])));
    let mut cpu: Vec<(&str, Vec<f64>)> = vec![
        ("bare loop, one wake-up per probe", vec![]),
        ("llama ping, io_uring", vec![]),
        ("llama ping, mmsg", vec![]),
    ];
    if has_irtt {
        cpu.push(("irtt", vec![]));
    }
    for round in 1..=rounds {
        for (name, shares) in &mut cpu {
            let used = match *name {
                "irtt" => irtt(&hosts, seconds),
                "llama ping, mmsg" => ping(&hosts, seconds, "mmsg"),
                "llama ping, io_uring" => ping(&hosts, seconds, "uring"),
                _ => bare(&hosts, seconds),
            };
            let share = used.as_secs_f64() / seconds as f64 * 100.0;
            eprintln!("round {round}/{rounds}  {share:>6.2} %  {name}");
            shares.push(share);
        }
    }
    let many: Vec<Many> = flows.into_iter().map(|flows| many_flows(&hosts, flows, seconds)).collect();

    if json {
        let cpu: Vec<_> =
            cpu.iter().map(|(name, shares)| serde_json::json!({"case": name, "cpu_percent": median(shares)})).collect();
        let many: Vec<_> = many
            .iter()
            .map(|m| serde_json::json!({"flows": m.flows, "peak_rss_mb": m.peak_rss_mb, "cpu_us_per_probe": m.cpu_us_per_probe}))
            .collect();
        println!("{}", serde_json::json!({"cpu_at_1000_per_s": cpu, "many_flows": many}));
        return;
    }
    println!("{:<40} {:>12}", "1000 probes/s (medians)", "% of a core");
    for (name, shares) in &cpu {
        println!("{name:<40} {:>12.2}", median(shares));
    }
    println!("\n{:<40} {:>12} {:>14}", "collector, 10 000 probes/s", "peak RSS MB", "µs per probe");
    for m in &many {
        println!("{:<40} {:>12.1} {:>14.2}", format!("{} flows", m.flows), m.peak_rss_mb, m.cpu_us_per_probe);
    }
}

/// CPU time of the bare loop.
fn bare(hosts: &TwoHosts, seconds: u64) -> Duration {
    let run = spawn_in(&hosts.prober, None, move || {
        let socket = UdpSocket::bind(SocketAddr::new(TwoHosts::PROBER_V4, 0)).unwrap();
        socket.connect(SocketAddr::new(TwoHosts::TARGET_V4, PORT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let (probe, mut reply) = ([0; 44], [0; 64]);
        let probes = Duration::from_secs(seconds).as_nanos() / PERIOD.as_nanos();
        let mut replies = 0;
        let mut due = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let before = thread_time();
        for _ in 0..probes {
            socket.send(&probe).unwrap();
            due += PERIOD;
            clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &due.into()).unwrap();
            while socket.recv(&mut reply).is_ok() {
                replies += 1;
            }
        }
        assert!(replies * 100 > probes * 99, "{replies} replies to {probes} probes");
        thread_time() - before
    });
    run.join().unwrap()
}

fn thread_time() -> Duration {
    Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
}

/// CPU time of all child processes that have ended so far.
fn children_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let duration = |t: TimeVal| Duration::new(t.tv_sec().cast_unsigned(), t.tv_usec() as u32 * 1000);
    duration(usage.user_time()) + duration(usage.system_time())
}

/// CPU time of a process from start to end.
fn time_of(process: Process, seconds: u64) -> Duration {
    let before = children_time();
    process.finish_within(Duration::from_secs(seconds + 30)).success();
    children_time() - before
}

fn ping(hosts: &TwoHosts, seconds: u64, io: &str) -> Duration {
    let (duration, target) = (format!("{seconds}s"), TwoHosts::TARGET_V4.to_string());
    let arguments =
        ["ping", &target, "--json", "--rate", "1000", "--duration", &duration, "--tx-timestamps", "all", "--io", io];
    time_of(llama_in(&hosts.prober, &arguments), seconds)
}

fn irtt(hosts: &TwoHosts, seconds: u64) -> Duration {
    let (duration, target) = (format!("{seconds}s"), TwoHosts::TARGET_V4.to_string());
    let client = hosts.prober.command("irtt", &["client", "-i", "1ms", "-d", &duration, "-l", "44", "-Q", &target]);
    time_of(Process::spawn(client), seconds)
}

struct Many {
    flows: u32,
    peak_rss_mb: f64,
    cpu_us_per_probe: f64,
}

/// A collector with so many flows, at the same rate in all whatever their number.
fn many_flows(hosts: &TwoHosts, flows: u32, seconds: u64) -> Many {
    let per_target = flows / TARGETS;
    // cycles per second: each flow sends one probe per cycle
    let cps = f64::from(MANY_FLOWS_RATE) / f64::from(flows);
    let mut config = format!(
        "summarization: {{interval: 2}}\n\
         ports: {{many: {{port: 0, timeout: 1000}}}}\n\
         port_groups: {{many: [{{port: many, count: {per_target}}}]}}\n\
         rate_limits: {{many: {{cps: {cps}}}}}\n\
         tests: [{{targets: many, port_group: many, rate_limit: many}}]\n\
         targets:\n  many:\n"
    );
    for target in 1..=TARGETS {
        writeln!(config, "    - {{ip: 192.0.2.{}, port: {PORT}, tags: {{dst: t{target}}}}}", target + 1).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let (file, output) = (directory.path().join("many.yaml"), directory.path().join("summaries.json"));
    std::fs::write(&file, config).unwrap();
    let duration = format!("{seconds}s");
    let arguments = ["collector", "--no-table", "--duration", &duration];
    let files = ["--config", file.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let before = children_time();
    let collector = llama_in(&hosts.prober, &[&arguments[..], &files].concat());
    // the peak is only there to read while the process is
    let status = format!("/proc/{}/status", collector.id());
    let reader = std::thread::spawn(move || {
        let mut peak = 0.0_f64;
        while let Ok(status) = std::fs::read_to_string(&status) {
            let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) else { break };
            peak = peak.max(line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0);
            std::thread::sleep(Duration::from_millis(100));
        }
        peak
    });
    collector.finish_within(Duration::from_secs(seconds + 60)).success();
    let used = children_time() - before;
    let sent: f64 = std::fs::read_to_string(&output)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()?["sent"].as_f64())
        .sum();
    let peak_rss_mb = reader.join().unwrap();
    eprintln!("{flows} flows: {sent} probes in {seconds} s");
    Many { flows, peak_rss_mb, cpu_us_per_probe: used.as_secs_f64() * 1e6 / sent }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}
