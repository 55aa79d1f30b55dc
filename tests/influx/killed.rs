//! The shipped collector at 10 000 summaries per interval, while the database and then the collector itself are
//! killed: afterwards the database has every summary that was closed and synced, once.

use super::common::process::{ANSWERING, PATIENCE, Process, llama};
use super::server::{Influxd, VictoriaMetrics};
use super::*;
use llama::sink::rfc3339;
use llama::sink::spool;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path as FilePath, PathBuf};

const PATHS: usize = 10_000;
/// Other tests may have the processors for a while.
const LONG: Duration = Duration::from_secs(120);

/// A summary: the end of its interval to the millisecond, and the path's destination.
type Key = (String, String);

/// The text after `name` up to one of `ends`.
fn part<'a>(text: &'a str, name: &str, ends: &[char]) -> Option<&'a str> {
    text.split_once(name)?.1.split(ends).next()
}

fn to_ms(nanoseconds: u64) -> String {
    rfc3339(Wall(nanoseconds))[..23].to_string()
}

/// The database under test.
enum Database {
    Influx(Influxd),
    Victoria(VictoriaMetrics),
}

impl Database {
    fn url(&self) -> String {
        match self {
            Database::Influx(server) => format!("http://{}?db=llama", server.address()),
            Database::Victoria(server) => format!("http://{}?db=llama", server.address()),
        }
    }

    fn stop(&mut self) {
        match self {
            Database::Influx(server) => server.stop(),
            // it has no write-ahead log: what it said is stored in its last second would be gone with a SIGKILL
            Database::Victoria(server) => server.end(),
        }
    }

    fn run(&mut self) {
        match self {
            Database::Influx(server) => server.run(),
            Database::Victoria(server) => server.run(),
        }
    }

    /// Every point of a summary, as often as it is there; `expected` are those that the server was given.
    fn points(&self, expected: &BTreeSet<Key>) -> Vec<Key> {
        match self {
            Database::Influx(server) => {
                let rows = server.rows("SELECT sent, dst_ip FROM raw_stats");
                let key = |row: &serde_json::Value| {
                    (to_ms(row["time"].as_u64().expect("time")), row["dst_ip"].as_str().expect("address").into())
                };
                rows.iter().map(key).collect()
            }
            Database::Victoria(server) => {
                let points = |series: &[serde_json::Value]| -> Vec<Key> {
                    let points = series.iter().flat_map(|one| {
                        let times = one["timestamps"].as_array().expect("times").iter();
                        times.map(|ms| {
                            let at = to_ms(ms.as_u64().expect("ms") * 1_000_000);
                            (at, one["metric"]["dst_ip"].as_str().expect("address").to_string())
                        })
                    });
                    points.collect()
                };
                // it shows what it stored a moment later
                let complete = |series: &[serde_json::Value]| missing(expected, &points(series)).is_empty();
                points(&server.export("raw_stats_sent", complete))
            }
        }
    }

    /// What the server says of what it took.
    fn account(&self) -> String {
        match self {
            Database::Influx(server) => server.query("SHOW STATS FOR 'write'").to_string(),
            Database::Victoria(server) => server.account(),
        }
    }
}

/// How many of `expected` are not in `points`, by the end of their interval.
fn missing(expected: &BTreeSet<Key>, points: &[Key]) -> BTreeMap<String, usize> {
    let there: BTreeSet<&Key> = points.iter().collect();
    let mut missing = BTreeMap::new();
    for key in expected.iter().filter(|key| !there.contains(key)) {
        *missing.entry(key.0.clone()).or_default() += 1;
    }
    missing
}

/// The summaries in a collector's `--output`, read as they come.
struct Output {
    path: PathBuf,
    read: u64,
    keys: BTreeMap<String, BTreeSet<String>>,
}

impl Output {
    fn new(path: PathBuf) -> Output {
        Output { path, read: 0, keys: BTreeMap::new() }
    }

    fn read(&mut self) {
        let Ok(mut file) = std::fs::File::open(&self.path) else { return };
        let mut text = String::new();
        file.seek(SeekFrom::Start(self.read)).expect("seek");
        file.read_to_string(&mut text).expect("text");
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            self.read += line.len() as u64;
            let end = part(line, "\"end\":\"", &['"']).expect("end");
            let target = part(line, "\"dst_ip\":\"", &['"']).expect("dst_ip");
            assert!(self.keys.entry(end[..23].to_string()).or_default().insert(target.to_string()), "twice: {line}");
        }
    }

    /// Intervals of which all summaries are there.
    fn complete(&mut self) -> usize {
        self.read();
        self.keys.values().filter(|targets| targets.len() == PATHS).count()
    }

    fn wait_for(&mut self, intervals: usize) {
        let begin = Instant::now();
        while self.complete() < intervals {
            assert!(begin.elapsed() < LONG, "{intervals} intervals never came");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn all(&mut self) -> BTreeSet<Key> {
        self.read();
        let of = |(end, targets): (&String, &BTreeSet<String>)| {
            targets.iter().map(|target| (end.clone(), target.clone())).collect::<Vec<_>>()
        };
        self.keys.iter().flat_map(of).collect()
    }
}

/// The summaries that wait in a spool, read by its documented format and nothing of the program's.
fn spooled(directory: &FilePath) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    for file in std::fs::read_dir(directory).expect("spool") {
        let path = file.expect("file").path();
        if path.extension().is_none_or(|ending| ending != "segment") {
            continue;
        }
        let bytes = std::fs::read(path).unwrap_or_default();
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        let mut at = 24;
        while at + 40 <= bytes.len() && at + 40 + u32_at(at + 8) <= bytes.len() {
            assert_eq!(&bytes[at..at + 4], b"LREC");
            let body = &bytes[at + 40..at + 40 + u32_at(at + 8)];
            if bytes[at + 4..at + 8] == [0; 4] && crc32fast::hash(body) as usize == u32_at(at + 32) {
                let mut text = String::new();
                flate2::read::GzDecoder::new(body).read_to_string(&mut text).expect("gzip");
                for line in text.lines().filter(|line| line.starts_with("raw_stats,")) {
                    let time = line.rsplit(' ').next().and_then(|time| time.parse().ok()).expect("time");
                    let target = part(line, "dst_ip=", &[',', ' ']).expect("dst_ip");
                    keys.insert((to_ms(time), target.to_string()));
                }
            }
            at += 40 + body.len();
        }
    }
    keys
}

/// A collector of 10 000 paths.
struct Scene {
    directory: tempfile::TempDir,
    _reflector: Process,
    url: String,
}

impl Scene {
    fn new(url: String) -> Scene {
        let directory = tempfile::tempdir().expect("directory");
        let reflector = llama(&["reflector", "--listen", "0.0.0.0:0"]);
        let said = reflector.wait_for(ANSWERING);
        let port = part(&said, "0.0.0.0:", &[' ']).expect("port").to_string();
        let mut config = "summarization: {interval: 3}\nports: {default: {timeout: 300}}\n\
                          port_groups: {default: [{port: default, count: 1}]}\nrate_limits: {default: {cps: 0.5}}\n\
                          targets:\n  default:\n"
            .to_string();
        for n in 0..PATHS {
            config += &format!("    - {{ip: 127.1.{}.{}, port: {port}}}\n", n / 250, n % 250 + 1);
        }
        std::fs::write(directory.path().join("config.yaml"), config).expect("configuration");
        Scene { directory, _reflector: reflector, url }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().expect("path").to_string()
    }

    fn collector(&self, output: &str) -> (Process, Output) {
        let output = self.path(output);
        let (config, spool) = (self.path("config.yaml"), self.path("spool"));
        let flags = ["--config", &config, "--influx", &self.url, "--spool", &spool, "--output", &output];
        (llama(&[&["collector"], &flags[..]].concat()), Output::new(output.into()))
    }
}

fn nothing_that_was_synced_is_lost(mut database: Database) {
    let scene = Scene::new(database.url());
    let (first, mut output) = scene.collector("first.jsonl");
    output.wait_for(1);
    // away for at least an interval, and back
    database.stop();
    let so_far = output.complete();
    output.wait_for(so_far + 1);
    database.run();
    // away and back at once, in the middle of catching up
    database.stop();
    database.run();
    let so_far = output.complete();
    output.wait_for(so_far + 1);
    // away, and the collector is killed once an interval of that time is synced
    database.stop();
    let so_far = output.complete();
    output.wait_for(so_far + 1);
    let mut safe = output.all();
    let last = safe.last().expect("a summary").0.clone();
    let newest: Vec<Key> = safe.iter().filter(|(end, _)| *end == last).cloned().collect();
    let begin = Instant::now();
    loop {
        let waiting = spooled(scene.path("spool").as_ref());
        if newest.iter().all(|key| waiting.contains(key)) {
            break;
        }
        assert!(begin.elapsed() < LONG, "the newest interval never was in the spool");
        std::thread::sleep(Duration::from_millis(50));
    }
    first.signal(Signal::SIGKILL);
    let killed = first.finish_within(PATIENCE);
    assert!(!killed.status.success());
    database.run();
    // another one takes over
    let (second, mut second_output) = scene.collector("second.jsonl");
    second_output.wait_for(1);
    second.signal(Signal::SIGTERM);
    let second = second.finish_within(LONG).success();
    // what is left in the spool when it ends is delivered by whoever opens it next
    let spool = spool::Options {
        directory: scene.path("spool").into(),
        max_bytes: 1 << 30,
        max_age: Duration::from_secs(86_400),
    };
    let target = Target::parse(&database.url(), None).expect("target");
    let options = Options { spool: Some(spool), policy: quick(), ..Options::new(target) };
    let mut sinks = Sinks::new();
    sinks.add_influx(options, Limits::default()).expect("sink");
    let end = wait_for(&sinks, "an empty spool", |c| c.spool_summaries == 0);
    assert_eq!((end.spool_damaged, end.refused, end.dropped), (0, 0, 0), "{end:?}");
    assert_eq!(sinks.close(Duration::from_secs(5)), vec![]);

    let of_second = second_output.all();
    let points = database.points(&safe.union(&of_second).cloned().collect());
    let distinct: BTreeSet<Key> = points.iter().cloned().collect();
    if let Database::Influx(server) = &database {
        assert_eq!(points.len(), distinct.len(), "once each");
        let states = server.rows("SELECT sent, paths, spooled FROM collector_stats");
        assert!(states.iter().all(|row| row["paths"] == PATHS), "{states:?}");
        assert!(states.iter().any(|row| row["spooled"].as_u64() > Some(0)), "{states:?}");
    }
    for (which, expected, stderr) in [("killed", &safe, &killed.stderr), ("second", &of_second, &second.stderr)] {
        let lost = missing(expected, &points);
        let all: BTreeSet<&str> = expected.iter().map(|(end, _)| end.as_str()).collect();
        assert!(
            lost.is_empty(),
            "{lost:?} of {all:?} that the {which} collector closed and synced; it said\n{stderr}\nthe one after both \
             delivered {}; the database says\n{}",
            end.delivered,
            database.account()
        );
    }
    assert!(safe.len() >= 3 * PATHS && of_second.len() >= PATHS);
    // nothing else: what is beyond was closed after the last look at the first one's output
    safe.extend(of_second);
    let beyond: Vec<_> = distinct.difference(&safe).filter(|(end, _)| *end <= last).collect();
    assert!(beyond.is_empty(), "{beyond:?}");
}

#[test]
fn influxdb_and_the_collector_are_killed() {
    let server = Influxd::start();
    server.query("CREATE DATABASE llama");
    nothing_that_was_synced_is_lost(Database::Influx(server));
}

#[test]
fn victoria_metrics_goes_and_the_collector_is_killed() {
    nothing_that_was_synced_is_lost(Database::Victoria(VictoriaMetrics::start()));
}
