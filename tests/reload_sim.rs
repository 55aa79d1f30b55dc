//! Reloads under simulated time: the shipped rosters and worker over the simulated network, from plan to plan at any
//! moment, with delay, loss and failures. Whatever the plans are, probes are conserved, what stays is not disturbed,
//! and no interval mixes two plans.
#![allow(clippy::unwrap_used, reason = "tests")]

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use llama::collector::Options;
use llama::collector::ledger::{Closed, Ledger, Segment, Timetable};
use llama::collector::outfit::Outfit;
use llama::collector::progress::Progress;
use llama::collector::roster::{Roster, Settings, Succession};
use llama::collector::seats::EchoPath;
use llama::collector::share;
use llama::collector::turn::Turn;
use llama::collector::worker::{Bare, Ended, Parts, Worker};
use llama::config::{self, Matching, Plan, Surroundings};
use llama::net::sim::{Arrival, Host, Jitter, Link, Loss, SimClock, SimNetwork, Way};
use llama::net::{Network, SocketId, SocketSpec, Wait};
use llama::probe::IntervalId;
use llama::probe::random::Random;
use llama::summary::interval::{FlowAddress, Merger, Span};
use llama::summary::tally::Tally;
use llama::summary::{Counts, Summary};
use llama::time::{Clock, Delay, Monotonic, Wall};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: u64 = 1_000_000;
const START: Monotonic = Monotonic(1_000_000 * MS);
const WALL: Wall = Wall(1_700_000_000_000 * MS);
/// How often closed tallies are taken, and it is looked whether the old plan is settled.
const LOOK: u64 = 50 * MS;
/// ms without a network at most: what is due meanwhile must have room in flight until its replies come, and a ring
/// has room for its loss threshold and 200 ms.
const LONGEST_PAUSE: u64 = 300;
/// Cycles per second of the test that is in every plan.
const CORE_RATE: u64 = 20;

/// One network: every target is a route away.
struct Lab;

impl Surroundings for Lab {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other(format!("no name is asked for, {host} was")))
    }

    fn source_address(&self, _to: IpAddr) -> io::Result<IpAddr> {
        Ok(Ipv4Addr::new(192, 0, 2, 1).into())
    }
}

/// What is different from plan to plan.
#[derive(Clone, Debug)]
struct Variant {
    interval: u32,
    timeout: u32,
    /// Of the others: classes and sizes as written, and whether the reflector is asked for the class.
    classes: &'static str,
    sizes: &'static str,
    verify: &'static str,
    count: u32,
    fixed: u32,
    fixed_timeout: u32,
    rate: u32,
    poisson: bool,
    targets: BTreeSet<u8>,
    /// Whether the core's source ports send to the other targets too.
    mixed: bool,
    core_last: bool,
}

fn variant() -> impl Strategy<Value = Variant> {
    let looks = (
        prop::sample::select(vec!["DF", "EF", "[DF, EF]", "[EF, AF21, DF]"]),
        prop::sample::select(vec!["44", "100", "[44, 100]", "[100, 44, 1400]"]),
        prop::sample::select(vec!["auto", "off"]),
    );
    let kinds = (1u32..3, prop::sample::select(vec![200, 300, 700]), looks);
    let counts = (1u32..5, 0u32..3, prop::sample::select(vec![300, 500]), prop::sample::select(vec![5, 20, 60]));
    let rest = (any::<bool>(), prop::collection::btree_set(1u8..6, 1..5), any::<bool>(), any::<bool>());
    (kinds, counts, rest).prop_map(|((interval, timeout, looks), (count, fixed, fixed_timeout, rate), rest)| {
        let (poisson, targets, mixed, core_last) = rest;
        let (classes, sizes, verify) = looks;
        Variant {
            interval,
            timeout,
            classes,
            sizes,
            verify,
            count,
            fixed,
            fixed_timeout,
            rate,
            poisson,
            targets,
            mixed,
            core_last,
        }
    })
}

impl Variant {
    fn plan(&self) -> Arc<Plan> {
        let Variant { interval, timeout, classes, sizes, verify, count, fixed, fixed_timeout, rate, targets, .. } =
            self;
        let pacing = if self.poisson { "poisson" } else { "periodic" };
        let core = "  - {targets: core, port_group: core, rate_limit: core}\n";
        let mut tests =
            vec![format!("  - {{targets: others, port_group: other, rate_limit: other, pacing: {pacing}}}\n")];
        if self.mixed {
            tests.push("  - {targets: others, port_group: core, rate_limit: other}\n".to_owned());
        }
        tests.insert(if self.core_last { tests.len() } else { 0 }, core.to_owned());
        let listed: String = targets.iter().map(|t| format!("    - {{ip: 198.51.100.{t}, port: 8100}}\n")).collect();
        let fixed_item = match fixed {
            0 => String::new(),
            fixed => format!(", {{port: fixed, count: {fixed}}}"),
        };
        let text = format!(
            "summarization: {{interval: {interval}}}\n\
             ports:\n  core: {{timeout: 300, dscp: [DF, EF], size: [64, 1400]}}\n  \
             x: {{timeout: {timeout}, dscp: {classes}, size: {sizes}, verify_dscp: {verify}}}\n  \
             fixed: {{port: 33000, timeout: {fixed_timeout}, dscp: EF}}\n\
             port_groups:\n  core: [{{port: core, count: 3}}]\n  other: [{{port: x, count: {count}}}{fixed_item}]\n\
             rate_limits:\n  core: {{cps: {CORE_RATE}}}\n  other: {{cps: {rate}}}\n\
             tests:\n{}targets:\n  core:\n    - {{ip: 203.0.113.1, port: 8100}}\n  others:\n{listed}",
            tests.concat()
        );
        let loaded = config::parse(Path::new("a.yaml"), &text, 8100, &Lab);
        Arc::new(loaded.unwrap_or_else(|error| panic!("{error}\n{text}")).plan)
    }
}

/// The weather.
#[derive(Clone, Debug)]
struct Conditions {
    seed: u64,
    delay_ms: u64,
    jitter_ms: u64,
    lost_on_the_way_back: f64,
    stamp_delay_us: u64,
    send_fails_every: Option<u64>,
    clock_step: bool,
    /// How long the worker is without a network at every change.
    pause_ms: u64,
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let way = (any::<u64>(), 0u64..80, 0u64..20, prop::sample::select(vec![0.0, 0.0, 0.2]));
    let stamps = prop::sample::select(vec![1u64, 50_000]);
    let host =
        (stamps, prop::option::of(30u64..200), any::<bool>(), prop::sample::select(vec![0u64, 2, 90, LONGEST_PAUSE]));
    (way, host).prop_map(|((seed, delay_ms, jitter_ms, lost_on_the_way_back), host)| {
        let (stamp_delay_us, send_fails_every, clock_step, pause_ms) = host;
        Conditions {
            seed,
            delay_ms,
            jitter_ms,
            lost_on_the_way_back,
            stamp_delay_us,
            send_fails_every,
            clock_step,
            pause_ms,
        }
    })
}

/// A probe that reached a target.
#[derive(Clone, Copy, Debug)]
struct Probe {
    from: SocketAddr,
    to: SocketAddr,
    seq: u32,
    class: u8,
    size: usize,
}

/// What reached the targets.
type Arrived = Arc<Mutex<Vec<Probe>>>;

/// What came of it all.
struct Outcome {
    summaries: Vec<Summary>,
    arrived: Vec<Probe>,
    progress: Arc<Progress>,
    wire: llama::net::sim::Truth,
    /// Series of sequence numbers that were begun.
    series: usize,
    /// First interval, start and paths of each plan.
    plans: Vec<(u32, Monotonic, usize)>,
    end: Monotonic,
}

/// The rest of the collector, in simulated time: the summary thread's and the reloading thread's work.
struct Rest {
    clock: SimClock,
    plan: Arc<Plan>,
    roster: Roster,
    settings: Settings,
    random: Random,
    timetable: Timetable,
    merger: Merger,
    closed: Receiver<Closed>,
    back: Sender<Tally>,
    summaries: Vec<Summary>,
    series: usize,
    plans: Vec<(u32, Monotonic, usize)>,
    pause_ms: u64,
}

fn coverage(plan: &Arc<Plan>) -> impl Fn(u32) -> FlowAddress + Send + 'static {
    let plan = Arc::clone(plan);
    move |flow| {
        let flow = plan.flows[flow as usize];
        let target = plan.targets[flow.target as usize].address;
        let source = plan.sources[flow.source as usize].bind;
        FlowAddress { source, target, dscp: plan.shapes[flow.shape as usize].dscp }
    }
}

fn paths(plan: &Plan) -> Vec<Arc<llama::summary::Path>> {
    plan.paths.iter().cloned().map(Arc::new).collect()
}

fn seats(outfit: &Outfit) -> Vec<(Option<SocketId>, Option<SocketSpec>)> {
    outfit.seats.iter().map(|seat| (seat.kept.map(SocketId), seat.spec.clone())).collect()
}

impl Rest {
    fn take_closed(&mut self) {
        while let Ok(Closed { interval, tally, .. }) = self.closed.try_recv() {
            let mut tally = tally.expect("nothing is given up: tallies come back");
            let wall = |instant: Monotonic| WALL.plus(Delay(instant.since(START) as i64));
            let span = Span { start: wall(self.timetable.start(interval)), end: wall(self.timetable.end(interval)) };
            self.summaries.extend(self.merger.add(&tally, span).expect("one worker"));
            if self.merger.is_current(&tally) {
                tally.clear();
                self.back.try_send(tally).expect("room for all there are");
            }
        }
    }

    /// Another plan, to begin at `at`.
    fn change(&mut self, plan: &Arc<Plan>, at: Monotonic) -> (Outfit, Segment) {
        let same = Matching::of(&self.plan, plan);
        let seated: Vec<Option<usize>> = same.sources.iter().map(|old| old.map(|_| 0)).collect();
        let share = share::redeal(plan, 1, &seated).remove(0);
        let way = Succession { former: &self.plan, plan, same: &same, identifiers: &[] };
        let (roster, outfit) = self.roster.follow(&way, share, &self.settings, &mut self.random).unwrap();
        let cut = self.timetable.cut(at, plan.interval);
        self.merger.change(cut.first, paths(plan), vec![Arc::clone(&roster.layout)], coverage(plan));
        self.timetable.push(cut, IntervalId(0));
        self.series += outfit.lanes.iter().filter(|lane| lane.from.is_none()).count();
        self.plans.push((cut.first.0, at, plan.paths.len()));
        (self.plan, self.roster) = (Arc::clone(plan), roster);
        (outfit, cut)
    }
}

/// Lets the worker run until `at`, and no longer.
fn run_until(worker: &mut Worker<&mut SimNetwork, SimClock>, at: Monotonic) {
    let alarm = Arc::new(Turn::default());
    alarm.begin(Segment { first: IntervalId(0), start: at, interval: Duration::from_secs(1) });
    worker.await_turn(alarm);
    assert!(matches!(worker.run().unwrap(), Ended::Due));
    worker.forget_turn();
}

fn peer(arrived: &Arrived) -> impl FnMut(&Arrival<'_>) -> Option<Vec<u8>> + Send + 'static {
    let arrived = Arc::clone(arrived);
    move |arrival| {
        let probe = arrival.bytes;
        let seq = u32::from_be_bytes(probe[..4].try_into().unwrap());
        let (class, size) = (arrival.traffic_class, probe.len());
        arrived.lock().unwrap().push(Probe { from: arrival.from, to: arrival.to, seq, class, size });
        // RFC 8762 §4.3.1, stateless: the sender's sequence and timestamp come back, without T2 and T3 of our own
        let mut reply = probe.to_vec();
        reply[16..44].fill(0);
        reply[24..38].copy_from_slice(&probe[..14]);
        Some(reply)
    }
}

/// Runs the plans one after the other, each for so many ms.
fn run(plans: &[(u64, Arc<Plan>)], weather: &Conditions) -> Outcome {
    let clock = SimClock::new(START, WALL);
    let first = &plans[0].1;
    let (closed_out, closed) = unbounded();
    let (back, back_in) = bounded(128);
    let settings = Settings { kernel_stamps: true, in_flight: None, clock: None, echo: EchoPath::Raw };
    let mut random = Random::new(weather.seed);
    let way = Succession { former: first, plan: first, same: &Matching::none(first), identifiers: &[] };
    let (roster, outfit) =
        Roster::new(0, &mut random).follow(&way, share::deal(first, 1).remove(0), &settings, &mut random).unwrap();
    let mut host = Host { send_fails_every: weather.send_fails_every, ..Host::default() };
    host.stamps.delay_ns = weather.stamp_delay_us * 1_000;
    if weather.clock_step {
        host.clock_steps = vec![(1_500 * MS, Delay(-3_600_000 * MS as i64))];
    }
    let specs: Vec<SocketSpec> = outfit.seats.iter().filter_map(|seat| seat.spec.clone()).collect();
    let mut network = SimNetwork::new(weather.seed, &clock, &specs, host);
    let arrived = Arrived::default();
    let link = |loss| Link {
        delay_ns: weather.delay_ms * MS,
        jitter: Jitter::Uniform(weather.jitter_ms * MS),
        loss,
        ..Link::default()
    };
    let targets: BTreeSet<SocketAddr> = plans.iter().flat_map(|(_, plan)| &plan.targets).map(|t| t.address).collect();
    for target in targets {
        let back = link(match weather.lost_on_the_way_back {
            0.0 => Loss::None,
            share => Loss::Random(share),
        });
        network.peer(target, Way { forward: link(Loss::None), reverse: back, ..Way::default() }, peer(&arrived));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let ledger = Ledger::new(0, closed_out, back_in);
    let mut parts = Parts::new(ledger, &Options::default(), Arc::clone(&stop), crossbeam_channel::never());
    let progress = Arc::clone(&parts.progress);
    let timetable = Timetable::new(START, first.interval);
    parts.timetable = timetable.clone();
    let series = outfit.lanes.len();
    parts.fit(outfit, Some(timetable.last()), START);
    let mut rest = Rest {
        clock: clock.clone(),
        plan: Arc::clone(first),
        settings,
        random,
        merger: Merger::new(paths(first), vec![Arc::clone(&roster.layout)], coverage(first)),
        roster,
        timetable,
        closed,
        back,
        summaries: Vec::new(),
        series,
        plans: vec![(0, START, first.paths.len())],
        pause_ms: weather.pause_ms,
    };
    let mut worker = Bare::new(clock.clone(), parts).over(&mut network);
    let mut at = START;
    for ((lasting_ms, _), (_, plan)) in plans.iter().zip(&plans[1..]) {
        at = Monotonic(at.0 + lasting_ms * MS);
        // as the reloading thread does: not before the plan before is settled
        worker = idle_until(worker, &mut rest, &progress, at, true);
        at = at.max(rest.clock.monotonic());
        let (outfit, cut) = rest.change(plan, Monotonic(at.0 + MS));
        let turn = Arc::new(Turn::default());
        turn.begin(cut);
        worker.await_turn(turn);
        assert!(matches!(worker.run().unwrap(), Ended::Due));
        worker = rest.take(worker, outfit);
    }
    let end = Monotonic(at.0 + plans[plans.len() - 1].0 * MS);
    worker = idle_until(worker, &mut rest, &progress, end, false);
    // time to make good for a pause at the very end
    run_until(&mut worker, Monotonic(rest.clock.monotonic().0 + LOOK));
    let end = rest.clock.monotonic();
    stop.store(true, Ordering::Relaxed);
    assert!(matches!(worker.run().unwrap(), Ended::Done));
    rest.take_closed();
    drop(worker);
    let arrived = std::mem::take(&mut *arrived.lock().unwrap());
    let Rest { summaries, series, plans, .. } = rest;
    Outcome { summaries, arrived, progress, wire: network.truth(), series, plans, end }
}

impl Rest {
    fn take<'n>(
        &self,
        worker: Worker<&'n mut SimNetwork, SimClock>,
        outfit: Outfit,
    ) -> Worker<&'n mut SimNetwork, SimClock> {
        let (network, mut bare) = worker.lay_down();
        network.reseat(&seats(&outfit));
        bare.fit(outfit);
        if self.pause_ms > 0 {
            // what comes in meanwhile waits, with its stamps
            network.wait(Wait::Until(Monotonic(self.clock.monotonic().0 + self.pause_ms * MS))).unwrap();
        }
        bare.over(network)
    }
}

/// Runs until `at`, and further while the plan before is not settled, if that matters.
fn idle_until<'n>(
    mut worker: Worker<&'n mut SimNetwork, SimClock>,
    rest: &mut Rest,
    progress: &Progress,
    at: Monotonic,
    settled: bool,
) -> Worker<&'n mut SimNetwork, SimClock> {
    for _ in 0..10_000 {
        let now = rest.clock.monotonic();
        if now >= at && !(settled && rest.roster.has_leaving()) {
            return worker;
        }
        let soon = now.0 + LOOK;
        run_until(&mut worker, Monotonic(if now < at { soon.min(at.0) } else { soon }));
        rest.take_closed();
        if rest.roster.has_leaving() && progress.oldest_open.get() >= u64::from(rest.timetable.last().first.0) {
            let (roster, outfit) = rest.roster.settled(&rest.plan, &rest.settings);
            rest.roster = roster;
            worker = rest.take(worker, outfit);
        }
    }
    panic!("the plan before is never settled");
}

/// Runs of numbers that follow each other, wrapping.
fn runs(mut numbers: Vec<u32>) -> usize {
    numbers.sort_unstable();
    let breaks = numbers.windows(2).filter(|pair| pair[1] != pair[0].wrapping_add(1)).count();
    let wraps = numbers.first() == Some(&0) && numbers.last() == Some(&u32::MAX);
    breaks + usize::from(!numbers.is_empty()) - usize::from(wraps)
}

fn check(plans: &[(u64, Arc<Plan>)], weather: &Conditions) -> Result<(), TestCaseError> {
    let outcome = run(plans, weather);
    let Outcome { summaries, arrived, progress, wire, .. } = &outcome;
    let mut all = Counts::default();
    for summary in summaries {
        let counts = &summary.counts;
        prop_assert_eq!(counts.sent, counts.replied + counts.unanswered() + counts.send_failed, "{:?}", counts);
        all += counts;
    }
    // nothing is lost by us: what was sent was counted, and what is lost the network has lost
    prop_assert_eq!(all.sent, progress.sent.get());
    prop_assert_eq!(all.sent, wire.sent);
    prop_assert_eq!(all.left(), arrived.len() as u64);
    prop_assert_eq!(all.lost, wire.dropped_reverse);
    prop_assert_eq!((all.not_sent, all.late, all.duplicates, all.refused), (0, 0, 0, 0));
    // everything comes back as it went, of the plan before too
    let changed = all.dscp_changed_forward + all.dscp_changed_reverse + all.dscp_changed_either;
    prop_assert_eq!((changed, all.corrupted, all.too_big), (0, 0, 0));
    prop_assert_eq!((progress.unasked.get(), progress.unreadable.get(), progress.given_up.get()), (0, 0, 0));
    prop_assert_eq!(all.stamps_missing, 0, "stamps find their probes across networks");
    prop_assert!(weather.clock_step || all.clock_stepped == 0);
    // every interval of every plan has all its paths, and no others
    let mut of_interval: BTreeMap<u32, usize> = BTreeMap::new();
    summaries.iter().for_each(|summary| *of_interval.entry(summary.interval).or_default() += 1);
    for (at, (interval, paths)) in of_interval.iter().enumerate() {
        prop_assert_eq!(at as u32, *interval, "no number is left out");
        let (_, _, expected) = outcome.plans.iter().rfind(|(first, ..)| first <= interval).expect("the first is 0");
        prop_assert_eq!(paths, expected, "interval {}", interval);
    }
    for pair in summaries.windows(2).filter(|pair| pair[0].interval != pair[1].interval) {
        prop_assert_eq!(pair[0].end, pair[1].start);
    }
    // sequence numbers: as many series as there were new rings, none of which skips or repeats
    if weather.send_fails_every.is_none() {
        let numbers: Vec<u32> = arrived.iter().map(|probe| probe.seq).collect();
        let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
        prop_assert_eq!(distinct.len(), numbers.len());
        prop_assert!(runs(numbers) <= outcome.series, "gaps in the sequence numbers");
        // the core is in every plan, from three ports in two classes and sizes, at its pace: as if nothing else had
        // changed
        let core = SocketAddr::from(([203, 0, 113, 1], 8100));
        let mut of_flow: BTreeMap<(u16, u8, usize), u64> = BTreeMap::new();
        for probe in arrived.iter().filter(|probe| probe.to == core) {
            *of_flow.entry((probe.from.port(), probe.class, probe.size)).or_default() += 1;
        }
        let due = outcome.end.since(START) * CORE_RATE / (1_000 * MS);
        prop_assert_eq!(of_flow.len(), 3 * 2 * 2, "{:?}", of_flow);
        // one due at the end may not have left; a flow's turn moves within its cycle
        prop_assert!(of_flow.values().all(|sent| sent.abs_diff(due) <= 2), "{:?}, {} due", of_flow, due);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_plans_are_probes_are_conserved_and_what_stays_is_undisturbed(
        plans in prop::collection::vec((50u64..1_800, variant()), 2..5),
        weather in conditions(),
    ) {
        let plans: Vec<(u64, Arc<Plan>)> = plans.iter().map(|(after, variant)| (*after, variant.plan())).collect();
        check(&plans, &weather)?;
    }
}

#[test]
fn a_reload_to_and_fro_gives_the_counts_of_a_run_without() {
    let one = Variant {
        interval: 1,
        timeout: 300,
        classes: "[DF, AF21]",
        sizes: "44",
        verify: "auto",
        count: 2,
        fixed: 2,
        fixed_timeout: 300,
        rate: 20,
        poisson: false,
        targets: BTreeSet::from([1, 2]),
        mixed: true,
        core_last: true,
    };
    let two = Variant { targets: BTreeSet::from([1, 2, 3]), ..one.clone() };
    let (one, two) = (one.plan(), two.plan());
    let calm = Conditions {
        seed: 4,
        delay_ms: 30,
        jitter_ms: 0,
        lost_on_the_way_back: 0.0,
        stamp_delay_us: 1,
        send_fails_every: None,
        clock_step: false,
        pause_ms: 0,
    };
    type Flow = (u16, SocketAddr, u8, usize);
    let flow = |probe: &Probe| -> Flow { (probe.from.port(), probe.to, probe.class, probe.size) };
    let sent = |outcome: &Outcome| {
        let mut sent: BTreeMap<Flow, u64> = BTreeMap::new();
        outcome.arrived.iter().for_each(|probe| *sent.entry(flow(probe)).or_default() += 1);
        sent
    };
    let alone = run(&[(7_000, one.clone())], &calm);
    let reloaded = run(&[(1_000, one.clone()), (2_000, two.clone()), (4_000, one.clone())], &calm);
    assert_eq!(alone.end, reloaded.end);
    // the test that is in all plans does not notice: flow by flow in the same order
    let core = SocketAddr::from(([203, 0, 113, 1], 8100));
    let order = |outcome: &Outcome| -> Vec<Flow> {
        outcome.arrived.iter().filter(|probe| probe.to == core).map(flow).collect()
    };
    assert!(order(&alone).len() >= 400);
    assert_eq!(order(&alone), order(&reloaded));
    let reloads = 2;
    for (flow, expected) in sent(&alone) {
        let sent = sent(&reloaded)[&flow];
        // a test whose targets change begins its cycle anew: at most one probe of a flow more or less
        assert!(sent.abs_diff(expected) <= reloads + 1, "{flow:?}: {sent} instead of {expected}");
    }
}
