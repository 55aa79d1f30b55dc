//! `llama matrix`: the matrix of a database, alone.

use super::LOOK;
use crate::cli::args::MatrixServeArgs;
use crate::cli::exit::{Done, Ended, Failure};
use crate::cli::signals;
use crate::http::api;
use crate::http::matrix::Shown;
use crate::http::metrics::{self, process, server as server_metrics};
use crate::http::server::{Limits, Server};
use crate::matrix::Source;
use crate::matrix::influx::{InfluxSource, Options};
use crate::sink::influx::Target;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How often the newest interval is looked for at least, while somebody listens and intervals are long.
const LOOK_FOR_NEWEST: Duration = Duration::from_secs(15);

/// Serves until a signal.
///
/// # Errors
/// A database that cannot be asked so is a usage error; the address is taken.
pub fn matrix(args: &MatrixServeArgs) -> Ended {
    let stop = signals::stop_flag()?; // before any thread is started: they inherit the blocked signals
    let Some(url) = &args.influx else { return Ok(Done::Fine) };
    let target = Target::parse(url, args.influx_token.as_deref()).map_err(Failure::usage)?;
    let options = Options { ca_file: args.influx_ca.clone(), ..Options::new(target) };
    let source: Arc<dyn Source> = Arc::new(InfluxSource::new(&options).map_err(Failure::usage)?);
    let name = source.name();
    if let Err(error) = source.extent() {
        tracing::warn!("{error}"); // it may come later
    }
    let shown = Shown::new(source, "matrix", LOOK_FOR_NEWEST);
    let started = server_metrics::Started::new(OnceLock::new());
    let sources: Vec<metrics::Source> = vec![Box::new({
        let (shown, started) = (shown.clone(), Arc::clone(&started));
        move |page| {
            process::write_build(page, "matrix");
            shown.write(page);
            server_metrics::write(page, &started);
            process::write(page);
        }
    })];
    let router = api::matrix_alone(shown).merge(metrics::router(sources));
    let server = Server::start(args.api, router, Limits::default(), "--api")?;
    let _ = started.set(server.counters());
    tracing::info!("matrix of {name} at http://{}/", server.address());
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
    }
    server.stop();
    Ok(Done::Fine)
}
