//! `llama ping`.

use super::{LOOK, allow_sockets, cores, io_word, key};
use crate::cli::args::{LogArgs, PingArgs};
use crate::cli::exit::{self, Done, Ended, Failure};
use crate::cli::ping::{self as view, Report};
use crate::cli::samples::Samples;
use crate::cli::{layout, ping_json, progress, signals};
use crate::collector::demand::Demand;
use crate::collector::{Collector, Options, samples};
use crate::config::plan::{Plan, Probes, Single, Target};
use crate::config::{Surroundings, System};
use crate::probe::shape::{Pacing, Shape};
use crate::summary::Summary;
use crate::summary::accumulator::Accumulator;
use anyhow::{Context, anyhow};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Intervals of a run: short enough for memory to stay small, long enough to cost nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// Intervals whose counts are kept one by one, for whoever looks for a pattern.
const SECONDS: usize = 3600;

/// What a run has measured so far.
#[derive(Debug, Default)]
struct Accumulated {
    all: Accumulator,
    /// Of each class and size, in the order of the plan's paths.
    variants: Vec<Accumulator>,
    /// Probes and replies of the first [`SECONDS`] intervals.
    seconds: Vec<(u64, u64)>,
}

impl Accumulated {
    /// Adds an interval's summaries, one per path.
    fn add(&mut self, summaries: &[Summary]) {
        self.variants.resize_with(summaries.len().max(self.variants.len()), Accumulator::new);
        let mut second = (0, 0);
        for (summary, variant) in summaries.iter().zip(&mut self.variants) {
            self.all.add(summary);
            variant.add(summary);
            second = (second.0 + summary.counts.left(), second.1 + summary.counts.replied);
        }
        if self.seconds.len() < SECONDS {
            self.seconds.push(second);
        }
    }
}

/// Measures one target once. [`Done::AllLost`] when nothing came back.
///
/// # Errors
/// Whatever kept it from measuring: 1 would say that all was lost.
pub fn ping(args: &PingArgs, log: &LogArgs) -> Ended {
    measure(args, log).map_err(Failure::apart_from_loss)
}

fn measure(args: &PingArgs, log: &LogArgs) -> Ended {
    let address = resolve(args).map_err(Failure::usage)?;
    let plan = Arc::new(plan(args, address)?);
    let stop = signals::stop_flag()?;
    let (sampling, taken) = match &args.samples {
        Some(path) => {
            let file = Samples::create(path).with_context(|| format!("--samples: {}", path.display()))?;
            let (samples, taken) = samples::channel();
            (Some(samples), Some((taken, file)))
        }
        None => (None, None),
    };
    let options = Options {
        io: args.io,
        cores: cores(args.cores.as_ref())?,
        count: Some(args.probes()),
        duration: args.duration, // ends a rate that this host does not reach
        samples: sampling.clone(),
        flows_listed: Some(plan.flows.len()),
        ..Options::default()
    };
    if options.cores.len() > 1 {
        return Err(Failure::usage(anyhow!("--cores: {:?} given, a ping runs on one; name one CPU", options.cores)));
    }
    let accumulated = Arc::new(Mutex::new(Accumulated::default()));
    let deliver = {
        let accumulated = Arc::clone(&accumulated);
        move |summaries: Vec<Summary>| {
            let mut sum = accumulated.lock().unwrap_or_else(PoisonError::into_inner);
            sum.add(&summaries);
        }
    };
    allow_sockets(Demand::most_sockets(&plan, 1))?;
    let began = Instant::now();
    let collector = Collector::start(&plan, &options, deliver)?;
    drop(options); // its end of the channel of samples
    tracing::debug!("{}", collector.features);
    let (io, echo) = (io_word(collector.features.io), collector.echo);
    let ports: Vec<u16> = collector.flow_sources.iter().map(SocketAddr::port).collect();
    let writer = taken.map(|(taken, file)| std::thread::spawn(move || write(&taken, file, &ports)));
    let bar = progress::Bar::new(args.probes(), log.quiet || args.json);
    let mut sending = None;
    while !collector.is_finished() {
        std::thread::sleep(LOOK);
        let shared = &collector.progress()[0];
        let now =
            progress::Progress { sent: shared.sent.get(), replied: shared.replied.get(), lost: shared.unanswered() };
        bar.show(&now);
        if now.sent >= args.probes() {
            sending.get_or_insert(began.elapsed());
        }
        if stop.load(Ordering::Relaxed) {
            sending.get_or_insert(began.elapsed());
            collector.stop();
        }
    }
    bar.finish();
    let sending = sending.unwrap_or_else(|| began.elapsed());
    collector.join()?;
    let dropped = sampling.map_or(0, |samples| samples.dropped.get());
    if let Some(writer) = writer {
        writer.join().map_err(|_| anyhow!("--samples: the writer ended by a panic"))??;
        if dropped > 0 {
            tracing::warn!("--samples: {dropped} round trips are not in the file, it was too slow; lower --rate");
        }
    }
    let Accumulated { all: sum, variants, seconds } = &*accumulated.lock().unwrap_or_else(PoisonError::into_inner);
    let due = |summary: &Summary| summary.counts.left() + summary.counts.send_failed + summary.counts.not_sent > 0;
    let summary = sum.summary().filter(due).ok_or_else(|| anyhow!("stopped before the first probe was due"))?;
    let report = Report {
        host: &args.target.host,
        address,
        sizes: &args.payloads(),
        rate: args.rate,
        sending,
        io,
        summary: &summary,
        variants: &variants.iter().filter_map(Accumulator::summary).collect::<Vec<_>>(),
        flows: &summary.worst_flows,
        echo,
        seconds,
    };
    exit::print(&if args.json {
        ping_json::report(&report)?
    } else {
        view::report(&report, layout::terminal_width())
    })?;
    Ok(if summary.counts.replied == 0 { Done::AllLost } else { Done::Fine })
}

/// Writes round trips until the worker is gone.
fn write(
    taken: &crossbeam_channel::Receiver<samples::Sample>,
    mut file: Samples<std::io::BufWriter<std::fs::File>>,
    ports: &[u16],
) -> std::io::Result<()> {
    for sample in taken {
        let port = ports.get(sample.flow.0 as usize).copied().unwrap_or(0);
        file.write(port, &sample.singleton)?;
    }
    file.finish()
}

/// The address to probe: of the family asked for, and of the source's.
fn resolve(args: &PingArgs) -> anyhow::Result<SocketAddr> {
    let host = &args.target.host;
    if let Some((ip, zone)) = host.split_once('%') {
        let ip: Ipv6Addr = ip.parse().with_context(|| format!("{host}: only an IPv6 address has a zone"))?;
        let zone = System.zone(zone).with_context(|| format!("{host}: {zone} is no interface of this host"))?;
        if args.ipv4 {
            return Err(anyhow!("{host} is IPv6, -4 asks for IPv4; drop one"));
        }
        return Ok(SocketAddrV6::new(ip, args.port(), 0, zone).into());
    }
    let wanted = |ip: &IpAddr| {
        !(args.ipv4 && ip.is_ipv6() || args.ipv6 && ip.is_ipv4())
            && args.source.is_none_or(|source| source.is_ipv4() == ip.is_ipv4())
    };
    let found = System.resolve(host).with_context(|| format!("{host}: not found"))?;
    let ip = found
        .iter()
        .find(|ip| wanted(ip))
        .ok_or_else(|| anyhow!("{host}: has only {found:?}, none of the family asked for; drop -4, -6 or --source"))?;
    Ok(SocketAddr::new(*ip, args.port()))
}

fn plan(args: &PingArgs, address: SocketAddr) -> Result<Plan, Failure> {
    let shape = Shape {
        port_name: String::new(),
        method: args.method(),
        dscp: args.dscp.first().copied().unwrap_or_default(),
        size: args.payloads().first().copied().unwrap_or_default(),
        stamps: args.tx_timestamps,
        key: key(args.key_file.as_deref())?.map(Arc::new),
        class_report: false,
    };
    let probes = Probes {
        shape,
        classes: args.dscp.clone(),
        sizes: args.payloads(),
        verify: args.verify_dscp,
        flow_labels: args.flow_label,
    };
    let single = Single {
        targets: vec![Target { host: args.target.host.clone(), address, group: String::new(), tags: Arc::default() }],
        source_ports: args.source_ports,
        cycles_per_second: args.rate
            / (f64::from(args.source_ports) * (args.dscp.len() * args.payloads().len()) as f64),
        pacing: Pacing::Periodic,
        probes,
        bind: args.source,
        loss_threshold: args.timeout,
        interval: INTERVAL,
    };
    let (mut plan, _) = single.plan(&System).map_err(Failure::usage)?;
    if args.source_port != 0 {
        for (source, port) in plan.sources.iter_mut().zip(args.source_port..) {
            source.bind.set_port(port);
        }
    }
    Ok(plan)
}
