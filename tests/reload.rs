//! SIGHUP to the program itself, under load, on loopback: real reflectors, real sockets, over both networks. Nothing is
//! lost, what stays keeps its ports and sequence, and a file with a mistake changes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::process::{ANSWERING, Process, llama};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the log says when a reload was carried out.
const RELOADED: &str = "reloaded: ";

/// A configuration file that changes.
struct Configuration {
    directory: tempfile::TempDir,
}

impl Configuration {
    fn new(text: &str) -> Configuration {
        let configuration = Configuration { directory: tempfile::tempdir().unwrap() };
        configuration.write(text);
        configuration
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("matrix.yaml")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn collector(&self, flags: &[&str]) -> Process {
        let file = self.file();
        let output = self.directory.path().join("summaries.jsonl");
        let names = ["collector", "--config", file.to_str().unwrap(), "--output", output.to_str().unwrap()];
        let collector = llama(&[&names, flags].concat());
        collector.wait_for("a summary every");
        collector
    }

    fn summaries(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("summaries.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until so many more lines of summaries are there.
    fn wait_for_more(&self, more: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        let lines =
            || std::fs::read_to_string(self.directory.path().join("summaries.jsonl")).map_or(0, |t| t.lines().count());
        let before = lines();
        while lines() < before + more {
            assert!(Instant::now() < end, "no more summaries come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn count(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no count in {value}"))
}

fn instant(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

/// Seconds from one time of day to the other; both are of the same minute or the next.
fn seconds_between(from: &str, to: &str) -> f64 {
    let seconds = |time: &str| -> f64 {
        let (_, of_day) = time.trim_end_matches('Z').split_once('T').unwrap();
        of_day.split(':').fold(0.0, |sum, part| 60.0 * sum + part.parse::<f64>().unwrap())
    };
    (seconds(to) - seconds(from)).rem_euclid(86_400.0)
}

/// A plan for `targets`, from `ports` ports of the system's choice and some fixed ones.
fn plan(interval: f64, cps: u32, ports: u32, fixed: u16, targets: &[SocketAddr]) -> String {
    let targets: String = targets.iter().map(|t| format!("    - {{ip: {}, port: {}}}\n", t.ip(), t.port())).collect();
    format!(
        "summarization: {{interval: {interval}}}\n\
         ports:\n  chosen: {{timeout: 1000}}\n  fixed: {{port: {fixed}, timeout: 1000}}\n\
         port_groups:\n  all: [{{port: chosen, count: {ports}}}, {{port: fixed, count: 2}}]\n\
         rate_limits:\n  all: {{cps: {cps}}}\n\
         tests:\n  - {{targets: all, port_group: all, rate_limit: all}}\n\
         targets:\n  all:\n{targets}"
    )
}

/// Two ports in a row that are free now.
fn two_free_ports() -> u16 {
    for _ in 0..100 {
        let first = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = first.local_addr().unwrap().port();
        // not where the system chooses ports for others meanwhile
        let below = port / 2;
        if below > 1024
            && UdpSocket::bind(("0.0.0.0", below)).is_ok()
            && UdpSocket::bind(("0.0.0.0", below + 1)).is_ok()
        {
            return below;
        }
    }
    panic!("no two free ports in a row");
}

/// A reflector on ports of the system's choice, at three loopback addresses.
fn reflector() -> (Process, Vec<SocketAddr>) {
    let reflector = llama(&[
        "reflector",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "127.0.0.2:0",
        "--listen",
        "127.0.0.3:0",
        "--stateful",
    ]);
    let line = reflector.wait_for(ANSWERING);
    let addresses = line.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    (reflector, addresses)
}

#[test]
fn hangups_under_load_lose_nothing() {
    for io in ["uring", "mmsg"] {
        let (reflector, targets) = reflector();
        assert_eq!(targets.len(), 3);
        let fixed = two_free_ports();
        let one = plan(0.5, 200, 6, fixed, &targets[..2]);
        // another target; another rate and length of intervals; fewer ports and targets; and back
        let others = [
            plan(0.5, 200, 6, fixed, &targets),
            plan(0.3, 300, 6, fixed, &targets[..2]),
            plan(0.5, 200, 3, fixed, &[targets[0], targets[2]]),
            one.clone(),
        ];
        let configuration = Configuration::new(&one);
        let collector = configuration.collector(&["--io", io]);
        configuration.wait_for_more(2);
        let mut hangups = 0;
        for text in others.iter().chain(&others) {
            configuration.write(text);
            collector.signal(Signal::SIGHUP);
            hangups += 1;
            let said = collector.wait_for_nth(RELOADED, hangups);
            assert!(said.contains("kept"), "{io}: {said}");
            configuration.wait_for_more(3);
        }
        let ended = collector.terminate().success();
        let totals = reflector.terminate().success().stdout;
        let summaries = configuration.summaries();
        let sum = |key: &str| summaries.iter().map(|summary| count(summary, key)).sum::<u64>();
        assert_eq!((sum("sent"), sum("lost"), sum("send_failed")), (sum("replied"), 0, 0), "{io}: {}", ended.stderr);
        assert_eq!((sum("late"), sum("duplicates"), sum("local_drops")), (0, 0, 0), "{io}");
        for total in ["received", "answered"] {
            let line = totals.lines().find_map(|line| line.strip_prefix(total)).unwrap();
            let number = line.split("  ").find(|column| !column.is_empty()).unwrap(); // with thousands apart
            let number: String = number.chars().filter(char::is_ascii_digit).collect();
            assert_eq!(number, sum("sent").to_string(), "{io}: {total}");
        }
        // the first target is in all plans: every interval is there, one after the other
        let path: Vec<&Value> = summaries.iter().filter(|s| s["dst_ip"] == "127.0.0.1").collect();
        for (number, pair) in path.windows(2).enumerate() {
            assert_eq!(count(pair[0], "interval"), number as u64, "{io}");
            let gap = seconds_between(&instant(pair[0], "end"), &instant(pair[1], "start"));
            assert!(gap.min(86_400.0 - gap) < 0.001, "{io}: {gap} s between {} and {}", pair[0], pair[1]);
        }
        // its flows are from the ports of the start, but for those that were away
        let ports = |summary: &Value| -> BTreeSet<String> {
            let flows = summary["worst_flows"].as_array().unwrap();
            flows.iter().map(|flow| instant(flow, "source")).collect()
        };
        let first = ports(path[0]);
        assert_eq!(first.len(), 8, "{io}: {}", path[0]);
        let narrow = path.iter().position(|summary| summary["flows"] == 5).unwrap();
        assert!(path[..narrow].iter().all(|summary| ports(summary).is_subset(&first)), "{io}");
        // three of the system's choice stay through all, and the two fixed ones
        let last = path.iter().rev().find(|summary| ports(summary).len() == 8).unwrap();
        assert_eq!(ports(last).intersection(&first).count(), 5, "{io}");
    }
}

#[test]
fn a_mistake_is_refused_and_the_plan_goes_on() {
    let (_reflector, targets) = reflector();
    let fixed = two_free_ports();
    let good = plan(0.2, 50, 2, fixed, &targets[..1]);
    let configuration = Configuration::new(&good);
    let collector = configuration.collector(&[]);
    for (text, refused) in [
        (good.replace("timeout: 1000", "timeout: ten"), "ports.chosen.timeout"),
        (good.replace("port_group: all", "port_group: non"), "tests[0].port_group"),
        ("targets: [".to_owned(), "not YAML"),
    ] {
        configuration.write(&text);
        collector.signal(Signal::SIGHUP);
        let said = collector.wait_for(refused);
        assert!(said.contains("matrix.yaml:"), "with file and line: {said}");
        configuration.wait_for_more(2);
    }
    // a fixed port that somebody else has: nothing is changed either, the flows that would have been removed go on
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    configuration.write(&plan(0.2, 50, 1, port, &targets[1..2]));
    collector.signal(Signal::SIGHUP);
    collector.wait_for(&format!(":{port}: bind"));
    configuration.wait_for_more(2);
    configuration.write(&good);
    collector.signal(Signal::SIGHUP);
    collector.wait_for("nothing has changed");
    configuration.wait_for_more(2);
    let ended = collector.terminate().success();
    assert_eq!(ended.stderr.matches("not reloaded, the plan before goes on").count(), 4, "{}", ended.stderr);
    let summaries = configuration.summaries();
    assert!(summaries.iter().all(|summary| summary["flows"] == 4 && summary["lost"] == 0), "{summaries:#?}");
    let numbers: Vec<u64> = summaries.iter().map(|summary| count(summary, "interval")).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

/// What came to a reflector of the test's own: sender, session-sender identifier and sequence number.
type Seen = Vec<(SocketAddr, u16, u32)>;

/// A stateless reflector that remembers what came.
struct Witness {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Witness {
    fn start(address: &str) -> Witness {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut seen, mut buffer) = (Vec::new(), [0u8; 2048]);
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let probe = buffer;
                let number = u32::from_be_bytes(probe[..4].try_into().unwrap());
                seen.push((from, u16::from_be_bytes([probe[14], probe[15]]), number));
                // RFC 8762 §4.3.1: the sender's fields at 24
                buffer[16..44].fill(0);
                buffer[24..38].copy_from_slice(&probe[..14]);
                let _ = socket.send_to(&buffer[..length], from);
            }
            seen
        });
        Witness { address, stop, thread: Some(thread) }
    }

    fn end(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn sequences_and_sessions_go_on() {
    for io in ["uring", "mmsg"] {
        let (one, two) = (Witness::start("127.0.0.1:0"), Witness::start("127.0.0.2:0"));
        let fixed = two_free_ports();
        let alone = plan(0.3, 100, 2, fixed, &[one.address]);
        let both = plan(0.3, 100, 2, fixed, &[one.address, two.address]);
        let configuration = Configuration::new(&alone);
        // one worker: one series of numbers
        let collector = configuration.collector(&["--io", io]);
        for (n, text) in (1..).zip([&both, &alone, &both, &alone, &both]) {
            configuration.wait_for_more(2);
            configuration.write(text);
            collector.signal(Signal::SIGHUP);
            collector.wait_for_nth(RELOADED, n);
        }
        configuration.wait_for_more(2);
        collector.terminate().success();
        let (of_one, of_two) = (one.end(), two.end());
        assert!(of_two.len() > 50);
        // a series that neither skips nor repeats, whoever it went to
        let mut numbers: Vec<u32> = of_one.iter().chain(&of_two).map(|(.., number)| *number).collect();
        numbers.sort_unstable();
        let breaks = numbers.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
        // it begins anywhere, and may wrap
        assert!(breaks <= usize::from(numbers[0] == 0), "{io}: {breaks} breaks in {} numbers", numbers.len());
        // four senders from the first to the last probe, each one session
        let mut sessions: BTreeMap<SocketAddr, BTreeSet<u16>> = BTreeMap::new();
        of_one.iter().for_each(|(from, ssid, _)| {
            sessions.entry(*from).or_default().insert(*ssid);
        });
        assert_eq!(sessions.len(), 4, "{io}: {sessions:?}");
        assert!(sessions.values().all(|ssids| ssids.len() == 1), "{io}: {sessions:?}");
    }
}

#[test]
fn a_service_manager_is_told() {
    let (_reflector, targets) = reflector();
    let configuration = Configuration::new(&plan(0.2, 50, 2, two_free_ports(), &targets[..1]));
    let name = configuration.directory.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&name).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = std::process::Command::new(common::process::LLAMA);
    command.args(["collector", "--no-table", "--config", configuration.file().to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &name);
    let collector = Process::spawn(command);
    let told = || {
        let mut message = [0; 200];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    assert_eq!(told().trim_end(), "READY=1");
    for text in [plan(0.2, 80, 2, two_free_ports(), &targets[..1]), "targets: [".to_owned()] {
        configuration.write(&text);
        collector.signal(Signal::SIGHUP);
        let reloading = told();
        assert!(reloading.contains("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(told().trim_end(), "READY=1", "also after a mistake: the plan before goes on");
    }
    collector.terminate().success();
}

#[test]
fn roles_without_a_configuration_end_by_a_hangup() {
    let (reflector, _) = reflector();
    reflector.signal(Signal::SIGHUP);
    let ended = reflector.finish_within(Duration::from_secs(5));
    assert_eq!(ended.status.code(), None, "ended by the signal itself: {}", ended.stderr);
}
