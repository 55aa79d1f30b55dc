//! LLAMA: loss and latency matrix.
//!
//! A collector sends probes to reflectors over many flows and reports loss and round-trip time per path; this
//! library is all of it, so that tests and benches use what ships. `docs/architecture.md` has the picture.
//!
//! # Modules, lowest layer first
//! A module imports itself and what stands above it in this list, except that `net` and `summary`, and
//! `reflector`, `collector` and `scraper`, do not know each other. `tests/tidy.rs` holds them to it.
//!
//! - [`time`]: instants of two clocks that do not mix, and where a stamp was taken
//! - [`wire`]: packet formats, bytes ↔ values
//! - [`probe`]: what to send, when, and what an answer means; pure
//! - [`net`]: datagrams and kernel timestamps; every system call and all `unsafe`
//! - [`summary`]: from outcomes to one result per path and interval; pure
//! - [`config`]: from a file to a checked, frozen plan
//! - [`sink`]: summaries to files and databases
//! - [`matrix`]: what people ask of many summaries, and who can answer
//! - [`history`]: summaries kept on this machine's disk, and answers from them
//! - [`http`]: API and metrics over HTTP
//! - [`reflector`]: the role that answers
//! - [`collector`]: the role that asks
//! - [`scraper`]: the role that pulls many collectors' summaries into one database
//! - [`cli`]: the command line and everything shown on a terminal
//!
//! # A probe's path
//! [`probe::schedule`] says which flow is due → [`probe::method`] writes it → [`probe::inflight`] remembers it →
//! [`net`] sends it, stamps it, receives the reply → [`probe::inflight`] makes [`probe::outcome`]s of that →
//! [`summary::tally`] counts them → [`summary::interval`] joins the workers → [`sink`] delivers. The loop that
//! does it is [`collector::worker`]; the other end is [`reflector::responder`].

pub mod cli;
pub mod collector;
pub mod config;
pub mod history;
pub mod http;
pub mod matrix;
pub mod net;
pub mod probe;
pub mod reflector;
pub mod scraper;
pub mod sink;
pub mod summary;
pub mod time;
pub mod wire;
