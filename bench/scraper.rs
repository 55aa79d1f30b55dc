//! What one scraper costs: 200 collectors of 1 000 summaries per 10 s, on one core.
//!
//! The collectors are this process: each has a port of its own, closes an interval of its summaries every
//! `--interval`, and answers by sequence from a prepared page, in which numbers and times are patched. The database is
//! this process as well: it takes what InfluxDB takes, counts lines, and reads from each line's time how long after
//! the end of its interval it came. The scraper is pinned to CPU 0, this process to the others.
//!
//! `cargo bench --bench scraper -- [--collectors N] [--summaries N] [--interval S] [--intervals N] [--spool] [--json]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/scraper/fake.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod fake;

use common::process::{LLAMA, Process};
use fake::{Answer, Fake, page, summary_ending};
use llama::sink::rfc3339;
use llama::time::{Clock, SystemClock, Wall};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const USAGE: &str = "usage: [--collectors N] [--summaries N] [--interval S] [--intervals N] [--spool] [--json]";
/// First sequence number: all have as many digits, so that they can be patched.
const FIRST: u64 = 1_000_000_000;
/// Summaries of a page, as the scraper asks for.
const PAGE: u64 = llama::scraper::page::PAGE as u64;
const NS: u64 = 1_000_000_000;

struct Asked {
    collectors: u64,
    summaries: u64,
    interval: u64,
    intervals: u64,
    spool: bool,
    json: bool,
}

fn arguments() -> Asked {
    let mut asked = Asked { collectors: 200, summaries: 1000, interval: 10, intervals: 6, spool: false, json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{USAGE}"));
        match argument.as_str() {
            "--collectors" => asked.collectors = value(),
            "--summaries" => asked.summaries = value(),
            "--interval" => asked.interval = value(),
            "--intervals" => asked.intervals = value(),
            "--spool" => asked.spool = true,
            "--json" => asked.json = true,
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    assert!(asked.collectors <= 10_000 && asked.summaries.is_multiple_of(PAGE), "summaries: a multiple of {PAGE}");
    asked
}

/// A page with the places in it that change.
struct Template {
    text: Arc<[u8]>,
    sequences: Vec<usize>,
    sources: Vec<usize>,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

fn source(collector: u64) -> Ipv4Addr {
    Ipv4Addr::new(10, 100 + (collector / 100) as u8, 100 + (collector % 100) as u8, 1)
}

impl Template {
    /// Page number `number` of an interval.
    fn new(number: u64) -> Template {
        let end = Wall(1_709_209_800 * NS);
        let first = number * PAGE;
        let numbered: Vec<_> =
            (0..PAGE).map(|n| (FIRST + n, summary_ending(source(0).into(), (first + n) as u32, 1, end))).collect();
        let text = page("00000000000000aa", &numbered);
        let string = String::from_utf8(text.to_vec()).unwrap();
        let places = |key: &str| string.match_indices(key).map(|(at, _)| at + key.len()).collect();
        Template {
            sequences: places("{\"sequence\":"),
            sources: places("\"src_ip\":\""),
            starts: places("\"start\":\""),
            ends: places("\"end\":\""),
            text,
        }
    }

    /// The page of a collector's interval that ended at `end`, its numbers beginning at `first`.
    fn patched(&self, collector: u64, first: u64, end: u64, length: u64) -> Arc<[u8]> {
        let mut text = self.text.to_vec();
        let mut put = |places: &[usize], value: &str| {
            places.iter().for_each(|at| text[*at..at + value.len()].copy_from_slice(value.as_bytes()));
        };
        put(&self.sources, &source(collector).to_string());
        put(&self.starts, &rfc3339(Wall(end - length)));
        put(&self.ends, &rfc3339(Wall(end)));
        for (n, at) in self.sequences.iter().enumerate() {
            put(&[*at], &(first + n as u64).to_string());
        }
        Arc::from(text)
    }
}

/// What the database got.
#[derive(Default)]
struct Got {
    lines: u64,
    bytes: u64,
    /// Milliseconds from the end of an interval to its arrival.
    lags: Vec<u32>,
}

fn database(got: &Arc<Mutex<Got>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let got = Arc::clone(got);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let got = Arc::clone(&got);
            std::thread::spawn(move || take(&stream, &got));
        }
    });
    port
}

fn take(stream: &TcpStream, got: &Mutex<Got>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut packed = vec![0; length];
        reader.read_exact(&mut packed).ok()?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).ok()?;
        let now = SystemClock.wall().0;
        let lag =
            |line: &str| Some((now.saturating_sub(line.rsplit(' ').next()?.parse::<u64>().ok()?) / 1_000_000) as u32);
        let lags: Vec<u32> = text.lines().filter_map(lag).collect();
        {
            let mut got = got.lock().unwrap();
            got.lines += lags.len() as u64;
            got.bytes += text.len() as u64;
            got.lags.extend(lags);
        }
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}

/// User and system time of a process so far, seconds.
fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap() as f64
}

/// A line of `/proc/PID/status`, MiB.
fn memory(process: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn main() {
    let asked = arguments();
    let cores = llama::net::thread::allowed_cpus().unwrap();
    let mut others = nix::sched::CpuSet::new();
    cores.iter().filter(|cpu| cores.len() == 1 || **cpu != 0).for_each(|cpu| others.set(*cpu).unwrap());
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &others).unwrap();

    let templates: Arc<Vec<Template>> = Arc::new((0..asked.summaries / PAGE).map(Template::new).collect());
    let length = asked.interval * NS;
    let begin = SystemClock.wall().0;
    let pages = templates.len() as u64;
    let intervals = asked.intervals;
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    let fakes: Vec<Fake> = (0..asked.collectors)
        .map(|collector| {
            let templates = Arc::clone(&templates);
            let none = page("00000000000000aa", &[]);
            Fake::start(loopback, move |question| {
                let after = question.split("after=").nth(1).and_then(|rest| rest.split('&').next());
                let after: u64 = after.and_then(|after| after.parse().ok()).expect("after");
                let taken = (after + 1).saturating_sub(FIRST) / PAGE;
                // one interval has ended before the start
                let closed = ((SystemClock.wall().0 - begin) / length + 1).min(intervals);
                if taken >= closed * pages {
                    return Answer::Ok(Arc::clone(&none));
                }
                let end = begin + taken / pages * length;
                let template = &templates[(taken % pages) as usize];
                Answer::Ok(template.patched(collector, FIRST + taken * PAGE, end, length))
            })
        })
        .collect();
    let got = Arc::<Mutex<Got>>::default();
    let port = database(&got);

    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("collectors");
    std::fs::write(&list, fakes.iter().map(|fake| format!("{}\n", fake.address)).collect::<String>()).unwrap();
    let mut command = Command::new("taskset");
    let interval = format!("{}s", asked.interval);
    let (collectors, influx) = (format!("@{}", list.display()), format!("http://127.0.0.1:{port}?db=bench"));
    command.args(["-c", "0", LLAMA, "scraper", "--collectors", &collectors, "--influx", &influx]);
    command.args(["--interval", &interval]).env_remove("INFLUX_TOKEN");
    if asked.spool {
        command.args(["--spool", directory.path().join("spool").to_str().unwrap()]);
    }
    let scraper = Process::spawn(command);
    let expected = asked.collectors * asked.summaries * asked.intervals;
    let give_up = begin + (2 * asked.intervals + 6) * length;
    let mut busy = 0.0_f64;
    let mut before = (SystemClock.wall().0, cpu(scraper.id()));
    while got.lock().unwrap().lines < expected && SystemClock.wall().0 < give_up {
        std::thread::sleep(Duration::from_millis(50));
        let now = SystemClock.wall().0;
        if now - before.0 >= length {
            let used = cpu(scraper.id());
            busy = busy.max((used - before.1) / ((now - before.0) as f64 / 1e9));
            before = (now, used);
        }
    }
    let took = (SystemClock.wall().0 - begin) as f64 / 1e9;
    let (used, peak, now) = (cpu(scraper.id()), memory(scraper.id(), "VmHWM:"), memory(scraper.id(), "VmRSS:"));
    scraper.terminate().success();

    let mut got = got.lock().unwrap();
    got.lags.sort_unstable();
    let at = |share: f64| {
        got.lags.get(((got.lags.len() - 1) as f64 * share) as usize).map_or(0.0, |ms| f64::from(*ms) / 1e3)
    };
    let per_summary = used * 1e6 / got.lines.max(1) as f64;
    if asked.json {
        println!(
            "{{\"expected\":{expected},\"arrived\":{},\"seconds\":{took:.1},\"cpu_s\":{used:.2},\"cpu_us_per_summary\":{per_summary:.1},\
             \"busiest\":{busy:.3},\"peak_mib\":{peak},\"mib\":{now},\"lag_p50_s\":{:.2},\"lag_p99_s\":{:.2},\"lag_max_s\":{:.2}}}",
            got.lines,
            at(0.5),
            at(0.99),
            at(1.0)
        );
        return;
    }
    println!(
        "{} collectors x {} summaries per {} s, {} intervals",
        asked.collectors, asked.summaries, asked.interval, asked.intervals
    );
    println!(
        "arrived          {} of {expected} summaries in {took:.1} s, {:.0} MB of lines",
        got.lines,
        got.bytes as f64 / 1e6
    );
    println!(
        "CPU              {used:.2} s, {per_summary:.1} us per summary; {:.0} % of the core in the busiest interval",
        100.0 * busy
    );
    println!("memory           {peak} MiB at most, {now} MiB at the end");
    println!(
        "close to arrival {:.2} s p50, {:.2} s p99, {:.2} s max (turns are spread over {} s)",
        at(0.5),
        at(0.99),
        at(1.0),
        asked.interval
    );
}
