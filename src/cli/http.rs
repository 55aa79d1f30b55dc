//! What the collector serves over HTTP: its state put together for the API.
//!
//! Responsible for what the API is told about the role (health, features, the plan that runs); not for
//! endpoints ([`crate::http::api`]) nor for serving ([`crate::http::server`]). Read [`Serving`] first.

use crate::collector::Collector;
use crate::collector::metrics::Metrics;
use crate::collector::progress::Progress;
use crate::config::Plan;
use crate::history::HistoryCounters;
use crate::http::api::health::{Reading, Watch, history_readings, sink_readings};
use crate::http::api::{self, CurrentPlan, Health, Reload, State};
use crate::http::matrix;
use crate::http::metrics;
use crate::http::recent::{self, Recent};
use crate::http::server::{self, Limits, Server};
use crate::net::features::{Features, Io, StampPath};
use crate::sink::SinkCounters;
use crate::time::{Clock, Monotonic, SystemClock};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often health is looked at, so that it can be said since when something goes wrong.
const LOOK: Duration = Duration::from_secs(1);
/// Flows of the latest interval that are kept for the API at most: of one path, and of all together.
const LISTED_OF_PATH: usize = 4096;
const LISTED: usize = 131_072;

/// What was asked to be served.
#[derive(Clone)]
pub struct Options {
    /// Where.
    pub bind: SocketAddr,
    /// Whether another port will do when that one is taken.
    pub any_port: bool,
    /// Reloads the configuration, where that can be done.
    pub reload: Option<Reload>,
    /// Whether hosts other than this one may reload.
    pub remote_reload: bool,
}

/// A history, to be shown and watched.
#[derive(Clone)]
pub struct Kept {
    /// Who answers questions about it.
    pub shown: matrix::Shown,
    /// Its counters.
    pub counters: Arc<HistoryCounters>,
}

/// What is known of a collector once it runs.
struct Running {
    features: Features,
    progress: Vec<Arc<Progress>>,
}

/// What readings are taken from.
struct Sources {
    running: OnceLock<Running>,
    recent: Arc<Recent>,
    sinks: Vec<Arc<SinkCounters>>,
    metrics: Arc<Metrics>,
    history: Option<Arc<HistoryCounters>>,
    watch: Watch,
}

/// A collector's API while it runs.
pub struct Serving {
    server: Server,
    /// Where summaries are to be added.
    pub recent: Arc<Recent>,
    /// The plan it shows.
    pub plan: CurrentPlan,
    /// What `/metrics` shows; summaries are to be added to it too.
    pub metrics: Arc<Metrics>,
    sources: Arc<Sources>,
    looked: Monotonic,
}

/// What a reload must tell.
pub struct Shown {
    /// The plan that is shown.
    pub plan: CurrentPlan,
    /// Where reloads are counted.
    pub metrics: Arc<Metrics>,
}

/// Connections of the API at most: they need as many open files.
pub fn connections() -> usize {
    Limits::default().connections
}

/// Flows to list per path, so that all of a plan stay within what is kept.
pub fn listed(plan: &Plan) -> usize {
    (LISTED / plan.paths.len().max(1)).clamp(crate::summary::WORST_FLOWS, LISTED_OF_PATH)
}

impl Serving {
    /// Listens, and answers with what there is so far.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn start(
        options: &Options,
        plan: &Arc<Plan>,
        sinks: Vec<Arc<SinkCounters>>,
        kept: Option<Kept>,
    ) -> Result<Serving, server::Error> {
        let recent = Arc::new(Recent::new(recent::Limits::default()));
        let plan = CurrentPlan::new(Arc::clone(plan));
        let metrics = Arc::new(Metrics::new(plan.clone(), SystemClock.wall()));
        let sources = Arc::new(Sources {
            running: OnceLock::new(),
            recent: Arc::clone(&recent),
            sinks: sinks.clone(),
            metrics: Arc::clone(&metrics),
            history: kept.as_ref().map(|kept| Arc::clone(&kept.counters)),
            watch: Watch::default(),
        });
        let health = {
            let sources = Arc::clone(&sources);
            Arc::new(move || sources.health())
        };
        let of_history: Option<metrics::Source> = kept.clone().map(|kept| -> metrics::Source {
            Box::new(move |page| {
                metrics::history::write(page, &kept.counters);
                kept.shown.write(page);
            })
        });
        let of_metrics = metrics.router(sinks.clone(), Arc::clone(&recent), of_history);
        let router = api::router(State {
            recent: Arc::clone(&recent),
            plan: plan.clone(),
            health,
            reload: options.reload.clone(),
            remote_reload: options.remote_reload,
            sinks,
            started: SystemClock.wall(),
        });
        let router = router.merge(of_metrics).merge(matrix::router(kept.map(|kept| kept.shown)));
        let server = match Server::start(options.bind, router.clone(), Limits::default(), "api") {
            Err(server::Error::Bind { source, .. }) if options.any_port && source.kind() == ErrorKind::AddrInUse => {
                tracing::info!("{} is taken: another port is used; --api ADDR:PORT chooses one", options.bind);
                Server::start(SocketAddr::new(options.bind.ip(), 0), router, Limits::default(), "api")
            }
            started => started,
        }?;
        metrics.served_by(&server);
        let recent::Limits { summaries, bytes } = recent.limits();
        tracing::info!(
            "API at http://{}/, which keeps the newest {summaries} summaries, {} MiB at most",
            server.address(),
            bytes >> 20
        );
        if sources.history.is_some() {
            tracing::info!("matrix for a browser at http://{}/", server.address());
        }
        Ok(Serving { server, recent, plan, metrics, sources, looked: SystemClock.monotonic() })
    }

    /// Tells it about the collector that now runs.
    pub fn running(&self, collector: &Collector) {
        self.metrics.running(collector);
        let (features, progress) = (collector.features.clone(), collector.progress().to_vec());
        let _ = self.sources.running.set(Running { features, progress });
    }

    /// What is to be told of a reload.
    pub fn shown(&self) -> Shown {
        Shown { plan: self.plan.clone(), metrics: Arc::clone(&self.metrics) }
    }

    /// Looks at the health when it is time to.
    pub fn look(&mut self) {
        let now = SystemClock.monotonic();
        if now.since(self.looked) >= crate::time::nanos(LOOK) {
            self.looked = now;
            let _ = self.sources.health();
        }
    }

    /// Ends it, and says what clients did that they should not.
    pub fn stop(self) {
        let counters = self.server.stop();
        if counters.rejected > 0 {
            tracing::warn!("API: {} connections closed at once, {} were open", counters.rejected, connections());
        }
    }
}

impl Sources {
    fn health(&self) -> Health {
        let running = self.running.get();
        let features = running.map_or_else(Vec::new, |running| features(&running.features));
        Health { reasons: self.watch.observe(SystemClock.wall(), self.readings()), features }
    }

    /// Everything that is 0 while all is well.
    fn readings(&self) -> Vec<Reading> {
        let sum = |of: fn(&Progress) -> u64| -> u64 {
            let progress = self.running.get().map_or(&[][..], |running| &running.progress);
            progress.iter().map(|progress| of(progress)).sum()
        };
        let mut readings = vec![
            Reading::count("not_sent", "probes were not sent in time: the host is too busy", sum(|p| p.not_sent.get())),
            Reading::count("send_failed", "the kernel refused probes: see the log", sum(|p| p.send_failed.get())),
            Reading::count("local_drops", "full sockets dropped replies", sum(|p| p.local_drops.get())),
            Reading::count("ring_overflows", "completion queues overflowed", sum(|p| p.ring_overflows.get())),
            Reading::count("clock_steps", "the wall clock stepped", sum(|p| p.clock_steps.get())),
            Reading::count("tallies_dropped", "counts were given up: summaries fell behind", sum(|p| p.given_up.get())),
        ];
        let latest = self.recent.latest();
        let suspect = latest.paths.iter().filter(|path| !path.summary.suspect.is_empty()).count();
        let meaning = "paths of the latest interval whose numbers may be the prober's own doing";
        readings.push(Reading::state("suspect_paths", meaning, suspect as u64));
        let meaning = "the configuration that was last read was refused, see the log; the one before goes on";
        readings.push(Reading::state("reload_refused", meaning, u64::from(!self.metrics.reloads.last_successful())));
        readings.extend(sink_readings(&self.sinks));
        readings.extend(self.history.iter().flat_map(|history| history_readings(history)));
        readings
    }
}

/// What the kernel lets the collector do, by name, with the reason where it is not the best.
fn features(features: &Features) -> Vec<(String, String)> {
    let because = |word: &str, reason: &Option<String>| match reason {
        Some(reason) => format!("{word} ({reason})"),
        None => word.to_string(),
    };
    let io = match features.io {
        Io::Uring => "io_uring",
        Io::Mmsg => "mmsg",
    };
    let stamps = match features.stamps {
        StampPath::UringCommand => "completions",
        StampPath::ErrorQueue => "error queue",
        StampPath::User => "user space",
    };
    let yes = |is: bool| if is { "yes" } else { "no" }.to_string();
    vec![
        ("io".into(), because(io, &features.io_reason)),
        ("transmit_stamps".into(), because(stamps, &features.stamps_reason)),
        ("stamp_keys".into(), yes(features.key_per_message)),
        ("absolute_timer".into(), yes(features.absolute_timer)),
    ]
}
