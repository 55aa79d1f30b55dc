//! The whole role on loopback, over both networks, against a reflector of the test's own.

use super::*;
use crate::config::diff;
use crate::config::plan::{Flow, Source, Target, Test};
use crate::net::FlowLabels;
use crate::probe::shape::{Dscp, MethodKind, Pacing, Shape, StampPolicy};
use crate::summary::Path;
use crate::summary::accumulator::Accumulator;
use std::net::UdpSocket;
use std::sync::Mutex;

/// Answers every probe with its own bytes as a stateless reflector without stamps would, until dropped.
struct Echo {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Drops every `lose`-th probe; 0: none.
    fn start(lose: u64) -> Echo {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("sets");
        let address = socket.local_addr().expect("bound");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0u8; 2048];
            let mut count = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                count += 1;
                if lose != 0 && count.is_multiple_of(lose) {
                    continue;
                }
                let probe = buffer;
                // RFC 8762 §4.3.1: sequence, T3 … T2 at 16, the sender's fields at 24
                buffer[16..44].fill(0);
                buffer[24..38].copy_from_slice(&probe[0..14]);
                let now = crate::time::ntp::to_ntp(SystemClock.wall()).to_be_bytes();
                buffer[4..12].copy_from_slice(&now);
                buffer[16..24].copy_from_slice(&now);
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
        Echo { address, stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Longer than a busy machine keeps the reflector's thread, which is not the collector's, from answering.
const THRESHOLD: Duration = Duration::from_secs(1);

fn plan(target: SocketAddr, ports: u32, cycles_per_second: f64) -> Arc<Plan> {
    let localhost = "127.0.0.1".parse().expect("valid");
    Arc::new(Plan {
        interval: Duration::from_millis(300),
        api: None,
        shapes: vec![Shape {
            port_name: "p".into(),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size: 64,
            stamps: StampPolicy::All,
            key: None,
            class_report: false,
        }],
        sources: (0..ports)
            .map(|_| Source {
                bind: SocketAddr::new(localhost, 0),
                shape: 0,
                loss_threshold: THRESHOLD,
                flow_labels: FlowLabels::Own,
            })
            .collect(),
        targets: vec![Target { host: "127.0.0.1".into(), address: target, group: "g".into(), tags: Arc::default() }],
        flows: (0..ports).map(|source| Flow { source, target: 0, shape: 0, path: 0 }).collect(),
        paths: vec![Path {
            src: localhost,
            dst: target.ip(),
            method: MethodKind::Udp,
            dscp: Dscp(46),
            size: None,
            group: "g".into(),
            tags: Arc::default(),
        }],
        tests: vec![Test {
            targets: "g".into(),
            port_group: "p".into(),
            flows: 0..ports,
            cycles_per_second,
            pacing: Pacing::Periodic,
        }],
        syn_limit: None,
    })
}

fn run(plan: &Arc<Plan>, options: &Options) -> (Vec<Summary>, u64) {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let deliver = {
        let taken = Arc::clone(&taken);
        move |summaries: Vec<Summary>| taken.lock().expect("not poisoned").extend(summaries)
    };
    let collector = Collector::start(plan, options, deliver).expect("starts");
    let progress: Vec<_> = collector.progress().to_vec();
    collector.join().expect("ends well");
    let sent = progress.iter().map(|p| p.sent.get()).sum();
    let summaries = std::mem::take(&mut *taken.lock().expect("not poisoned"));
    (summaries, sent)
}

fn for_ms(duration: u64, cores: Vec<usize>) -> Options {
    Options { duration: Some(Duration::from_millis(duration)), cores, ..Options::default() }
}

#[test]
fn every_probe_is_accounted_for_and_measured() {
    let echo = Echo::start(0);
    for io in [IoChoice::Uring, IoChoice::Mmsg] {
        let options = Options { io, count: Some(400), ..Options::default() };
        let (summaries, sent) = run(&plan(echo.address, 4, 100.0), &options);
        assert!(summaries.len() >= 4, "{io:?}: three whole intervals and a part, more when it was held up");
        let mut all = Accumulator::new();
        summaries.iter().for_each(|summary| all.add(summary));
        let counts = *all.counts();
        assert_eq!((counts.sent, sent), (400, 400), "{io:?}: {counts:?}");
        assert_eq!(counts.replied, counts.sent, "{io:?}: {counts:?}");
        let summary = all.summary().expect("something was counted");
        let rtt = summary.rtt.expect("measured");
        assert_eq!(rtt.samples + counts.stamps_missing, counts.replied, "{io:?}");
        assert!(rtt.min > 0 && rtt.p50 < 50_000_000, "{io:?}: {rtt:?}");
        assert_eq!(summary.sent_by, Some(crate::time::StampSource::Kernel), "{io:?}");
        for pair in summaries.windows(2) {
            let gap = pair[1].start.minus(pair[0].end).0;
            assert!(gap.abs() < 1_000_000, "{io:?}: intervals follow one another, not {gap} ns apart");
        }
    }
}

#[test]
fn losses_are_counted_where_they_happened() {
    let echo = Echo::start(10);
    let (summaries, sent) = run(&plan(echo.address, 1, 500.0), &for_ms(600, Vec::new()));
    let lost: u64 = summaries.iter().map(|summary| summary.counts.lost).sum();
    assert_eq!(lost, sent / 10);
}

#[test]
fn two_workers_make_one_summary() {
    let echo = Echo::start(0);
    let (summaries, sent) = run(&plan(echo.address, 4, 50.0), &for_ms(600, vec![0, 1]));
    assert_eq!(summaries.len(), 2);
    assert_eq!(summaries.iter().map(|summary| summary.counts.sent).sum::<u64>(), sent);
    assert!(summaries.iter().all(|summary| summary.flows == 4));
}

#[test]
fn a_port_in_use_is_named_with_its_worker() {
    let taken = UdpSocket::bind("127.0.0.1:0").and_then(|s| Ok((s.local_addr()?, s))).expect("binds");
    let mut plan = (*plan("127.0.0.1:9".parse().expect("valid"), 1, 1.0)).clone();
    plan.sources[0].bind = taken.0;
    let error = Collector::start(&Arc::new(plan), &Options::default(), drop).expect_err("in use").to_string();
    assert!(error.contains(&taken.0.to_string()), "{error}");
}

/// Everything about a run that is reloaded: summaries, and each worker's counters.
struct Reloading {
    collector: Collector,
    taken: Arc<Mutex<Vec<Summary>>>,
}

impl Reloading {
    fn start(plan: &Arc<Plan>, io: IoChoice, cores: Vec<usize>) -> Reloading {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let deliver = {
            let taken = Arc::clone(&taken);
            move |summaries: Vec<Summary>| taken.lock().expect("not poisoned").extend(summaries)
        };
        let options = Options { io, cores, flows_listed: Some(100), ..Options::default() };
        Reloading { collector: Collector::start(plan, &options, deliver).expect("starts"), taken }
    }

    fn sent(&self) -> u64 {
        self.collector.progress().iter().map(|p| p.sent.get()).sum()
    }

    /// Waits until so many more probes were sent.
    fn send(&self, probes: u64) {
        let (before, end) = (self.sent(), std::time::Instant::now() + Duration::from_secs(20));
        while self.sent() < before + probes {
            assert!(std::time::Instant::now() < end, "nothing is sent any more: {} then, {} now", before, self.sent());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) -> (Vec<Summary>, Vec<Arc<Progress>>) {
        self.collector.stop();
        let progress = self.collector.progress().to_vec();
        self.collector.join().expect("ends well");
        let taken = std::mem::take(&mut *self.taken.lock().expect("not poisoned"));
        (taken, progress)
    }
}

/// The same with one more target, and with other ports and rates: what `change` makes of a plan.
fn changed(plan: &Arc<Plan>, change: impl FnOnce(&mut Plan)) -> Arc<Plan> {
    let mut plan = (**plan).clone();
    change(&mut plan);
    Arc::new(plan)
}

/// Probes both targets from every source.
fn with_second_target(plan: &mut Plan, second: SocketAddr) {
    plan.targets.push(Target { address: second, ..plan.targets[0].clone() });
    let more: Vec<Flow> = plan.flows.iter().map(|flow| Flow { target: 1, ..*flow }).collect();
    plan.flows.extend(more);
    plan.tests[0].flows.end = plan.flows.len() as u32;
}

#[test]
fn a_reload_under_load_loses_nothing_and_keeps_what_stays() {
    let (first, second) = (Echo::start(0), Echo::start(0));
    for (io, cores) in [(IoChoice::Uring, vec![0]), (IoChoice::Mmsg, vec![0]), (IoChoice::Uring, vec![0, 1])] {
        let one = plan(first.address, 4, 200.0);
        let run = Reloading::start(&one, io, cores);
        let reloader = run.collector.reloader();
        run.send(200);
        let unchanged = reloader.reload(&Arc::new((*one).clone())).expect("the same");
        assert_eq!((unchanged.changed, unchanged.generation), (false, 1));
        let two = changed(&one, |plan| with_second_target(plan, second.address));
        // twice the rate, half the sources and another size: new flows on old sockets
        let three = changed(&plan(first.address, 2, 400.0), |plan| plan.shapes[0].size = 700);
        let mut generation = 1;
        for next in [&two, &one, &two, &three, &two, &one] {
            let reloaded = reloader.reload(next).expect("taken");
            generation += 1;
            assert!(reloaded.changed && reloaded.pause_ns > 0);
            assert_eq!((reloaded.generation, reloader.generation()), (generation, generation));
            assert!(diff::is_same(&reloader.plan(), next));
            run.send(300);
        }
        let (summaries, progress) = run.end();
        let sum = |of: fn(&Progress) -> u64| progress.iter().map(|p| of(p)).sum::<u64>();
        let mut all = Accumulator::new();
        summaries.iter().for_each(|summary| all.add(summary));
        let counts = *all.counts();
        assert_eq!(counts.sent, sum(|p| p.sent.get()), "{io:?}");
        assert_eq!((counts.replied, counts.lost), (counts.sent, 0), "{io:?}: {counts:?}");
        assert_eq!((sum(|p| p.unasked.get()), sum(|p| p.unreadable.get()), sum(|p| p.given_up.get())), (0, 0, 0));
        // intervals follow each other without a gap and without a number left out
        for pair in summaries.windows(2) {
            assert_eq!(pair[1].interval, pair[0].interval + 1, "{io:?}");
            assert!(pair[1].start.minus(pair[0].end).0.abs() < 1_000_000, "{io:?}: {pair:?}");
        }
        // the four ports the system chose at first are those of all flows to the end, but for the time without two
        let ports = |summary: &Summary| -> std::collections::BTreeSet<u16> {
            summary.worst_flows.iter().map(|flow| flow.source.port()).collect()
        };
        let of_all =
            |summaries: &[Summary]| summaries.iter().flat_map(ports).collect::<std::collections::BTreeSet<u16>>();
        let in_three = |summary: &Summary| summary.flows == 2;
        let (begin, end) = (summaries.iter().position(in_three), summaries.iter().rposition(in_three));
        let (begin, end) = begin.zip(end).expect("the third plan ran");
        let (at_first, last) = (of_all(&summaries[..begin]), of_all(&summaries[end + 1..]));
        assert_eq!(at_first.len(), 4, "{io:?}");
        assert_eq!((last.len(), last.intersection(&at_first).count()), (4, 2), "{io:?}: two were closed for a while");
    }
}

#[test]
fn a_plan_that_cannot_be_opened_leaves_the_old_one_untouched() {
    let echo = Echo::start(0);
    let taken = UdpSocket::bind("127.0.0.1:0").expect("binds");
    let in_use = taken.local_addr().expect("bound");
    let one = plan(echo.address, 2, 100.0);
    let run = Reloading::start(&one, IoChoice::Auto, Vec::new());
    run.send(20);
    let bad = changed(&plan(echo.address, 3, 100.0), |plan| plan.sources[2].bind = in_use);
    let error = run.collector.reloader().reload(&bad).expect_err("the port is taken").to_string();
    assert!(error.contains(&in_use.to_string()), "{error}");
    let empty = changed(&one, |plan| plan.flows.clear());
    assert!(matches!(run.collector.reloader().reload(&empty), Err(reload::ReloadError::Empty)));
    assert_eq!(run.collector.reloader().generation(), 1);
    run.send(50);
    let (summaries, _) = run.end();
    assert!(summaries.iter().all(|summary| summary.flows == 2 && summary.counts.lost == 0));
}
