//! What the disk spool costs: the time until an interval's summaries are synced, and how fast a backlog drains.
//!
//! Beside it, in the same run: the same bytes written by a bare loop of write and sync, and drained by a server that
//! answers at once. The database of a user is slower than that.
//!
//! `cargo bench --bench spool -- [--summaries N] [--rounds N] [--dir DIR]`

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench stops at the first surprise")]

use llama::probe::random::Random;
use llama::probe::shape::{Dscp, MethodKind};
use llama::sink::influx::{Options, Target};
use llama::sink::{Limits, SinkSnapshot, Sinks, spool};
use llama::summary::{Counts, Extremes, Path, Statistics, Summary};
use llama::time::{Clock, StampSource, SystemClock, Wall};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: [--summaries N] [--rounds N] [--dir DIR]";
/// One backlog for the drain: so many intervals.
const INTERVALS: u32 = 10;

fn main() {
    let (mut summaries, mut rounds, mut place) = (10_000_u32, 5_usize, PathBuf::from("target"));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument}: value missing\n{USAGE}"));
        match argument.as_str() {
            "--summaries" => summaries = value().parse().expect(USAGE),
            "--rounds" => rounds = value().parse().expect(USAGE),
            "--dir" => place = value().into(),
            "--bench" => {} // cargo says so
            _ => panic!("{argument}: unknown\n{USAGE}"),
        }
    }
    let directory = tempfile::tempdir_in(&place).unwrap();
    let mut random = Random::new(1);
    let paths: Vec<_> = (0..summaries).map(path).collect();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    println!("{summaries} summaries on {}, {rounds} rounds", place.display());
    println!(
        "{:>14} {:>14} {:>14} {:>16} {:>14}",
        "handed over", "all synced", "bytes", "bare write+sync", "drained/s"
    );
    for round in 0..rounds {
        let spool = spool::Options {
            directory: directory.path().join(format!("spool{round}")),
            max_bytes: 1 << 30,
            max_age: Duration::from_secs(86_400),
        };
        // away: the first, small batch makes it known
        let away = sinks(&nobody, &spool);
        away.deliver(&[summary(&paths[0], 0, &mut random)]);
        wait(&away, |c| c.spool_summaries == 1);
        let interval: Vec<_> = paths.iter().map(|path| summary(path, 1, &mut random)).collect();
        let before = counters(&away).spool_bytes;
        let begin = Instant::now();
        away.deliver(&interval);
        let handed = begin.elapsed();
        let all = u64::from(summaries) + 1;
        let synced = wait(&away, |c| c.spool_summaries == all);
        let took = begin.elapsed();
        let bytes = synced.spool_bytes - before;
        let bare = bare(&directory.path().join("bare"), bytes, all.div_ceil(5000));
        for n in 2..=INTERVALS {
            let interval: Vec<_> = paths.iter().map(|path| summary(path, n, &mut random)).collect();
            away.deliver(&interval);
            wait(&away, |c| c.spool_summaries == 1 + u64::from(n) * u64::from(summaries));
        }
        away.close(Duration::from_secs(5));
        let server = at_once();
        let begin = Instant::now();
        let back = sinks(&server, &spool);
        let drained = wait(&back, |c| c.spool_summaries == 0).delivered;
        let rate = drained as f64 / begin.elapsed().as_secs_f64();
        println!(
            "{:>11.1} ms {:>11.1} ms {bytes:>14} {:>13.1} ms {rate:>14.0}",
            1e3 * handed.as_secs_f64(),
            1e3 * took.as_secs_f64(),
            1e3 * bare.as_secs_f64(),
        );
    }
}

fn sinks(address: &str, spool: &spool::Options) -> Sinks {
    let target = Target::parse(&format!("http://{address}?db=x"), None).unwrap();
    let mut sinks = Sinks::new();
    sinks.add_influx(Options { spool: Some(spool.clone()), ..Options::new(target) }, Limits::default()).unwrap();
    sinks
}

fn counters(sinks: &Sinks) -> SinkSnapshot {
    sinks.counters()[0].snapshot()
}

fn wait(sinks: &Sinks, done: impl Fn(&SinkSnapshot) -> bool) -> SinkSnapshot {
    let begin = Instant::now();
    loop {
        let counters = counters(sinks);
        if done(&counters) {
            return counters;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{counters:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// The same bytes in as many pieces, each synced.
fn bare(path: &std::path::Path, bytes: u64, pieces: u64) -> Duration {
    let piece = vec![7; (bytes / pieces) as usize];
    let begin = Instant::now();
    let mut file = std::fs::File::create(path).unwrap();
    for _ in 0..pieces {
        file.write_all(&piece).unwrap();
        file.sync_data().unwrap();
    }
    begin.elapsed()
}

/// A server that answers every request at once, without looking at it.
fn at_once() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            let mut length = 0;
            while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                let text = line.trim().to_ascii_lowercase();
                if let Some(value) = text.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
                if text.is_empty() {
                    if reader.read_exact(&mut vec![0; length]).is_err() {
                        break;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                }
            }
        }
    });
    address
}

fn path(n: u32) -> Arc<Path> {
    let tags = [("dst_metro", format!("metro{}", n % 40)), ("dst_cluster", format!("cluster{}", n / 40))];
    Arc::new(Path {
        src: [10, 0, 0, 1].into(),
        dst: std::net::Ipv4Addr::from(0x0a01_0000 + n).into(),
        method: MethodKind::Udp,
        dscp: Dscp(0),
        size: None,
        group: "far".into(),
        tags: Arc::new(tags.into_iter().map(|(key, value)| (key.to_string(), value)).collect()),
    })
}

fn summary(path: &Arc<Path>, n: u32, random: &mut Random) -> Summary {
    let mut delay = |least: u64| (least + random.below(100_000)) as i64;
    let rtt = Statistics {
        samples: 640,
        mean: delay(300_000) as f64,
        min: delay(100_000),
        p50: delay(200_000),
        p90: delay(400_000),
        p99: delay(600_000),
        p999: delay(800_000),
        max: delay(1_000_000),
    };
    let mut extremes = || Some(Extremes { samples: 640, mean: delay(9000) as f64, min: delay(10), max: delay(90_000) });
    let now = SystemClock.wall();
    Summary {
        path: path.clone(),
        interval: n,
        start: Wall(now.0 - 30_000_000_000),
        end: now,
        counts: Counts { sent: 640, replied: 640, ..Counts::default() },
        ipdv: extremes(),
        owd_forward: extremes(),
        owd_reverse: extremes(),
        residence: extremes(),
        rtt: Some(rtt),
        rtt_histogram: vec![],
        sent_by: Some(StampSource::Kernel),
        received_by: Some(StampSource::Kernel),
        lateness: Some(rtt),
        local_drops: 0,
        flows: 64,
        flows_with_loss: 0,
        worst_flows: vec![],
        reporter: None,
        seen: Default::default(),
        suspect: vec![],
    }
}
